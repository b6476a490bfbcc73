"""The non-dominated set: kept point by point, or computed at once by moocore."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from archfront.cluster._staircase import Point, Staircase

__all__ = ["REFERENCE_VALUES", "Change", "Front", "hypervolume", "nondominated", "reference_point"]

REFERENCE_VALUES = 20
"""How many ok values the reference point of a study is taken from (rule 15)."""


@dataclass(frozen=True)
class Change:
    """What one addition did: whether the key is on the front now, and which keys it pushed off."""

    entered: bool
    left: tuple[str, ...] = ()


class Front:
    """The keys whose points no other one dominates; all `objectives` are minimised.

    Equal points do not dominate each other: all of them stay, one entry per key. Points with a NaN or an infinity
    never enter. An addition costs microseconds; a changed or withdrawn point needs all the others (`replace`).
    """

    def __init__(self, objectives: int) -> None:
        if objectives < 1:
            raise ValueError(f"objectives={objectives} must be at least 1")
        self.objectives = objectives
        self.clear()

    def clear(self) -> None:
        """Forget every point."""
        self._points: dict[str, Point] = {}
        self._keys: dict[Point, list[str]] = {}
        self._index: _Index = Staircase() if self.objectives == 2 else _Columns(self.objectives)

    def add(self, key: str, point: Sequence[float]) -> Change:
        """Offer a point. Raises ValueError when `key` is on the front with another point: that is `replace`'s work."""
        vector = self._checked(key, point)
        known = self._points.get(key)
        if known is not None and known != vector:
            raise ValueError(f"key {key!r} is on the front at {known}, not at {vector}: use replace()")
        if known is not None or not all(map(math.isfinite, vector)):
            return Change(False)
        if vector in self._keys:
            self._keys[vector].append(key)
            self._points[key] = vector
            return Change(True)
        beaten = self._index.insert(vector)
        if beaten is None:
            return Change(False)
        left = tuple(gone for rival in beaten for gone in self._keys.pop(rival))
        for gone in left:
            del self._points[gone]
        self._keys[vector] = [key]
        self._points[key] = vector
        return Change(True, left)

    def replace(self, key: str, point: Sequence[float] | None, all_points: Mapping[str, Sequence[float]]) -> Change:
        """Give `key` another point, or withdraw it (None). `all_points` is every known point, dominated ones too."""
        before = set(self._points)
        others = {other: there for other, there in all_points.items() if other != key}
        self.rebuild(others if point is None else {**others, key: point})
        return Change(key in self._points, tuple(sorted(before - set(self._points) - {key})))

    def rebuild(self, all_points: Mapping[str, Sequence[float]]) -> None:
        """Start again from every known point, dominated ones too."""
        vectors = {key: self._checked(key, point) for key, point in all_points.items()}
        self.clear()
        if not vectors:
            return
        stay = nondominated(np.array(list(vectors.values()), dtype=np.float64))
        for (key, vector), on_front in zip(vectors.items(), stay, strict=True):
            if on_front:
                self.add(key, vector)

    def point(self, key: str) -> Point | None:
        """Where `key` stands, or None when it is not on the front."""
        return self._points.get(key)

    def items(self) -> Iterator[tuple[str, Point]]:
        """Every (key, point) on the front, in the order in which they entered."""
        return iter(self._points.items())

    def __len__(self) -> int:
        return len(self._points)

    def __contains__(self, key: object) -> bool:
        return key in self._points

    def _checked(self, key: str, point: Sequence[float]) -> Point:
        vector = tuple(float(x) for x in point)
        if len(vector) != self.objectives:
            raise ValueError(
                f"the point of key {key!r} has {len(vector)} values, the front {self.objectives} objectives"
            )
        return vector


class _Index(Protocol):
    """The distinct points of a front."""

    def insert(self, point: Point) -> list[Point] | None:
        """The points that the new one beats, now removed; None when it is beaten itself and was not taken."""


class _Columns:
    """Any number of objectives: one contiguous array each, compared column by column."""

    def __init__(self, objectives: int) -> None:
        self._columns = np.empty((objectives, 16), dtype=np.float64)
        self._size = 0

    def insert(self, point: Point) -> list[Point] | None:
        here = self._columns[:, : self._size]
        below, above = here[0] <= point[0], here[0] >= point[0]
        for column, x in zip(here[1:], point[1:], strict=True):
            below &= column <= x
            above &= column >= x
        if below.any():
            return None
        beaten: list[Point] = []
        if above.any():
            beaten = [tuple(row) for row in here[:, above].T.tolist()]
            kept = here[:, ~above]
            self._size = kept.shape[1]
            self._columns[:, : self._size] = kept
        if self._size == self._columns.shape[1]:
            self._columns = np.concatenate([self._columns, np.empty_like(self._columns)], axis=1)
        self._columns[:, self._size] = point
        self._size += 1
        return beaten


def nondominated(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the points (n, m), minimised, no other one dominates. Equal ones all stay; non-finite ones never do."""
    import moocore

    stay: NDArray[np.bool_] = np.asarray(np.isfinite(points).all(axis=1))
    if stay.any():  # a NaN row would dominate real ones, so only finite rows are shown to moocore
        stay[stay] = moocore.is_nondominated(points[stay], keep_weakly=True)
    return stay


def hypervolume(points: NDArray[np.float64], reference: Sequence[float]) -> float:
    """The volume between the points (n, m), minimised, and `reference` (m); points beyond it count 0, none gives 0."""
    import moocore

    array = np.asarray(points, dtype=np.float64).reshape(-1, len(reference))
    array = array[np.isfinite(array).all(axis=1)]
    if not len(array):
        return 0.0
    if len(reference) == 1:
        return max(0.0, float(reference[0]) - float(array.min()))
    return float(moocore.hypervolume(array, ref=np.asarray(reference, dtype=np.float64)))


def reference_point(losses: Sequence[Sequence[float]]) -> Point | None:
    """A reference from the first 20 finite loss vectors: worst + 0.1 (worst - best) per objective; None without any.

    Where all values of an objective are equal, the margin is 0.1 max(|worst|, 1).
    """
    rows = [row for row in losses if all(map(math.isfinite, row))][:REFERENCE_VALUES]
    return tuple(_beyond(max(column), min(column)) for column in zip(*rows, strict=True)) if rows else None


def _beyond(worst: float, best: float) -> float:
    return worst + 0.1 * ((worst - best) or max(abs(worst), 1.0))
