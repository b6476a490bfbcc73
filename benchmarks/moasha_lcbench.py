"""Stopping by several objectives on LCBench: epochs to the hypervolume that random search reaches without stopping.

`--workers` trials train side by side, an epoch each in turn, in this process; whether a trial goes on is asked of the
scheduler object that `--scheduler moasha` gives to Ray Tune. Only trials that trained to the end are on the front.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from _results import write
from numpy.typing import NDArray
from ray.tune.schedulers import TrialScheduler

from archfront import search, spaces
from archfront.cluster._front import Front, hypervolume, reference_point
from archfront.cluster._moasha import Rungs
from archfront.cluster._schedulers import scheduler
from archfront.predictors._scores import kendall_tau
from archfront.search import Strategy
from archfront.search._types import Evaluation, Objective, Proposal, Value
from archfront.spaces import Configuration
from archfront.spaces._lookup import LookupSpace

OBJECTIVES = (Objective("error", "min"), Objective("train_s", "min"))
EPOCHS = 52
LOOKED_AT = (1, 3, 9, 27)
"""Epochs at which the order of the trials is compared with the final one."""
OTHER = 1000
"""Added to the seed of other proposals."""
ROUNDING = 1e-12
"""The same front, found in another order, has the same hypervolume up to this share."""
POPULATION = 20
"""Of nsga2: what it takes for itself where the budget is 100 trials."""

Quality = Mapping[str, float]
Rule = Callable[[str, int, Quality], bool]
"""Whether a trial (its id) that reached an epoch with these values goes on."""


def never() -> Rule:
    """Every trial trains to the end."""
    return lambda trial, epoch, quality: True


def moasha() -> Rule:
    """The scheduler of a study, asked as Tune asks it."""
    asked = scheduler("moasha", OBJECTIVES, EPOCHS)

    def goes_on(trial: str, epoch: int, quality: Quality) -> bool:
        report = {"epoch": epoch, "metrics": json.dumps(quality)}
        answer = asked.on_trial_result(None, SimpleNamespace(trial_id=trial), report)
        return bool(answer == TrialScheduler.CONTINUE)

    return goes_on


def halving(*epochs: int, factor: int = 3, objectives: Sequence[Objective] = OBJECTIVES) -> Callable[[], Rule]:
    """The same decision at other milestones, with another factor, or by fewer objectives."""

    def rule() -> Rule:
        rungs = Rungs(list(epochs), factor)
        return lambda trial, epoch, quality: rungs.goes_on(trial, epoch, losses_of(quality, objectives))

    return rule


@dataclass(frozen=True)
class Way:
    """Who proposes, and who stops. `other` proposals are drawn from another seed than those it is compared with."""

    rule: Callable[[], Rule]
    proposes: str = "random"
    other: bool = False


WAYS = {
    "none": Way(never),
    "moasha": Way(moasha),
    "moasha, other proposals": Way(moasha, other=True),
    "at 1, 3, 9": Way(halving(1, 3, 9)),
    "at 2, 6, 17": Way(halving(2, 6, 17)),
    "at 3, 9, 27": Way(halving(3, 9, 27)),
    "at 5, 15, 45": Way(halving(5, 15, 45)),
    "one in 2 at 1, 2, 4, ..., 32": Way(halving(1, 2, 4, 8, 16, 32, factor=2)),
    "by error alone": Way(halving(1, 3, 9, 27, objectives=OBJECTIVES[:1])),
    "none, nsga2": Way(never, "nsga2"),
    "moasha, nsga2": Way(moasha, "nsga2"),
    "none, bayesian": Way(never, "bayesian"),
    "moasha, bayesian": Way(moasha, "bayesian"),
    "none, ehvi": Way(never, "ehvi"),
    "moasha, ehvi": Way(moasha, "ehvi"),
}
STOPPING = tuple(WAYS)[:11]
"""Ways that are compared unless --ways says others: models of all that was told take their time."""


def losses_of(quality: Quality, objectives: Sequence[Objective] = OBJECTIVES) -> NDArray[np.float64]:
    """(m,), minimised."""
    return np.array([o.loss(quality[o.metric]) for o in objectives])


@dataclass
class Run:
    """What a search did. `ended` holds (epochs used by all trials, key, losses) of each trial that trained to the end,
    in that order; `stopped` the epoch in which a key was stopped."""

    started: int = 0
    ended: list[tuple[int, str, NDArray[np.float64]]] = field(default_factory=list)
    stopped: dict[str, int] = field(default_factory=dict)

    def volumes(self, reference: Sequence[float]) -> Iterator[tuple[int, float]]:
        """(epochs used, hypervolume) after each trial that changed the front."""
        front = Front(len(OBJECTIVES))
        for used, key, losses in self.ended:
            if front.add(key, losses.tolist()).entered:
                yield used, hypervolume(np.array([point for _, point in front.items()]), reference)

    def front(self) -> set[str]:
        """The keys on the final front."""
        front = Front(len(OBJECTIVES))
        for _, key, losses in self.ended:
            front.add(key, losses.tolist())
        return {key for key, _ in front.items()}


class Curves:
    """The learning curves of a space's configurations, each computed once."""

    def __init__(self, space: LookupSpace) -> None:
        self.space = space
        self._known: dict[str, list[Quality]] = {}

    def of(self, key: str, config: Configuration) -> list[Quality]:
        """The values after epoch 1, 2, ..."""
        if key not in self._known:
            points = self.space.curve(config, self.space.task().name, EPOCHS)
            self._known[key] = [point.quality for _, point in points]
        return self._known[key]


def run(strategy: Strategy, curves: Curves, rule: Rule, budget: int, workers: int) -> Run:
    """Search until `budget` epochs are used. A slot whose trial ended takes the next proposal at its next turn."""
    done, used = Run(), 0
    slots: list[tuple[Proposal, Iterator[tuple[int, Quality]]] | None] = [None] * workers
    while True:
        for i in range(workers):
            if used == budget:
                return done
            slot = slots[i]
            if slot is None:
                (asked,) = strategy.ask(1).proposals
                slot = slots[i] = asked, iter(enumerate(curves.of(asked.key, asked.config), start=1))
                done.started += 1
            proposal, curve = slot
            epoch, quality = next(curve)
            used += 1
            goes_on = rule(proposal.id, epoch, quality)
            if epoch == EPOCHS:
                done.ended.append((used, proposal.key, losses_of(quality)))
            elif not goes_on:
                done.stopped[proposal.key] = epoch
            if epoch == EPOCHS or not goes_on:
                slots[i] = None
                values = {name: Value(value, "looked_up") for name, value in quality.items()}
                status: Any = "ok" if epoch == EPOCHS else "stopped"
                strategy.tell([Evaluation(proposal.config, proposal.key, status, values, proposal.id)])


def compared(task: str, seed: int, names: Sequence[str], budget: int, workers: int) -> dict[str, dict[str, Any]]:
    """By way: epochs to the hypervolume of random search's whole budget (inf: not within it), the final share of that
    hypervolume, trials started and trained to the end, and the shares of random search's front that were stopped, by
    epoch. Beside "none" how well the error at `LOOKED_AT` ranks the trials of random search (Kendall's tau)."""
    space = spaces.load("lcbench", task=task)
    assert isinstance(space, LookupSpace)
    curves = Curves(space)

    def of(name: str) -> Run:
        way = WAYS[name]
        own: dict[str, Any] = {"population": POPULATION} if way.proposes == "nsga2" else {}
        drawn = seed + OTHER if way.other else seed
        strategy = search.load(way.proposes)(space.search_space, OBJECTIVES, seed=drawn, **own)
        return run(strategy, curves, way.rule(), budget, workers)

    plain = of("none")
    reference = reference_point([losses.tolist() for _, _, losses in plain.ended])
    assert reference is not None
    *_, (_, target) = plain.volumes(reference)
    best = plain.front()
    found = {}
    for name in names:
        done = plain if name == "none" else of(name)
        volumes = list(done.volumes(reference))
        lost = Counter(done.stopped[key] for key in best if key in done.stopped)
        found[name] = {
            "epochs": next((used for used, volume in volumes if volume >= target * (1 - ROUNDING)), math.inf),
            "share": volumes[-1][1] / target if volumes else 0.0,
            "started": done.started,
            "ended": len(done.ended),
            "lost": {epoch: count / len(best) for epoch, count in sorted(lost.items())},
        }
    known = [curves.of(key, {}) for _, key, _ in plain.ended]
    final = np.array([curve[-1]["error"] for curve in known])
    found["none"]["tau"] = {e: kendall_tau(np.array([c[e - 1]["error"] for c in known]), final) for e in LOOKED_AT}
    return found


def table(
    found: Mapping[tuple[str, int], Mapping[str, Mapping[str, Any]]], names: Sequence[str], budget: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per way over all tasks, one per task and way with each seed's epochs; and how early errors rank trials."""
    rows: list[dict[str, Any]] = []
    tasks = list(dict.fromkeys(task for task, _ in found))
    for task in ["all", *tasks]:
        for name in names:
            runs = [given[name] for (at, _), given in found.items() if task in ("all", at)]
            plain = [given["none"] for (at, _), given in found.items() if task in ("all", at)]
            ratios = sorted(budget / run["epochs"] for run in runs)
            stricter = [base["epochs"] / run["epochs"] for base, run in zip(plain, runs, strict=True)]
            quarter = len(ratios) / 4
            rows.append(
                {
                    "stopping": name,
                    "task": task,
                    "epochs, by seed": " ".join(f"{run['epochs']:g}" for run in runs) if task != "all" else "",
                    "median ratio": statistics.median(ratios),
                    "quartiles": f"{ratios[int(quarter)]:.2f} .. {ratios[-int(quarter) - 1]:.2f}",
                    "range": f"{ratios[0]:.2f} .. {ratios[-1]:.2f}",
                    "3 or more": f"{sum(ratio >= 3 for ratio in ratios)} of {len(ratios)}",
                    "reached": f"{sum(ratio > 0 for ratio in ratios)} of {len(ratios)}",
                    "median ratio to random's own": statistics.median(stricter),
                    "final volume / random's": statistics.median(run["share"] for run in runs),
                    "started": round(statistics.median(run["started"] for run in runs)),
                    "to the end": round(statistics.median(run["ended"] for run in runs)),
                    "of random's front stopped": lost_of(runs) if name != "none" else "",
                }
            )
    taus = {e: statistics.median(given["none"]["tau"][e] for given in found.values()) for e in LOOKED_AT}
    said = ", ".join(f"{tau:.2f} at epoch {epoch}" for epoch, tau in taus.items())
    return rows, {f"median Kendall's tau of the error with that at epoch {EPOCHS}": said}


def lost_of(runs: Sequence[Mapping[str, Any]]) -> str:
    """Mean shares by the epoch of stopping."""
    epochs = {epoch for run in runs for epoch in run["lost"]}
    means = {epoch: statistics.mean(run["lost"].get(epoch, 0.0) for run in runs) for epoch in epochs}
    return ", ".join(f"{100 * means[epoch]:.0f} % at {epoch}" for epoch in sorted(means))


def main() -> None:
    """Measure and write docs/results/moasha_lcbench."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=6, help="so many, spread over the list")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=100, help="of random search without stopping")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--ways", default=";".join(STOPPING), help="NAME;NAME...")
    parser.add_argument("--out", default="moasha_lcbench", help="a name in docs/results")
    asked = parser.parse_args()
    tasks = [spaces.load("lcbench").tasks[round(i)] for i in np.linspace(0, 33, asked.tasks)]
    budget = asked.trials * EPOCHS
    names, found, started = asked.ways.split(";"), {}, time.process_time()
    for task in tasks:
        for seed in range(asked.seeds):
            found[task, seed] = compared(task, seed, names, budget, asked.workers)
            print(task, seed, {name: given["epochs"] for name, given in found[task, seed].items()}, flush=True)
    rows, facts = table(found, names, budget)
    write(
        asked.out,
        "Stopping by several objectives",
        f"""
`lcbench`, objectives `{"` and `".join(o.metric for o in OBJECTIVES)}` after {EPOCHS} epochs, {asked.workers} trials
side by side, seeds 0 to {asked.seeds - 1}. Counted are the epochs of all trials together until the front of the trials
that trained to the end has the hypervolume that `random` without stopping has after {asked.trials} x {EPOCHS} =
{budget} epochs; `inf`: not within as many epochs. Ratio = {budget} / epochs, 0 for `inf`; "random's own" counts from
the epoch in which `random` itself got there instead. The hypervolume has the reference point of `random`'s first 20
trials (worst + 0.1 (worst - best)).

`moasha` is what `--scheduler moasha` does: one in 3 goes on at epochs 1, 3, 9 and 27. Its proposals come from `random`
with the same seed, so that the first {asked.trials} are those of the search without stopping; `other proposals` have
another seed; `nsga2` has a population of {POPULATION}. `at ...` and `one in 2 ...` make the same decision at other
milestones, `by error alone` without the second objective. The last column says which shares of `random`'s final front
were stopped, by epoch: some because they looked bad early, some because something better was there.
""",
        rows,
        {**facts, "CPU s": round(time.process_time() - started)},
    )


if __name__ == "__main__":
    main()
