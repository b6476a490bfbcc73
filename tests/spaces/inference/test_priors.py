"""The priors: their statistics, their seeds, and columns like those of a search space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archfront.spaces import Categorical, Ordinal, Real, SearchSpace
from archfront.spaces.inference._prior import Prior, encoded, gaussian_draw
from archfront.spaces.inference._prior_architectures import (
    LEVELS,
    Architectures,
    Decision,
    _active,
    _columns,
    _trees,
    drawn_space,
)
from archfront.spaces.inference._prior_gp import FixedGp, HeboPlus, MixedGp
from archfront.spaces.inference._prior_networks import BayesianNetworks
from archfront.spaces.inference._prior_task import context_sizes

PRIORS = [
    FixedGp(3),
    MixedGp(3),
    HeboPlus(),
    HeboPlus(20, 0.5, most=6, warp=True),
    BayesianNetworks(),
    Architectures(),
    Architectures(trees=1.0),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_draws_are_finite_and_the_seed_decides(prior: Prior) -> None:
    x, y = prior.draw(9, 30, seeded())
    assert x.shape == (9, 30, prior.features)
    assert y.shape == (9, 30)
    assert x.isfinite().all()
    assert y.isfinite().all()
    again, other = prior.draw(9, 30, seeded()), prior.draw(9, 30, seeded(1))
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])
    assert not torch.equal(y, other[1])
    before = torch.get_rng_state()
    prior.draw(1, 1, seeded())
    assert torch.equal(before, torch.get_rng_state())


def test_features_are_normalised_then_scaled_then_padded() -> None:
    x = torch.rand(2, 5000, 6, generator=seeded())
    used = torch.tensor([6, 2])
    code = encoded(x, used, 1.0)
    assert (code[1, :, 2:] == 0).all()
    assert code[0].std(0) == pytest.approx(np.ones(6), rel=0.05)
    assert torch.allclose(code[1, :, :2], 3 * (x[1, :, :2] - 0.5) * 12**0.5)
    rows = encoded(x, used, 0.5).square().sum(-1).mean(1)
    assert rows == pytest.approx(np.full(2, 6), rel=0.05)


def test_the_gaussian_process_has_its_covariance() -> None:
    prior = FixedGp(1, lengthscale=0.6, noise=1e-2)
    x, _, _ = prior.raw(1, 4, seeded())
    covariance = prior.covariance(x, x) + 1e-2 * torch.eye(4)
    y = gaussian_draw(covariance.expand(40_000, -1, -1), seeded(1))
    assert torch.cov(y.T) == pytest.approx(covariance[0], abs=0.03)
    assert prior.covariance(x, x)[0, 0, 1] == pytest.approx(float(torch.exp(-((x[0, 0] - x[0, 1]) ** 2) / 0.72)))


def test_a_covariance_that_does_not_factor_gets_a_larger_diagonal() -> None:
    singular = torch.ones(2, 50, 50)
    singular[1] = -0.01 * torch.eye(50) + 1.0
    assert gaussian_draw(singular, seeded()).isfinite().all()


def test_hebo_hyperparameters_vary_by_data_set() -> None:
    _, used, y = HeboPlus().raw(400, 40, seeded())
    assert used.min() == 1
    assert used.max() == 18
    assert 0.5 < float(y.square().mean()) < 10, "outputscale has mean 2.1"
    assert float(y.std(1).max() / y.std(1).min()) > 10


def test_mixed_hyperparameters_have_the_covariance_of_the_mixture() -> None:
    """E[y y'] at a distance is the kernel's mean over the hyper-prior, and heavier tails than one process has."""
    x, _, y = MixedGp(1).raw(20_000, 2, seeded())
    rng = np.random.default_rng(0)
    far = (x[:, 0, 0] - x[:, 1, 0]).numpy()
    lengthscale = rng.gamma(3.0, 1 / 6.0, len(far))
    assert float((y[:, 0] * y[:, 1]).mean()) == pytest.approx(np.exp(-0.5 * (far / lengthscale) ** 2).mean(), abs=0.05)
    assert float((y**4).mean() / (y**2).mean() ** 2) > 3.5, "a Gaussian has 3"


def test_the_tree_kernel_is_the_share_of_trees_that_share_a_leaf() -> None:
    """A level asks one of two columns: it does not part x and x' with probability 1 - mean |x - x'|."""
    x = torch.tensor([[0.1, 1.0], [0.3, 1.0], [0.3, 0.0]])
    y = _trees(x.expand(20_000, -1, -1), seeded())
    apart = (x[:, None] - x[None]).abs().mean(-1)
    assert torch.cov(y.T) == pytest.approx((1 - apart) ** LEVELS, abs=0.04)


def test_decisions_are_columns_as_a_search_space_writes_them() -> None:
    space = SearchSpace(Categorical("a", ("x", "y", "z")), Ordinal("b", (1, 2, 4, 8)), Real("c", 0.0, 1.0))
    configs = space.sample(np.random.default_rng(0), 20)
    decisions = [Decision("choice", 3, False), Decision("rank", 4, False), Decision("number", 2, False)]
    value = torch.from_numpy(space.encode(configs))[None].float()
    ours = _columns(decisions, value, _active(decisions, value, seeded()))
    assert ours[0] == pytest.approx(space.to_features(configs), abs=1e-6)


def test_drawn_spaces_fit() -> None:
    rng = np.random.default_rng(0)
    spaces = [drawn_space(rng, 64) for _ in range(300)]
    widths = [sum(decision.width for decision in space) for space in spaces]
    assert max(widths) <= 64
    assert min(widths) >= 1
    assert {decision.kind for space in spaces for decision in space} == {"choice", "rank", "number"}
    assert any(decision.conditional for space in spaces for decision in space)


@pytest.mark.parametrize(("weighted", "mean"), [(False, 9.5), (True, 14.4)])
def test_context_sizes(weighted: bool, mean: float) -> None:
    sizes = context_sizes(20_000, 20, seeded(), weighted=weighted)
    assert sizes.min() == 0
    assert sizes.max() == 19
    assert float(sizes.float().mean()) == pytest.approx(mean, abs=0.15)
