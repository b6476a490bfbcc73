"""Noising processes: their marginals are those of their own stochastic differential equations."""

from __future__ import annotations

import math

import pytest
import torch

from archfront.predictors._sde import SDES, Sde, SubVp, VarianceExploding, VariancePreserving, sde_of
from archfront.spaces._errors import ArchfrontError


@pytest.mark.parametrize("name", SDES)
def test_marginals_solve_the_moment_equations(name: str) -> None:
    """dm/dt = -rate m and dv/dt = -2 rate v + g^2, integrated by small steps in double precision."""
    sde = sde_of(name)
    steps = 2_000
    mean, variance = 1.0, float(sde.std(torch.tensor([0.0], dtype=torch.float64)) ** 2)
    for i in range(steps):
        t = torch.tensor([(i + 0.5) / steps], dtype=torch.float64)
        rate, diffusion = float(sde.rate(t)), float(sde.diffusion(t))
        mean += -rate * mean / steps
        variance += (-2 * rate * variance + diffusion**2) / steps
    one = torch.tensor([1.0], dtype=torch.float64)
    assert mean == pytest.approx(float(sde.scale(one)), rel=1e-3)
    assert math.sqrt(variance) == pytest.approx(float(sde.std(one)), rel=1e-3)


def test_the_formulae_of_the_table() -> None:
    t = torch.tensor([0.3], dtype=torch.float64)
    ve = VarianceExploding(0.1, 5.0)
    sigma = 0.1 * 50**0.3
    assert float(ve.std(t)) == pytest.approx(sigma)
    assert float(ve.diffusion(t)) == pytest.approx(sigma * math.sqrt(2 * math.log(50)))
    assert ve.prior_std == 5.0
    c = -0.25 * 0.09 * 4.9 - 0.5 * 0.3 * 0.1
    vp, sub = VariancePreserving(), SubVp()
    assert float(vp.scale(t)) == pytest.approx(math.exp(c))
    assert float(vp.std(t)) == pytest.approx(math.sqrt(1 - math.exp(2 * c)))
    assert float(sub.std(t)) == pytest.approx(1 - math.exp(2 * c))
    beta = 0.1 + 0.3 * 4.9
    decay = math.exp(-2 * 0.1 * 0.3 - 4.9 * 0.09)
    assert float(sub.diffusion(t)) == pytest.approx(math.sqrt(beta * (1 - decay)))
    assert float(vp.condition(t)) == pytest.approx(999 * 0.3)


@pytest.mark.parametrize("sde", [sde_of(name) for name in SDES], ids=list(SDES))
def test_noise_has_the_marginals_size(sde: Sde) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.ones(4_000, 2, 3)
    t = torch.full((4_000,), 0.7)
    noised = sde.noised(x, t, torch.randn(x.shape, generator=generator))
    assert float(noised.mean()) == pytest.approx(float(sde.scale(t[:1])), abs=5 * float(sde.std(t[:1])) / 150)
    assert float(noised.std()) == pytest.approx(float(sde.std(t[:1])), rel=0.02)


def test_bad_ends_and_names_are_refused() -> None:
    with pytest.raises(ArchfrontError, match="sigma_min"):
        VarianceExploding(2.0, 1.0)
    with pytest.raises(ArchfrontError, match="did you mean 'vp'"):
        sde_of("vpp")
