"""Data sets as sets of feature rows by class, and what is known of configurations on earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._context import Context
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Task

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DataSet", "DataSets", "KnownDataSets", "Source", "plain_features"]

GRID = 8
"""Images are averaged to as many squared pixels."""
GROUPS = 4
"""A target that is a number is cut into so many groups of equal size."""
BY_HAND = "give its rows yourself: DataSet(name, [features of each class])"


@dataclass(frozen=True, eq=False)
class DataSet:
    """The rows of each class (rows, d), the same d for all; classes may have different numbers of rows."""

    name: str
    classes: Sequence[Floats]

    def __post_init__(self) -> None:
        shapes = [np.shape(rows) for rows in self.classes]
        if not shapes or any(len(shape) != 2 or not all(shape) or shape[1] != shapes[0][-1] for shape in shapes):
            raise UsageError(
                f"data set {self.name!r}: classes of shapes {shapes}", "one (rows, features) each, rows at least 1"
            )
        if not all(np.isfinite(rows).all() for rows in self.classes):
            raise UsageError(f"data set {self.name!r} has features that are not finite", "leave these rows out")

    @classmethod
    def of(
        cls, task: Task, *, seed: int = 0, most: int = 100, features: Callable[[Tensor], Tensor] | None = None
    ) -> DataSet:
        """At most `most` rows of each class, drawn from the training split only; a target of numbers is cut into groups
        of equal size. `features` turns inputs (n, ...) into (n, d), as a pre-trained network does.

        Raises UsageError for a task without classes, or whose inputs need `features`; DataError without its data.
        """
        import torch

        split = task.split("train")
        x, y = split.inputs[0], split.target
        if split.rows is not None:
            x, y = x[split.rows], y[split.rows]
        labels = _labels(task, y)
        rng = np.random.default_rng(seed)
        rows = [np.sort(rng.permutation(np.flatnonzero(labels == kind))[:most]) for kind in np.unique(labels)]
        make = features or partial(plain_features, task.name)
        with torch.no_grad():
            return cls(task.name, [make(x[torch.from_numpy(own)]).double().numpy() for own in rows])

    @property
    def width(self) -> int:
        """The number of features."""
        return int(np.shape(self.classes[0])[1])

    def drawn(self, rng: np.random.Generator, rows: int, classes: int) -> Floats:
        """(at most `classes`, rows, d): a fresh draw; a class with fewer rows repeats them."""
        chosen = rng.permutation(len(self.classes))[:classes]
        return np.stack([own[np.resize(rng.permutation(len(own)), rows)] for own in (self.classes[i] for i in chosen)])


def plain_features(name: str, x: Tensor) -> Tensor:
    """Vectors (n, d) as they are; images (n, channels, height, width) averaged over channels and to 8 x 8 pixels.

    No network is pre-trained here, and a random one knows no more than the pixels: the encoder learns its own.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    if x.dtype.is_floating_point and x.ndim == 4:
        return adaptive_avg_pool2d(x.mean(dim=1), GRID).flatten(1)
    if x.dtype.is_floating_point and x.ndim == 2:
        return x
    raise UsageError(
        f"task {name!r} has inputs {tuple(x.shape[1:])} of {x.dtype}: neither vectors nor images",
        "give features=, a function from inputs to (n, d)",
    )


def _labels(task: Task, target: Tensor) -> NDArray[Any]:
    y = target.reshape(len(target), -1)
    if y.shape[1] != 1:
        raise UsageError(f"task {task.name!r} has {y.shape[1]} targets per row: no classes", BY_HAND)
    values: NDArray[Any] = y[:, 0].numpy()
    if not target.dtype.is_floating_point:
        return values
    return np.asarray(np.searchsorted(np.quantile(values, np.arange(1, GROUPS) / GROUPS), values))


@dataclass(frozen=True, eq=False)
class Source:
    """What is known on an earlier data set: values by metric, one for each configuration, NaN where there is none."""

    dataset: DataSet
    configs: Sequence[Configuration]
    values: Mapping[str, Floats]

    def __post_init__(self) -> None:
        for metric, values in self.values.items():
            if np.shape(values) != (len(self.configs),):
                raise UsageError(
                    f"data set {self.dataset.name!r}: {metric} of shape {np.shape(values)} for {len(self.configs)} "
                    "configurations",
                    "give one value each, NaN where there is none",
                )

    def known(self, metric: str) -> list[int]:
        """Which configurations have a value."""
        return [int(i) for i in np.flatnonzero(np.isfinite(self.values.get(metric, np.empty(0))))]


@dataclass(frozen=True, eq=False)
class DataSets:
    """A study's own data set and what is known on others. `reason`: why there is nothing."""

    target: DataSet | None = None
    sources: Sequence[Source] = ()
    reason: str = "no other data set is known here"

    def __post_init__(self) -> None:
        for source in self.sources:
            if self.target is None or source.dataset.width != self.target.width:
                raise UsageError(
                    f"data set {source.dataset.name!r} has {source.dataset.width} features, the study's own "
                    f"{'is missing' if self.target is None else f'has {self.target.width}'}",
                    "describe all data sets by the same features",
                )


@dataclass(frozen=True)
class KnownDataSets(Context):
    """A context that knows other data sets; `known` tells them when it is asked."""

    known: Callable[[], DataSets] | None = None

    @classmethod
    def of(cls, target: DataSet, sources: Sequence[Source], context: Context | None = None) -> KnownDataSets:
        """With what is given here. Raises UsageError for data sets of different widths."""
        own = context or Context()
        found = DataSets(target, tuple(sources))
        return cls(own.model_space, own.task, own.exact, own.workshop, known=partial(_given, found))


def _given(found: DataSets) -> DataSets:
    return found
