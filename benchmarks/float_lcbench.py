"""Strategies on parameters that are all numbers: hypervolume by evaluations on LCBench, beside other libraries' loops.

`archfront bench search` on several tasks, put into one table: each hypervolume as a share of the largest that any run
found on its task. Finished runs are kept in --store and not done again.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _results import write

from archfront import spaces
from archfront.cluster.bench.search import Comparison, compare
from archfront.cluster.store import Store

STRATEGIES = ("bayesian", "ehvi", "linas", "nsga2", "random", "peer:optuna:tpe", "peer:optuna:gp")
OBJECTIVES = ("error", "train_s")
SHOWN = (25, 50, 75, 100)
Row = Mapping[str, Any]


def shares(rows: Sequence[Row]) -> dict[tuple[str, int], list[float]]:
    """By strategy and evaluations the share of the largest hypervolume of these rows, one per seed."""
    largest = max(row["hypervolume"] for row in rows)
    found: dict[tuple[str, int], list[float]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        found.setdefault((row["strategy"], row["evaluations"]), []).append(row["hypervolume"] / largest)
    return found


def table(by_task: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """A row per task and strategy, and per strategy over all tasks: means over seeds with their standard errors."""
    found = {task: shares(rows) for task, rows in by_task.items()}
    seeds = len(next(iter(next(iter(found.values())).values())))
    rows = []
    for task in ["all", *found]:
        for strategy in STRATEGIES:
            row: dict[str, Any] = {"task": task, "strategy": strategy}
            for n in SHOWN:
                per_task = [found[name][strategy, n] for name in (found if task == "all" else [task])]
                means = [statistics.fmean(values) for values in zip(*per_task, strict=True)]
                row[str(n)] = f"{statistics.fmean(means):.3f} ± {statistics.stdev(means) / seeds**0.5:.3f}"
            seconds = [
                r["seconds"] / r["evaluations"]
                for name, runs in by_task.items()
                for r in runs
                if task in ("all", name) and r["strategy"] == strategy and r["evaluations"] == SHOWN[-1]
            ]
            rows.append({**row, "CPU s per proposal": round(statistics.fmean(seconds), 4)})
    return rows


def main() -> None:
    """Measure and write docs/results/float_lcbench."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=6, help="so many, spread over the list")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", default=f"sqlite:///{Path(tempfile.gettempdir()) / 'float_lcbench.db'}")
    asked = parser.parse_args()
    tasks = [spaces.load("lcbench").tasks[round(i)] for i in np.linspace(0, 33, asked.tasks)]
    by_task, seeds = {}, tuple(range(asked.seeds))
    strategies = tuple((name, {}) for name in STRATEGIES)
    with Store(asked.store) as store:
        for task in tasks:
            comparison = Comparison("lcbench", task, (None,), strategies, seeds, SHOWN[-1], objectives=OBJECTIVES)
            by_task[task] = compare(store, comparison, workers=asked.workers)["rows"]
            print(task, "done", flush=True)
    write(
        "float_lcbench",
        "Parameters that are all numbers",
        f"""
`lcbench` (7 parameters, none of them a choice), objectives `{"` and `".join(OBJECTIVES)}` after 52 epochs, {SHOWN[-1]}
evaluations one after the other, seeds 0 to {asked.seeds - 1}. Hypervolume up to the quantiles .75 and .95 of 1,000
random configurations, as a share of the largest that any run found on the task; mean and standard error over seeds
(of the mean over tasks in the rows "all"). `auto` stands for `ehvi`. `peer:` are Optuna's own loops.
""",
        table(by_task),
        {},
    )


if __name__ == "__main__":
    main()
