"""A new data set from others: `dataset_aware` on class subsets of digits, with and without told rows."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _results import write
from torch import nn
from torch.nn import functional

from archfront.predictors import Predictor
from archfront.predictors._datasets import DataSet, KnownDataSets, Source
from archfront.predictors._scores import kendall_tau
from archfront.predictors.dataset_aware import DatasetAware
from archfront.predictors.noise_aware import NoiseAware
from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration, SearchSpace

SPACE = SearchSpace(
    Ordinal("depth", (1, 2, 3)),
    Ordinal("width", (4, 16, 64)),
    Categorical("activation", ("relu", "tanh")),
    Ordinal("dropout", (0.0, 0.3, 0.6)),
    Ordinal("weight_decay", (0.0, 0.1, 1.0)),
    Ordinal("lr", (0.001, 0.005, 0.02)),
)
SOURCES, TARGETS, POOL, KNOWN, TOLD = 24, 6, 40, 25, 10
EPOCHS = 60
UNITS = (0.2, 1.0, 5.0)
METRIC = "nll"


@dataclass(frozen=True)
class Problem:
    """Four classes of digits in some unit, under some noise, some rows of each to train on."""

    data: DataSet
    train: tuple[torch.Tensor, torch.Tensor]
    val: tuple[torch.Tensor, torch.Tensor]
    what: str

    @classmethod
    def of(cls, seed: int) -> Problem:
        """Drawn by a seed; the rows of the data set are those to train on."""
        from sklearn.datasets import load_digits

        rng, digits = np.random.default_rng(seed), load_digits()
        classes = rng.choice(10, 4, replace=False)
        each, noise, unit = int(rng.choice([8, 60])), float(rng.choice([0.0, 0.5, 1.0])), float(rng.choice(UNITS))
        x, y, held = [], [], []
        for label, kind in enumerate(classes):
            rows = rng.permutation(np.flatnonzero(digits.target == kind))
            x.append(rows[:each])
            y += [label] * each
            held.append(rows[each : each + 60])
        images = unit * (digits.data / 16 + rng.normal(0, noise, digits.data.shape))
        train_x, labels = images[np.concatenate(x)], np.array(y)
        name = f"digits {sorted(int(k) for k in classes)}, {each} each, noise {noise:g}, unit {unit:g}"
        data = DataSet(name, [train_x[labels == kind] for kind in range(4)])
        val_y = np.concatenate([np.full(len(rows), label) for label, rows in enumerate(held)])
        val = torch.from_numpy(images[np.concatenate(held)]).float(), torch.from_numpy(val_y)
        return cls(data, (torch.from_numpy(train_x).float(), torch.from_numpy(labels)), val, name)

    def nll(self, config: Configuration) -> float:
        """Of the validation rows, after training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers: list[nn.Module] = []
            inputs = 64
            for _ in range(config["depth"]):
                activation = nn.ReLU() if config["activation"] == "relu" else nn.Tanh()
                layers += [nn.Linear(inputs, config["width"]), activation, nn.Dropout(config["dropout"])]
                inputs = config["width"]
            net = nn.Sequential(*layers, nn.Linear(inputs, 4))
            optimiser = torch.optim.AdamW(net.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
            x, y = self.train
            for _ in range(EPOCHS):
                optimiser.zero_grad()
                functional.cross_entropy(net(x), y).backward()
                optimiser.step()
            with torch.no_grad():
                return float(functional.cross_entropy(net.eval()(self.val[0]), self.val[1]))


def standardised(values: Floats) -> Floats:
    """With mean 0 and standard deviation 1."""
    return np.asarray((values - values.mean()) / values.std())


def main() -> None:
    """Train the pool on every task, transfer to the last ones, and write docs/results/dataset_aware."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    rng = np.random.default_rng(asked.seed)
    configs = SPACE.sample(rng, POOL, distinct=True)
    problems = [Problem.of(1000 * asked.seed + i) for i in range(SOURCES + TARGETS)]
    values = np.array([[problem.nll(config) for config in configs] for problem in problems])
    known = [np.sort(rng.permutation(POOL)[:KNOWN]) for _ in range(SOURCES)]
    sources = [
        Source(problem.data, [configs[i] for i in rows], {METRIC: own[rows]})
        for problem, rows, own in zip(problems[:SOURCES], known, values[:SOURCES], strict=True)
    ]
    order = np.roll(np.arange(SOURCES), SOURCES // 2)  # every source with the data set of another one
    mixed = [Source(sources[i].dataset, own.configs, own.values) for i, own in zip(order, sources, strict=True)]
    mean = np.array(
        [
            np.mean([standardised(values[s][rows])[rows == i] for s, rows in enumerate(known) if i in rows])
            for i in range(POOL)
        ]
    )
    rows: list[dict[str, Any]] = []
    for problem, own in zip(problems[SOURCES:], values[SOURCES:], strict=True):
        told = np.sort(rng.permutation(POOL)[:TOLD])
        held = np.setdiff1d(np.arange(POOL), told)

        def tau(predictor: Predictor, told: list[int], own: Floats = own, held: Any = held) -> float:
            predictor.fit([configs[i] for i in told], {METRIC: own[told]})
            guess = predictor.predict([configs[i] for i in held], [METRIC])[METRIC].mean
            return round(kendall_tau(guess, own[held]), 3)

        aware = [KnownDataSets.of(problem.data, given) for given in (sources, mixed)]
        rows.append(
            {
                "target": problem.what,
                "dataset_aware, 0 told": tau(DatasetAware(SPACE, aware[0], steps=asked.steps), []),
                "permuted, 0 told": tau(DatasetAware(SPACE, aware[1], steps=asked.steps), []),
                "mean of sources": round(kendall_tau(mean[held], own[held]), 3),
                f"dataset_aware, {TOLD} told": tau(DatasetAware(SPACE, aware[0], steps=asked.steps), list(told)),
                f"noise_aware, {TOLD} told": tau(NoiseAware(SPACE), list(told)),
            }
        )
        print(rows[-1], flush=True)
    rows.append({"target": "mean", **{n: round(float(np.mean([r[n] for r in rows])), 3) for n in list(rows[0])[1:]}})
    between = [kendall_tau(one, other) for i, one in enumerate(values) for other in values[:i]]
    write(
        "dataset_aware",
        "A new data set, from what is known on others",
        f"Kendall's tau between predicted and found {METRIC} of {POOL - TOLD} networks on {TARGETS} data sets never "
        f"seen: four classes of digits each, 8 or 60 rows of a class, pixels in one of the units {UNITS} with noise of "
        "standard deviation 0, 0.5 or 1 unit. "
        f"Known are {SOURCES} other such data sets with {KNOWN} networks each. *permuted*: the same with each source's "
        "data set exchanged for another's; *mean of sources*: the mean standardised value of the same network there, "
        f"which no new network has. One seed ({asked.seed}), {len(SPACE.enumerate())} configurations of a perceptron.",
        rows,
        {"tau between two data sets, mean": float(np.mean(between)), "CPU seconds": time.process_time() - started},
    )


if __name__ == "__main__":
    main()
