"""The hypervolume of a running study's front, against the same reference point that the store will freeze."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archfront.cluster._front import REFERENCE_VALUES, Front, hypervolume, reference_point
from archfront.search._types import Objective

__all__ = ["Volume"]


class Volume:
    """Declared reference values where there are some, else those of the first 20 ok evaluations; provisional before."""

    def __init__(self, objectives: Sequence[Objective], declared: Sequence[float | None] | None) -> None:
        raw = declared or (None,) * len(objectives)
        self._declared = [None if r is None else o.loss(r) for o, r in zip(objectives, raw, strict=True)]
        self._first: list[list[float]] = []

    def saw(self, losses: list[float]) -> None:
        """An ok evaluation's losses, in told order."""
        if len(self._first) < REFERENCE_VALUES:
            self._first.append(losses)

    def of(self, front: Front) -> float | None:
        """The hypervolume; None before the first point."""
        computed = reference_point(self._first)
        if computed is None or not len(front):
            return None
        reference = [c if d is None else d for d, c in zip(self._declared, computed, strict=True)]
        return hypervolume(np.array([point for _, point in front.items()]), reference)
