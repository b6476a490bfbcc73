"""LINAS beside NSGA-II on a trained super-network: hypervolume by evaluations, over seeds.

Each sub-network is evaluated once ever: what comes out is kept in `--recorded`, where every strategy and seed reads it,
and from where a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from _results import RESULTS, write
from numpy.typing import NDArray

from archfront import spaces
from archfront.cluster._front import REFERENCE_VALUES, hypervolume, nondominated, reference_point
from archfront.cluster._request import resolved_strategy
from archfront.cluster._threads import one_thread
from archfront.cluster.bench._plot import plot_comparison
from archfront.cluster.bench._runs import EVERY, POPULATION
from archfront.cluster.cli._output import split_list
from archfront.cluster.cli._search import parse_strategy
from archfront.predictors._context import Context, exact_of
from archfront.search import Strategy
from archfront.search._auto import AUTO
from archfront.search._strategy import Suggestion
from archfront.search._types import Evaluation, Kind, Objective, Proposal, SearchBudget, Value
from archfront.spaces._costs import analytic_costs
from archfront.spaces._registry import registered_name
from archfront.spaces._supernet import Supernet
from archfront.trainers._slice import bank_hash, evaluate_slice, load_bank, sliced_space

FAST, SLOW = "linas", "nsga2"
TARGETS = (100, 150, 200)
"""Evaluations N of `SLOW` whose hypervolume `FAST` is to reach with N / 2."""
ROUNDING = 1e-12
"""The same front, found in another order, has the same hypervolume up to this share."""

Floats = NDArray[np.float64]
Row = dict[str, Any]


class Recorded:
    """The values of every sub-network of a bank that was ever evaluated, by key."""

    def __init__(self, bank: Supernet, file: Path) -> None:
        self.bank, self.file = bank, file
        self.of_bank = f"{bank_hash(bank)} {bank.space.task().identity}"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        self.values: dict[str, dict[str, float]] = {
            line["key"]: line["values"] for line in lines if line["bank"] == self.of_bank
        }
        self.seconds = 0.0
        """CPU seconds of evaluating so far, in this process."""

    def of(self, proposal: Proposal) -> dict[str, float]:
        """What a search gets: sliced, batch norm recalibrated, scored on the validation split; and analytic costs."""
        if proposal.key not in self.values:
            started = time.process_time()
            values = {
                **evaluate_slice(self.bank, proposal.config),
                **analytic_costs(self.bank.space, proposal.config),
            }
            seconds = time.process_time() - started
            line = {"bank": self.of_bank, "key": proposal.key, "values": values, "seconds": round(seconds, 3)}
            with self.file.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self.values[proposal.key] = values
            self.seconds += seconds
        return self.values[proposal.key]


class Problem:
    """The error and a cost of a bank's sub-networks."""

    def __init__(self, recorded: Recorded, cost: str, trials: int) -> None:
        self.recorded, self.trials = recorded, trials
        bank = recorded.bank
        self.space, self.searched = bank.space, sliced_space(bank.space, bank.fixed)
        known = {metric.name: metric.direction for metric in self.space.task().metrics}
        self.objectives = (Objective.parse("error", known), Objective.parse(cost, known))

    def strategy(self, typed: str, seed: int) -> Strategy:
        """With a population of `POPULATION` unless one is given. As in a search, the default configuration comes first.

        Raises UnknownNameError, UsageError.
        """
        name, given = parse_strategy(typed)
        budget = SearchBudget(self.trials)
        cls, parameters = resolved_strategy(name, given, self.searched, self.objectives, budget)
        if "population" in cls.parameters():
            parameters = {"population": POPULATION, **parameters}
        return cls(
            self.searched,
            self.objectives,
            budget=budget,
            seed=seed,
            context=Context(self.space, self.space.task(), exact_of(partial(analytic_costs, self.space))),
            start=[Suggestion(self.searched.default, "default")],
            **parameters,
        )

    def run(self, strategy: Strategy) -> Iterator[list[float]]:
        """The losses of one evaluation after another: ask one, tell one."""
        while (asked := strategy.ask(1)).proposals:
            (proposal,) = asked.proposals
            values = self.recorded.of(proposal)
            kinds: Sequence[Kind] = ("sliced", "analytic")
            told = {o.name: Value(values[o.metric], kind) for o, kind in zip(self.objectives, kinds, strict=True)}
            strategy.tell([Evaluation(proposal.config, proposal.key, "ok", told, proposal.id)])
            yield self.losses(values)

    def losses(self, values: Mapping[str, float]) -> list[float]:
        """Of recorded values, minimised."""
        return [o.loss(values[o.metric]) for o in self.objectives]

    def reference(self, seeds: int) -> tuple[float, ...]:
        """A study's rule (worst + 0.1 (worst - best)) on what every strategy begins with, of all seeds together."""
        begun = [islice(self.run(self.strategy("random", seed)), REFERENCE_VALUES) for seed in range(seeds)]
        first = np.array([losses for run in begun for losses in run])
        point = reference_point([first.min(axis=0).tolist(), first.max(axis=0).tolist()])
        assert point is not None
        return point


@dataclass(frozen=True)
class Searched:
    """All runs of a strategy: `shares` (seeds, trials) of the hypervolume of everything recorded, by evaluations."""

    label: str
    shares: Floats
    seconds: float
    """CPU seconds per proposal."""

    @property
    def mean(self) -> Floats:
        """Over seeds (trials,)."""
        return np.asarray(self.shares.mean(axis=0))

    @property
    def error(self) -> Floats:
        """Standard error of the mean (trials,)."""
        seeds = len(self.shares)
        return np.asarray(self.shares.std(axis=0, ddof=1) / math.sqrt(seeds)) if seeds > 1 else np.zeros_like(self.mean)


def compared(problem: Problem, seeds: Mapping[str, int]) -> tuple[list[Searched], Row]:
    """The strategies, each over so many seeds, and what the shares are of."""
    reference = problem.reference(max(seeds.values()))
    runs: dict[str, list[list[list[float]]]] = {name: [] for name in seeds}
    seconds = dict.fromkeys(seeds, 0.0)
    for seed in range(max(seeds.values())):
        for name in (name for name, count in seeds.items() if seed < count):
            before = time.process_time() - problem.recorded.seconds
            runs[name].append(list(problem.run(problem.strategy(name, seed))))
            seconds[name] += time.process_time() - problem.recorded.seconds - before
            print("seed", seed, name, f"{len(problem.recorded.values)} recorded", flush=True)
    everything = np.array([problem.losses(values) for values in problem.recorded.values.values()])
    whole = hypervolume(everything, reference)
    found = [
        Searched(
            name,
            np.array([volumes(np.array(run), reference) for run in runs[name]]) / whole,
            seconds[name] / (count * problem.trials),
        )
        for name, count in seeds.items()
    ]
    front = np.unique(everything[nondominated(everything)], axis=0)
    named = zip(problem.objectives, zip(reference, front[0], front[-1], strict=True), strict=True)
    facts: Row = {"sub-networks recorded": len(everything), "different points on their front": len(front)}
    for objective, (beyond, *ends) in named:
        low, high = sorted(ends)
        facts[objective.metric] = f"{low:.4g} to {high:.4g} on that front, reference {beyond:.4g}"
    return found, facts


def volumes(losses: Floats, reference: Sequence[float]) -> list[float]:
    """The hypervolume after each of the evaluations (n, 2)."""
    return [hypervolume(losses[: i + 1], reference) for i in range(len(losses))]


def reached(shares: Floats, target: float) -> float:
    """After how many evaluations (trials,) a share is reached; inf: not within them."""
    there = np.flatnonzero(shares >= target * (1 - ROUNDING))
    return float(there[0] + 1) if len(there) else math.inf


def halved(fast: Searched, slow: Searched, trials: int) -> tuple[Row, Row]:
    """For each N of `TARGETS` after how many evaluations `fast` has what `slow` has after N: in words, and by seed."""
    words: Row = {}
    by_seed: Row = {}
    for n in (n for n in TARGETS if n <= trials):
        counts = [reached(own, other[n - 1]) for own, other in zip(fast.shares, slow.shares, strict=True)]
        half, of = n // 2, len(counts)
        ahead = fast.shares[:, half - 1] - slow.shares[:, n - 1]
        error = ahead.std(ddof=1) / math.sqrt(of) if of > 1 else 0.0
        words[f"{fast.label} has what {slow.label} has after {n}"] = (
            f"in the mean after {reached(fast.mean, float(slow.mean[n - 1])):g}; by seed after {half} in "
            f"{sum(count <= half for count in counts)}, after {n} in {sum(count <= n for count in counts)} of {of}, "
            f"median {statistics.median(counts):g}; its share at {half} less the other's at {n}: "
            f"{ahead.mean():+.4f} ± {error:.4f}"
        )
        by_seed[str(n)] = [f"{count:g}" for count in counts]
    return words, by_seed


def row_of(searched: Searched, trials: int) -> Row:
    """The table's."""
    shown = sorted({*range(EVERY, trials + 1, EVERY), trials})
    cells = {str(n): f"{searched.mean[n - 1]:.4f} ± {searched.error[n - 1]:.4f}" for n in shown}
    seconds = round(searched.seconds, 4)
    return {"strategy": searched.label, "seeds": len(searched.shares), **cells, "CPU s per proposal": seconds}


def drawn(found: Sequence[Searched], name: str, title: str) -> None:
    """docs/results/NAME.png."""
    points = [
        {
            "strategy": searched.label,
            "device": "",
            "evaluations": i + 1,
            "mean": searched.mean[i],
            "sem": searched.error[i],
        }
        for searched in found
        for i in range(EVERY - 1, searched.shares.shape[1])
    ]
    plot_comparison(points, title, RESULTS / f"{name}.png", "share of hypervolume")


def main() -> None:
    """Search, print the table, and write docs/results/supernet_linas."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--supernet", required=True, help="a trained bank of mobilenet_v3")
    parser.add_argument("--recorded", type=Path, default=Path("supernet_linas.jsonl"), help="evaluations, appended to")
    parser.add_argument("--cost", default="macs_m", help="an analytic metric")
    parser.add_argument("--seeds", type=int, default=20, help="of linas and nsga2")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--beside", default="random,auto", help="other strategies, NAME or NAME(k=v)")
    parser.add_argument("--beside-seeds", type=int, default=10)
    parser.add_argument("--out", default="supernet_linas", help="a name in docs/results")
    asked = parser.parse_args()
    space = spaces.load("mobilenet_v3")
    task = space.task()
    recorded = Recorded(load_bank(space, asked.supernet), asked.recorded)
    beside = dict.fromkeys(split_list([asked.beside]), min(asked.beside_seeds, asked.seeds))
    problem = Problem(recorded, asked.cost, asked.trials)
    with one_thread():
        found, facts = compared(problem, {FAST: asked.seeds, SLOW: asked.seeds, **beside})
    words, by_seed = halved(found[0], found[1], asked.trials)
    auto = registered_name(type(problem.strategy(AUTO, 0)))
    write(
        asked.out,
        f"LINAS on a trained super-network: error and {asked.cost}",
        f"""
![Share of the hypervolume by evaluations]({asked.out}.png)

`{space.full_name}` on `{task.name}` ({len(task.split("train"))} train rows, {len(task.split("val"))} val rows), a bank
from `archfront train mobilenet_v3 --supernet -o small.pt`; objectives `error` of the slice on the validation split
(batch norm recalibrated, as a search does) and `{asked.cost}`. {asked.trials} evaluations one after the other, the
default configuration first. `{FAST}` and `{SLOW}` have a population of {POPULATION}: up to there all but `auto`, which
stands for `{auto}`, propose the same, and at N = {2 * POPULATION} half of N leaves `{FAST}` no prediction. Each
sub-network is evaluated once, and every strategy and seed reads that value. The cost is counted: a measured latency is
noisy, and slow to get for so many networks. The errors of {len(task.split("val"))} rows are rough as well, in the same
way for every strategy.

Shown is the hypervolume as a share of that of everything recorded, by evaluations: mean ± standard error over seeds
(the picture's bands: 95 %). Reference point: worst + 0.1 (worst - best) of the {REFERENCE_VALUES} proposals with which
every strategy begins, all {asked.seeds} seeds together. Asked: `{FAST}` has what `{SLOW}` has after N evaluations with
N / 2.
""",
        [row_of(searched, asked.trials) for searched in found],
        {**facts, **words},
    )
    drawn(found, asked.out, f"mobilenet_v3 / {task.name}: error and {asked.cost}, mean of seeds")
    path = RESULTS / f"{asked.out}.json"
    runs = {searched.label: np.round(searched.shares[:, EVERY - 1 :: EVERY], 5).tolist() for searched in found}
    more = {"evaluations by seed": by_seed, f"shares by seed, every {EVERY}": runs}
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}, indent=1) + "\n")


if __name__ == "__main__":
    main()
