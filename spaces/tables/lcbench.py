"""LCBench (Zimmer et al., 2021) by the surrogate of YAHPO Gym (Pfisterer et al., 2022): MLPs on 34 OpenML tasks.

A residual network fitted to 2,000 learning curves per task: any configuration at any epoch from 1 to 52.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._data import find
from archfront.spaces._errors import DataError
from archfront.spaces._lookup import LookedUp, LookupSpace, LookupTask
from archfront.spaces._metric import Metric
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._search_space import Configuration, SearchSpace

__all__ = ["LcBench"]

EPOCHS = 52
SOURCE = "hpo/lcbench_surrogate_weights.npz"
TASKS = (
    3945, 7593, 34539, 126025, 126026, 126029, 146212, 167104, 167149, 167152, 167161, 167168, 167181, 167184,
    167185, 167190, 167200, 167201, 168329, 168330, 168331, 168335, 168868, 168908, 168910, 189354, 189862, 189865,
    189866, 189873, 189905, 189906, 189908, 189909,
)  # fmt: skip
BLOCKS = 3
EPSILON = 1e-12
NORM_EPSILON = 1e-5

Floats = NDArray[np.float64]


class LcBench(LookupSpace):
    """`error` and `nll` on the validation split and `train_s`, seconds of training up to the epoch."""

    search_space = SearchSpace(
        Integer("batch_size", 16, 512, log=True, default=64),
        Real("learning_rate", 1e-4, 1e-1, log=True, default=1e-2),
        Real("momentum", 0.1, 0.99, default=0.9),
        Real("weight_decay", 1e-5, 1e-1, default=1e-2),
        Integer("num_layers", 1, 5, default=3),
        Integer("max_units", 64, 1024, log=True, default=256),
        Real("max_dropout", 0.0, 1.0, default=0.2),
    )
    tasks = tuple(f"openml_{task}" for task in TASKS)
    protocols = {epoch: f"epoch {epoch}" for epoch in range(1, EPOCHS + 1)}
    stepwise = True
    paper = "LCBench (Zimmer et al., 2021)"
    year = 2021

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> SurrogateTask:
        """`data`: the file of weights. Raises DataError."""
        return SurrogateTask(name, Surrogate.read(data or find(SOURCE), int(name.removeprefix("openml_"))))

    @property
    def surrogate(self) -> Surrogate:
        """The network of the bound task."""
        task = self.task()
        assert isinstance(task, SurrogateTask)
        return task.surrogate

    def look_up(self, config: Configuration, task: str, protocol: str) -> LookedUp:
        """The values at an epoch."""
        return self._point(self.surrogate(self._inputs(config, [int(protocol.removeprefix("epoch "))]))[0])

    def curve(self, config: Configuration, task: str, epochs: int) -> Iterable[tuple[int, LookedUp]]:
        """Every epoch up to `epochs`, in one pass."""
        self.protocol_of(epochs)
        steps = range(1, epochs + 1)
        rows = self.surrogate(self._inputs(config, steps))
        return [(step, self._point(row)) for step, row in zip(steps, rows, strict=True)]

    def _inputs(self, config: Configuration, epochs: Iterable[int]) -> Floats:
        own = [float(config[name]) for name in self.search_space.names]
        return np.array([[epoch, *own] for epoch in epochs])

    @staticmethod
    def _point(row: Mapping[str, float]) -> LookedUp:
        quality = {
            "error": 1 - row["val_accuracy_pct"] / 100,
            "nll": row["val_cross_entropy"],
            "train_s": row["time_s"],
        }
        return LookedUp(quality, {"nll": row["test_cross_entropy"]})


class SurrogateTask(LookupTask):
    """One OpenML task of the surrogate."""

    def __init__(self, name: str, surrogate: Surrogate) -> None:
        metrics = (Metric("error", "min", "fraction"), Metric("nll", "min", "nat"), Metric("train_s", "min", "s"))
        super().__init__(name, metrics, surrogate.content)
        self.surrogate = surrogate


class Surrogate:
    """The residual network, with the row of one task in its embedding. Called with inputs (n, 8) in the order of the
    file's `x_names`; returns n rows of values by the file's `y_names`."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], task: int) -> None:
        self.weights = {name: np.asarray(v, np.float64) if v.dtype.kind == "f" else v for name, v in weights.items()}
        ids = self.weights["emb_task_id"].tolist()
        if task not in ids:
            raise DataError(f"the surrogate knows no OpenML task {task}", f"it has {', '.join(map(str, ids[1:]))}")
        self._embedding = self.weights["emb"][ids.index(task)]
        digest = hashlib.sha256(str(task).encode())
        for name in sorted(weights):
            digest.update(weights[name].tobytes())
        self.content = digest.hexdigest()[:16]

    @classmethod
    def read(cls, path: Path, task: int) -> Surrogate:
        """Raises DataError for a file that is missing, damaged, or of other arrays."""
        try:
            with np.load(path, allow_pickle=False) as file:
                weights = {name: file[name] for name in file.files}
        except (OSError, ValueError) as error:
            raise DataError(f"{str(path)!r} cannot be read: {error}", "get the surrogate's weights again") from error
        missing = {"emb", "emb_task_id", "x_names", "y_names", "first_w", "head_w"} - set(weights)
        if missing:
            raise DataError(f"{str(path)!r} has no array {min(missing)!r}", "it is no surrogate of LCBench")
        return cls(weights, task)

    def __call__(self, x: Floats) -> list[dict[str, float]]:
        """One dict of values per row."""
        w = self.weights
        x = np.where(w["x_log"], np.log(x + EPSILON), x)
        x = (x - w["x_sub"]) / w["x_div"]
        h = np.concatenate([np.tile(self._embedding, (len(x), 1)), x], axis=1) @ w["first_w"].T + w["first_b"]
        for k in range(BLOCKS):
            inner = _normed(h, w[f"block{k}_bn"]) @ w[f"block{k}_w0"].T + w[f"block{k}_b0"]
            u, v = np.split(inner, 2, axis=1)
            h = h + (u * np.maximum(v, 0)) @ w[f"block{k}_w1"].T + w[f"block{k}_b1"]
        logits = np.maximum(_normed(h, w["last_bn"]), 0) @ w["head_w"].T + w["head_b"]
        y = w["y_mul"] / (1 + np.exp(-logits)) + w["y_add"]
        y = np.where(w["y_exp"], np.exp(np.where(w["y_exp"], y, 0)) - EPSILON, y)
        names = [str(name) for name in w["y_names"]]
        return [dict(zip(names, map(float, row), strict=True)) for row in y]


def _normed(h: Floats, norm: Floats) -> Floats:
    """Batch norm in inference: rows of `norm` are weight, bias, running mean, running variance."""
    weight, bias, mean, variance = norm
    return np.asarray((h - mean) / np.sqrt(variance + NORM_EPSILON) * weight + bias)
