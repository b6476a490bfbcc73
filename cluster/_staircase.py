"""Two minimised objectives: the points of a front in order, and the area that they dominate, kept point by point."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

__all__ = ["Point", "Staircase"]

Point = tuple[float, ...]


class Staircase:
    """Distinct points of which none dominates another: the first objective rises while the second falls, so two
    bisections find everything."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._second: list[float] = []

    def insert(self, point: Point) -> list[Point] | None:
        """The points that the new one beats, now removed; None when it is beaten itself and was not taken."""
        place = self._place(point)
        if place is None:
            return None
        start, end = place
        beaten: list[Point] = list(zip(self._first[start:end], self._second[start:end], strict=True))
        self._first[start:end] = [point[0]]
        self._second[start:end] = [point[1]]
        return beaten

    def gain(self, point: Point, reference: Sequence[float]) -> float:
        """The area between `point` and `reference` that no point dominates yet; all points here are within it."""
        place = self._place(point)
        if place is None:
            return 0.0
        start, end = place
        gained, x = 0.0, point[0]
        level = self._second[start - 1] if start else reference[1]
        for i in range(start, end):
            gained += (self._first[i] - x) * (level - point[1])
            x, level = self._first[i], self._second[i]
        beyond = self._first[end] if end < len(self._first) else reference[0]
        return gained + (beyond - x) * (level - point[1])

    def __contains__(self, point: Point) -> bool:
        at = bisect_left(self._first, point[0])
        return at < len(self._first) and (self._first[at], self._second[at]) == point

    def _place(self, point: Point) -> tuple[int, int] | None:
        """Where the points lie that this one beats; None when one of them is at least as good."""
        x, y = point
        left = bisect_right(self._first, x) - 1
        if left >= 0 and self._second[left] <= y:
            return None
        start = end = bisect_left(self._first, x)
        while end < len(self._first) and self._second[end] >= y:
            end += 1
        return start, end
