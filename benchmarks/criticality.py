"""Does the criticality of a network at its initialisation tell how well it will train? Fresh networks of two spaces.

The score was chosen as the best of six on the sixty networks it was first measured on; nothing here was used for that.
Finished networks are kept in docs/results/criticality_networks.jsonl: a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import RESULTS, write

from archfront import predictors, spaces, trainers
from archfront.predictors import Context
from archfront.predictors.criticality import Criticality, score_of
from archfront.spaces import Configuration, ModelSpace, analytic_costs
from archfront.spaces._errors import TrainingError
from archfront.trainers._types import Budget
from archfront.trainers._union import searched_space

Row = dict[str, Any]
DRAWN = 7000
"""Plus the seed: draws configurations. Epochs and batches were settled on networks drawn by 1000 and 1001."""
SGD = {
    "trainer.optimizer": "sgd",
    "trainer.lr": 0.02,
    "trainer.momentum": 0.9,
    "trainer.weight_decay": 0.0,
    "trainer.batch_size": 32,
    "trainer.gradient_clip": 1.0,
}
"""As the score was first measured; the size of the batches and the schedule (the recipe's) are not known."""


@dataclass(frozen=True)
class Setting:
    """What is drawn, and how it is trained. `held`: parameters that the score cannot see, and norms; `higher`: whether
    more of the metric is better."""

    name: str
    space: str
    held: dict[str, Any]
    trainer: dict[str, Any]
    epochs: int
    metric: str
    higher: bool


NO_REGULARISER = {"input_noise": 0.0, **{f"dropout[{i}]": 0.0 for i in range(30)}}
SETTINGS = (
    Setting("mlp, adamw", "mlp", NO_REGULARISER, {}, 15, "error", False),
    Setting("mlp, sgd", "mlp", NO_REGULARISER, SGD, 6, "error", False),
    Setting("hourglass_mlp without norms", "hourglass_mlp", {"norm": "none", "dropout": 0.0}, {}, 15, "psnr_db", True),
)
ORDERS: dict[str, Callable[[Row], float]] = {
    "score": score_of,
    "-|P|": lambda row: -abs(row["P"]),
    "-x2": lambda row: -row["x2"],
    "-|k|": lambda row: -abs(row["k"]),
    "-depth": lambda row: -row["depth"],
    "params": lambda row: row["params_m"],
    "synflow": lambda row: row["synflow"],
}
"""What the networks are put in order by, higher for better; the last three are what the score must beat."""


class Reader:
    """What is known of a space's networks before they are trained."""

    def __init__(self, space: ModelSpace, seed: int) -> None:
        self.space, context = space, Context(space, space.task())
        self.criticality = Criticality(space.search_space, context, seed=seed)
        self.synflow = predictors.load("zero_cost")(space.search_space, context, seed=seed, proxy="synflow")
        self.criticality.features(space.search_space.default)  # loads the data and the libraries

    def known(self, config: Configuration) -> Row:
        """Features, and what they are compared with."""
        started = time.perf_counter()
        features = self.criticality.features(config)
        spent_ms = 1e3 * (time.perf_counter() - started)
        return {
            **features,
            "read_ms": spent_ms,
            "synflow": float(self.synflow.predict([config])["synflow"].mean[0]),
            "params_m": analytic_costs(self.space, config)["params_m"],
            "depth": config.get("depth", config.get("L")),
        }


def network(reader: Reader, setting: Setting, config: Configuration, seed: int) -> Row:
    """What is known of one network, and its metric after training."""
    cls = trainers.load("backprop")
    whole = {**searched_space(reader.space, cls).default, **config, **setting.trainer}
    started = time.process_time()
    value = trained(cls(reader.space, whole, budget=Budget(setting.epochs), seed=seed), setting)
    spent_s = time.process_time() - started
    return {**reader.known(config), "value": value, "train_cpu_s": spent_s, "config": config}


def trained(trainer: trainers.Trainer, setting: Setting) -> float:
    """The metric on the validation split; the worst possible one for a training that breaks off."""
    try:
        for report in trainer.run():
            value = report.metrics[setting.metric]
    except TrainingError:
        return 0.0 if setting.higher else 1.0
    return float(value)


class Kept:
    """Rows in a file, one JSON object a line, by (setting, epochs, seed, number)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = {self.key(row): row for row in map(json.loads, lines)}

    @staticmethod
    def key(row: Row) -> tuple[Any, ...]:
        """What a row is of."""
        return row["setting"], row["epochs"], row["seed"], row["number"]

    def add(self, row: Row) -> None:
        """At the end of the file."""
        self.rows[self.key(row)] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def networks(setting: Setting, kept: Kept, seed: int, asked: argparse.Namespace) -> Iterator[Row]:
    """`asked.networks` random ones of a seed, which also draws their initial values and their batches."""
    space = spaces.load(setting.space)
    space = space.narrowed(space.search_space.fix(setting.held))
    reader = Reader(space, seed)
    configs = space.search_space.sample(np.random.default_rng(DRAWN + seed), asked.networks)
    for number, config in enumerate(configs):
        about = {"setting": setting.name, "seed": seed, "number": number, "epochs": setting.epochs}
        row = kept.rows.get(Kept.key(about))
        if row is None:
            row = {**about, **network(reader, setting, config, seed)}
            kept.add(row)
            done = f"{setting.metric} {row['value']:.3f}, score {score_of(row):.2f}, {row['train_cpu_s']:.1f} CPU s"
            print(f"{setting.name}, seed {seed}, {number + 1} of {len(configs)}: {done}", flush=True)
        yield row


def correlations(setting: Setting, rows: Sequence[Row]) -> tuple[dict[str, float], float]:
    """Spearman of each order with the quality of one seed's networks, and the share of their worst quarter that is in
    the score's lower half."""
    sign = 1 if setting.higher else -1
    quality = np.array([sign * row["value"] for row in rows])
    found = {
        name: predictors.scores_of(np.array([order(row) for row in rows]), quality).spearman
        for name, order in ORDERS.items()
    }
    scores = np.array([score_of(row) for row in rows])
    bad = quality <= np.quantile(quality, 0.25)
    return found, float(np.mean(scores[bad] < np.median(scores)))


def row_of(setting: Setting, kept: Kept, asked: argparse.Namespace) -> tuple[Row, Row]:
    """The table's row of a setting, and its facts."""
    by_seed = [list(networks(setting, kept, seed, asked)) for seed in range(asked.seeds)]
    found = [correlations(setting, rows) for rows in by_seed]
    everything = [row for rows in by_seed for row in rows]
    values = [row["value"] for row in everything]
    row: Row = {"setting": setting.name, "networks": len(everything)}
    for name in ORDERS:
        one = [spearman[name] for spearman, _ in found]
        error = statistics.stdev(one) / len(one) ** 0.5 if len(one) > 1 else 0.0
        row[name] = f"{statistics.mean(one):.3f} ± {error:.3f}"
    row["bad ones in the lower half"] = round(statistics.mean(share for _, share in found), 3)
    row["quartiles of the metric"] = " / ".join(
        f"{quartile:.3g}" for quartile in np.percentile(values, [0, 25, 50, 75, 100])
    )
    facts = {
        f"{setting.name}: median ms to read and score a network": statistics.median(r["read_ms"] for r in everything),
        f"{setting.name}: CPU s of all trainings": sum(r["train_cpu_s"] for r in everything),
        f"{setting.name}: quartiles of the score": " / ".join(
            f"{q:.3g}" for q in np.percentile([score_of(r) for r in everything], [0, 25, 50, 75, 100])
        ),
    }
    return row, facts


def main() -> None:
    """Train all networks and write docs/results/criticality."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=RESULTS / "criticality_networks.jsonl")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    kept = Kept(asked.kept)
    rows, facts = list[Row](), Row()
    for setting in SETTINGS:
        row, told = row_of(setting, kept, asked)
        rows.append(row)
        facts |= told
    write(
        "criticality",
        "Criticality at initialisation and quality after a short training",
        "Spearman of what is known before training with the metric on the validation split after a short training: "
        f"mean ± standard error over {asked.seeds} seeds, each with {asked.networks} random configurations of its own. "
        "`mlp` on digits by error (dropout and input noise, which the score cannot see, held at 0), once by the "
        f"space's own recipe (AdamW, 1e-3, {SETTINGS[0].epochs} epochs) and once nearly as the score was first "
        f"measured (SGD .02, momentum .9, gradients clipped to 1, {SETTINGS[1].epochs} epochs); `hourglass_mlp` on its "
        f"first task by PSNR, its own recipe, {SETTINGS[2].epochs} epochs, norm = none. The score is "
        "-|P| - min(x2, 20), see `predictors/criticality.py`; it was chosen on other networks (.914 there, -|P| alone "
        ".862, -depth .836). `-depth`, `params` and `synflow` cost as little. Bad ones are a seed's worst quarter, "
        "ties included.",
        rows,
        facts,
    )


if __name__ == "__main__":
    main()
