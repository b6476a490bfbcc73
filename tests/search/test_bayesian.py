"""The strategy `bayesian`: its proposals are legal and good, resume, and leave torch alone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import moocore
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from archfront.search import Evaluation, Objective, Proposal, SearchBudget, Strategy, Value
from archfront.search._types import Constraint
from archfront.search.bayesian import BATCH, Bayesian
from archfront.spaces import (
    Categorical,
    Configuration,
    Equals,
    IndexBelow,
    Integer,
    Ordinal,
    Real,
    Repeated,
    SearchSpace,
)
from archfront.spaces._errors import UsageError

LINE = SearchSpace(Real("x", 0, 1))
PLANE = SearchSpace(Real("x", 0, 1), Real("y", 0, 1))
MIXED = SearchSpace(
    Integer("depth", 1, 3),
    Categorical("kind", ("conv", None, True)),
    Repeated(Ordinal("width", (8, 16.5, 32)), 3, when=IndexBelow("depth")),
    Integer("heads", 1, 64, log=True, when=Equals("kind", "conv")),
    Real("decay", 1e-6, 1e-1, log=True, zero=True),
    Real("drop", 0.1, 0.5, when=Equals("kind", True)),
    Real("rate", 1e-4, 1.0, log=True),
    Real("one", 0.25, 0.25),
)
LOSS, SIZE = Objective("loss", "min"), Objective("size", "min")
Floats = NDArray[np.float64]
Metrics = Callable[[Configuration], dict[str, float]]


def make(space: SearchSpace, objectives: Sequence[Objective] = (LOSS,), **given: Any) -> Bayesian:
    return Bayesian(space, objectives, **{"budget": SearchBudget(200), "initial": 5, "restarts": 2, **given})


def told(strategy: Strategy, proposals: Sequence[Proposal], metrics: Metrics) -> list[Evaluation]:
    evaluations = [
        Evaluation(p.config, p.key, "ok", {k: Value(v, "trained") for k, v in metrics(p.config).items()}, p.id)
        for p in proposals
    ]
    strategy.tell(evaluations)
    return evaluations


def run(strategy: Strategy, trials: int, metrics: Metrics, batch: int = 1) -> list[Proposal]:
    proposals: list[Proposal] = []
    while len(proposals) < trials:
        asked = strategy.ask(batch).proposals
        assert asked
        proposals += asked
        told(strategy, asked, metrics)
    return proposals


def two(config: Configuration) -> dict[str, float]:
    """The front is the segment from (0.2, 0.2) to (0.8, 0.8)."""
    x, y = config["x"], config["y"]
    return {"loss": (x - 0.2) ** 2 + (y - 0.2) ** 2, "size": (x - 0.8) ** 2 + (y - 0.8) ** 2, "ms": 10 * x}


def mixed(config: Configuration) -> dict[str, float]:
    """Least at depth 2, kind True, drop 0.3, decay 0."""
    drop = (config["drop"] - 0.3) ** 2 if config["kind"] is True else 0.3
    loss = abs(config["depth"] - 2) + drop + 3 * config["decay"] + (np.log10(config["rate"]) + 2) ** 2 / 4
    return {"loss": loss, "size": float(config["depth"] + config["width[0]"] / 8)}


# -- the columns of a space


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_of_a_quadratic_is_found_in_twelve_evaluations(seed: int) -> None:
    strategy = make(LINE, seed=seed)
    run(strategy, 12, lambda c: {"loss": (c["x"] - 0.3) ** 2})
    assert abs(strategy.best(1)[0].config["x"] - 0.3) < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_the_front_of_two_quadratics_is_covered(seed: int) -> None:
    """Its points are 0.72 (s^2, (1 - s)^2): 5/6 of the square up to (0.72, 0.72) is dominated by all of it, and by
    25 random points at most 0.92 of these 5/6 (seeds 0 to 7)."""
    strategy = make(PLANE, (LOSS, SIZE), seed=seed)
    run(strategy, 25, two)
    losses = np.array([[e.values["loss"].value, e.values["size"].value] for e in strategy.told])
    assert moocore.hypervolume(losses, ref=(0.72, 0.72)) / 0.72**2 > 0.94 * 5 / 6


def test_mixed_and_conditional_proposals_are_legal_and_better() -> None:
    strategy = make(MIXED, initial=8, seed=3)
    proposals = run(strategy, 26, mixed)
    for proposal in proposals:
        assert MIXED.validate(proposal.config) == []
        assert MIXED.canonicalise(proposal.config) == proposal.config
    assert [p.origin for p in proposals] == ["random"] * 8 + ["acquisition"] * 18
    best = strategy.best(1)[0].config
    assert (best["depth"], best["kind"]) == (2, True)
    assert strategy.losses.min() < 0.1


def test_a_constraint_is_respected() -> None:
    """ms = 10 x <= 4 where the optimum lies at x = 0.8: the best is at the bound, most of what is tried feasible."""
    strategy = make(PLANE, (SIZE,), constraints=[Constraint("ms", "<=", 4.0)], seed=2)
    run(strategy, 18, two)
    best = strategy.best(1)[0].config
    assert best["x"] == pytest.approx(0.4, abs=0.03)
    assert best["x"] <= 0.4
    assert best["y"] == pytest.approx(0.8, abs=0.1)
    assert (strategy.violations[8:] == 0).mean() > 0.5


def test_a_lower_bound_and_a_missing_metric() -> None:
    strategy = make(PLANE, (LOSS, SIZE), constraints=[Constraint("ms", ">=", 5.0)], seed=2)
    run(strategy, 5, lambda c: {k: v for k, v in two(c).items() if k != "ms" or c["y"] < 0.6})
    run(strategy, 9, two)
    late = strategy.violations[-8:] == 0
    assert late.mean() > 0.5


def test_predictions_are_in_the_metrics_own_unit_and_sign() -> None:
    """Accuracy 90 + 8 x is maximised: a prediction is near the value that then comes, not near minus it."""
    strategy = make(LINE, (Objective("accuracy", "max"), Objective("loss", "min")), seed=0)
    metrics: Metrics = lambda c: {"accuracy": 90 + 8 * c["x"], "loss": 100 * (c["x"] - 0.3) ** 2}  # noqa: E731
    run(strategy, 9, metrics)
    for proposal in strategy.ask(2).proposals:
        assert set(proposal.predicted) == {"accuracy", "loss"}
        for name, true in metrics(proposal.config).items():
            mean, std = proposal.predicted[name]
            assert 0 <= std < 3
            assert mean == pytest.approx(true, abs=max(4 * std, 1.0))


# -- batches and pending proposals


def test_a_batch_and_what_is_pending_keep_apart() -> None:
    strategy = make(LINE, seed=0)
    run(strategy, 8, lambda c: {"loss": (c["x"] - 0.3) ** 2 + 0.1 * np.sin(25 * c["x"])})
    points = [p.config["x"] for _ in range(3) for p in strategy.ask(2).proposals]
    assert len(set(np.round(points, 3))) == 6


def test_a_batch_as_large_as_the_space_is_the_space() -> None:
    space = SearchSpace(Repeated(Categorical("op", ("a", "b", "c")), 4))
    strategy = make(space, (LOSS, SIZE), samples=4)
    count: Metrics = lambda c: {"loss": sum(v == "a" for v in c.values()), "size": sum(v == "b" for v in c.values())}  # noqa: E731
    run(strategy, 6, count)
    asked = strategy.ask(100)
    assert asked.reason == "exhausted"
    assert len(asked.proposals) == 81 - 6 > BATCH


# -- resume, failures, manners


def test_resume_gives_the_same_keys() -> None:
    straight = make(PLANE, (LOSS, SIZE), seed=4)
    keys = [p.key for p in run(straight, 12, two, batch=2)]
    strategy, proposals, batches = make(PLANE, (LOSS, SIZE), seed=4), [], []
    for _ in range(4):
        asked = strategy.ask(2).proposals
        stored = json.dumps(strategy.state_dict())
        proposals += asked
        batches.append(told(strategy, asked, two))
    resumed = make(PLANE, (LOSS, SIZE), seed=4)
    resumed.load_state_dict(json.loads(stored), proposals, batches)
    for _ in range(2):
        asked = resumed.ask(2).proposals
        proposals += asked
        told(resumed, asked, two)
    assert [p.key for p in proposals] == keys


SCRIPT = """
import torch
torch.set_num_threads(1)
from tests.search.test_bayesian import LOSS, MIXED, SIZE, make, mixed, run
for proposal in run(make(MIXED, (LOSS, SIZE), seed=7), 10, mixed):
    print(proposal.key)
"""


def test_a_fresh_process_proposes_the_same() -> None:
    here = [p.key for p in run(make(MIXED, (LOSS, SIZE), seed=7), 10, mixed)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == here


def test_data_beyond_the_limit_keeps_the_best() -> None:
    strategy = make(PLANE, (LOSS, SIZE), points=12)
    run(strategy, 5, two)
    for config in PLANE.sample(np.random.default_rng(0), 40):
        values = {k: Value(v, "trained") for k, v in two(config).items()}
        strategy.tell([Evaluation(config, "", "ok", values)])
    codes, losses, *_ = strategy._data()
    assert len(codes) == len(losses) == 12
    assert strategy.losses[:, 0].min() in losses[:, 0]
    assert strategy.ask(1).proposals[0].origin == "acquisition"


def test_a_constant_objective_and_a_diverged_one_do_no_harm() -> None:
    strategy = make(LINE, (LOSS, SIZE), seed=0)
    metrics: Metrics = lambda c: {"loss": 1.0, "size": 1e12 if c["x"] > 0.9 else (c["x"] - 0.3) ** 2}  # noqa: E731
    proposals = run(strategy, 14, metrics)
    assert proposals[-1].origin == "acquisition"
    assert strategy.losses[:, 1].min() < 0.001


def test_a_numerical_failure_is_logged_and_proposes_at_random(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = make(PLANE, (LOSS, SIZE))
    run(strategy, 6, two)
    strategy.learn([])  # as if something had been told: the model is made again

    def failing(*_: Any) -> None:
        raise np.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr("archfront.search._botorch_model.fitted", failing)
    with caplog.at_level(logging.WARNING, logger="archfront"):
        (proposal,) = strategy.ask(1).proposals
    assert proposal.origin == "random"
    assert "not positive definite" in caplog.text


def test_torch_is_left_as_it_was() -> None:
    torch.manual_seed(11)
    state, threads, dtype = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    run(make(PLANE, (LOSS, SIZE)), 8, two)
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)


def test_nothing_is_compiled() -> None:
    """BoTorch's class compiles a C++ kernel when it is first made; our acquisition never makes it."""
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from tests.search.test_bayesian import LOSS, PLANE, SIZE, make, run, two\n"
        "run(make(PLANE, (LOSS, SIZE)), 7, two)\n"
        "from botorch.acquisition.multi_objective import logei\n"
        "print(logei._load_attempted, logei._C)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False", "None"]


def test_loading_it_imports_no_torch() -> None:
    code = "import sys; from archfront import search; search.load('bayesian'); print('botorch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("given", [{"initial": 0}, {"points": 1}, {"samples": 0}, {"restarts": 0}])
def test_nonsense_is_refused(given: dict[str, int]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(UsageError, match=f"{name}={value}"):
        make(LINE, **given)
