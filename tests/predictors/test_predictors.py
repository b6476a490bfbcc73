"""What single predictors promise beside the contract, and what the base does for unusual ones."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from archfront import predictors
from archfront.predictors import Context, Fitted, Model, Predictor, TooFewPointsError
from archfront.predictors._networks import calibrated, shares_of
from archfront.predictors._scores import kendall_tau
from archfront.predictors.auto import Auto
from archfront.predictors.forest import Forest
from archfront.predictors.graph import Graph
from archfront.predictors.ridge import Ridge
from archfront.predictors.stacked import Stacked
from archfront.predictors.testing import ADDITIVE, CONDITIONAL, PredictorContract, toy_latency
from archfront.spaces import Categorical, Repeated, SearchSpace
from archfront.spaces._errors import ConfigurationError, StoreError, UnknownNameError, UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration
from archfront.spaces._toy import ToyImages
from tests.predictors.tables import CELLS, table


class CountParameters(Predictor):
    """A cost model: builds the module, learns nothing."""

    minimum = 0

    @classmethod
    def supports(cls, context: Context) -> str | None:
        return None if context.model_space is not None else "it builds the module: the study's space has none"

    def untrained(self) -> Mapping[str, Model]:
        return {"params_m": {}}

    def inputs(self, configs: Sequence[Configuration]) -> NDArray[Any]:
        return self.rows_of(configs)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        return Fitted({})

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, None]:
        assert self.context.model_space is not None
        nets = [self.context.model_space.build(config) for config in inputs]
        return np.array([sum(p.numel() for p in net.parameters()) / 1e6 for net in nets]), None


class NeedsModels(Ridge):
    """A ridge that is choosy."""

    @classmethod
    def supports(cls, context: Context) -> str | None:
        return CountParameters.supports(context)


class TestUntrainedPredictor(PredictorContract):
    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return CountParameters

    @pytest.fixture
    def context(self) -> Context:
        return Context(model_space=ToyImages.bind())

    @pytest.fixture
    def space(self) -> SearchSpace:
        return ToyImages.bind().search_space


def test_a_predictor_without_a_fit_predicts_at_once() -> None:
    model_space = ToyImages.bind()
    space = model_space.search_space
    predictor = CountParameters(space, Context(model_space=model_space))
    small, large = {**space.default, "width": 2, "depth": 1}, {**space.default, "width": 6, "depth": 3}
    guess = predictor.predict([small, large])["params_m"]
    assert predictor.metrics == ["params_m"]
    assert guess.mean[0] < guess.mean[1]
    assert guess.std is None
    assert predictor.score([small, large], {"params_m": guess.mean})["params_m"].kendall == pytest.approx(1)
    with pytest.raises(UsageError, match="cannot be used here: it builds the module"):
        CountParameters(space)


def test_auto_passes_over_what_cannot_be_used() -> None:
    auto = Auto(ADDITIVE, candidates=("svr", f"{__name__}:NeedsModels"))
    assert list(auto.candidates) == ["svr"]
    with pytest.raises(UsageError, match="add `ridge`"):
        Auto(ADDITIVE, candidates=(f"{__name__}:NeedsModels",))
    here = f"{__name__}:CountParameters"
    with pytest.raises(UsageError, match="no standard deviation"):
        Auto(ADDITIVE, candidates=("ridge", here))
    with pytest.raises(UnknownNameError, match="did you mean 'ridge'"):
        Auto(ADDITIVE, candidates=("rigde",))


def test_a_stored_choice_must_be_a_candidate() -> None:
    configs = ADDITIVE.sample(np.random.default_rng(0), 20)
    one, other = Auto(ADDITIVE, candidates="ridge"), Auto(ADDITIVE, candidates="svr, gaussian_process")
    one.fit(configs, {"latency_ms": toy_latency(configs)})
    other.load_state_dict(one.state_dict())
    with pytest.raises(StoreError, match="'ridge': add it to the candidates"):
        other.predict(configs)


def test_auto_takes_the_best_ranking_of_held_out_rows() -> None:
    """A line in one number: ridge; a product of signs: not ridge."""
    space = SearchSpace(Repeated(Categorical("op", ("a", "b")), 8))
    configs = space.sample(np.random.default_rng(0), 90)
    signs = np.where(np.array([[c[name] == "a" for name in space.names] for c in configs]), 1.0, -1.0)
    targets = {"linear": signs @ np.arange(1, 9), "product": 3 * signs[:, 0] * signs[:, 1] + 0.1 * signs[:, 2]}
    predictor = Auto(space)
    report = predictor.fit(configs, targets)
    taus = report.chosen["linear"]["kendall"]
    assert set(taus) == {"ridge", "svr", "forest", "gaussian_process"}
    assert taus[report.chosen["linear"]["predictor"]] == max(taus.values()) > 0.95
    assert report.chosen["product"]["predictor"] != "ridge"
    assert report.scores["product"].kendall > 0.6


def test_auto_with_few_points_takes_those_that_can_be_fitted() -> None:
    configs = ADDITIVE.sample(np.random.default_rng(0), 5)
    assert Auto(ADDITIVE).fit(configs, {"latency_ms": toy_latency(configs)}).n == 5
    with pytest.raises(TooFewPointsError):
        Auto(ADDITIVE).fit(configs[:4], {"latency_ms": toy_latency(configs[:4])})


def test_the_packed_forest_is_scikit_learns() -> None:
    from sklearn.ensemble import RandomForestRegressor

    configs, x, y = table(120, seed=2)
    predictor = Forest(CELLS, seed=7, trees=40, leaf=3)
    predictor.fit(configs, {"top1": y})
    reference = RandomForestRegressor(40, min_samples_leaf=3, max_features=0.5, random_state=7).fit(x, y)
    others, features, _ = table(200, seed=9)
    guess = predictor.predict(others)["top1"]
    assert guess.mean == pytest.approx(reference.predict(features))
    leaves = reference.apply(features)
    means = np.stack([tree.predict(features) for tree in reference.estimators_])
    inside = [tree.tree_.impurity[leaves[:, i]] for i, tree in enumerate(reference.estimators_)]
    assert guess.std == pytest.approx(np.sqrt(means.var(axis=0) + np.mean(inside, axis=0)))


def test_no_member_of_a_stack_has_a_negative_weight() -> None:
    configs, _, y = table(80, seed=4)
    predictor = Stacked(CELLS, **Stacked.test_parameters)
    report = predictor.fit(configs, {"top1": y})
    shares = report.chosen["top1"]["weights"]
    assert set(shares) == {"ridge", "svr", "mlp"}
    assert all(share >= 0 for share in shares.values())
    assert 0.6 < sum(shares.values()) < 1.2


class Chain(SearchSpace):
    """A chain of operations: each node feeds the next."""

    def to_graph(self, config: Configuration) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
        """One-hot operations without their place: only the edges tell the order."""
        nodes = np.stack([[float(config[name] == op) for op in ("a", "b")] for name in self.names])
        return nodes, np.eye(len(self), k=1, dtype=bool), np.zeros(len(self), np.int64)


def test_graphs_tell_the_direction_of_their_edges() -> None:
    """The label is the number of a-then-b less that of b-then-a: a bag of operations knows nothing of it."""
    space = Chain(Repeated(Categorical("op", ("a", "b")), 7))
    configs = space.sample(np.random.default_rng(0), 100, distinct=True)
    words = ["".join(c.values()) for c in configs]
    y = np.array([float((w[0] == "a") - (w[-1] == "a")) for w in words])
    predictor = Graph(space, networks=2, hidden=32, layers=2, steps=250, lr=1e-2)
    predictor.fit(configs[:70], {"order": y[:70]})
    assert predictor.inputs(configs[:3]).shape == (3, 7, 2 + 1 + 7)
    assert kendall_tau(predictor.predict(configs[70:])["order"].mean, y[70:]) > 0.6


def test_spread_is_scaled_on_rows_left_out() -> None:
    rng = np.random.default_rng(0)
    y, shares = rng.normal(size=1000), shares_of(1000, 5)
    means = np.tile(y, (5, 1))
    for network, share in enumerate(shares):
        held = np.setdiff1d(np.arange(1000), share)
        means[network, held] += rng.normal(0, 3, len(held))
    factor, guess = calibrated(means, np.ones_like(means), y, shares)
    assert factor == pytest.approx(3, rel=0.1)
    assert guess is not None
    assert np.std(guess - y) == pytest.approx(3, rel=0.1)
    assert calibrated(means[:2], np.ones((2, 1000)), y, shares[:2])[1] is None


def test_illegal_configurations_are_named() -> None:
    predictor = predictors.load("ridge")(CONDITIONAL)
    configs = CONDITIONAL.sample(np.random.default_rng(0), 20)
    predictor.fit(configs, {"latency_ms": toy_latency(configs)})
    with pytest.raises(ConfigurationError, match="kind"):
        predictor.predict([{**configs[0], "kind": "mlp"}])
    with pytest.raises(UnknownNameError, match="did you mean 'scoring'"):
        predictors.load("ridge")(CONDITIONAL, scorin="rmse")


def test_large_populations_are_predicted_quickly() -> None:
    """20,000 configurations in under a second: the time is not asserted, the chunks are."""
    configs, _, y = table(50, seed=0)
    others = CELLS.sample(np.random.default_rng(1), 20_000)
    predictor = predictors.load("svr")(CELLS)
    predictor.fit(configs, {"top1": y})
    guess = predictor.predict(others)["top1"]
    assert len(guess) == 20_000
    assert guess.mean[[0, 19_999]] == pytest.approx(predictor.predict([others[0], others[-1]])["top1"].mean)


FRESH = """
import hashlib
from archfront import predictors
from archfront.predictors.testing import CONDITIONAL, toy_latency
import numpy, torch
torch.set_num_threads(1)
for name in predictors.names():
    cls = predictors.load(name)
    if cls.minimum and cls.supports(predictors.Context()) is None:
        predictor = cls(CONDITIONAL, seed=5, **cls.test_parameters)
        configs = CONDITIONAL.sample(numpy.random.default_rng(2), 30)
        predictor.fit(configs, {"latency_ms": toy_latency(configs)})
        mean = predictor.predict(configs)["latency_ms"].mean
        print(name, hashlib.sha256(mean.tobytes()).hexdigest())
"""


def test_a_fresh_process_predicts_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    there = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, env=environment)
    exec(compile(FRESH, "fresh", "exec"), {})
    assert capsys.readouterr().out == there.stdout
    assert len(there.stdout.splitlines()) >= 10
    assert len(hashlib.sha256().hexdigest()) == len(there.stdout.split()[1])
