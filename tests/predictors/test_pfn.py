"""The prior-data fitted network as a surrogate: columns, context, improvement, checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archfront import spaces
from archfront.predictors._prediction import Model
from archfront.predictors.pfn import SHIPPED, Pfn
from archfront.predictors.testing import ADDITIVE, CONDITIONAL, toy_latency
from archfront.spaces import Categorical, Equals, Integer, Ordinal, Real, Repeated, SearchSpace
from archfront.spaces._errors import DataError, StoreError, UnknownNameError, UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces.inference._bar_distribution import BarDistribution
from archfront.spaces.inference._checkpoint import load_checkpoint, save_checkpoint
from archfront.spaces.inference._pretraining import Plan, pretrained
from archfront.spaces.inference._prior_gp import HeboPlus
from archfront.spaces.inference._transformer import PfnShape


def fitted(n: int = 30, **changes: Any) -> tuple[Pfn, Floats]:
    predictor = Pfn(ADDITIVE, **changes)
    configs = ADDITIVE.sample(np.random.default_rng(0), n)
    y = toy_latency(configs)
    predictor.fit(configs, {"latency_ms": y})
    return predictor, y


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 20 columns, trained on up to 8 observations, for two steps."""
    plan = Plan(
        PfnShape(20, 32, 2, 2, 32, 50), ((HeboPlus(20, 0.5, most=6), 1.0),), steps=2, batch=16, longest=8, queries=24
    )
    path = tmp_path_factory.mktemp("pfn") / "small.pt"
    save_checkpoint(pretrained(plan), path)
    return path


def posterior_of(predictor: Pfn, model: Model, x: Floats) -> BarDistribution:
    """The bar distribution in the units of the network."""
    checkpoint = predictor._checkpoint
    net = checkpoint.network().double()
    points = torch.from_numpy(np.concatenate([model["x"], x]))
    known = torch.arange(len(points)) < len(model["x"])
    t = torch.zeros(len(points), dtype=torch.float64)
    t[known] = torch.from_numpy(model["t"])
    output = net(predictor._encoded(points), t[None], known[None])[0, len(model["x"]) :]
    return BarDistribution.of_output(output, checkpoint.borders)


def test_the_shipped_checkpoint_is_small_and_sound() -> None:
    assert SHIPPED.stat().st_size <= 2.5e6
    checkpoint = load_checkpoint(SHIPPED)
    assert checkpoint.shape.features == 64
    assert checkpoint.about["longest"] >= 64


def test_without_a_transform_predictions_are_the_bar_distributions() -> None:
    predictor, y = fitted(transform=False)
    configs = ADDITIVE.sample(np.random.default_rng(1), 12)
    model = predictor._models["latency_ms"]
    posterior = posterior_of(predictor, model, predictor.inputs(configs))
    guess = predictor.predict(configs)["latency_ms"]
    assert guess.std is not None
    assert guess.mean == pytest.approx(y.mean() + y.std() * posterior.mean.numpy(), rel=1e-3)
    assert guess.std == pytest.approx(y.std() * posterior.variance.sqrt().numpy(), rel=0.02)
    for best in (y.max(), y.mean(), y.min() - 1):
        f = torch.full((12,), (best - y.mean()) / y.std(), dtype=torch.float64)
        exact = y.std() * posterior.improvement(f).numpy()
        assert predictor.improvement(configs, "latency_ms", best, "max") == pytest.approx(exact, rel=0.02)


def test_improvement_is_in_the_metrics_unit_and_knows_directions() -> None:
    predictor, y = fitted()
    configs = ADDITIVE.sample(np.random.default_rng(1), 12)
    guess = predictor.predict(configs)["latency_ms"]
    assert guess.std is not None
    more = predictor.improvement(configs, "latency_ms", float(y.mean()), "max")
    less = predictor.improvement(configs, "latency_ms", float(y.mean()), "min")
    assert more - less == pytest.approx(guess.mean - y.mean(), rel=1e-3, abs=1e-3)
    assert (more > 0).all()
    assert (less > 0).all()
    certain = predictor.improvement(configs, "latency_ms", 1e4, "min")
    assert certain == pytest.approx(1e4 - guess.mean, rel=1e-3), "all of it is below"
    with pytest.raises(UnknownNameError, match="latency_ms"):
        predictor.improvement(configs, "latency", 1.0, "min")
    with pytest.raises(UsageError, match="call fit first"):
        Pfn(ADDITIVE).improvement(configs, "latency_ms", 1.0, "min")


def test_the_order_of_observations_does_not_matter() -> None:
    configs = ADDITIVE.sample(np.random.default_rng(0), 30)
    y = toy_latency(configs)
    one, other = Pfn(ADDITIVE), Pfn(ADDITIVE)
    one.fit(configs, {"latency_ms": y})
    other.fit(configs[::-1], {"latency_ms": y[::-1]})
    got, wanted = (p.predict(configs)["latency_ms"].mean for p in (one, other))
    assert got == pytest.approx(wanted, rel=1e-4)


def test_columns_that_do_not_fit_are_left_out_in_order(small: Path) -> None:
    """20 columns: those of fixed parameters go first, then those of activity, then one-hot columns of ordinals."""
    wide = Repeated(Categorical("op", ("a", "b", "c")), 5)
    exact = SearchSpace(wide, Ordinal("width", (1, 2, 4, 8)))  # 15 + 5
    held = SearchSpace(wide, Ordinal("width", (1, 2, 4, 8)), Categorical("norm", ("BN", "LN")).fixed("BN"))
    ranked = SearchSpace(wide, Ordinal("width", (1, 2, 4, 8)), Ordinal("depth", (1, 2, 3)))  # 15 + 5 + 4
    block = Categorical("block", ("a", "b"))
    options = [Integer(f"x{i}", 1, 9, when=(Equals("block", "a"),)) for i in range(10)]
    nested = SearchSpace(block, *options)  # 2 + 10 of two columns each, of which one says whether it is active
    rows = ((exact, range(20)), (held, range(20)), (ranked, [*range(15), 19, 23]), (nested, [0, 1, *range(2, 22, 2)]))
    for space, columns in rows:
        predictor = Pfn(space, checkpoint=str(small))
        assert predictor._columns.tolist() == list(columns)
        configs = space.sample(np.random.default_rng(0), 8)
        predictor.fit(configs, {"error": np.arange(8) / 8})
        assert np.isfinite(predictor.predict(configs)["error"].mean).all()
        slope = predictor.gradient(space.to_features(configs), "error")
        assert (slope[:, sorted(set(range(slope.shape[1])) - set(columns))] == 0).all()


def test_a_space_that_is_too_wide_is_refused_with_its_width() -> None:
    space = SearchSpace(Repeated(Categorical("op", ("a", "b", "c", "d")), 20), Ordinal("width", (1, 2, 4)))
    with pytest.raises(UsageError, match="at most 64 feature columns: this space has 84, 81 that"):
        Pfn(space)


def test_rotations_are_the_mean_over_cyclic_orders_of_the_columns(small: Path) -> None:
    space = SearchSpace(Repeated(Real("x", 0.0, 1.0), 3))
    configs = space.sample(np.random.default_rng(0), 9)
    y = np.random.default_rng(1).normal(size=8)
    turned = [[{f"x[{(i + k) % 3}]": c[f"x[{i}]"] for i in range(3)} for c in configs] for k in range(3)]
    means = []
    for rows in turned:
        one = Pfn(space, checkpoint=str(small), transform=False)
        one.fit(rows[:8], {"error": y})
        means.append(one.predict(rows[8:])["error"].mean)
    three = Pfn(space, checkpoint=str(small), transform=False, rotations=3)
    three.fit(configs[:8], {"error": y})
    assert three.predict(configs[8:])["error"].mean == pytest.approx(np.mean(means, axis=0), abs=1e-5)
    assert np.ptp(means) > 1e-5
    at = space.to_features(configs[8:])
    step = 1e-4 * np.eye(3)[:1]
    model = three.differentiable("error")
    rise = (model(torch.from_numpy(at + step)) - model(torch.from_numpy(at - step))) / 2e-4
    assert three.gradient(at, "error")[0, 0] == pytest.approx(float(rise), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("name", ["mlp", "pflayer"])
def test_the_widest_spaces_that_ship_fit(name: str) -> None:
    space = spaces.load(name).search_space
    configs = space.sample(np.random.default_rng(0), 12)
    predictor = Pfn(space)
    predictor.fit(configs, {"error": np.linspace(0, 1, 12)})
    assert len(set(predictor.predict(configs)["error"].mean)) > 1


def test_a_context_beyond_training_is_a_subset_that_is_said_once(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = SearchSpace(Integer("x", 1, 1000))
    configs = space.sample(np.random.default_rng(0), 50)
    y = np.random.default_rng(1).normal(size=50)
    predictor = Pfn(space, checkpoint=str(small))
    with caplog.at_level(logging.WARNING):
        report = predictor.fit(configs, {"error": y, "nll": -y})
    assert len(caplog.records) == 1
    assert "up to 8 observations: of 50 it reads 8" in caplog.text
    assert report.chosen["error"]["context"] == 8
    kept = predictor._models["error"]["x"]
    rows = [i for i, config in enumerate(configs) if predictor.inputs([config])[0] in kept]
    assert {int(y.argmin()), int(y.argmax())} <= set(rows)


def test_a_state_of_another_checkpoint_is_refused(small: Path) -> None:
    predictor, _ = fitted()
    other = Pfn(ADDITIVE, checkpoint=str(small))
    other.load_state_dict(predictor.state_dict())
    with pytest.raises(StoreError, match="another checkpoint"):
        other.predict(ADDITIVE.sample(np.random.default_rng(0), 2))
    with pytest.raises(DataError, match="nowhere"):
        Pfn(ADDITIVE, checkpoint="nowhere.pt")


def test_few_observations_and_odd_labels_stay_finite() -> None:
    for space in (ADDITIVE, CONDITIONAL, SearchSpace(Real("x", 0.0, 1.0))):
        configs = space.sample(np.random.default_rng(0), 6)
        for y in ([1.0, 1.0 + 1e-12], [0.0, 1e30], [1e-30, 2e-30], [0.1, 0.1, 0.1, 0.1, 0.1, 0.9]):
            predictor = Pfn(space)
            predictor.fit(configs[: len(y)], {"error": y})
            guess = predictor.predict(configs)["error"]
            assert guess.std is not None
            assert (guess.std > 0).all()
            assert (predictor.improvement(configs, "error", min(y), "min") >= 0).all()
