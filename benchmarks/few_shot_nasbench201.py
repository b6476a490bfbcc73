"""A new device from 20 measured cells and the other devices: `few_shot` on each device setting of NAS-Bench-201.

A setting is held out together with every other setting of the same chip: of `1080ti_1` also `1080ti_32` and
`1080ti_256`. Scored are all cells that were not measured and are connected on the device.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from _results import RESULTS, write
from numpy.typing import NDArray

from archfront import predictors, spaces
from archfront.predictors import Predictor, Scores
from archfront.predictors.few_shot import FewShot, tabulated
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration
from archfront.spaces._table import TableLookup

BATCHES = ("1", "32", "256")
METRIC = "latency_ms"
CANDIDATES = 1000
"""Random cells among which a design chooses."""
MANY = 2000
"""Measurements after which more say little: what the other devices' logarithms, added, can tell."""
ASKED = 0.95
Rows = NDArray[np.int64]
Row = dict[str, Any]


def chip_of(device: str) -> str:
    """A device setting without its batch size. Two products are two chips, of one family too: gold_6226, gold_6240."""
    name, _, last = device.rpartition("_")
    return name if last in BATCHES else device


class HeldOut:
    """One device setting, and what is known of the other chips."""

    def __init__(self, space: TableLookup, configs: Sequence[Configuration], device: str) -> None:
        self.space, self.configs, self.device = space, configs, device
        self.truth = space.table.device[device][METRIC]
        self.connected = np.flatnonzero(~space.table.invalid[device])
        self.known = tabulated(space, [other for other in space.devices if chip_of(other) != chip_of(device)])

    def few_shot(self, seed: int) -> FewShot:
        """Before its fit."""
        return FewShot(self.space.search_space, seed=seed, known=self.known)

    def cells(self, rows: Rows) -> list[Configuration]:
        """By their rows."""
        return [self.configs[int(row)] for row in rows]

    def drawn(self, seed: int, n: int) -> Rows:
        """Connected cells at random."""
        return np.random.default_rng(seed).permutation(self.connected)[:n]

    def planned(self, seed: int, n: int) -> Rows:
        """The best design out of connected cells at random."""
        rows = self.drawn(seed, CANDIDATES)
        return rows[self.few_shot(seed).choose(self.cells(rows), n)]

    def scores(self, predictor: Predictor, measured: Rows) -> Scores:
        """On all connected cells that were not measured."""
        predictor.fit(self.cells(measured), {METRIC: self.truth[measured]})
        held = np.setdiff1d(self.connected, measured)
        return predictor.score(self.cells(held), {METRIC: self.truth[held]})[METRIC]

    def unmeasured(self) -> Floats:
        """The mean of the other devices' standardised logarithms, for connected cells: a guess without measurements."""
        logs = np.log(self.known(self.cells(self.connected)))
        return np.asarray(np.nanmean((logs - np.nanmean(logs, axis=0)) / np.nanstd(logs, axis=0), axis=1))


def row_of(held: HeldOut, seeds: int, n: int) -> tuple[Row, list[Row]]:
    """The table's row, and each run's scores."""
    ridge = predictors.load("ridge")
    runs: list[Row] = []
    for seed in range(seeds):
        drawn = held.drawn(seed, n)
        found = {
            "random": held.scores(held.few_shot(seed), drawn),
            "planned": held.scores(held.few_shot(seed), held.planned(seed, n)),
            "half": held.scores(held.few_shot(seed), held.planned(seed, n // 2)),
            "ridge": held.scores(ridge(held.space.search_space, seed=seed), drawn),
        }
        runs.append({"device": held.device, "seed": seed, **{name: rounded(scores) for name, scores in found.items()}})

    def of(name: str, score: str) -> list[float]:
        return [run[name][score] for run in runs]

    most = held.scores(held.few_shot(0), held.drawn(0, MANY))
    none = predictors.scores_of(held.unmeasured(), held.truth[held.connected])
    return {
        "device": held.device,
        f"planned {n}": spread(of("planned", "spearman")),
        f"random {n}": spread(of("random", "spearman")),
        f"ridge {n}": spread(of("ridge", "spearman")),
        f"planned {n // 2}": spread(of("half", "spearman")),
        "none measured": round(none.spearman, 3),
        f"{MANY} measured": round(most.spearman, 3),
        "tau planned": spread(of("planned", "kendall")),
        "tau random": spread(of("random", "kendall")),
        "tau ridge": spread(of("ridge", "kendall")),
        "in 90 % planned": round(statistics.mean(of("planned", "coverage")), 3),
        "in 90 % random": round(statistics.mean(of("random", "coverage")), 3),
        "MAPE planned": f"{statistics.mean(of('planned', 'mape')):.1f} %",
        "values": len(np.unique(held.truth[held.connected])),
    }, runs


def rounded(scores: Scores) -> dict[str, float]:
    """What is reported of a run."""
    return {name: round(getattr(scores, name), 5) for name in ("spearman", "kendall", "coverage", "mape")}


def spread(values: Sequence[float]) -> str:
    """Mean and standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {error:.3f}"


def facts(runs: Sequence[Row], devices: Sequence[str]) -> Row:
    """Over the devices: how many reach what was asked in the mean over seeds, the median, and the intervals."""

    def means(name: str, score: str) -> list[float]:
        return [statistics.mean(run[name][score] for run in runs if run["device"] == device) for device in devices]

    told: Row = {}
    for name, words in {"planned": "planned", "random": "random", "half": "planned, half as many"}.items():
        ranks = means(name, "spearman")
        told[f"{words}: devices with Spearman >= {ASKED}"] = f"{sum(r >= ASKED for r in ranks)} of {len(devices)}"
        told[f"{words}: median Spearman"] = round(statistics.median(ranks), 4)
        told[f"{words}: median share in the 90 % interval"] = round(statistics.median(means(name, "coverage")), 3)
    ranks = means("ridge", "spearman")
    told[f"ridge: devices with Spearman >= {ASKED}"] = f"{sum(r >= ASKED for r in ranks)} of {len(devices)}"
    told["ridge: median Spearman"] = round(statistics.median(ranks), 4)
    return told


def main() -> None:
    """Hold out each device setting, print the table, and write docs/results/few_shot_nasbench201."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--measured", type=int, default=20)
    asked = parser.parse_args()
    space = spaces.load("nasbench201")
    assert isinstance(space, TableLookup)
    configs = space.search_space.from_ints(space.table.genomes)
    devices = sorted(space.devices)
    rows, runs = [], []
    for device in devices:
        row, own = row_of(HeldOut(space, configs, device), asked.seeds, asked.measured)
        rows.append(row)
        runs += own
        print(*row.values(), sep=" | ", flush=True)
    n = asked.measured
    write(
        "few_shot_nasbench201",
        f"A new device from {n} measured cells, NAS-Bench-201",
        "Spearman of the latency of all cells that were not measured, mean ± standard error over "
        f"{asked.seeds} seeds. Each setting is held out together with every other setting of the same chip (a GPU's "
        "three batch sizes; two products of one family are two chips). Cells of less than 0.05 ms on it are "
        "disconnected there (a measurement would tell), and neither measured nor scored. `few_shot` knows the tables "
        "of all other chips. Random: "
        f"{n} cells at random; planned: those that its `choose` picks of {CANDIDATES} random ones. Beside it: `ridge` "
        "on the same random cells, without other devices; the mean of the other devices, without a measurement; and "
        f"`few_shot` on {MANY} random cells, which tells how far the other devices reach at all. What differs between "
        "devices (scale, widths of the prior, noise) is averaged over by the evidence of the measured cells; the grids "
        "are the same for all. The phones pixel2, essential_ph_1, samsung_a50 and samsung_s7 are recorded in whole "
        "milliseconds (`values`: how many differ), so that ties and noise bound what can be reached. Asked: at least "
        f"{ASKED} on 12 settings.",
        rows,
        facts(runs, devices),
    )
    path = RESULTS / "few_shot_nasbench201.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
