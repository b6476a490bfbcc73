"""Once-for-All on MobileNetV3: published sizes, learned kernels, official checkpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces._costs import analytic_costs
from archfront.spaces._data import data_folder
from archfront.spaces._errors import DataError
from archfront.spaces._supernet import Supernet
from archfront.spaces._task import Signature, TensorSpec
from archfront.spaces.supernets._mobile import divisible
from archfront.spaces.supernets.mobilenet_v3 import MobileNetV3
from archfront.trainers import load_bank

RUNS = "nas/ofa_mbv3_dynast_runs.parquet"


def of_size(variant: str, side: int = 224, classes: int = 1000) -> ModelSpace:
    return MobileNetV3.of_signature(Signature("image_classification", (TensorSpec((3, side, side)),), classes), variant)


@pytest.fixture
def small() -> ModelSpace:
    return of_size("small", 32, 10)


def test_sizes_are_the_published_ones() -> None:
    pandas = pytest.importorskip("pandas")
    if not (data_folder() / RUNS).exists():
        pytest.skip(f"no {RUNS} in ARCHFRONT_DATA")
    space = of_size("w1.0")
    rows = pandas.read_parquet(data_folder() / RUNS).sample(4, random_state=1).to_dict("records")
    for row in rows:
        config = {"resolution": row["resolution"], "dropout": 0.1}
        config |= {f"depth[{i}]": row[f"d_{i}"] for i in range(5)}
        for i in range(20):
            config |= {f"kernel[{i}]": row[f"ks_{i}"], f"expansion[{i}]": row[f"e_{i}"]}
        costs = analytic_costs(space, space.search_space.canonicalise(config))
        assert round(costs["params_m"] * 1e6) == row["params"]
        assert round(costs["macs_m"] * 1e6) == row["macs"]


def test_the_space_of_the_paper() -> None:
    space = of_size("w1.0").search_space
    per_stage = sum((3 * 3) ** depth for depth in (2, 3, 4))
    whole = space.fix({"resolution": 224, "dropout": 0.1})
    assert whole.size == per_stage**5  # section 3.1: about 2 x 10^19
    assert 2e19 < whole.size < 3e19


@pytest.mark.parametrize(("value", "width"), [(8, 8), (12, 16), (19.2, 24), (20, 24), (115.2, 112), (1, 8), (67, 64)])
def test_widths_are_multiples_of_eight_and_not_much_below(value: float, width: int) -> None:
    assert divisible(value) == width
    assert width % 8 == 0
    assert width >= 0.9 * value


class TestKernels:
    def test_they_are_centres_at_first(self, small: ModelSpace) -> None:
        bank = Supernet(small)
        wide = bank.bank_tensor("stages.1.0.depthwise.conv.weight")
        for kernel, edge in ((7, 0), (5, 1), (3, 2)):
            config = {**small.search_space.default, "kernel[2]": kernel}
            weight = bank.extract(config).state_dict()["stages.1.0.depthwise.conv.weight"]
            assert torch.equal(weight, wide[:, :, edge : 7 - edge, edge : 7 - edge])

    def test_they_are_transformed_by_the_learned_matrices(self, small: ModelSpace) -> None:
        bank, name = Supernet(small), "stages.1.0.depthwise.conv"
        with torch.no_grad():
            for size in (7, 5):
                bank.bank_tensor(f"{name}.{size}to{size - 2}").normal_()
        wide = bank.bank_tensor(f"{name}.weight").detach()
        config = {**small.search_space.default, "kernel[2]": 3, "expansion[2]": 4}
        net = bank.subnet(config)
        weight = net.get_submodule("stages.1.0.depthwise.conv").weight
        channels = len(weight)
        assert channels < len(wide)
        five, three = (bank.bank_tensor(f"{name}.{size}").detach() for size in ("7to5", "5to3"))
        expected = torch.zeros(channels, 1, 3, 3)
        for channel in range(channels):
            middle = (five @ wide[channel, 0, 1:6, 1:6].reshape(25)).reshape(5, 5)
            expected[channel, 0] = (three @ middle[1:4, 1:4].reshape(9)).reshape(3, 3)
        assert torch.allclose(weight, expected, atol=1e-6)
        weight.sum().backward()
        assert bank.bank_tensor(f"{name}.7to5").grad is not None
        outside = bank.bank_tensor(f"{name}.weight").grad
        assert outside is not None
        assert not outside[channels:].any()
        assert not outside[:, :, 0].any()

    def test_a_narrowed_space_begins_at_its_own_largest_kernel(self, small: ModelSpace) -> None:
        part = small.narrowed(small.search_space.fix({f"kernel[{i}]": 5 for i in range(10)}))
        bank = Supernet(part)
        assert bank.bank_tensor("stages.1.0.depthwise.conv.weight").shape[-1] == 5
        bank.subnet(part.search_space.default)


def official(bank: Supernet) -> dict[str, Tensor]:
    """The bank's tensors under the names of the authors' checkpoints."""
    parts = {"expand": "inverted_bottleneck", "depthwise": "depth_conv", "project": "point_linear"}
    outer = {"stem": "first_conv", "last": "final_expand_layer"}
    found = {}
    for bank_name, tensor in bank.state_dict().items():
        name = bank_name.removeprefix("bank:").replace("/", ".")
        block = re.fullmatch(r"(?:first|stages\.(\d)\.(\d))\.(\w+)\.(\w+)\.(\w+)", name)
        if name == "features.weight":
            theirs = "feature_mix_layer.conv.weight"
        elif name.startswith("classifier."):
            theirs = name.replace("classifier.", "classifier.linear.")
        elif block is None:
            part, kind, leaf = name.split(".")
            theirs = f"{outer[part]}.{'bn' if kind == 'norm' else 'conv'}.{leaf}"
        else:
            elastic = block[1] is not None
            number = 1 + bank.space.shape.most * int(block[1]) + int(block[2]) if elastic else 0  # type: ignore[attr-defined]
            part, kind, leaf = block[3], block[4], block[5]
            if part == "excite":
                inside = f"depth_conv.se.fc.{'reduce' if kind == 'reduce' else 'expand'}.{leaf}"
            elif "to" in leaf and kind == "conv":
                inside = f"depth_conv.conv.{leaf}_matrix"
            else:
                deeper = {"norm": "bn.bn", "conv": "conv.conv"} if elastic else {"norm": "bn", "conv": "conv"}
                inside = f"{parts[part]}.{deeper[kind]}.{leaf}"
            theirs = f"blocks.{number}.mobile_inverted_conv.{inside}"
        found[theirs] = tensor.clone()
    return found


class TestOfficialCheckpoints:
    @pytest.fixture
    def state(self, small: ModelSpace) -> dict[str, Tensor]:
        bank = Supernet(small, seed=5)
        with torch.no_grad():
            for parameter in bank.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        self.bank = bank
        return official(bank)

    @pytest.mark.parametrize("wrapped", [True, False])
    @pytest.mark.parametrize("spelling", ["mobile_inverted_conv", "conv"])
    def test_they_load(
        self, small: ModelSpace, state: dict[str, Tensor], tmp_path: Path, wrapped: bool, spelling: str
    ) -> None:
        respelt = {name.replace(".mobile_inverted_conv.", f".{spelling}."): tensor for name, tensor in state.items()}
        torch.save({"state_dict": respelt} if wrapped else respelt, tmp_path / "ofa.pth")
        loaded = load_bank(small, tmp_path / "ofa.pth")
        x = torch.randn(2, 3, 32, 32)
        for config in small.search_space.sample(np.random.default_rng(0), 3):
            inputs = small.prepare(config, (x,))
            with torch.no_grad():
                ours, theirs = (bank.extract(config).eval()(*inputs) for bank in (self.bank, loaded))
            assert torch.equal(ours, theirs)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda state: state.pop("first_conv.conv.weight"), "it lacks: stem.conv.weight"),
            (lambda state: state.update({"blocks.99.conv.depth_conv.conv.weight": torch.zeros(1)}), "'blocks.99.conv"),
            (lambda state: state.update({"decoder.weight": torch.zeros(1)}), "tensor 'decoder.weight' is not one"),
            (
                lambda state: state.update({"classifier.linear.bias": torch.zeros(3)}),
                r"other shapes: classifier.bias \(3,\) instead of \(10,\)",
            ),
        ],
    )
    def test_what_does_not_fit_is_said(
        self, small: ModelSpace, state: dict[str, Tensor], tmp_path: Path, change: Any, message: str
    ) -> None:
        change(state)
        torch.save({"state_dict": state}, tmp_path / "ofa.pth")
        with pytest.raises(DataError, match=message) as error:
            load_bank(small, tmp_path / "ofa.pth")
        assert "ofa.pth" in str(error.value)

    def test_a_full_one_is_read(self, tmp_path: Path) -> None:
        space = of_size("w1.0")
        bank = Supernet(space, seed=1)
        torch.save({"state_dict": official(bank)}, tmp_path / "ofa.pth")
        loaded = load_bank(space, tmp_path / "ofa.pth")
        assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in bank.state_dict().items())
        with pytest.raises(DataError, match="other shapes"):
            load_bank(of_size("w1.2"), tmp_path / "ofa.pth")

    def test_a_space_without_them_says_so(self, tmp_path: Path) -> None:
        torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "other.pth")
        with pytest.raises(DataError, match="'mlp' reads no checkpoints but archfront's own"):
            load_bank(spaces.load("mlp", task="digits"), tmp_path / "other.pth")


def test_digits_where_cifar_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path))
    assert MobileNetV3.tasks_of("small")[0] == "digits"
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision/cifar10_4k.npz").touch()
    assert MobileNetV3.tasks_of("small")[0] == "cifar10"
