"""Warm start across devices (Sarah et al., 2022, sections 4.4 and 5.2; parity check 4), on NAS-Bench-201.

NSGA-II searches device A; the front it has found starts a search on device B. Asked: with it, the first 50 evaluations
on B give more hypervolume than a cold start's; and the front of A as it stands, with B's latencies, gives less than the
front that a search of B finds with as many evaluations as A's had.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from _results import RESULTS, write

from archfront import search
from archfront.cluster._front import nondominated
from archfront.cluster.bench._problem import Floats, Problem, problem
from archfront.search import Configuration, Evaluation, SearchBudget, Suggestion, Value
from archfront.spaces import SearchSpace

PAIRS = (("raspi4", "pixel3"), ("gold_6226", "1080ti_1"))
"""The device that was searched before, and the one that is searched now."""
POINTS = (50, 100, 250)
STATIC = (250, 1_000)
"""Evaluations after which A's front is scored with B's latencies, beside B's own."""
POPULATION = 50
Told = list[tuple[Configuration, Floats]]
Row = dict[str, Any]


def on(device: str) -> Problem:
    """CIFAR-100 error after 200 epochs against latency on a device."""
    return problem("nasbench201", "cifar100", device, 200, ("error", "latency_ms"))


def searched(
    task: Problem,
    seed: int,
    trials: int,
    *,
    space: SearchSpace | None = None,
    start: Sequence[Configuration] = (),
) -> list[Told]:
    """NSGA-II, one evaluation at a time: what is told after each (what a device cannot run counts, and is left out)."""
    first = [Suggestion(config, "warm-start") for config in start]
    given: dict[str, Any] = {"budget": SearchBudget(trials), "seed": seed, "start": first, "population": POPULATION}
    strategy = search.load("nsga2")(space or task.space.search_space, task.objectives, **given)
    told: Told = []
    history = []
    while (asked := strategy.ask(1)).proposals:
        (proposal,) = asked.proposals
        losses = task.losses(proposal.config)
        if isinstance(losses, str):
            strategy.tell([Evaluation(proposal.config, proposal.key, "invalid", {}, proposal.id, error=losses)])
        else:
            told = [*told, (proposal.config, losses)]
            named = zip(task.objectives, losses.tolist(), strict=True)
            values = {o.name: Value(o.loss(loss), "looked_up") for o, loss in named}
            strategy.tell([Evaluation(proposal.config, proposal.key, "ok", values, proposal.id)])
        history.append(told)
    return history


def share(task: Problem, told: Told) -> float:
    """Of the whole table's hypervolume."""
    found = task.share([losses for _, losses in told])
    assert found is not None
    return found


def front_of(told: Told) -> list[Configuration]:
    """The configurations that no other one beats."""
    return [told[i][0] for i in np.flatnonzero(nondominated(np.array([losses for _, losses in told])))]


def spread(values: Sequence[float]) -> str:
    """Mean and standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {error:.3f}"


def paired(runs: Sequence[Row], one: str, other: str) -> str:
    """Mean and standard error of a difference over seeds, and in how many of them it is above 0."""
    above = [run[one] - run[other] for run in runs]
    return f"{spread(above)} ({sum(x > 0 for x in above)}/{len(above)})"


def add_runs(name: str, runs: Sequence[Row]) -> None:
    """Put every run beside the table in docs/results/NAME.json."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "runs": list(runs)}, indent=1) + "\n")


def transfer(before: Problem, now: Problem, seed: int) -> Row:
    """One seed: shares on B of a warm and a cold start, of A's front as it stands, and of B's own."""
    earlier, own = (searched(task, seed, STATIC[-1]) for task in (before, now))
    front = front_of(earlier[POINTS[-1] - 1])
    warm = searched(now, seed, POINTS[-1], start=front)
    run: Row = {"seed": seed, "front": len(front)}
    for n in POINTS:
        run |= {f"warm@{n}": share(now, warm[n - 1]), f"cold@{n}": share(now, own[n - 1])}
    for n in STATIC:
        scored = ((config, now.losses(config)) for config in front_of(earlier[n - 1]))
        run |= {f"static@{n}": share(now, [(c, losses) for c, losses in scored if not isinstance(losses, str)])}
        run |= {f"own@{n}": share(now, own[n - 1])}
    return run


def main() -> None:
    """Search, print the table, and write docs/results/warm_start_nasbench201."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    rows, raw = [], []
    for before, now in PAIRS:
        runs = [transfer(on(before), on(now), seed) for seed in range(asked.seeds)]
        raw += [{"before": before, "now": now, **run} for run in runs]
        row = {"search": f"{before} -> {now}", "front of A": f"{statistics.mean(run['front'] for run in runs):.1f}"}
        row |= {
            f"{kind}@{n}": spread([run[f"{kind}@{n}"] for run in runs]) for n in POINTS for kind in ("warm", "cold")
        }
        row |= {"warm - cold @50": paired(runs, "warm@50", "cold@50")}
        for n in STATIC:
            row |= {f"{kind}@{n}": spread([run[f"{kind}@{n}"] for run in runs]) for kind in ("static", "own")}
            row |= {f"own - static @{n}": paired(runs, f"own@{n}", f"static@{n}")}
        rows.append(row)
    write(
        "warm_start_nasbench201",
        "Warm start from another device, NAS-Bench-201",
        f"`nsga2` (population {POPULATION}), CIFAR-100 error after 200 epochs against latency; share of the whole "
        f"table's hypervolume, mean ± standard error over {asked.seeds} seeds (differences: of pairs of one seed, and "
        f"in how many they are above 0). The front that {POINTS[-1]} evaluations found on A starts the search on B "
        "(warm). Static is the front of A, scored with B's latencies; own is that of a search on B with as many "
        "evaluations. Asked: warm above cold at 50, static below own.",
        rows,
    )
    add_runs("warm_start_nasbench201", raw)


if __name__ == "__main__":
    main()
