"""Once-for-All on ResNet-50-D: published sizes, what slicing means, official checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces._costs import analytic_costs
from archfront.spaces._errors import ConfigurationError, DataError
from archfront.spaces._search_space import Configuration
from archfront.spaces._supernet import Supernet
from archfront.spaces._task import Signature, TensorSpec
from archfront.spaces.supernets._bottleneck import Bottleneck
from archfront.spaces.supernets.resnet50 import ResNet50
from archfront.spaces.testing import ModelSpaceContract
from archfront.trainers import load_bank

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
"""Sums of other orders, in float32."""
BASE = {"small": (1, 1, 1, 1), "full": (2, 2, 4, 2)}
EXTRA = {"small": 1, "full": 2}


def of_size(variant: str, side: int = 224, classes: int = 1000) -> ModelSpace:
    return ResNet50.of_signature(Signature("image_classification", (TensorSpec((3, side, side)),), classes), variant)


def randomised(space: ModelSpace) -> Supernet:
    """A bank whose statistics and affines differ from channel to channel, so that a wrong slice shows."""
    bank, generator = Supernet(space, seed=5), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in bank.state_dict(keep_vars=True).values():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5, generator=generator)
    return bank


def network(bank: Supernet, config: Configuration) -> Any:
    return bank.extract(config).eval().requires_grad_(False)


def pictures(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))


def run(bank: Supernet, config: Configuration, images: Tensor) -> Tensor:
    output: Tensor = network(bank, config)(*bank.space.prepare(config, (images,)))
    return output


@pytest.fixture(scope="module")
def small() -> ModelSpace:
    return of_size("small", 32, 10)


@pytest.fixture(scope="module")
def bank(small: ModelSpace) -> Supernet:
    return randomised(small)


@pytest.fixture(scope="module")
def full_bank() -> Supernet:
    return randomised(of_size("full"))


class TestSmallContract(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> ModelSpace:
        return spaces.load("resnet50", task="digits")


# -- sizes


def channels(value: float, multiple: int) -> int:
    """The nearest multiple, halves up; the next one where that loses more than a tenth."""
    quotient, rest = divmod(value, multiple)
    nearest = max(1, int(quotient) + (rest >= multiple / 2)) * multiple
    return nearest if nearest >= 0.9 * value else nearest + multiple


def convolutions(config: Configuration, variant: str, side: int) -> Iterator[tuple[int, int, int, int]]:
    """(inputs, outputs, kernel, side of the output) of every convolution, from the paper's tables."""
    multiple, stem, widest = {"full": (8, 64, 256), "small": (1, 16, 32)}[variant]
    middle = channels(channels(stem * config["width[0]"], multiple) // 2, multiple)
    here = channels(stem * config["width[1]"], multiple)
    if variant == "full":
        side = -(-side // 2)
    yield 3, middle, 3, side
    if config["depth[0]"] == 2:
        yield middle, middle, 3, side
    yield middle, here, 3, side
    if variant == "full":
        side = -(-side // 2)
    first = 0
    for stage, base in enumerate(BASE[variant]):
        there = channels(widest * 2**stage * config[f"width[{2 + stage}]"], multiple)
        for position in range(base + config[f"depth[{1 + stage}]"]):
            inside = channels(round(there * config[f"expansion[{first + position}]"]), multiple)
            yield here, inside, 1, side
            if position == 0:
                side = side if stage == 0 else -(-side // 2)
                yield here, there, 1, side
            yield inside, inside, 3, side
            yield inside, there, 1, side
            here = there
        first += base + EXTRA[variant]


def counted(layers: list[tuple[int, int, int, int]], classes: int) -> tuple[int, int]:
    """Parameters and multiply-accumulates: no convolution has a bias, each has a batch norm, one linear layer ends."""
    features = layers[-1][1]
    params = sum(k * k * i * o + 2 * o for i, o, k, _ in layers) + (features + 1) * classes
    return params, sum(k * k * i * o * side**2 for i, o, k, side in layers) + features * classes


def measured(space: ModelSpace, config: Configuration) -> tuple[int, int]:
    costs = analytic_costs(space, config)
    return round(costs["params_m"] * 1e6), round(costs["macs_m"] * 1e6)


def smallest(space: ModelSpace) -> Configuration:
    found = {p.name: p.options[0] if hasattr(p, "options") else p.default for p in space.search_space}
    return space.search_space.canonicalise(found)


class TestSizes:
    def test_resnet_50_d_is_in_the_space(self) -> None:
        space = of_size("full")
        depths = {f"depth[{1 + stage}]": blocks - BASE["full"][stage] for stage, blocks in enumerate((3, 4, 6, 3))}
        expansions = {f"expansion[{number}]": 0.25 for number in range(18)}
        config = space.search_space.canonicalise({**space.search_space.default, **depths, **expansions})
        layers = list(convolutions(config, "full", 224))
        params, macs = measured(space, config)
        assert (params, macs) == counted(layers, 1000)
        # torchvision's ResNet-50 has 25,557,032 parameters and 4,089,184,256 multiply-accumulates; its stem is one 7x7
        # convolution, at the same 112 pixels as ResNet-D's three
        stem = 27 * 32 + 9 * 32 * 32 + 9 * 32 * 64 - 49 * 3 * 64
        assert params == 25_576_264 == 25_557_032 + stem + 2 * (32 + 32)
        assert macs == 4_089_184_256 + stem * 112**2
        # the 4.35 G that is often quoted counts two more for each number that a batch norm scales and shifts
        norms = sum(2 * outputs * side**2 for _, outputs, _, side in layers)
        assert round((macs + norms) / 1e9, 2) == 4.35

    @pytest.mark.parametrize(("variant", "samples"), [("small", 12), ("full", 2)])
    def test_costs_are_those_of_the_layer_list(self, variant: str, samples: int) -> None:
        space = of_size(variant, {"small": 32, "full": 224}[variant], 17)
        for config in [smallest(space), *space.search_space.sample(np.random.default_rng(3), samples)]:
            layers = list(convolutions(config, variant, config["resolution"]))
            assert measured(space, config) == counted(layers, 17), config

    @pytest.mark.parametrize("variant", ["small", "full"])
    def test_the_number_of_networks(self, variant: str) -> None:
        """A stage of n blocks has 3^n choices of expansion; the stem two depths; the widths 3^6."""
        space = of_size(variant).search_space
        stages = [sum(3 ** (base + extra) for extra in range(EXTRA[variant] + 1)) for base in BASE[variant]]
        assert space.fix({"resolution": space.default["resolution"], "dropout": 0.1}).size == 2 * np.prod(stages) * 3**6

    def test_the_decisions_are_the_published_ones(self) -> None:
        space = of_size("full").search_space
        assert [
            sum(name.startswith(f"{kind}[") for name in space.names) for kind in ("depth", "expansion", "width")
        ] == [
            5,
            18,
            6,
        ]
        # the default is the whole network, and everything but dropout is varied in supernet training
        assert all(p.default == max(p.options) for p in space if p.elastic)
        assert set(space.names) - set(space.where(elastic=True)) == {"dropout"}

    def test_expansions_are_active_where_their_block_is(self) -> None:
        space = of_size("full").search_space
        depths = {"depth[1]": 0, "depth[2]": 1, "depth[3]": 2, "depth[4]": 0}
        active = space.active_names({**space.default, **depths})
        numbers = {int(name[10:-1]) for name in active if name.startswith("expansion[")}
        assert numbers == {0, 1} | {4, 5, 6} | {8, 9, 10, 11, 12, 13} | {14, 15}


# -- slices


def silenced(whole: Any, part: Any) -> Any:
    """`whole`, in which every channel that `part` lacks is constantly 0."""
    kept = {name: len(m.weight) for name, m in part.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, norm in whole.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight[kept.get(name, 0) :] = 0
            norm.bias[kept.get(name, 0) :] = 0
    return whole


class TestSlices:
    """A sub-network is the whole network whose other channels and blocks are silent: a residual of 0 adds nothing, and
    what it is added to has passed a ReLU already."""

    def test_of_the_small_one(self, bank: Supernet) -> None:
        space, images = bank.space.search_space, pictures(32)
        for config in [smallest(bank.space), *space.sample(np.random.default_rng(1), 8)]:
            part = network(bank, config)
            torch.testing.assert_close(part(images), silenced(network(bank, space.default), part)(images), **CLOSE)

    def test_of_the_full_one(self, full_bank: Supernet) -> None:
        space, images = full_bank.space.search_space, pictures(64)
        part = network(full_bank, space.sample(np.random.default_rng(2), 1)[0])
        torch.testing.assert_close(part(images), silenced(network(full_bank, space.default), part)(images), **CLOSE)

    @pytest.mark.parametrize("stage", range(4))
    def test_depth_keeps_the_first_blocks(self, bank: Supernet, stage: int) -> None:
        default, images = bank.space.search_space.default, pictures(32)
        whole = network(bank, default)
        del whole.stages[stage][1:]
        assert torch.equal(run(bank, {**default, f"depth[{1 + stage}]": 0}, images), whole(images))


class TestStem:
    def test_its_residual_convolution(self, bank: Supernet) -> None:
        default, x = bank.space.search_space.default, pictures(32)
        deep, flat = (network(bank, {**default, "depth[0]": depth}).stem for depth in (2, 0))
        first = deep.first(x)
        assert torch.equal(deep(x), deep.last(first + deep.residual(first)))
        assert torch.equal(flat(x), deep.last(first))

    def test_one_is_not_offered(self, small: ModelSpace) -> None:
        with pytest.raises(ConfigurationError, match="1 is not one of 0, 2"):
            small.search_space.canonicalise({**small.search_space.default, "depth[0]": 1})

    def test_the_full_one_pools_and_the_small_one_keeps_the_pixels(self, bank: Supernet, full_bank: Supernet) -> None:
        x = pictures(20)
        assert network(bank, bank.space.search_space.default).stem(x).shape[-1] == 20
        stem = network(full_bank, {**full_bank.space.search_space.default, "depth[0]": 0}).stem
        y, filtered = stem(x), stem.last(stem.first(x))
        assert y.shape[-1] == 5
        assert torch.equal(y[..., 2, 3], filtered[..., 3:6, 5:8].amax((2, 3)))
        assert torch.equal(y[..., 0, 0], filtered[..., :2, :2].amax((2, 3)))

    def test_two_of_its_widths_are_one_network(self, full_bank: Supernet) -> None:
        """As published: half of 40 and half of 48, in multiples of 8, are both 24."""
        default = full_bank.space.search_space.default
        stems = [network(full_bank, {**default, "width[0]": width}).stem for width in (0.65, 0.8, 1.0)]
        assert [stem.first.conv.out_channels for stem in stems] == [24, 24, 32]


class TestBlock:
    def test_it_is_the_papers(self) -> None:
        """relu(x + y): no activation between the last batch norm and the sum."""
        torch.manual_seed(0)
        block, x = Bottleneck(8, 8, middle=5, stride=1, projects=False).eval(), torch.randn(2, 8, 6, 6)
        y = x
        for layer, kernel in ((block.narrow, 1), (block.filter, 3), (block.widen, 1)):
            torch.nn.init.normal_(layer.norm.bias)
            y = functional.conv2d(y, layer.conv.weight, padding=kernel // 2)
            y = y / (1 + layer.norm.eps) ** 0.5 + layer.norm.bias[:, None, None]
            y = y if layer is block.widen else y.relu()
        assert (y < 0).any()
        torch.testing.assert_close(block(x), (x + y).relu(), **CLOSE)

    @pytest.mark.parametrize("side", [6, 5])
    def test_a_shortcut_averages_the_pixels_that_are_there(self, side: int) -> None:
        """ResNet-D: 2 x 2 averages, in the last row and column of an odd image of what is left of the square."""
        block: Any = Bottleneck(4, 4, middle=4, stride=2, projects=True).eval().requires_grad_(False)
        block.shortcut.conv.weight.copy_(torch.eye(4)[:, :, None, None])
        block.widen.norm.weight.zero_()
        x = torch.rand(1, 4, side, side, generator=torch.Generator().manual_seed(side))
        y = block(x) * (1 + block.shortcut.norm.eps) ** 0.5
        assert y.shape[-1] == 3
        for row in range(3):
            for column in range(3):
                square = x[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                torch.testing.assert_close(y[0, :, row, column], square.mean((1, 2)))


def test_no_decision_of_the_small_one_is_idle(bank: Supernet) -> None:
    """From the largest and the smallest network, another option of any active parameter gives another output."""
    space, images = bank.space.search_space, pictures(32)
    for config in [space.default, smallest(bank.space)]:
        before = run(bank, config, images)
        for name in set(space.active_names(config)) & set(bank.space.elastic):
            for option in space[name].options:
                if option != config[name]:
                    after = run(bank, space.canonicalise({**config, name: option}), images)
                    assert not torch.equal(before, after), f"{name} = {option} decides nothing in {config}"


def test_dropout_is_the_configurations(small: ModelSpace) -> None:
    net: Any = small.build({**small.search_space.default, "dropout": 0.3})
    assert net.dropout.p == 0.3


# -- official checkpoints


def official(bank: Supernet, *, plain: bool = False) -> dict[str, Tensor]:
    """The bank's tensors under the names of the authors' checkpoints; `plain`: as of layers that are not elastic."""
    stem = {"first": "0", "residual": "1.conv", "last": "2"}
    parts = {"narrow": "conv1", "filter": "conv2", "widen": "conv3", "shortcut": "downsample"}
    conv, norm = ("conv", "bn") if plain else ("conv.conv", "bn.bn")
    starts = {"small": (0, 2, 4, 6), "full": (0, 4, 8, 14)}[bank.space.variant]
    found = {}
    for bank_name, tensor in bank.state_dict().items():
        name = bank_name.removeprefix("bank:").replace("/", ".")
        if name.startswith("classifier."):
            found[name.replace("classifier", "classifier.linear" if plain else "classifier.linear.linear")] = tensor
        elif name.startswith("stem."):
            _, part, kind, leaf = name.split(".")
            found[f"input_stem.{stem[part]}.{conv if kind == 'conv' else norm}.{leaf}"] = tensor
        else:
            _, stage, position, part, kind, leaf = name.split(".")
            number = starts[int(stage)] + int(position)
            found[f"blocks.{number}.{parts[part]}.{conv if kind == 'conv' else norm}.{leaf}"] = tensor
    return found


class TestOfficialCheckpoints:
    def test_the_test_writes_the_authors_names(self, full_bank: Supernet) -> None:
        names = official(full_bank)
        assert {
            "input_stem.0.conv.conv.weight",
            "input_stem.0.bn.bn.running_mean",
            "input_stem.1.conv.conv.conv.weight",
            "input_stem.1.conv.bn.bn.num_batches_tracked",
            "input_stem.2.bn.bn.bias",
            "blocks.0.downsample.conv.conv.weight",
            "blocks.17.conv3.bn.bn.running_var",
            "classifier.linear.linear.weight",
        } <= set(names)
        projected = {int(match[1]) for name in names if (match := re.match(r"blocks\.(\d+)\.downsample", name))}
        assert projected == {0, 4, 8, 14}

    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("prefix", ["", "module."])
    @pytest.mark.parametrize("wrapped", [False, True])
    def test_they_load(self, bank: Supernet, tmp_path: Path, plain: bool, prefix: str, wrapped: bool) -> None:
        state = {prefix + name: tensor for name, tensor in official(bank, plain=plain).items()}
        torch.save({"state_dict": state} if wrapped else state, tmp_path / "ofa.pth")
        loaded, images = load_bank(bank.space, tmp_path / "ofa.pth"), pictures(32)
        for config in bank.space.search_space.sample(np.random.default_rng(0), 3):
            assert torch.equal(run(bank, config, images), run(loaded, config, images))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda state: state.pop("input_stem.1.conv.conv.conv.weight"), "it lacks: stem.residual.conv.weight"),
            (lambda state: state.pop("blocks.2.downsample.bn.bn.bias"), r"it lacks: stages.1.0.shortcut.norm.bias"),
            (lambda state: state.update({"blocks.8.conv1.conv.conv.weight": torch.zeros(1)}), "'blocks.8.conv1"),
            (lambda state: state.update({"blocks.1.conv4.conv.conv.weight": torch.zeros(1)}), "'blocks.1.conv4"),
            (lambda state: state.update({"input_stem.1.conv.weight": torch.zeros(1)}), "'input_stem.1.conv.weight' is"),
            (lambda state: state.update({"decoder.weight": torch.zeros(1)}), "tensor 'decoder.weight' is not one"),
            (
                lambda state: state.update({"blocks.1.downsample.conv.conv.weight": torch.zeros(1)}),
                "it has besides: stages.0.1.shortcut.conv.weight",
            ),
            (
                lambda state: state.update({"classifier.linear.linear.bias": torch.zeros(3)}),
                r"other shapes: classifier.bias \(3,\) instead of \(10,\)",
            ),
        ],
    )
    def test_what_does_not_fit_is_said(self, bank: Supernet, tmp_path: Path, change: Any, message: str) -> None:
        state = official(bank)
        change(state)
        torch.save({"state_dict": state}, tmp_path / "ofa.pth")
        with pytest.raises(DataError, match=message) as error:
            load_bank(bank.space, tmp_path / "ofa.pth")
        assert "ofa.pth" in str(error.value)

    def test_a_full_one_is_read(self, full_bank: Supernet, tmp_path: Path) -> None:
        torch.save({"state_dict": official(full_bank)}, tmp_path / "ofa.pth")
        loaded = load_bank(full_bank.space, tmp_path / "ofa.pth").state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in full_bank.state_dict().items())


def test_digits_where_cifar_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path))
    assert ResNet50.tasks_of("small")[0] == "digits"
    assert ResNet50.tasks_of("full") == ("imagenet",)
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision/cifar10_4k.npz").touch()
    assert ResNet50.tasks_of("small")[0] == "cifar10"
