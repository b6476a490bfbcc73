"""PopDB (Sarah et al., 2022, section 5.3) on NAS-Bench-201: a search in the reduced space against one in the full.

The history is a run of NSGA-II; a fresh run with another seed then searches both spaces. Asked (figure 12 of the
paper): hypervolume rises earlier in the reduced space and ends equal.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter

from _results import write
from warm_start_nasbench201 import POINTS, Row, add_runs, front_of, on, searched, share, spread

from archfront.search import reduce
from archfront.spaces._errors import UsageError

THRESHOLDS = (0.01, 0.05, 0.1)
"""The paper's, and what fewer samples than its 100,000 may ask for."""
FRESH = 1_000
"""Added to the seed of the history."""


def main() -> None:
    """Search, print the table, and write docs/results/popdb_nasbench201."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--device", default="raspi4")
    asked = parser.parse_args()
    task = on(asked.device)
    full = task.space.search_space
    raw: list[Row] = []
    for seed in range(asked.seeds):
        told = searched(task, seed, asked.trials)[-1]
        configs, front = [config for config, _ in told], front_of(told)
        cold = searched(task, FRESH + seed, POINTS[-1])
        raw.append({"threshold": None, "seed": seed, **{f"@{n}": share(task, cold[n - 1]) for n in POINTS}})
        for threshold in THRESHOLDS:
            run: Row = {"threshold": threshold, "seed": seed}
            try:
                found = reduce(full, configs, threshold=threshold, front=front)
            except UsageError as error:
                raw.append(run | {"refused": error.message})
                continue
            fresh = searched(task, FRESH + seed, POINTS[-1], space=found.space)
            best = [(config, losses) for config, losses in told if not found.space.validate(config)]
            run |= {"removed": {name: list(values) for name, values in found.removed.items()}}
            run |= {"size": found.space.size, "clustered": found.clustered, "told": len(configs)}
            run |= {"front": len(front), "lost": len(found.lost)}
            run |= {"history": share(task, told), "history within": share(task, best)}
            raw.append(run | {f"@{n}": share(task, fresh[n - 1]) for n in POINTS})
    write(
        "popdb_nasbench201",
        f"PopDB on NAS-Bench-201, {asked.device}",
        f"The history is `nsga2` with {asked.trials} evaluations (CIFAR-100 error after 200 epochs against latency), "
        "HDBSCAN with 50 and 10 as in the paper, 0.01 is its threshold; other than there, a single region counts where "
        "it is denser than an even sample (with the paper's settings alone, 6 of seeds 0 to 9 are all noise). "
        f"A fresh `nsga2` searches the reduced and the full space "
        f"({full.size:,} configurations) with the same seed: share of the whole table's hypervolume after so many "
        f"evaluations, mean ± standard error over {asked.seeds} seeds. `history` is the share that the history's own "
        "evaluations reach, `within` that of those among them that the reduced space still has.",
        [row(raw, threshold) for threshold in (None, *THRESHOLDS)],
    )
    add_runs("popdb_nasbench201", raw)


def row(raw: list[Row], threshold: float | None) -> dict[str, str]:
    """A line of the table."""
    every = [run for run in raw if run["threshold"] == threshold]
    runs = [run for run in every if "refused" not in run]
    cells = {"space": "full" if threshold is None else f"reduced at {threshold:g}"}
    names = ("runs", "values removed", "size", "clustered", "front lost", "history", "within")
    if threshold is None or not runs:
        return {**cells, **dict.fromkeys(names, ""), **_shares(runs)}
    removed = [sum(map(len, run["removed"].values())) for run in runs]
    sizes = [run["size"] for run in runs]
    kinds = Counter(value for run in runs for values in run["removed"].values() for value in values)
    of_kind = ", ".join(f"{name} {count}" for name, count in kinds.most_common())
    return {
        **cells,
        "runs": f"{len(runs)}/{len(every)}",
        "values removed": f"{statistics.mean(removed):.1f} of 30 ({min(removed)}..{max(removed)}; {of_kind})",
        "size": f"{statistics.mean(sizes):,.0f} ({min(sizes):,}..{max(sizes):,})",
        "clustered": f"{statistics.mean(run['clustered'] for run in runs):.0f}",
        "front lost": f"{statistics.mean(run['lost'] for run in runs):.1f} of "
        f"{statistics.mean(run['front'] for run in runs):.1f}",
        "history": spread([run["history"] for run in runs]),
        "within": spread([run["history within"] for run in runs]),
        **_shares(runs),
    }


def _shares(runs: list[Row]) -> dict[str, str]:
    return {f"@{n}": spread([run[f"@{n}"] for run in runs]) if runs else "" for n in POINTS}


if __name__ == "__main__":
    main()
