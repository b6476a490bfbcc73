"""The parity checks of PfLayer on its blocks: what is trainable, what is not, what commutes with what."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archfront import spaces
from archfront.spaces import ModelSpace, Supernet
from archfront.spaces._errors import UnknownNameError
from archfront.spaces.vision.pflayer._operations import DOWN_OPS, SPATIAL_OPS, DropPath, Shift, spatial_operation
from archfront.spaces.vision.pflayer._resnet import Block
from archfront.spaces.vision.pflayer._transformer import EffLayer

PARAMETER_FREE = ("max3", "max5", "avg3", "shift", "identity", "max3s2")


@pytest.fixture(scope="module")
def small() -> ModelSpace:
    return spaces.load("pflayer")


def block(kind: str, operation: str, *, stride: int = 1, norm: str = "none", drop_path: float = 0.0) -> Block:
    return Block(
        kind,
        operation,
        32,
        16,
        stride=stride,
        expansion=2,
        mid_ratio=1.0,
        post_pool_norm=norm,
        drop_path=drop_path,
    )


def size(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("operation", PARAMETER_FREE)
def test_a_parameter_free_block_has_r_and_e_and_nothing_spatial(operation: str) -> None:
    net = block("bottleneck", operation, stride=2 if operation == "max3s2" else 1)
    assert not list(net.spatial.parameters())
    assert not list(net.spatial.buffers()), "no batch norm after the pool"
    assert all(max(p.shape[2:], default=1) == 1 for p in net.parameters()), "no 3x3 tensor"
    shortcut = size(net.shortcut) if net.projects else 0
    assert size(net) - shortcut == (32 * 16 + 2 * 16) + (16 * 32 + 2 * 32)


@pytest.mark.parametrize("operation", ["max3", "max5", "max3s2"])
def test_max_pools_take_the_maximum_and_pad_with_nothing(operation: str) -> None:
    stride = 2 if operation.endswith("s2") else 1
    x = -torch.rand(1, 3, 9, 9)
    out = spatial_operation(operation, 3, 3, "none")(x)
    reach = int(operation[3]) // 2
    for row, column in ((0, 0), (4, 2), (8, 8)):
        window = x[:, :, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        assert torch.equal(out[:, :, row // stride, column // stride], window.amax(dim=(2, 3)))
    assert not torch.equal(out, spatial_operation("avg3", 3, 3, "none")(x)[:, :, ::stride, ::stride])


def test_a_norm_after_the_pool_is_there_on_request_only() -> None:
    kinds = {
        norm: [type(m) for m in block("bottleneck", "max3", norm=norm).spatial.operation.children()]
        for norm in ("none", "BN", "BN+ReLU")
    }
    assert kinds == {
        "none": [nn.MaxPool2d],
        "BN": [nn.MaxPool2d, nn.BatchNorm2d],
        "BN+ReLU": [nn.MaxPool2d, nn.BatchNorm2d, nn.ReLU],
    }


@pytest.mark.parametrize("kind", ["bottleneck", "inverted", "basic"])
@pytest.mark.parametrize("operation", SPATIAL_OPS + DOWN_OPS)
@pytest.mark.parametrize("side", [7, 8])
def test_every_block_runs_at_even_and_odd_sizes(kind: str, operation: str, side: int) -> None:
    stride = 2 if operation in DOWN_OPS else 1
    net = block(kind, operation, stride=stride)
    y = net(torch.randn(2, 32, side, side))
    assert y.shape == (2, net.outputs, -(-side // stride), -(-side // stride))
    assert (y.min() < 0) == (kind == "inverted"), "only the inverted block has a linear end"


def test_unknown_operations_are_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'conv3'"):
        spatial_operation("conv4", 8, 8, "none")


def test_shift_moves_channels_and_brings_in_zeros() -> None:
    x = torch.arange(2 * 10 * 3 * 3, dtype=torch.float32).reshape(2, 10, 3, 3) + 1
    y = Shift()(x)
    assert torch.equal(y[:, 0, 1:], x[:, 0, :-1])
    assert not y[:, 5, 0].any()
    assert torch.equal(y[:, 6, :-1], x[:, 6, 1:])
    assert torch.equal(y[:, 2, :, 1:], x[:, 2, :, :-1])
    assert torch.equal(y[:, 3, :, :-1], x[:, 3, :, 1:])
    assert torch.equal(y[:, 4], x[:, 4])
    assert torch.equal(Shift()(x[:, :3]), y[:, :3]), "narrow networks shift as wide ones do"


def test_drop_path_keeps_the_expectation_and_acts_in_training_only() -> None:
    torch.manual_seed(0)
    x = torch.ones(20_000, 1)
    dropped = DropPath(0.25).train()(x)
    assert dropped.unique().tolist() == [0, pytest.approx(1 / 0.75)]
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(DropPath(0.25).eval()(x), x)


@pytest.mark.parametrize("kind", ["identity", "max3", "avg3", "max5"])
def test_only_without_its_pool_does_an_eff_layer_commute_with_permutations(kind: str) -> None:
    torch.manual_seed(0)
    layer, x = EffLayer(8, 3, kind, side=4), torch.randn(2, 16, 8)
    order = torch.randperm(16)
    assert torch.allclose(layer(x[:, order]), layer(x)[:, order], atol=1e-5) == (kind == "identity")
    assert size(layer) == (8 * 24 + 24) + (24 * 8 + 8)


def test_an_eff_layer_has_one_gelu_on_each_side() -> None:
    layer, x = EffLayer(4, 3, "max3", side=3), torch.randn(1, 9, 4)
    gelu = nn.functional.gelu
    image = gelu(layer.expand(x)).mT.reshape(1, 12, 3, 3)
    pooled: Tensor = nn.functional.max_pool2d(image, 3, 1, 1)
    assert torch.allclose(layer(x), layer.proj(gelu(pooled.flatten(2).mT)), atol=1e-6)


def test_small_images_are_enlarged_and_large_ones_left(small: ModelSpace) -> None:
    config = small.search_space.default
    (enlarged,) = small.prepare(config, (torch.rand(2, 1, 8, 8),))
    assert enlarged.shape == (2, 1, 32, 32)
    large = (torch.rand(2, 3, 40, 36),)
    assert small.prepare(config, large)[0] is large[0]


def test_two_hundred_random_configurations_fit_the_bank(small: ModelSpace) -> None:
    bank = Supernet(small)
    x = torch.rand(2, 1, 32, 32)
    for i, config in enumerate(small.search_space.sample(np.random.default_rng(1), 200)):
        net = bank.subnet(config).eval()
        if i % 10 == 0:
            with torch.no_grad():
                assert torch.equal(net(x), bank.extract(config).eval()(x))


def test_the_supernet_trainers_hold_fits_the_bank_too(small: ModelSpace) -> None:
    space = small.search_space
    for config in space.sample(np.random.default_rng(2), 10):
        held = {name: value for name, value in config.items() if name not in small.elastic}
        bank = Supernet(small, fixed=held)
        for sub in space.fix(held).sample(np.random.default_rng(3), 5):
            bank.subnet(sub)


def test_blocks_are_a_prefix_in_depth(small: ModelSpace) -> None:
    config = {**small.search_space.default, "depth[1]": 3}
    names = [set(small.build({**config, "depth[1]": depth}).state_dict()) for depth in (1, 2, 3)]
    for fewer, more in pairwise(names):
        assert fewer < more
        assert all(name.startswith("stages.1.") for name in more - fewer)


def test_a_pool_in_the_place_of_a_convolution_saves_parameters_and_macs(small: ModelSpace) -> None:
    space = small.search_space
    pooled, convolved = (space.fix({"spatial_op": kind}).default for kind in ("max3", "conv3"))
    ours, theirs = (spaces.analytic_costs(small, config) for config in (pooled, convolved))
    assert ours["params_m"] < theirs["params_m"]
    assert ours["macs_m"] < theirs["macs_m"]
