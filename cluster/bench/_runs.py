"""One run of the comparison: a strategy, ours or another library's, on a problem with a seed."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.cluster._request import resolved_strategy
from archfront.cluster._threads import one_thread
from archfront.cluster.bench._problem import Problem, problem
from archfront.search._types import Configuration, Evaluation, SearchBudget, Value
from archfront.spaces._errors import UnknownNameError, UsageError

__all__ = ["EVERY", "PEER", "Run", "peers"]

Floats = NDArray[np.float64]
Evaluate = Callable[[Configuration], Floats | None]
EVERY = 25
"""Evaluations between rows."""
PEER = "peer:"
"""Prefix of another library's own loop, e.g. "peer:optuna:tpe"."""
PEERS = {"optuna": ("tpe", "nsgaii", "gp", "random"), "pymoo": ("nsga2",)}
POPULATION = 50
PENALTY = 1e6
"""Loss told to pymoo for what is invalid: it knows no failures."""


@dataclass(frozen=True)
class Run:
    """What to run: names as typed; `parameters` of a strategy of ours."""

    strategy: str
    space: str
    task: str | None
    device: str | None
    seed: int
    trials: int
    epochs: int | None = None
    objectives: tuple[str, ...] = ()
    reference: tuple[tuple[str, float], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def problem(self) -> Problem:
        """Loaded once per process."""
        return problem(self.space, self.task, self.device, self.epochs, self.objectives, self.reference)

    def rows(self) -> list[dict[str, Any]]:
        """One row every EVERY evaluations and at the last: evaluations, share and hypervolume so far, CPU seconds of
        proposing so far. A configuration that is invalid or was evaluated before counts as an evaluation."""
        task = self.problem()
        valid: list[Floats] = []
        rows: list[dict[str, Any]] = []
        count = 0
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's libraries
            started, evaluating = time.process_time(), 0.0
            for losses in self._told(task):
                begun = time.process_time()
                count += 1
                if losses is not None:
                    valid.append(losses)
                if count % EVERY == 0 or count == self.trials:
                    seconds = begun - started - evaluating
                    rows.append(
                        {
                            "evaluations": count,
                            "share": task.share(valid),
                            "hypervolume": task.hypervolume(valid),
                            "seconds": round(seconds, 3),
                        }
                    )
                evaluating += time.process_time() - begun
                if count == self.trials:
                    break
        return rows

    def check_peer(self) -> None:
        """Raise UnknownNameError for a library or algorithm that is not known, UsageError for one not installed."""
        library, _, variant = self.strategy.removeprefix(PEER).partition(":")
        if library not in peers():
            raise UnknownNameError.of("peer", library, peers())
        if importlib.util.find_spec(library) is None:
            raise UsageError(f"peer {library!r} is not installed", "pip install 'archfront[bench]'")
        if variant not in PEERS[library]:
            raise UnknownNameError.of(f"peer of {library}", variant, PEERS[library])

    def _told(self, task: Problem) -> Iterator[Floats | None]:
        if self.strategy.startswith(PEER):
            self.check_peer()
            library, _, variant = self.strategy.removeprefix(PEER).partition(":")
            return peers()[library](task, variant, self.seed, self.trials)
        return _ours(task, self.strategy, self.parameters, self.seed, self.trials)


def peers() -> dict[str, Callable[[Problem, str, int, int], Iterator[Floats | None]]]:
    """The libraries whose own loops are compared, by name."""
    return {"optuna": _optuna, "pymoo": _pymoo}


def _ours(task: Problem, name: str, parameters: Mapping[str, Any], seed: int, trials: int) -> Iterator[Floats | None]:
    """Ask one, tell one. Nobody begins with the default configuration: the peers don't know it."""
    budget = SearchBudget(trials)
    cls, given = resolved_strategy(name, parameters, task.space.search_space, task.objectives, budget)
    searched, context = task.space.search_space, task.context()
    strategy = cls(searched, task.objectives, budget=budget, seed=seed, context=context, **given)
    while (asked := strategy.ask(1)).proposals:
        (proposal,) = asked.proposals
        losses = task.losses(proposal.config)
        if isinstance(losses, str):
            strategy.tell([Evaluation(proposal.config, proposal.key, "invalid", {}, proposal.id, error=losses)])
            yield None
            continue
        named = zip(task.objectives, losses.tolist(), strict=True)
        values = {o.name: Value(o.loss(loss), "looked_up") for o, loss in named}
        strategy.tell([Evaluation(proposal.config, proposal.key, "ok", values, proposal.id)])
        yield losses
    while True:  # the space is exhausted: nothing more can be found
        yield None


def _optuna(task: Problem, variant: str, seed: int, trials: int) -> Iterator[Floats | None]:
    """Optuna's ask and tell, population 50 where there is one; multivariate TPE, which does better on these tables."""
    import optuna

    from archfront.spaces._adapters import to_optuna

    samplers: dict[str, Callable[[], Any]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
        "nsgaii": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, deterministic_objective=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(directions=["minimize"] * len(task.objectives), sampler=samplers[variant]())
        distributions = to_optuna(task.space.search_space)
        while True:
            trial = study.ask(distributions)
            losses = task.losses(task.space.search_space.canonicalise(trial.params))
            if isinstance(losses, str):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                yield None
            else:
                study.tell(trial, losses.tolist())
                yield losses
    finally:
        optuna.logging.set_verbosity(level)


def _pymoo(task: Problem, variant: str, seed: int, trials: int) -> Iterator[Floats | None]:
    """pymoo's NSGA-II over integers: population 50, SBX and polynomial mutation with rounding, no duplicates."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    space = task.space.search_space
    try:
        top = np.array(space.cardinalities) - 1
    except ValueError as error:
        raise UsageError(f"peer:pymoo searches integers: {error}", "leave it out for this space") from error
    definition = PymooProblem(n_var=len(top), n_obj=len(task.objectives), xl=0, xu=top, vtype=int)
    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=15, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=20, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    algorithm.setup(definition, termination=("n_eval", 10 * trials), seed=seed, verbose=False)
    while True:
        offspring = algorithm.ask()
        genomes = np.asarray(offspring.get("X"), np.int64)
        answers = [task.losses(config) for config in space.from_ints(genomes)]
        yield from (None if isinstance(answer, str) else answer for answer in answers)
        worst = np.full(len(task.objectives), PENALTY)
        offspring.set("F", np.array([worst if isinstance(answer, str) else answer for answer in answers]))
        algorithm.tell(infills=offspring)
