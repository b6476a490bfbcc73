"""The hypervolume of a running study's front, against the same reference point that the store will freeze."""

from __future__ import annotations

from collections.abc import Sequence

from archfront.cluster._front import REFERENCE_VALUES, reference_point
from archfront.cluster._running_volume import RunningVolume
from archfront.search._types import Objective

__all__ = ["Volume"]


class Volume:
    """Declared reference values where there are some, else those of the first 20 ok evaluations; provisional before."""

    def __init__(self, objectives: Sequence[Objective], declared: Sequence[float | None] | None) -> None:
        raw = declared or (None,) * len(objectives)
        self._declared = [None if r is None else o.loss(r) for o, r in zip(objectives, raw, strict=True)]
        self._first: list[list[float]] = []
        self._running: RunningVolume | None = None

    def saw(self, losses: list[float]) -> None:
        """An ok evaluation's losses, all finite, in told order."""
        if self._running is not None and len(self._first) == REFERENCE_VALUES:
            self._running.add(losses)
            return
        self._first.append(losses)
        computed = reference_point(self._first)
        assert computed is not None, "losses are finite"
        self._running = RunningVolume([c if d is None else d for d, c in zip(self._declared, computed, strict=True)])
        for point in self._first:
            self._running.add(point)

    @property
    def value(self) -> float | None:
        """The hypervolume; None before the first point."""
        return None if self._running is None else self._running.value
