"""The hypervolume of points that come one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from archfront.cluster._front import Front, hypervolume
from archfront.cluster._staircase import Staircase

__all__ = ["RunningVolume"]


class RunningVolume:
    """`value` is the hypervolume of the points so far, all objectives minimised, against `reference`.

    With two objectives a point costs microseconds; with others moocore computes each change anew. Points beyond the
    reference, and those with a NaN or an infinity, count nothing.
    """

    def __init__(self, reference: Sequence[float]) -> None:
        self._reference = tuple(map(float, reference))
        self._stairs = Staircase() if len(self._reference) == 2 else None
        self._front = Front(len(self._reference))
        self.value = 0.0

    def add(self, point: Sequence[float]) -> float:
        """One more point: the volume with it."""
        new = tuple(map(float, point))
        if not all(map(math.isfinite, new)) or not all(x < r for x, r in zip(new, self._reference, strict=True)):
            return self.value
        if self._stairs is not None:
            self.value += self._stairs.gain(new, self._reference)
            self._stairs.insert(new)
        elif self._front.add(repr(new), new).entered:
            self.value = hypervolume(np.array([p for _, p in self._front.items()]), self._reference)
        return self.value

    def __contains__(self, point: Sequence[float]) -> bool:
        """Whether the volume counts this point: it was added, is within the reference and none dominates it."""
        there = tuple(map(float, point))
        return there in self._stairs if self._stairs is not None else repr(there) in self._front
