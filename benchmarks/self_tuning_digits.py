"""Self-tuning against searches that train again and again, on 200 digits: does one run find regularisation as good?

Finished trainings are kept in docs/results/self_tuning_runs.jsonl: a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import RESULTS, write

from archfront import trainers
from archfront.spaces import Configuration, ModelSpace
from archfront.spaces._errors import TrainingError
from archfront.spaces._task import Split
from archfront.spaces.vision._images import image_classification
from archfront.spaces.vision.mlp import Mlp
from archfront.trainers import Budget, Report, Schedule, searched_space

Row = dict[str, Any]
IMAGES, REPLAY_SEED = 200, 1000
ARCHITECTURE = {"depth": 2, "width": 256}
RATES = {"input_noise": 1.0, "dropout[0]": 0.9, "dropout[1]": 0.9}
"""What is tuned, from 0 to here."""
GRID = list(itertools.product((0.0, 0.25, 0.5, 0.75), (0.0, 0.2, 0.4)))
"""Dropout (the same in both layers) and input noise."""
WEIGHTS = {"trainer.lr": 0.03, "trainer.momentum": 0.9, "trainer.batch_size": 20, "trainer.select": "best"}
PLAIN = {**WEIGHTS, "trainer.optimizer": "sgd", "trainer.weight_decay": 0.0, "trainer.schedule": "constant"}
TUNED = {**WEIGHTS, "trainer.schedule": "constant"}
FAR = {"input_noise": 0.5, "dropout[0]": 0.6, "dropout[1]": 0.6}
RUNS: dict[str, Row] = {
    "stn": {"trainer.mode": "stn"},
    "delta": {"trainer.mode": "delta", "trainer.hyper_lr": 0.01},
    "hypernetwork": {"trainer.mode": "hypernetwork"},
    "stn from strong regularisation": {"trainer.mode": "stn", **FAR},
    "delta from strong regularisation": {"trainer.mode": "delta", "trainer.hyper_lr": 0.01, **FAR},
    "stn without perturbation": {"trainer.mode": "stn", "trainer.sigma0": 0.01, "trainer.tune_scale": False},
}
"""The first three are what is compared; the others ask whether the start matters, and the perturbation."""
COSTS = {"stn": 3, "delta": 6, "hypernetwork": 3}
"""Plain trainings that a run counts as. stn: twice the forward cost for 1 + 1/2 updates. delta: a plain update, twice
the forward cost in three passes for the response, and half an update of the hyperparameters. hypernetwork: 1 + 1/2
updates, of which making the weights costs about what a batch of 20 does."""


class Lab:
    """One seed: its split of the digits, its networks, its trainings."""

    def __init__(self, seed: int, epochs: int) -> None:
        self.seed, self.epochs = seed, epochs
        task = image_classification("digits", data=None, seed=seed)
        train = task.split("train")
        kept = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:IMAGES]
        task.splits = {**task.splits, "train": Split((train.inputs[0][kept],), train.target[kept])}
        self.space: ModelSpace = Mlp(task)

    def trainer(self, name: str, config: Configuration, *, seed: int | None = None) -> trainers.Trainer:
        """A fresh trainer of these settings."""
        cls = trainers.load(name)
        whole = {**searched_space(self.space, cls).default, **ARCHITECTURE, **config}
        return cls(self.space, whole, budget=Budget(self.epochs), seed=self.seed if seed is None else seed)

    def plain(self, rates: Configuration) -> Row:
        """One plain training at fixed rates."""
        return self.finished(self.trainer("backprop", {**PLAIN, **rates}))

    def tuned(self, settings: Configuration, *, replays: bool) -> Row:
        """One self-tuning run, and plain networks of another seed: one follows its schedule, one has its last values
        from the first epoch on."""
        row = self.finished(self.trainer("self_tuning", {**TUNED, **settings}))
        if not replays:
            return row
        schedule = Schedule.from_json(row["schedule"])
        replay = self.trainer("backprop", PLAIN, seed=REPLAY_SEED + self.seed)
        replay.follow(schedule)
        last = self.trainer("backprop", {**PLAIN, **schedule.rows[-1].values}, seed=REPLAY_SEED + self.seed)
        return {**row, "replayed": self.finished(replay), "last values fixed": self.finished(last)}

    @staticmethod
    def finished(trainer: trainers.Trainer) -> Row:
        """What a training came to: the epoch of the lowest validation loss. One that diverges counts as far as it got,
        which is said."""
        started = time.process_time()
        reports: list[Report] = []
        diverged = False
        try:
            reports.extend(trainer.run())
        except TrainingError:
            diverged = True
        spent_s = time.process_time() - started
        if diverged:  # the same training, ended in time: no rate here depends on how many epochs are planned
            own = {f"trainer.{name}": value for name, value in trainer.settings.items()}
            budget = Budget(len(reports))
            trainer = type(trainer)(trainer.space, {**trainer.config, **own}, budget=budget, seed=trainer.seed)
            reports = list(trainer.run())
        test = trainer.evaluate("test")
        row = {
            "val_loss": min(r.attributes["val_loss"] for r in reports),
            "val_error": reports[-1].metrics["error"],
            "test_loss": test["nll"],
            "test_error": test["error"],
            "cpu_s": spent_s,
            "diverged": diverged,
        }
        if any(name.startswith("value.") for name in reports[-1].attributes):
            row["schedule"] = Schedule.from_reports(reports).to_json()
        return row


def random_rates(seed: int, trials: int) -> Iterator[Configuration]:
    """Uniform draws."""
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        yield {name: float(rng.uniform(0, high)) for name, high in RATES.items()}


def grid_rates(seed: int, trials: int) -> Iterator[Configuration]:
    """The grid's points in random order."""
    for i in np.random.default_rng(seed).permutation(len(GRID))[:trials]:
        dropout, noise = GRID[i]
        yield {"input_noise": noise, "dropout[0]": dropout, "dropout[1]": dropout}


class Kept:
    """Rows in a file, one JSON object a line, by (method, seed, trial, epochs)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = {self.key(row): row for row in map(json.loads, lines)}

    @staticmethod
    def key(row: Row) -> tuple[Any, ...]:
        """What a row is of."""
        return row["method"], row["seed"], row["trial"], row["epochs"]

    def get(self, about: Row, make: Any) -> Row:
        """The kept row, or a new one."""
        if (key := self.key(about)) not in self.rows:
            self.rows[key] = {**about, **make()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(self.rows[key]) + "\n")
            row = self.rows[key]
            print(*key, f"val {row['val_loss']:.3f}, test {row['test_loss']:.3f}, {row['cpu_s']:.1f} CPU s", flush=True)
        return self.rows[key]


def tuned(lab: Lab, kept: Kept, method: str, settings: Configuration) -> Row:
    """One self-tuning run."""
    about = {"method": method, "trial": 0, "epochs": lab.epochs, "seed": lab.seed}
    return kept.get(about, lambda: lab.tuned(settings, replays=method in COSTS))


def searched(lab: Lab, kept: Kept, method: str, trials: int) -> list[Row]:
    """The trainings of one search."""
    about = {"method": method, "seed": lab.seed, "epochs": lab.epochs}
    if method == "Optuna TPE":
        return _by_tpe(lab, kept, about, trials)
    proposals = random_rates(lab.seed, trials) if method == "random search" else grid_rates(lab.seed, trials)
    return [
        kept.get({**about, "trial": i, "rates": rates}, lambda rates=rates: lab.plain(rates))
        for i, rates in enumerate(proposals)
    ]


def _by_tpe(lab: Lab, kept: Kept, about: Row, trials: int) -> list[Row]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=lab.seed, n_startup_trials=4))
    rows = []
    for i in range(trials):  # the sampler is a function of its seed and of what it was told: kept rows are told again
        trial = study.ask()
        rates = {name: trial.suggest_float(name, 0.0, high) for name, high in RATES.items()}
        rows.append(kept.get({**about, "trial": i, "rates": rates}, lambda rates=rates: lab.plain(rates)))
        study.tell(trial, rows[-1]["val_loss"])
    return rows


def best_of(rows: Sequence[Row], trainings: int) -> Row:
    """The one with the lowest validation loss of the first trainings, with the time of all of them."""
    first = rows[:trainings]
    return {**min(first, key=lambda row: row["val_loss"]), "cpu_s": sum(row["cpu_s"] for row in first)}


def line(name: str, trainings: int, rows: Sequence[Row]) -> Row:
    """Mean and standard error over seeds."""

    def cell(column: str) -> str:
        values = [row[column] for row in rows]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return f"{statistics.mean(values):.3f} ± {error:.3f}"

    columns = ("val_loss", "test_loss", "val_error", "test_error")
    seconds = round(statistics.mean(row["cpu_s"] for row in rows), 1)
    return {"method": name, "plain trainings": trainings, **{c: cell(c) for c in columns}, "CPU s": seconds}


def main() -> None:
    """Train everything and write docs/results/self_tuning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=10, help="rates were chosen on 0, 1, 20, 21 and 22")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--trials", type=int, default=len(GRID))
    parser.add_argument("--kept", type=Path, default=RESULTS / "self_tuning_runs.jsonl")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(asked.kept)
    labs = [Lab(seed, asked.epochs) for seed in range(asked.first_seed, asked.first_seed + asked.seeds)]
    table, facts = list[Row](), Row()
    untuned = {"input_noise": 0.05, "dropout[0]": 0.045, "dropout[1]": 0.045}
    about = {"method": "start values, fixed", "trial": 0, "epochs": asked.epochs}
    starts = [kept.get({**about, "seed": lab.seed}, lambda lab=lab: lab.plain(untuned)) for lab in labs]
    table.append(line("start values, fixed", 1, starts))
    for method, settings in RUNS.items():
        rows = [tuned(lab, kept, method, settings) for lab in labs]
        table.append(line(method, COSTS[settings["trainer.mode"]], rows))
        for of in ("replayed", "last values fixed"):
            if of in rows[0]:
                table.append(line(f"{method}: {of}", 1, [row[of] for row in rows]))
        if lost := [lab.seed for lab, row in zip(labs, rows, strict=True) if row.get("diverged")]:
            facts[f"{method}: diverged, and counted up to there"] = f"seeds {', '.join(map(str, lost))}"
        last = [Schedule.from_json(row["schedule"]).rows[-1].values for row in rows]
        for name in RATES:
            facts[f"{method}: {name} at the end, by seed"] = " / ".join(f"{values[name]:.2f}" for values in last)
    for method in ("random search", "Optuna TPE", "grid search"):
        found = [searched(lab, kept, method, asked.trials) for lab in labs]
        for trainings in dict.fromkeys(min(number, asked.trials) for number in (*COSTS.values(), asked.trials)):
            table.append(line(method, trainings, [best_of(rows, trainings) for rows in found]))
    write(
        "self_tuning",
        "Self-tuning against searches that train again and again",
        f"`mlp` (2 layers of 256) on {IMAGES} training images of digits (360 validation and 360 test images), input "
        f"noise and two dropout rates tuned; SGD 0.03 with momentum 0.9, batches of 20, {asked.epochs} epochs, the "
        "epoch with the lowest validation loss kept, for every method. Mean ± standard error over "
        f"{asked.seeds} seeds, each with its own split. `plain trainings` is what a method costs in weight updates of "
        "a plain network: a self-tuning run counts as 3 (stn: two branches, hypernetwork: making the weights; 1 + 1/2 "
        "updates a batch) or 6 (delta: two updates a batch, one through a linearisation). Searches tell the same "
        "losses: their best of so many trainings. A replay is a plain network of another seed that follows the "
        "schedule; the last values are also given to one from its first epoch on. "
        "Rates were chosen on seeds 0, 1, 20, 21 and 22. Strong regularisation: "
        "dropout 0.6 and noise 0.5; without perturbation: sigma held at a hundredth of its start.",
        table,
        facts,
    )


if __name__ == "__main__":
    main()
