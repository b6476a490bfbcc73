"""Strategies against each other and against other libraries: hypervolume by evaluations, on tables, over seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archfront.cluster._request import resolved_strategy
from archfront.cluster.bench._parallel import finished
from archfront.cluster.bench._runs import PEER, Run
from archfront.cluster.store import Store
from archfront.search._types import SearchBudget

__all__ = ["DEFAULT_PEERS", "Comparison", "compare"]

KIND = "search"
DEFAULT_PEERS = ("optuna:tpe", "optuna:nsgaii", "pymoo:nsga2")
Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What is compared. `strategies` are (name, parameters); peers are named "peer:optuna:tpe". One front per device;
    `devices` is (None,) for a table without any."""

    space: str
    task: str | None
    devices: tuple[str | None, ...]
    strategies: tuple[tuple[str, Mapping[str, Any]], ...]
    seeds: tuple[int, ...]
    trials: int
    epochs: int | None = None
    objectives: tuple[str, ...] = ()
    reference: tuple[tuple[str, float], ...] = ()
    rows: list[Row] = field(default_factory=list)

    def runs(self) -> list[Run]:
        """Every run, seed by seed, so that what is there when it is stopped is balanced."""
        return [
            Run(
                name,
                self.space,
                self.task,
                device,
                seed,
                self.trials,
                self.epochs,
                self.objectives,
                self.reference,
                parameters,
            )
            for seed in self.seeds
            for device in self.devices
            for name, parameters in self.strategies
        ]

    def protocol(self) -> list[dict[str, Any]]:
        """The problems, one per device."""
        return [run.problem().protocol for run in self._one_per_device()]

    def _one_per_device(self) -> Iterator[Run]:
        name, parameters = self.strategies[0]
        for device in self.devices:
            yield Run(
                name, self.space, self.task, device, 0, self.trials, self.epochs, self.objectives, self.reference,
                parameters,
            )  # fmt: skip


def compare(
    store: Store,
    comparison: Comparison,
    *,
    workers: int = 0,
    address: str | None = None,
    watch: Callable[[int, int, Run | None], None] = lambda done, of, run: None,
) -> dict[str, Any]:
    """Do the runs that the store does not have yet, and return all: `{protocol, rows, summary}`.

    A row every 25 evaluations and at the last; a run with more trials stands for one with fewer. `share` is the
    fraction of the full table's front, None without a full table. Raises UnknownNameError and UsageError before
    anything runs. A finished run is stored at once.
    """
    runs = comparison.runs()
    for run in {(r.strategy, r.device): r for r in runs}.values():
        _check(run)
    names = {_what(run): run for run in runs}
    stored = store.bench(KIND, names)
    known = {what: content for what, content in stored.items() if content["trials"] >= comparison.trials}
    missing = [run for what, run in names.items() if what not in known]
    watch(len(runs) - len(missing), len(runs), None)
    for done, (run, rows) in enumerate(finished(Run.rows, missing, workers, address), len(runs) - len(missing) + 1):
        content = {"trials": run.trials, "rows": rows}
        known[_what(run)] = content
        if _what(run) in stored:
            store.remove_bench(KIND, [_what(run)])
        store.add_bench(KIND, {_what(run): content})
        watch(done, len(runs), run)
    rows = [
        {
            "strategy": _label(run),
            "space": comparison.space,
            "task": run.problem().space.task().name,
            "device": run.device,
            "seed": run.seed,
            **row,
        }
        for what, run in names.items()
        for row in known[what]["rows"]
        if row["evaluations"] <= comparison.trials
    ]
    return {"protocol": comparison.protocol(), "rows": rows, "summary": summary(rows)}


def summary(rows: Sequence[Row]) -> list[Row]:
    """Mean, standard error and number of seeds by strategy, device and evaluations: of the share, or of the
    hypervolume where there is no full table; and the mean CPU seconds per proposal."""
    groups: dict[tuple[str, str | None, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["strategy"], row["device"], row["evaluations"]].append(row)
    found = []
    for (strategy, device, evaluations), members in groups.items():
        values = [row["hypervolume"] if row["share"] is None else row["share"] for row in members]
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        seconds = statistics.fmean(row["seconds"] for row in members) / evaluations
        found.append(
            {
                "strategy": strategy,
                "device": device,
                "evaluations": evaluations,
                "mean": statistics.fmean(values),
                "sem": error,
                "seeds": len(values),
                "seconds_per_proposal": round(seconds, 4),
            }
        )
    return found


def _check(run: Run) -> None:
    """Raise what the run would raise at once."""
    problem = run.problem()
    if run.strategy.startswith(PEER):
        run.check_peer()
        return
    space, budget = problem.space.search_space, SearchBudget(run.trials)
    cls, given = resolved_strategy(run.strategy, run.parameters, space, problem.objectives, budget)
    cls(space, problem.objectives, budget=budget, seed=0, **given)


def _label(run: Run) -> str:
    own = ",".join(f"{name}={value}" for name, value in run.parameters.items())
    return f"{run.strategy}({own})" if own else run.strategy


def _what(run: Run) -> str:
    return json.dumps({"strategy": _label(run), "seed": run.seed, **run.problem().protocol}, sort_keys=True)
