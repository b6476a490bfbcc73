"""The laws of a predictor, as tests: subclass `PredictorContract` and give it a `predictor_class` fixture.

    class TestMine(PredictorContract):
        @pytest.fixture
        def predictor_class(self) -> type[Predictor]:
            return archfront.predictors.load("my_lab.predictors:Mine")

A predictor that needs more than an empty context overrides `context` and `space` too; where `supports` names a reason
the laws are skipped with it. The laws about learning are skipped for predictors that are not trained: `minimum` is 0,
and no other data set teaches them (capability `task_conditioned`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from archfront.predictors._context import Context
from archfront.predictors._errors import TooFewPointsError
from archfront.predictors._prediction import Prediction
from archfront.predictors._predictor import Predictor
from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._condition import Equals, IndexBelow
from archfront.spaces._errors import ArchfrontError, StoreError, UsageError
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Floats, Repeated
from archfront.spaces._search_space import Configuration, SearchSpace

__all__ = ["ADDITIVE", "CONDITIONAL", "PredictorContract", "toy_latency"]

CONDITIONAL = SearchSpace(
    Integer("depth", 1, 3),
    Categorical("kind", ("conv", "attention")),
    Ordinal("heads", (1, 2, 4), when=(Equals("kind", "attention"),)),
    Repeated(Categorical("op", ("a", "b")), 3, when=IndexBelow("depth")),
)
"""56 configurations."""

ADDITIVE = SearchSpace(
    Repeated(Categorical("op", ("a", "b", "c")), 4), Ordinal("width", (1, 2, 4)), Real("rate", 1e-3, 1.0, log=True)
)
"""A space without conditions, with every kind of parameter but one."""

ROWS = 40
Make = Callable[..., Predictor]


def toy_latency(configs: Sequence[Configuration]) -> Floats:
    """Additive and positive, in 1..25: each decision costs its own amount."""
    costs = {"a": 0.5, "b": 1.5, "c": 4.0, "conv": 1.0, "attention": 3.0}
    total = [
        1.0
        + sum(costs[v] for name, v in config.items() if isinstance(v, str))
        + sum(float(config.get(name, 0)) for name in ("depth", "width", "x"))
        - np.log10(config.get("rate", 1.0))
        for config in configs
    ]
    return np.array(total)


class PredictorContract:
    """Override `predictor_class`; its parameters are the class's `test_parameters`."""

    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        """The class under test: override."""
        raise TypeError("a contract needs a `predictor_class` fixture")

    @pytest.fixture
    def context(self) -> Context:
        """What the predictor is built with."""
        return Context()

    @pytest.fixture
    def space(self) -> SearchSpace:
        """The space of most laws."""
        return CONDITIONAL

    @pytest.fixture
    def make(self, predictor_class: type[Predictor], space: SearchSpace, context: Context) -> Make:
        """A fresh predictor; keyword arguments override its parameters, `space` and `seed` among them."""
        if (reason := predictor_class.supports(context)) is not None:
            pytest.skip(f"declared impossible: {reason}")

        def make(**changes: Any) -> Predictor:
            arguments = {"seed": 0, **predictor_class.test_parameters, **changes}
            return predictor_class(arguments.pop("space", space), context, **arguments)

        return make

    @pytest.fixture
    def learner(self, make: Make, predictor_class: type[Predictor]) -> Make:
        """`make` of a predictor that is trained."""
        if predictor_class.minimum == 0 and not predictor_class.capabilities.task_conditioned:
            pytest.skip("is not trained")
        return make

    # -- what it is

    def test_supports_says_yes_or_why_not(self, predictor_class: type[Predictor], context: Context) -> None:
        reason = predictor_class.supports(context)
        assert reason is None or reason.strip()

    def test_unknown_parameters_are_refused(self, make: Make) -> None:
        with pytest.raises(ArchfrontError, match="no_such_parameter"):
            make(no_such_parameter=1)

    def test_its_parameters_are_listed(self, predictor_class: type[Predictor]) -> None:
        assert set(predictor_class.test_parameters) <= set(predictor_class.parameters())
        assert "seed" not in predictor_class.parameters()

    # -- fit

    def test_too_few_points_are_refused(self, learner: Make, space: SearchSpace) -> None:
        predictor = learner()
        if predictor.minimum == 0:
            pytest.skip("needs no points")
        configs = _drawn(space, predictor.minimum)
        predictor.fit(configs, {"latency_ms": toy_latency(configs)})
        before = predictor.predict(configs)
        with pytest.raises(TooFewPointsError, match="latency_ms"):
            predictor.fit(configs[1:], {"latency_ms": toy_latency(configs[1:])})
        _same(predictor.predict(configs), before)

    def test_guesses_are_never_learned_from(self, learner: Make, space: SearchSpace) -> None:
        configs = _drawn(space, ROWS)
        y = toy_latency(configs)
        kinds = ["predicted", "proxy", *["measured"] * (ROWS - 2)]
        one, other, third = learner(), learner(), learner()
        wrong = np.concatenate([[1e6, np.nan], y[2:]])
        assert one.fit(configs, {"latency_ms": wrong}, kinds=kinds).n == ROWS - 2
        other.fit(configs[2:], {"latency_ms": y[2:]})
        third.fit(configs, {"latency_ms": wrong}, kinds={"latency_ms": kinds})
        _same(one.predict(configs), other.predict(configs))
        _same(one.predict(configs), third.predict(configs))
        if one.minimum > 0:
            with pytest.raises(TooFewPointsError):
                learner().fit(configs, {"latency_ms": y}, kinds=["predicted"] * ROWS)

    def test_rows_of_no_weight_are_left_out(self, learner: Make, space: SearchSpace) -> None:
        configs = _drawn(space, ROWS)
        y = toy_latency(configs)
        one, other = learner(), learner()
        one.fit(configs, {"latency_ms": y}, weights=[0.0] * 4 + [1.0] * (ROWS - 4))
        other.fit(configs[4:], {"latency_ms": y[4:]}, weights=[1.0] * (ROWS - 4))
        _same(one.predict(configs), other.predict(configs))

    @pytest.mark.parametrize(
        "change",
        [
            {"targets": {"latency_ms": [1.0] * (ROWS - 1)}},
            {"targets": {"latency_ms": [float("nan")] + [1.0] * (ROWS - 1)}},
            {"targets": {"latency_ms": [float("inf")] + [1.0] * (ROWS - 1)}},
            {"targets": {}},
            {"weights": [1.0] * (ROWS - 1)},
            {"weights": [-1.0] + [1.0] * (ROWS - 1)},
            {"kinds": ["measured"] * (ROWS - 1)},
        ],
        ids=["short", "nan", "infinite", "nothing", "short-weights", "negative-weight", "short-kinds"],
    )
    def test_nonsense_is_refused(self, learner: Make, space: SearchSpace, change: dict[str, Any]) -> None:
        given = {"targets": {"latency_ms": [1.0] * ROWS}, **change}
        with pytest.raises(UsageError):
            learner().fit(_drawn(space, ROWS), given.pop("targets"), **given)

    @pytest.mark.parametrize("value", [0.0, 7.5, -3e6])
    def test_constant_labels(self, learner: Make, space: SearchSpace, value: float) -> None:
        predictor = learner()
        configs = _drawn(space, ROWS)
        predictor.fit(configs, {"latency_ms": np.full(ROWS, value)})
        guess = predictor.predict(configs)["latency_ms"]
        assert guess.mean == pytest.approx(value, rel=0.02, abs=0.5)
        assert predictor.score(configs, {"latency_ms": np.full(ROWS, value)})["latency_ms"].kendall == 0

    def test_duplicates_are_welcome(self, learner: Make, space: SearchSpace) -> None:
        predictor = learner()
        configs = _drawn(space, 8) * 3
        noise = np.random.default_rng(1).normal(0, 0.1, len(configs))
        report = predictor.fit(configs, {"latency_ms": toy_latency(configs) + noise})
        assert report.n == len(configs)
        _finite(predictor, predictor.predict(configs), len(configs))

    def test_metrics_do_not_disturb_each_other(
        self, learner: Make, predictor_class: type[Predictor], space: SearchSpace
    ) -> None:
        if predictor_class.capabilities.multi_output:
            pytest.skip("declares one model of all metrics")
        configs = _drawn(space, ROWS)
        y = toy_latency(configs)
        both, alone = learner(), learner()
        both.fit(configs, {"error": 1 / y, "latency_ms": y})
        alone.fit(configs, {"latency_ms": y})
        assert both.metrics == ["error", "latency_ms"]
        _same(both.predict(configs, ["latency_ms"]), alone.predict(configs))
        with pytest.raises(ArchfrontError, match="did you mean 'latency_ms'"):
            both.predict(configs, ["latency"])

    def test_nothing_is_known_before_a_fit(self, learner: Make, space: SearchSpace) -> None:
        with pytest.raises(UsageError, match="call fit first"):
            learner().predict(_drawn(space, 2))

    # -- predict

    def test_shapes_and_finite_values(self, learner: Make, space: SearchSpace) -> None:
        predictor = _fitted(learner(), space)
        for n in (0, 1, 30):
            _finite(predictor, predictor.predict(_drawn(space, n)), n)

    def test_numpy_scalars_are_accepted(self, learner: Make, space: SearchSpace) -> None:
        predictor = _fitted(learner(), space)
        configs = _drawn(space, 5)
        as_numpy = [
            {name: v if isinstance(v, str | bool | None) else np.asarray(v)[()] for name, v in config.items()}
            for config in configs
        ]
        _same(predictor.predict(configs), predictor.predict(as_numpy))
        labels = [np.float32(v) for v in toy_latency(configs * 2)]
        predictor.fit(as_numpy * 2, {"latency_ms": labels})

    def test_inactive_decisions_do_not_matter(self, learner: Make) -> None:
        predictor = _fitted(learner(space=CONDITIONAL), CONDITIONAL)
        hidden = CONDITIONAL.canonicalise({**CONDITIONAL.default, "kind": "conv", "depth": 1})
        other = {**hidden, "heads": 4, "op[2]": "b"}
        silent = {name: hidden[name] for name in CONDITIONAL.active_names(hidden)}
        _same(predictor.predict([hidden]), predictor.predict([other]))
        _same(predictor.predict([hidden]), predictor.predict([silent]))

    @pytest.mark.parametrize(
        "odd",
        [SearchSpace(Integer("x", 1, 9)), SearchSpace(Categorical("x", ("only",))), SearchSpace(Ordinal("x", (3,)))],
        ids=["one-dimension", "one-value", "one-number"],
    )
    def test_odd_spaces(self, learner: Make, odd: SearchSpace) -> None:
        predictor = learner(space=odd)
        configs = odd.sample(np.random.default_rng(0), ROWS)
        predictor.fit(configs, {"latency_ms": np.arange(ROWS) % 3 + 1.0})
        _finite(predictor, predictor.predict(configs), ROWS)

    def test_it_learns_an_additive_toy(self, learner: Make, predictor_class: type[Predictor]) -> None:
        """Sixty noisy points, two hundred others: ranks, and where it says how sure it is, is it so?"""
        predictor = learner(space=ADDITIVE)
        rng = np.random.default_rng(4)
        configs = ADDITIVE.sample(rng, 260)
        y = toy_latency(configs) + rng.normal(0, 0.3, len(configs))
        report = predictor.fit(configs[:60], {"latency_ms": y[:60]})
        scores = predictor.score(configs[60:], {"latency_ms": y[60:]})["latency_ms"]
        assert scores.kendall > 0.6
        assert scores.spearman > 0.7
        assert (scores.coverage is not None) == predictor_class.capabilities.uncertainty
        assert scores.coverage is None or scores.coverage >= 0.7
        for found in report.scores.values():
            assert found.kendall == pytest.approx(scores.kendall, abs=0.2)

    def test_gradients_are_those_of_the_mean(self, learner: Make, predictor_class: type[Predictor]) -> None:
        predictor = _fitted(learner(space=ADDITIVE), ADDITIVE)
        if not predictor_class.capabilities.differentiable:
            with pytest.raises(UsageError, match="no gradient"):
                predictor.differentiable("latency_ms")
            return
        import torch

        configs = _drawn(ADDITIVE, 6)
        features = ADDITIVE.to_features(configs)
        mean = predictor.differentiable("latency_ms")
        assert mean(torch.from_numpy(features)).numpy() == pytest.approx(predictor.predict(configs)["latency_ms"].mean)
        step = 1e-6 * np.random.default_rng(0).normal(size=features.shape)
        slope = predictor.gradient(features, "latency_ms")
        with torch.no_grad():
            change = mean(torch.from_numpy(features + step)) - mean(torch.from_numpy(features - step))
        assert change.numpy() / 2 == pytest.approx((slope * step).sum(axis=1), rel=1e-3, abs=1e-10)

    # -- seeds and state

    def test_the_seed_decides(self, learner: Make, space: SearchSpace) -> None:
        configs = _drawn(space, 30)
        one, other = (_fitted(learner(seed=3), space).predict(configs) for _ in range(2))
        _same(one, other)

    def test_fitting_again_forgets(self, learner: Make, predictor_class: type[Predictor], space: SearchSpace) -> None:
        if predictor_class.capabilities.incremental:
            pytest.skip("declares that a fit starts from the last one")
        again = learner()
        configs = _drawn(space, ROWS)
        again.fit(configs[:10], {"error": 1 / toy_latency(configs[:10])})
        again = _fitted(again, space)
        assert again.metrics == ["latency_ms"]
        _same(again.predict(configs), _fitted(learner(), space).predict(configs))

    def test_the_global_generators_are_left_alone(self, learner: Make, space: SearchSpace) -> None:
        import torch

        def states() -> tuple[str, bytes]:
            return str(np.random.get_state()), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002

        before = states()
        predictor = _fitted(learner(), space)
        predictor.predict(_drawn(space, 3))
        assert states() == before

    def test_state_round_trip_is_exact(self, learner: Make, space: SearchSpace) -> None:
        configs = _drawn(space, 30)
        predictor = learner()
        y = toy_latency(configs)
        predictor.fit(configs, {"latency_ms": y, "error": 1 / y})
        again = learner()
        again.load_state_dict(_through_a_file(predictor.state_dict()))
        assert again.metrics == predictor.metrics
        _same(again.predict(configs), predictor.predict(configs))

    def test_foreign_states_are_refused(self, make: Make) -> None:
        state = make().state_dict()
        with pytest.raises(StoreError, match="space"):
            make().load_state_dict({**state, "space": "another"})
        with pytest.raises(StoreError, match="predictor"):
            make().load_state_dict({**state, "predictor": "another"})


def _drawn(space: SearchSpace, n: int) -> list[Configuration]:
    return space.sample(np.random.default_rng(0), n)


def _fitted(predictor: Predictor, space: SearchSpace) -> Predictor:
    configs = _drawn(space, ROWS)
    predictor.fit(configs, {"latency_ms": toy_latency(configs)})
    return predictor


def _finite(predictor: Predictor, guesses: dict[str, Prediction], n: int) -> None:
    for guess in guesses.values():
        assert guess.mean.shape == (n,)
        assert guess.mean.dtype == np.float64
        assert (guess.std is not None) == predictor.capabilities.uncertainty
        if guess.std is not None:
            assert guess.std.shape == (n,)
            low, high = guess.interval(0.5)
            assert (low <= high).all()


def _same(one: dict[str, Prediction], other: dict[str, Prediction]) -> None:
    assert one.keys() == other.keys()
    for metric, guess in one.items():
        assert np.array_equal(guess.mean, other[metric].mean)
        spreads = [prediction.std for prediction in (guess, other[metric]) if prediction.std is not None]
        assert len(spreads) != 1
        assert not spreads or np.array_equal(spreads[0], spreads[1])


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """JSON for all but the arrays; those through NumPy's format, without pickles."""
    buffer = io.BytesIO()
    np.savez(buffer, **state["blobs"])
    buffer.seek(0)
    text = json.dumps({name: part for name, part in state.items() if name != "blobs"}, allow_nan=False)
    with np.load(buffer, allow_pickle=False) as blobs:
        return {**json.loads(text), "blobs": dict(blobs)}
