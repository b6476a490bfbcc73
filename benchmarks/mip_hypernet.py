"""Magnitude-invariant hypernetworks: (a) what each half of the parametrisation does for training on the sine family,
and (b) whether generated weights put sub-networks in the order of their trained quality.

Finished rows are kept in docs/results/mip_hypernet_rows.jsonl: a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import RESULTS, write

from archfront import predictors, spaces, trainers
from archfront.predictors import Context
from archfront.spaces import Configuration, ModelSpace
from archfront.spaces._errors import TrainingError
from archfront.spaces.inference.mip_hypernet import scores_by_gamma
from archfront.trainers._slice import evaluate_slice
from archfront.trainers._types import Budget
from archfront.trainers._union import searched_space

Row = dict[str, Any]
PARAMETRISATIONS: dict[str, dict[str, Any]] = {
    "default": {"encoding": "none", "residual": False},
    "+ encoding": {"residual": False},
    "+ residual": {"encoding": "none"},
    "MIP": {},
}
OPTIMISERS: dict[str, dict[str, Any]] = {
    "SGD 0.9": {"trainer.optimizer": "sgd", "trainer.lr": 3e-3},
    "Adam": {"trainer.optimizer": "adam", "trainer.lr": 1e-3},
}
TARGET = 0.05
"""Mean squared error on the even grid of gamma; answering 0 has about .65."""
DRAWN = 11_000
"""Plus the seed: draws the configurations of (b)."""


class Kept:
    """Rows in a file, one JSON object a line, by what they are of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = {json.dumps(row["of"], sort_keys=True): row for row in map(json.loads, lines)}

    def row(self, about: Row, make: Callable[[], Row]) -> Row:
        """The kept row, else a new one, which is kept."""
        key = json.dumps(about, sort_keys=True)
        if key not in self.rows:
            self.rows[key] = {"of": about, **make()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(self.rows[key]) + "\n")
            print(about, flush=True)
        return self.rows[key]


# -- (a)


def trained(changes: dict[str, Any], seed: int, epochs: int) -> Row:
    """One training: the epochs' errors, and the spread of the last one over gamma."""
    space, cls = spaces.load("mip_hypernet"), trainers.load("backprop")
    trainer = cls(space, {**searched_space(space, cls).default, **changes}, budget=Budget(epochs), seed=seed)
    errors = []
    started = time.process_time()
    try:
        errors = [report.metrics["mse"] for report in trainer.run()]
    except TrainingError:
        return {"errors": errors, "diverged": True}
    by_gamma = [found["mse"] for found in scores_by_gamma(trainer.export(), space.task()).values()]
    spent_s = time.process_time() - started
    return {"errors": errors, "over_gamma": statistics.pstdev(by_gamma), "worst": max(by_gamma), "cpu_s": spent_s}


def direction(kept: Kept, asked: argparse.Namespace) -> Iterator[Row]:
    """A row of the table for each parametrisation and optimiser."""
    steps = len(spaces.load("mip_hypernet").task().split("train")) // 32
    for (name, changes), (optimiser, settings) in (
        (one, other) for other in OPTIMISERS.items() for one in PARAMETRISATIONS.items()
    ):
        found = []
        for seed in range(asked.seeds):
            about = {"part": "direction", "as": name, "by": optimiser, "seed": seed, "epochs": asked.epochs}
            found.append(kept.row(about, lambda: trained({**changes, **settings}, seed, asked.epochs)))  # noqa: B023
        ended = [row for row in found if not row.get("diverged")]
        reached = [next((steps * (i + 1) for i, e in enumerate(row["errors"]) if e < TARGET), None) for row in found]
        last = [row["errors"][-1] for row in ended]
        yield {
            "parametrisation": name,
            "optimiser": optimiser,
            f"steps to mse {TARGET}, by seed": ", ".join("never" if s is None else str(s) for s in reached),
            "final mse": statistics.mean(last) if last else "none",
            "std over seeds": statistics.stdev(last) if len(last) > 1 else "none",
            "std over gamma": statistics.mean(row["over_gamma"] for row in ended) if ended else "none",
            "mse of the worst gamma": statistics.mean(row["worst"] for row in ended) if ended else "none",
            "diverged": len(found) - len(ended),
        }


# -- (b)


def elastic_part(name: str) -> ModelSpace:
    """The space with everything held that no slice varies."""
    space = spaces.load(name)
    held = {n: space.search_space[n].default for n in space.search_space.names if n not in space.elastic}
    return space.narrowed(space.search_space.fix(held))


def alone(space: ModelSpace, config: Configuration, seed: int, epochs: int) -> Row:
    """The metric of a network that was trained by itself."""
    cls = trainers.load("backprop")
    whole = {**searched_space(space, cls).default, **config}
    *_, last = cls(space, whole, budget=Budget(epochs), seed=seed).run()
    return {"value": last.metrics[space.task().metrics[0].name]}


def sliced(space: ModelSpace, configs: Sequence[Configuration], seed: int, epochs: int) -> Row:
    """The metric of slices of a supernet trained by the sandwich rule: four sub-networks a step."""
    cls = trainers.load("supernet")
    started = time.process_time()
    trainer = cls(space, searched_space(space, cls).default, budget=Budget(epochs), seed=seed)
    for _ in trainer.run():
        pass
    spent_s = time.process_time() - started
    metric = space.task().metrics[0].name
    values = [evaluate_slice(trainer.bank, config)[metric] for config in configs]  # type: ignore[attr-defined]
    return {"values": values, "cpu_s": spent_s}


def generated(space: ModelSpace, configs: Sequence[Configuration], seed: int, steps: int) -> Row:
    """The metric of networks with generated weights: one sub-network a step."""
    cls = predictors.load("hypernetwork")
    started = time.process_time()
    predictor = cls(space.search_space, Context(space, space.task()), seed=seed, steps=steps)
    metric = space.task().metrics[0].name
    predictor.predict(configs[:1], [metric])
    spent_s = time.process_time() - started
    return {"values": predictor.predict(configs, [metric])[metric].mean.tolist(), "cpu_s": spent_s}


def one_shot(kept: Kept, asked: argparse.Namespace, budget: int, epochs: int) -> Row:
    """Spearman of both with what the networks reach alone in `epochs`, over seeds; `budget` are the supernet's."""
    space = elastic_part(asked.space)
    steps = 4 * budget * -(-len(space.task().split("train")) // 128)
    found: dict[str, list[float]] = {"hypernetwork": [], "slices": []}
    spent: dict[str, list[float]] = {"hypernetwork": [], "slices": []}
    for seed in range(asked.seeds):
        configs = space.search_space.sample(np.random.default_rng(DRAWN + seed), asked.networks)
        about = {"part": "one-shot", "space": asked.space, "seed": seed}
        truth = []
        for number, config in enumerate(configs):
            of = {**about, "alone": number, "epochs": epochs}
            truth.append(kept.row(of, lambda: alone(space, config, seed, epochs))["value"])  # noqa: B023
        of = {**about, "networks": asked.networks, "passes": steps}
        rows = {
            "slices": kept.row({**of, "by": "slices"}, lambda: sliced(space, configs, seed, budget)),  # noqa: B023
            "hypernetwork": kept.row({**of, "by": "hyper"}, lambda: generated(space, configs, seed, steps)),  # noqa: B023
        }
        for name, row in rows.items():
            found[name].append(predictors.scores_of(np.array(row["values"]), np.array(truth)).spearman)
            spent[name].append(row["cpu_s"])
    facts: Row = {}
    for name, values in found.items():
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        facts[f"(b) {name}, {steps} passes of a sub-network: Spearman with quality after {epochs} epochs alone"] = (
            f"{statistics.mean(values):.3f} ± {error:.3f}, {statistics.mean(spent[name]):.0f} CPU s to train"
        )
    return facts


def main() -> None:
    """Train everything and write docs/results/mip_hypernet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40, help="of (a)")
    parser.add_argument("--space", default="hourglass_mlp", help="of (b)")
    parser.add_argument("--networks", type=int, default=40, help="of (b); 0 leaves it out")
    parser.add_argument("--alone-epochs", type=int, nargs="+", default=[10, 60], help="of (b)")
    parser.add_argument("--supernet-epochs", type=int, nargs="+", default=[20, 50], help="of (b)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=RESULTS / "mip_hypernet_rows.jsonl")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    kept = Kept(asked.kept)
    rows = list(direction(kept, asked))
    facts: Row = {}
    if asked.networks:
        facts[f"(b) {asked.space}, networks"] = f"{asked.networks} for each of {asked.seeds} seeds"
        for epochs in asked.alone_epochs:
            for budget in asked.supernet_epochs:
                facts |= one_shot(kept, asked, budget, epochs)
    write(
        "mip_hypernet",
        "Hypernetworks with and without a magnitude-invariant parametrisation",
        "(a) `mip_hypernet` on `sine_family`, f(x; gamma) = sin(2 pi (x + gamma)) + gamma x on 64 points, main network "
        f"1-32-32-1, hypernetwork 16-128: {asked.epochs} epochs of 32 steps, {asked.seeds} seeds, constant learning "
        "rate (SGD .003 with momentum .9, Adam .001: the same for every parametrisation), batches of 32 fresh gamma. "
        "Errors are means over an even grid of 64 gamma; `std over gamma` is their spread there, which the mean would "
        "hide: with theta0 the main network learns even where the hypernetwork does nothing.",
        rows,
        facts,
    )


if __name__ == "__main__":
    main()
