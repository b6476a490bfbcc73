"""The authors' nine models at 224 pixels: their sizes, their layers, their sub-networks; no data needed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archfront import spaces
from archfront.spaces import Configuration, ModelSpace, Supernet
from archfront.spaces._costs import count_macs
from archfront.spaces._errors import DataError, UnknownNameError
from archfront.spaces.vision.pflayer import PfLayer
from archfront.spaces.vision.pflayer._tables import PRESETS
from archfront.spaces.vision.pflayer._transformer import Attention, MixerBlock

PARAMETERS = {
    "resnet50": 25_557_032,
    "resnet50_max": 14_232_232,
    "resnet50_hybrid": 17_330_600,
    "vit_ti_max": 6_159_400,
    "vit_s_max": 23_819_368,
    "vit_b_max": 93_644_008,
    "pit_ti_max": 5_174_504,
    "pit_s_max": 25_119_784,
    "pit_b_max": 79_005_928,
}
MACS_G = {"resnet50": 4.1, "resnet50_max": 2.2, "resnet50_hybrid": 2.6}


def preset(name: str) -> tuple[ModelSpace, Configuration]:
    variant, config = PfLayer.preset(name)
    return spaces.load(f"pflayer/{variant}"), config


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_those_of_the_official_constructors(name: str) -> None:
    space, config = preset(name)
    with torch.device("meta"):
        net = space.build(config)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", MACS_G)
def test_macs_are_those_of_the_readme(name: str) -> None:
    space, config = preset(name)
    with torch.device("meta"):
        net = space.build(config).eval()
        macs = count_macs(net, (torch.empty(1, 3, 224, 224),))
    assert macs / 1e9 == pytest.approx(MACS_G[name], abs=0.06)


def spatial_convolutions(net: nn.Module) -> list[str]:
    return [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]


def test_the_trainable_spatial_layers_of_the_residual_networks() -> None:
    found = {}
    for name in MACS_G:
        space, config = preset(name)
        with torch.device("meta"):
            found[name] = spatial_convolutions(space.build(config))
    assert len(found["resnet50"]) == 1 + 16
    assert len(found["resnet50_max"]) == 1
    assert [n.split(".")[:3] for n in found["resnet50_hybrid"][1:]] == [["stages", s, "0"] for s in "123"]


def test_the_hybrid_halves_by_the_average() -> None:
    space, config = preset("resnet50_hybrid")
    with torch.device("meta"):
        net = space.build(config)
    pools = {n: type(m) for n, m in net.named_modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)}
    strided = [kind for name, kind in pools.items() if name.split(".")[:3] in [["stages", s, "0"] for s in "123"]]
    assert strided == [nn.AvgPool2d] * 3
    assert sum(kind is nn.MaxPool2d for name, kind in pools.items() if name.startswith("stages")) == 13


@pytest.mark.parametrize("name", ["vit_ti_max", "pit_ti_max", "pit_b_max"])
def test_attention_stands_in_every_other_block_of_a_stage(name: str) -> None:
    space, config = preset(name)
    with torch.device("meta"):
        net = space.build(config)
    stages = net.stages if hasattr(net, "stages") else [net.blocks]
    for stage in stages:
        blocks = [block for block in stage if isinstance(block, MixerBlock)]
        attends = [isinstance(block.mixer.operation, Attention) for block in blocks]
        assert attends == [i % 2 == 0 for i in range(len(attends))]


def test_names_lead_to_models() -> None:
    assert PfLayer.preset("resnet50")[1] == PfLayer.variants["resnet50"].default
    with pytest.raises(UnknownNameError, match="did you mean 'resnet50_hybrid'"):
        PfLayer.preset("resnet50_hybrit")
    with pytest.raises(UnknownNameError, match="variant of 'pflayer'"):
        spaces.load("pflayer/resnet51")


def test_recipes_follow_the_variant() -> None:
    optimizers = {v: spaces.load(f"pflayer/{v}").recipe["backprop"]["optimizer"] for v in PfLayer.variants}
    assert {v for v, optimizer in optimizers.items() if optimizer == "sgd"} == {"small", "resnet50"}


def test_imagenet_needs_the_users_data() -> None:
    space = spaces.load("pflayer/resnet50")
    assert space.signature.outputs == 1000
    assert space.task().example_input[0].shape == (2, 3, 224, 224)
    with pytest.raises(DataError, match="--data"):
        space.task().split("train")


@pytest.mark.parametrize("block", ["bottleneck", "basic", "inverted"])
def test_sub_networks_of_resnet50(block: str) -> None:
    space = spaces.load("pflayer/resnet50")
    held = {"block": block, "spatial_op": "dw3", "down_op": "max3s2", "post_pool_norm": "none"}
    bank = Supernet(space, fixed=held)
    held_space = space.search_space.fix(held)
    x = torch.rand(1, 3, 64, 64)
    for width, mid, depth in ((1.0, 1.0, 2), (0.75, 0.5, 1), (0.25, 0.75, 3)):
        sizes = {"width_mult": width, "mid_ratio": mid, **{f"depth[{s}]": depth for s in range(4)}}
        config = held_space.canonicalise({**held_space.default, **sizes})
        with torch.no_grad():
            assert torch.equal(bank.subnet(config).eval()(x), bank.extract(config).eval()(x))


def test_queries_keys_and_values_are_sliced_apart() -> None:
    space = spaces.load("pflayer/vit_ti")
    config = {**space.search_space.default, "depth": 1}
    bank = Supernet(space, fixed={"depth": 1})
    wide, narrow = bank.extract(config), bank.extract({**config, "heads": 2, "dim": 96})
    name = "blocks.0.mixer.attn.qkv.weight"
    ours = narrow.get_parameter(name).reshape(3, 2, 64, 96)
    assert torch.equal(ours, wide.get_parameter(name).reshape(3, 3, 64, 192)[:, :2, :, :96])
    assert torch.equal(narrow.get_parameter("position"), wide.get_parameter("position")[:, :, :96])
