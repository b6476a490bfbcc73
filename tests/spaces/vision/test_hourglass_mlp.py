"""The parity checks of the hourglass paper: formulae, shapes, fixed projections."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from archfront import spaces
from archfront.spaces import Configuration, Supernet, analytic_costs
from archfront.spaces._costs import count_macs, count_parameters
from archfront.spaces._errors import ConfigurationError, UsageError
from archfront.spaces.vision._residual_mlp import FixedProjection, ResidualMlp, Sizes, fixed_matrix
from archfront.spaces.vision.hourglass_mlp import HourglassMlp


@pytest.fixture
def space() -> HourglassMlp:
    found = spaces.load("hourglass_mlp")
    assert isinstance(found, HourglassMlp)
    return found


def drawn(space: HourglassMlp, n: int, **fixed: object) -> list[Configuration]:
    return space.search_space.fix(fixed).sample(np.random.default_rng(3), n)


def w_in(net: nn.Module) -> torch.Tensor:
    tensors = [*net.named_parameters(), *net.named_buffers()]
    return next(tensor for name, tensor in tensors if ".w_in." in name)


def test_closed_form_equals_what_is_counted(space: HourglassMlp) -> None:
    for config in drawn(space, 50):
        net = space.build(config).eval()
        formula = analytic_costs(space, config)
        assert formula["params_m"] * 1e6 == pytest.approx(count_parameters(net), abs=0.1)
        assert formula["macs_m"] * 1e6 == pytest.approx(count_macs(net, space.prepared_example(config, 1)), abs=0.1)


def test_the_formula_of_the_paper() -> None:
    sizes = Sizes(d_x=64, d_z=256, d_h=21, d_y=64, blocks=5)
    plain = 5 * (2 * 256 * 21 + 2 * 256) + 64 * 256 + 2 * 256
    assert sizes.parameters(w_in="fixed_gauss", norm="LN", bias=False) == plain
    assert sizes.parameters(w_in="trained", norm="LN", bias=False) == plain + 256 * 64
    assert sizes.parameters(w_in="fixed_gauss", norm="LN", bias=True) == plain + 5 * (21 + 256) + 64
    assert sizes.macs() == 64 * 256 + 2 * 5 * 256 * 21 + 256 * 64


@pytest.mark.parametrize("task", ["gencls", "sr2"])
def test_every_configuration_has_the_shape_it_says(task: str) -> None:
    space = spaces.load("hourglass_mlp", task=task)
    assert isinstance(space, HourglassMlp)
    for config in space.search_space.sample(np.random.default_rng(0), 300):
        sizes = space.sizes(config)
        if config["shape"] == "hourglass":
            assert sizes.d_h < sizes.d_z >= sizes.d_x
        else:
            assert sizes.d_h > sizes.d_x == sizes.d_z


@pytest.mark.parametrize(("d_z", "d_h", "hourglass"), [(8, 8, True), (8, 9, True), (8, 4, False), (16, 32, False)])
def test_sizes_refuse_the_other_shape(d_z: int, d_h: int, hourglass: bool) -> None:
    with pytest.raises(ConfigurationError, match=f"d_z={d_z}, d_h={d_h}"):
        Sizes(8, d_z, d_h, 8, 2, hourglass=hourglass)


def test_an_identity_projection_is_the_conventional_network() -> None:
    sizes = Sizes(64, 64, 100, 10, 3, hourglass=False)
    options = {"norm": "LN", "act": "GELU", "bias": True}
    torch.manual_seed(0)
    plain = ResidualMlp(sizes, w_in=None, **options)  # type: ignore[arg-type]
    torch.manual_seed(0)
    projected = ResidualMlp(sizes, w_in=None, **options)  # type: ignore[arg-type]
    projected.w_in = FixedProjection("fixed_gauss", 64, 64)
    projected.w_in.weight.copy_(torch.eye(64))
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(plain(x), projected(x))


@pytest.mark.parametrize("kind", ["fixed_gauss", "fixed_orth", "fixed_sign"])
def test_a_fixed_projection_is_no_parameter_and_never_moves(space: HourglassMlp, kind: str) -> None:
    net = space.build({**space.search_space.default, "w_in": kind})
    matrix = w_in(net)
    before = matrix.clone()
    assert not any(".w_in." in name for name, _ in net.named_parameters())
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.rand(4, 1, 8, 8)).square().sum().backward()
    optimiser.step()
    assert torch.equal(w_in(net), before)
    assert matrix.grad is None
    assert all(p is not matrix for group in optimiser.param_groups for p in group["params"])
    twin = space.build({**space.search_space.default, "w_in": "trained"})
    assert count_parameters(twin) - count_parameters(net) == matrix.numel()


def test_fixed_projections_are_the_same_in_another_process() -> None:
    script = (
        "import hashlib, sys; from archfront.spaces.vision._residual_mlp import fixed_matrix\n"
        "for kind in sys.argv[1:]: print(hashlib.sha256(fixed_matrix(kind, 96, 64, 5).numpy().tobytes()).hexdigest())"
    )
    kinds = ["fixed_gauss", "fixed_orth", "fixed_sign"]
    other = subprocess.run([sys.executable, "-c", script, *kinds], capture_output=True, text=True, check=True).stdout
    assert other.split() == [hashlib.sha256(fixed_matrix(k, 96, 64, 5).numpy().tobytes()).hexdigest() for k in kinds]
    assert not torch.equal(fixed_matrix("fixed_gauss", 96, 64, 5), fixed_matrix("fixed_gauss", 96, 64, 6))


@pytest.mark.parametrize("kind", ["fixed_gauss", "fixed_sign"])
def test_fixed_projections_are_nested(kind: str) -> None:
    assert torch.equal(fixed_matrix(kind, 384, 64)[:96], fixed_matrix(kind, 96, 64))


@pytest.mark.parametrize("kind", ["fixed_gauss", "fixed_orth", "fixed_sign", "trained"])
def test_sub_networks_have_nested_projections(space: HourglassMlp, kind: str) -> None:
    bank = Supernet(space, fixed={"w_in": kind, "shape": "hourglass"})
    wide, narrow = (bank.extract({**space.search_space.default, "w_in": kind, "d_z_ratio": r}) for r in (6.0, 1.5))
    assert torch.equal(w_in(wide)[:96], w_in(narrow))


def test_orthonormal_projections_keep_the_norm_and_gaussian_ones_the_expected_norm() -> None:
    x = torch.randn(100, 64, generator=torch.Generator().manual_seed(0))  # directions all round
    z = x @ fixed_matrix("fixed_orth", 256, 64).T
    assert torch.allclose(z.norm(dim=1), x.norm(dim=1), rtol=1e-5)
    for kind in ("fixed_gauss", "fixed_sign"):
        z = x @ fixed_matrix(kind, 256, 64).T
        assert float((z.norm(dim=1) / x.norm(dim=1)).square().mean()) == pytest.approx(4, rel=0.1)


def test_the_skip_is_wide_and_the_projection_linear(space: HourglassMlp) -> None:
    net = space.build(space.search_space.default).get_submodule("hourglass")
    assert isinstance(net, ResidualMlp)
    assert [tuple(p.shape) for n, p in net.named_parameters() if n.endswith("w1.weight")] == [(21, 256)] * 5
    one, other = torch.randn(2, 3, 64)
    assert torch.allclose(net.w_in(one + other), net.w_in(one) + net.w_in(other), atol=1e-5)
    for block in net.blocks:
        assert float(block.get_parameter("w2.weight").detach().std()) == pytest.approx(0.02 / 10**0.5, rel=0.1)


def test_twins_match_in_parameters(space: HourglassMlp) -> None:
    matched = 0
    for config in drawn(space, 30, shape="conventional"):
        try:
            twin = space.parameter_matched(config)
        except UsageError:
            continue
        matched += 1
        ours, theirs = (count_parameters(space.build(c)) for c in (config, twin))
        assert twin["shape"] == "hourglass"
        assert abs(ours - theirs) < 0.01 * theirs
        assert {name: twin[name] for name in ("norm", "act", "bias")} == {
            name: config[name] for name in ("norm", "act", "bias")
        }
    assert matched >= 25
    with pytest.raises(UsageError, match="no twin"):
        space.parameter_matched(space.search_space.default)
