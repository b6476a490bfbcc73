"""What a model is trained for: signature, splits, loss, metrics."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from archfront.spaces._errors import DataError, UnknownNameError
from archfront.spaces._metric import Metric

__all__ = ["SPLITS", "Batch", "Signature", "Split", "SplitName", "Task", "TensorSpec"]

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
Batch = tuple[tuple[Tensor, ...], Tensor]
"""Inputs and targets, aligned."""


@dataclass(frozen=True)
class TensorSpec:
    """One input tensor: shape without the batch axis, torch's name of the dtype; integers lie in 0..high-1."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    high: int | None = None


@dataclass(frozen=True)
class Signature:
    """What a model space is bound to. `batched`: a leading batch axis is added to every input; graphs have none."""

    kind: str
    inputs: tuple[TensorSpec, ...]
    outputs: int
    batched: bool = True

    @cached_property
    def hash(self) -> str:
        """sha256 of the JSON form: device values and analytic costs are keyed by it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def random_input(self, batch: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
        """Positional inputs of this signature, standard normal or uniform integers."""
        generator = torch.Generator().manual_seed(seed)
        tensors = []
        for spec in self.inputs:
            shape = (batch, *spec.shape) if self.batched else spec.shape
            dtype: torch.dtype = getattr(torch, spec.dtype)
            if dtype.is_floating_point:
                tensors.append(torch.randn(shape, generator=generator, dtype=dtype))
            else:
                tensors.append(torch.randint(spec.high or 2, shape, generator=generator, dtype=dtype))
        return tuple(tensors)


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and targets of one split. `rows` (graphs): which outputs count; the inputs are then the whole graph."""

    inputs: tuple[Tensor, ...]
    target: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.target) if self.rows is None else len(self.rows)

    def chosen(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and targets that count, aligned."""
        return (output, self.target) if self.rows is None else (output[self.rows], self.target[self.rows])


class Task(ABC):
    """Splits are loaded when first asked for, so that names and signatures cost nothing.

    `load` returns at least "train" and "val"; it raises DataError when the data is not there.
    """

    def __init__(
        self, name: str, signature: Signature, metrics: tuple[Metric, ...], load: Callable[[], Mapping[str, Split]]
    ) -> None:
        self.name, self.signature, self.metrics = name, signature, metrics
        self._load = load

    @cached_property
    def splits(self) -> Mapping[str, Split]:
        """Every split by name."""
        return self._load()

    def split(self, name: SplitName) -> Split:
        """One split. Raises DataError where the data has none of this name."""
        if name not in self.splits:
            raise DataError(f"task {self.name!r} has no split {name!r}", f"it has {', '.join(self.splits)}")
        return self.splits[name]

    @cached_property
    def identity(self) -> str:
        """sha256 of name, signature and the content of every split: facts are keyed by it."""
        digest = hashlib.sha256(f"{type(self).__name__} {self.name} {self.signature.hash}".encode())
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(name.encode())
            for tensor in (*split.inputs, split.target, *([] if split.rows is None else [split.rows])):
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def metric(self, name: str) -> Metric:
        """The metric called `name`. Raises UnknownNameError."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise UnknownNameError.of(f"metric of task {self.name!r}", name, [m.name for m in self.metrics])

    @property
    def example_input(self) -> tuple[Tensor, ...]:
        """Positional inputs for one call, batch 2; never loads data for batched tasks."""
        return self.signature.random_input()

    def corrupt(self, inputs: tuple[Tensor, ...], target: Tensor, generator: torch.Generator) -> Batch:
        """What training makes of a batch before the model sees it: fresh noise for denoising, fresh draws of a prior.
        Shapes and device stay. Identity by default."""
        return inputs, target

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Scalar to minimise. `smoothing` is label smoothing; tasks without labels refuse a value above 0."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """Every declared metric of outputs over a whole split."""

    def reference(self, metric: str) -> float | None:
        """The value of doing nothing useful, for the hypervolume; None where nothing natural exists."""
        return self.metric(metric).reference
