"""The bar distribution: formulae against sums, integrals and Monte Carlo, end buckets included."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from archfront.spaces.inference._bar_distribution import (
    BarDistribution,
    borders_of,
    merged,
    nodes_of,
    spread,
    tail_scales,
)

BORDERS = torch.tensor([-2.5, -1.2, -0.7, -0.1, 0.0, 0.6, 0.9, 1.7, 3.2], dtype=torch.float64)
INSIDE_AND_OUTSIDE = (-6.0, -2.0, -1.2, -0.4, 0.7, 1.7, 2.6, 5.0)


def bars(tails: bool, *, batch: int = 3, seed: int = 0) -> BarDistribution:
    logits = torch.randn(batch, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scales = tail_scales(BORDERS) * tails
    return BarDistribution(logits.log_softmax(-1), BORDERS, scales.expand(batch, 2))


def drawn(posterior: BarDistribution, n: int) -> Tensor:
    """Samples (batch, n), by a way of their own: a bucket, then a place in it."""
    generator = torch.Generator().manual_seed(1)
    k = torch.multinomial(posterior.probs, n, replacement=True, generator=generator)
    share = torch.rand(k.shape, generator=generator, dtype=torch.float64)
    y = BORDERS[k] + share * BORDERS.diff()[k]
    half = torch.randn(k.shape, generator=generator, dtype=torch.float64).abs()
    low, high = (s[:, None] for s in posterior.scales.unbind(-1))
    y = torch.where((k == 0) & (low > 0), BORDERS[1] - low * half, y)
    return torch.where((k == 7) & (high > 0), BORDERS[-2] + high * half, y)


@pytest.mark.parametrize("tails", [True, False])
def test_the_density_integrates_to_one(tails: bool) -> None:
    posterior = bars(tails)
    ends = (-40.0, 40.0) if tails else (-2.5, 3.2)
    y = torch.linspace(*ends, 400_001, dtype=torch.float64)
    middle = ((y[1:] + y[:-1]) / 2).expand(3, -1)
    wide = BarDistribution(
        posterior.log_probs[:, None].expand(-1, 400_000, -1), BORDERS, posterior.scales[:, None].expand(-1, 400_000, -1)
    )
    total = wide.nll(middle).neg().exp().sum(-1) * (y[1] - y[0])
    assert total == pytest.approx(torch.ones(3).double(), abs=1e-4)


def test_half_of_a_tail_lies_within_its_bucket() -> None:
    posterior = bars(True)
    p = posterior.probs
    assert posterior.cdf(BORDERS[:1].expand(3)) == pytest.approx(p[:, 0] / 2)
    assert posterior.cdf(BORDERS[-1:].expand(3)) == pytest.approx(1 - p[:, -1] / 2)


@pytest.mark.parametrize("tails", [True, False])
def test_moments_are_those_of_samples(tails: bool) -> None:
    posterior = bars(tails)
    y = drawn(posterior, 400_000)
    assert y.mean(1) == pytest.approx(posterior.mean, abs=0.01)
    assert y.var(1) == pytest.approx(posterior.variance, rel=0.01)


@pytest.mark.parametrize("tails", [True, False])
def test_improvement_is_that_of_samples(tails: bool) -> None:
    posterior = bars(tails, batch=2)
    y = drawn(posterior, 1_000_000)
    for f in INSIDE_AND_OUTSIDE:
        at = torch.full((2,), f, dtype=torch.float64)
        seen = (y - f).clamp(min=0)
        error = 4 * seen.std(1) / 1000
        assert ((posterior.improvement(at) - seen.mean(1)).abs() <= 0.01 * seen.mean(1) + error).all(), f
        assert posterior.probability_of_improvement(at) == pytest.approx((y > f).double().mean(1), abs=3e-3)


def test_improvement_in_the_end_buckets_alone() -> None:
    """Where the maintained repository drops an offset and takes the complement, see papers/pfn.md."""
    low, high = tail_scales(BORDERS)
    for k, beyond in ((0, BORDERS[1] - low * math.sqrt(2 / math.pi)), (7, BORDERS[-2] + high * math.sqrt(2 / math.pi))):
        log_probs = torch.full((1, 8), -80.0, dtype=torch.float64)
        log_probs[0, k] = 0
        one = BarDistribution(log_probs, BORDERS, tail_scales(BORDERS)[None])
        f = torch.tensor([-9.0], dtype=torch.float64)
        assert float(one.improvement(f)) == pytest.approx(float(beyond) + 9, rel=1e-4), "all of it is above f"
        y = drawn(one, 1_000_000)
        for f in (torch.tensor([v], dtype=torch.float64) for v in (-3.0, -1.5, 2.0, 4.0)):
            seen = float((y - f).clamp(min=0).mean())
            assert float(one.improvement(f)) == pytest.approx(seen, rel=0.01, abs=1e-9)


@pytest.mark.parametrize("tails", [True, False])
def test_quantiles_invert_the_distribution(tails: bool) -> None:
    posterior = bars(tails)
    for q in (0.001, 0.02, 0.159, 0.5, 0.841, 0.98, 0.999):
        level = torch.full((3,), q, dtype=torch.float64)
        y = posterior.icdf(level)
        assert posterior.cdf(y) == pytest.approx(level, abs=1e-9)
    assert posterior.upper_confidence() == pytest.approx(
        posterior.icdf(torch.full((3,), 0.84134474).double()), abs=1e-6
    )
    assert posterior.upper_confidence(0.3) == pytest.approx(posterior.icdf(torch.full((3,), 0.7).double()), abs=1e-6)


def test_a_border_belongs_to_the_bucket_on_its_left() -> None:
    posterior = bars(True, batch=8)
    assert posterior.bucket_of(BORDERS[1:]).tolist() == list(range(8))
    assert posterior.bucket_of(torch.tensor([-9.0, -2.5, 9.0] + [0.0] * 5).double()).tolist() == [0, 0, 7] + [3] * 5


def test_borders_are_quantiles_of_samples() -> None:
    y = torch.randn(9_000, generator=torch.Generator().manual_seed(0))
    borders = borders_of(y, 9)
    assert borders[0] == y.min()
    assert borders[-1] == y.max()
    counts = torch.bincount(torch.searchsorted(borders, y).clamp(min=1) - 1)
    assert counts.tolist() == [1000] * 9
    with pytest.raises(ValueError, match="too few or too alike"):
        borders_of(torch.zeros(100), 9)


def test_a_merged_grid_is_exact_and_spreads_by_width() -> None:
    posterior = bars(False)
    coarse = merged(posterior.log_probs, 4)
    assert coarse.exp() == pytest.approx(posterior.probs.unflatten(-1, (2, 4)).sum(-1), abs=1e-6)
    wide = BarDistribution(coarse, BORDERS[::4], posterior.scales)
    fine = BarDistribution(spread(coarse, BORDERS, 4), BORDERS, posterior.scales)
    assert merged(fine.log_probs, 4) == pytest.approx(coarse, abs=1e-6)
    for y in (torch.full((3,), v).double() for v in (-2.2, -0.3, 0.3, 2.0)):
        assert fine.nll(y) == pytest.approx(wide.nll(y))
    assert fine.mean == pytest.approx(wide.mean)
    assert fine.variance == pytest.approx(wide.variance)


@pytest.mark.parametrize("tails", [True, False])
def test_nodes_stand_for_buckets(tails: bool) -> None:
    posterior = bars(tails)
    nodes, weights = nodes_of(BORDERS, posterior.scales[0], 32)
    assert (posterior.probs * (nodes @ weights)).sum(-1) == pytest.approx(posterior.mean, rel=1e-3)
    square = (posterior.probs * (nodes**2 @ weights)).sum(-1)
    assert square - posterior.mean**2 == pytest.approx(posterior.variance, rel=0.01)


def test_gradients_are_finite_with_bounded_ends() -> None:
    logits = torch.zeros(3, 8, requires_grad=True)
    scales = torch.zeros(3, 2, requires_grad=True)
    y = torch.tensor([-7.0, 0.3, 7.0])
    posterior = BarDistribution(logits.log_softmax(-1), BORDERS.float(), scales)
    loss = posterior.nll(y) + posterior.mean + posterior.improvement(y) + posterior.cdf(y)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
