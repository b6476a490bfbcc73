"""Optuna's samplers behind our interface: what they are told, what comes back, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from archfront import search
from archfront.search import Evaluation, Objective, Proposal, SearchBudget, Strategy, Value
from archfront.search._types import Constraint
from archfront.search.optuna import REFUSED, VARIANTS, Optuna, configuration_of, domains_of, parameters_of
from archfront.search.testing import TOY_SPACES, StrategyContract, evaluated
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
from archfront.spaces._errors import UnknownNameError, UsageError

EVERYTHING = SearchSpace(
    Integer("depth", 1, 3),
    Categorical("kind", ("conv", None, True)),
    Repeated(Ordinal("width", (8, 16.5, 32)), 3, when=IndexBelow("depth")),
    Integer("heads", 1, 64, log=True, when=Equals("kind", "conv")),
    Real("decay", 1e-6, 1e-1, log=True, zero=True),
    Real("drop", 0.1, 0.5, zero=True, when=Equals("kind", True)),
    Real("rate", 1e-4, 1.0, log=True),
    Real("share", -2.0, 3.0),
    Integer("even", 0, 10, step=2),
    Real("one", 0.25, 0.25),
)
PLANE = SearchSpace(Real("x", 0, 1), Real("y", 0, 1), Ordinal("k", (1, 2, 4)))
ERROR, SIZE = Objective("error", "min"), Objective("params_m", "min")
BOTH = ((ERROR,), (ERROR, SIZE))
KIT = sorted(set(VARIANTS) - {"gp"})
"""gp takes about a tenth of a second per ask: the laws of resume and refusal below run over it, not the whole kit."""


def named(variant: str) -> type[Optuna]:
    return type(f"Optuna_{variant}", (Optuna,), {"test_parameters": {**Optuna.test_parameters, "variant": variant}})


class TestEverySampler(StrategyContract):
    @pytest.fixture(params=sorted(set(KIT) - {"tpe"}))  # tpe is the default: the kit of all strategies runs over it
    def strategy_class(self, request: pytest.FixtureRequest) -> type[Strategy]:
        return named(request.param)


def values_of(config: Configuration) -> dict[str, Value]:
    """Two smooth objectives on PLANE that pull in different directions, and a metric to bound."""
    x, y, k = config["x"], config["y"], config["k"]
    numbers = {"error": (x - 0.2) ** 2 + (y - 0.7) ** 2, "params_m": k + x, "latency_ms": 10 * y}
    return {name: Value(value, "trained") for name, value in numbers.items()}


def run(strategy: Strategy, trials: int, batch: int = 1) -> list[Proposal]:
    proposals: list[Proposal] = []
    while len(proposals) < trials:
        asked = strategy.ask(batch).proposals
        proposals += asked
        strategy.tell([Evaluation(p.config, p.key, "ok", values_of(p.config), p.id) for p in asked])
    return proposals


def make(variant: str, objectives: Sequence[Objective] = (ERROR, SIZE), **given: Any) -> Optuna:
    space = given.pop("space", PLANE)
    return Optuna(space, objectives, **{"budget": SearchBudget(200), "variant": variant, **given})


# -- both ways between configurations and Optuna's parameters


def test_parameters_and_configurations_are_each_others_inverse() -> None:
    domains = domains_of(EVERYTHING)
    for config in EVERYTHING.sample(np.random.default_rng(0), 300):
        parameters = parameters_of(EVERYTHING, config)
        for name, value in parameters.items():
            assert domains[name]._contains(domains[name].to_internal_repr(value))
        back = configuration_of(EVERYTHING, parameters.__getitem__)
        assert EVERYTHING.canonicalise(back) == config
        assert set(back) == set(EVERYTHING.active_names(config))


def test_log_or_zero_is_a_flag_and_a_logarithm() -> None:
    domains = domains_of(EVERYTHING)
    assert domains["decay"] == optuna.distributions.FloatDistribution(1e-6, 1e-1, log=True)
    assert domains["decay=0"] == optuna.distributions.CategoricalDistribution((False, True))
    zero, small = {**EVERYTHING.default, "decay": 0.0}, {**EVERYTHING.default, "decay": 1e-6}
    assert "decay" not in parameters_of(EVERYTHING, zero)
    assert parameters_of(EVERYTHING, zero)["decay=0"] is True
    assert parameters_of(EVERYTHING, small)["decay"] == 1e-6


@pytest.mark.parametrize("variant", ["tpe", "random", "nsgaii", "nsgaiii"])
@pytest.mark.parametrize("objectives", [(ERROR,), (ERROR, SIZE)], ids=["one", "two"])
def test_every_kind_of_parameter_is_searched(variant: str, objectives: Sequence[Objective]) -> None:
    strategy = make(variant, objectives, space=EVERYTHING, startup=4, population=4)
    seen = []
    for i in range(25):
        (proposal,) = strategy.ask(1).proposals
        assert EVERYTHING.validate(proposal.config) == []
        seen.append(proposal.config["decay"])
        numbers = {"error": Value(float(i % 7), "trained"), "params_m": Value(float(i % 5), "trained")}
        strategy.tell([Evaluation(proposal.config, proposal.key, "ok", numbers, proposal.id)])
    assert 0 < seen.count(0.0) < len(seen)


# -- the study that a sampler meets

experimental = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
"""Optuna's word for some samplers; the strategy keeps it quiet, a native study beside it does not."""


def test_the_rebuilt_study_holds_the_archive() -> None:
    bounds = (Constraint("latency_ms", "<=", 5.0), Constraint("memory_mb", "<=", 1.0))
    strategy = make("tpe", (ERROR, Objective("params_m", "max")), constraints=bounds)
    run(strategy, 12)
    (failed,) = strategy.ask(1).proposals
    strategy.tell([Evaluation(failed.config, failed.key, "failed", {}, failed.id)])
    pending = strategy.ask(2).proposals
    study = strategy._rebuilt(0)
    trials = study.get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 12 + [TrialState.FAIL] + [TrialState.RUNNING] * 2
    for trial, told in zip(trials, strategy.told, strict=False):
        assert trial.params == parameters_of(PLANE, told.config)
        assert trial.values == [told.values["error"].value, -told.values["params_m"].value]
        excess = told.values["latency_ms"].value / 5.0 - 1
        assert trial.constraints == pytest.approx({"latency_ms<=5": excess, "memory_mb<=1": np.inf})
    assert [t.params for t in trials[13:]] == [parameters_of(PLANE, p.config) for p in pending]


@experimental
@pytest.mark.parametrize(
    ("variant", "objectives"),
    [
        *((variant, objectives) for variant in ("tpe", "nsgaii", "nsgaiii", "gp") for objectives in BOTH),
        ("cmaes", (ERROR,)),
    ],
)
def test_a_native_study_that_was_told_the_same_asks_for_the_same(variant: str, objectives: Sequence[Objective]) -> None:
    """Told one by one, a study that lived all the time and our rebuilt one agree on the next trial."""
    strategy = make(variant, objectives, startup=5, population=5)
    directions = ["minimize"] * len(objectives)
    native = optuna.create_study(directions=directions, sampler=strategy._sampler(0))
    domains = domains_of(PLANE)
    for _ in range(12):
        trial = native.ask(domains)
        config = PLANE.canonicalise(configuration_of(PLANE, trial.params.__getitem__))
        values = values_of(config)
        native.tell(trial, [values[o.name].value for o in objectives])
        strategy.tell([Evaluation(config, "", "ok", values)])
    if variant == "nsgaiii":  # chooses parents with its generator: let both have chosen the same
        ours = strategy._rebuilt(7)
        system = ours._storage.get_study_system_attrs(ours._study_id)
        for name, value in system.items():
            native._storage.set_study_system_attr(native._study_id, name, value)
    native.sampler = strategy._sampler(7)
    assert native.ask(domains).params == strategy._rebuilt(7).ask(domains).params


@experimental
@pytest.mark.parametrize("variant", ["nsgaii", "nsgaiii"])
def test_the_generation_is_the_place_among_the_told(variant: str) -> None:
    strategy = make(variant, population=4)
    run(strategy, 11)
    (key,) = {name for t in strategy._rebuilt(0).get_trials() for name in t.system_attrs}
    assert [t.system_attrs[key] for t in strategy._rebuilt(0).get_trials()] == [i // 4 for i in range(11)]
    study = strategy._rebuilt(0)
    study.ask(domains_of(PLANE))
    assert study.get_trials()[-1].system_attrs[key] == 2


def test_pending_trials_move_tpe_away() -> None:
    """Constant liar: with the good region pending, the next proposal differs from the one without."""
    strategy = make("tpe", (ERROR,))
    run(strategy, 20)
    free = strategy._rebuilt(3).ask(domains_of(PLANE)).params
    strategy.ask(5)
    assert strategy._rebuilt(3).ask(domains_of(PLANE)).params != free


# -- search


@pytest.mark.parametrize("variant", ["tpe", "gp", "cmaes"])
def test_the_optimum_is_approached(variant: str) -> None:
    strategy = make(variant, (ERROR,), seed=1)
    run(strategy, 25 if variant == "gp" else 40)
    assert strategy.losses.min() < 0.02


@pytest.mark.parametrize("variant", ["tpe", "nsgaii", "nsgaiii", "gp"])
def test_constraints_are_learned(variant: str) -> None:
    """y <= 0.4 (latency 10 y <= 4) where the unconstrained optimum is y = 0.7: most of what comes late is feasible."""
    trials = 16 if variant == "gp" else 60
    strategy = make(variant, (ERROR,), constraints=[Constraint("latency_ms", "<=", 4.0)], startup=6, population=8)
    run(strategy, trials)
    late = strategy.violations[trials // 2 :] == 0
    assert late.mean() > 0.55


def test_brute_force_tries_everything_once_and_ends() -> None:
    space = TOY_SPACES["conditional"]
    strategy = make("brute_force", (ERROR,), space=space)
    asked = [p for _ in range(60) for p in strategy.ask(1).proposals]
    assert len(asked) == space.size
    assert {p.origin for p in asked} == {"brute_force"}


def test_qmc_fills_the_cube_evenly() -> None:
    """A scrambled Sobol sequence puts one of 2^k points into every 2^k-th part of each axis."""
    space = SearchSpace(Real("x", 0, 1), Real("y", 0, 1))
    strategy = make("qmc", (ERROR,), space=space)
    points = [p.config for _ in range(16) for p in strategy.ask(1).proposals]
    for name in ("x", "y"):
        assert sorted(int(16 * c[name]) for c in points) == list(range(16))


# -- resume


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_resume_at_every_third_step_gives_the_same_keys(variant: str) -> None:
    space = PLANE if variant != "brute_force" else TOY_SPACES["categorical"]

    def fresh() -> Optuna:
        objectives = (ERROR,) if variant == "cmaes" else (ERROR, SIZE)
        return make(variant, objectives, space=space, startup=4, population=4, seed=2)

    def told(strategy: Strategy, proposals: Sequence[Proposal]) -> list[Evaluation]:
        numbers = {"error": Value(0.0, "trained")}
        batch = [
            Evaluation(p.config, p.key, "failed" if p.number % 5 == 4 else "ok", known(p.config) or numbers, p.id)
            for p in proposals
        ]
        strategy.tell(batch)
        return batch

    def known(config: Configuration) -> dict[str, Value]:
        return values_of(config) if space is PLANE else dict(evaluated(Proposal("", 0, config, "", "")).values)

    steps = 4 if variant == "gp" else 8
    straight, keys = fresh(), []
    for _ in range(steps):
        proposals = straight.ask(3).proposals
        keys.append([p.key for p in proposals])
        told(straight, proposals)
    for stop in range(1, steps, 3):
        strategy, everything, batches = fresh(), [], []
        for _ in range(stop):
            proposals = strategy.ask(3).proposals
            stored = json.dumps(strategy.state_dict())
            everything += proposals
            batches.append(told(strategy, proposals))
        resumed = fresh()
        resumed.load_state_dict(json.loads(stored), everything, batches)
        assert [p.key for p in resumed.ask(3).proposals] == keys[stop]


SCRIPT = """
from tests.search.test_optuna import EVERYTHING, ERROR, SIZE, make
from archfront.search import Evaluation, Value
for variant, objectives in (("tpe", (ERROR,)), ("tpe", (ERROR, SIZE)), ("nsgaii", (ERROR, SIZE))):
    strategy = make(variant, objectives, space=EVERYTHING, startup=4, population=4)
    for i in range(14):
        (p,) = strategy.ask(1).proposals
        values = {name: Value(float((i * k) % 11), "trained") for name, k in (("error", 3), ("params_m", 5))}
        strategy.tell([Evaluation(p.config, p.key, "ok", values, p.id)])
        print(p.key)
"""


def test_hash_order_changes_nothing() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].split()) == 42


# -- refusals and manners


@pytest.mark.parametrize("variant", sorted(REFUSED))
def test_samplers_that_cannot_work_here_are_refused_with_the_reason(variant: str) -> None:
    with pytest.raises(UsageError, match=f"optuna:{variant} ") as refusal:
        make(variant)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("variant", "given", "message"),
    [
        ("gp", {"space": EVERYTHING}, "conditional or log-or-zero parameter 'width\\[0\\]'"),
        ("qmc", {"space": SearchSpace(Real("decay", 1e-3, 1, log=True, zero=True))}, "'decay'"),
        ("qmc", {"constraints": [Constraint("error", "<=", 1.0)]}, "knows no constraints"),
        ("cmaes", {}, "has one objective, not 2"),
        ("cmaes", {"objectives": (ERROR,), "space": SearchSpace(Categorical("a", ("x", "y")))}, "categorical.*'a'"),
        ("cmaes", {"objectives": (ERROR,), "constraints": [Constraint("error", "<=", 1.0)]}, "knows no constraints"),
        ("brute_force", {}, "real parameter 'x'"),
        ("tpe", {"startup": 0}, "startup=0"),
        ("nsgaii", {"population": 1}, "population=1"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused(variant: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(variant, **given)


def test_an_unknown_sampler_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'nsgaii'"):
        make("nsga_ii")


def test_optunas_own_settings_are_left_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    level, filters = optuna.logging.get_verbosity(), list(warnings.filters)
    run(make("nsgaiii", population=4), 6)
    assert (optuna.logging.get_verbosity(), warnings.filters) == (level, filters)
    assert capfd.readouterr() == ("", "")
    assert level == logging.INFO


def test_loading_it_imports_no_optuna() -> None:
    code = "import sys; from archfront import search; search.load('optuna'); print('optuna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


def test_it_is_registered() -> None:
    assert search.load("optuna") is Optuna
    made: Callable[..., Strategy] = search.load("optuna")
    assert made(PLANE, [ERROR], budget=SearchBudget(5)).ask(1).proposals
