"""The authors' models written down a second time, as functions of the same weights: outputs must agree to 1e-5."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from archfront import spaces
from archfront.spaces.vision.pflayer import PfLayer

Weights = dict[str, Tensor]


def network(name: str, *, side: int) -> tuple[nn.Module, Weights, Tensor]:
    """A model with random statistics and affines, its tensors, and an image it accepts."""
    variant, config = PfLayer.preset(name)
    torch.manual_seed(0)
    net = spaces.load(f"pflayer/{variant}").build(config).eval()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.0)
    return net, net.state_dict(), torch.rand(2, 3, side, side)


def conv_bn(w: Weights, name: str, x: Tensor, *, stride: int = 1, relu: bool = True) -> Tensor:
    kernel = w[f"{name}.conv.weight"]
    x = f.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    statistics = [w[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    x = f.batch_norm(x, *statistics)
    return f.relu(x) if relu else x


def spatial(w: Weights, model: str, name: str, x: Tensor, stride: int) -> Tensor:
    if model == "resnet50":
        return conv_bn(w, f"{name}.{'conv3s2' if stride == 2 else 'conv3'}", x, stride=stride)
    if model == "resnet50_max" or stride == 1:
        return f.max_pool2d(x, 3, stride, 1)
    return conv_bn(w, f"{name}.avg2_conv3.body", f.avg_pool2d(x, 2))


def resnet(w: Weights, model: str, x: Tensor) -> Tensor:
    x = f.max_pool2d(conv_bn(w, "stem.body", x, stride=2), 3, 2, 1)
    for stage, depth in enumerate((3, 4, 6, 3)):
        for position in range(depth):
            name, stride = f"stages.{stage}.{position}.bottleneck", 2 if stage and not position else 1
            y = spatial(w, model, f"{name}.spatial", conv_bn(w, f"{name}.reduce", x), stride)
            y = conv_bn(w, f"{name}.expand", y, relu=False)
            x = f.relu(y + (x if position else conv_bn(w, f"{name}.shortcut", x, stride=stride, relu=False)))
    return f.linear(x.mean(dim=(2, 3)), w["head.weight"], w["head.bias"])


@pytest.mark.parametrize("model", ["resnet50", "resnet50_max", "resnet50_hybrid"])
def test_residual_networks(model: str) -> None:
    net, weights, x = network(model, side=96)
    with torch.no_grad():
        ours, theirs = net(x), resnet(weights, model, x)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return f.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return f.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)


def attention(w: Weights, name: str, x: Tensor, heads: int) -> Tensor:
    query, key, value = (
        part.unflatten(2, (heads, -1)).transpose(1, 2) for part in linear(w, f"{name}.qkv", x).chunk(3, dim=2)
    )
    scores = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
    return linear(w, f"{name}.proj", (scores @ value).transpose(1, 2).flatten(2))


def pooled(w: Weights, name: str, x: Tensor) -> Tensor:
    side = round(x.shape[1] ** 0.5)
    image = f.gelu(linear(w, f"{name}.expand", x)).mT.unflatten(2, (side, side))
    return linear(w, f"{name}.proj", f.gelu(f.max_pool2d(image, 3, 1, 1).flatten(2).mT))


def block(w: Weights, name: str, x: Tensor, index: int, heads: int) -> Tensor:
    y = norm(w, f"{name}.norm1", x)
    x = x + (pooled(w, f"{name}.mixer.eff", y) if index % 2 else attention(w, f"{name}.mixer.attn", y, heads))
    y = norm(w, f"{name}.norm2", x)
    return x + linear(w, f"{name}.mlp.proj", f.gelu(linear(w, f"{name}.mlp.expand", y)))


def vit(w: Weights, x: Tensor) -> Tensor:
    x = f.conv2d(x, w["patches.weight"], w["patches.bias"], stride=16).flatten(2).mT + w["position"]
    for index in range(12):
        x = block(w, f"blocks.{index}", x, index, heads=3)
    return linear(w, "head", norm(w, "norm", x).mean(dim=1))


def pit(w: Weights, x: Tensor) -> Tensor:
    x = f.conv2d(x, w["patches.weight"], w["patches.bias"], stride=8) + w["position"]
    for stage, depth in enumerate((2, 6, 4)):
        if stage:
            name = f"pools.{stage - 1}"
            x = f.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=2, padding=1, groups=x.shape[1])
        side, tokens = x.shape[-1], x.flatten(2).mT
        for index in range(depth):
            tokens = block(w, f"stages.{stage}.{index}", tokens, index, heads=2 * 2**stage)
        x = tokens.mT.unflatten(2, (side, side))
    return linear(w, "head", norm(w, "norm", x.flatten(2).mT).mean(dim=1))


@pytest.mark.parametrize(("model", "reference"), [("vit_ti_max", vit), ("pit_ti_max", pit)])
def test_transformers(model: str, reference: object) -> None:
    net, weights, x = network(model, side=224)
    with torch.no_grad():
        ours, theirs = net(x), reference(weights, x)  # type: ignore[operator]
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5
