"""The static transfer of a front: the networks that were chosen for one device, used on another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from archfront.cluster._front import hypervolume, nondominated
from archfront.cluster.store import FrontPoint, FrontResult, Store
from archfront.spaces._errors import UsageError

__all__ = ["Transfer", "transferred"]


@dataclass(frozen=True)
class Transfer:
    """A study's front on `source` as it is on another device. `result` are its members with the values there, of which
    `dominated` (keys) are on no front of these; `missing` (keys) have no values there. Hypervolumes are both against
    `result.reference`: of the members, and of the best that is known for the device."""

    source: str
    result: FrontResult
    dominated: frozenset[str]
    missing: tuple[str, ...]
    volume: float | None
    best: float | None

    @property
    def loss(self) -> float | None:
        """The share of the device's own hypervolume that is lost by not searching for it; None while members are
        missing."""
        return None if self.missing or self.volume is None or not self.best else 1 - self.volume / self.best


def transferred(store: Store, study: str, under: str, device: str | None = None) -> Transfer:
    """The front of a study on `device` (its only one by default) under another device. What is known best there is the
    front of everyone's facts, of a private study its own. Raises as `Store.front` does, and UsageError for the same
    device twice."""
    record = store.study(study)
    front = store.front(study=study, device=device)
    if front.device is None:
        raise UsageError(f"study {study!r} has no objective on a device", "its front is the same on every device")
    if under in (front.device, record.devices.get(front.device)):
        raise UsageError(f"the front of study {study!r} is that on {under!r} already", "name another device")
    keys = [point.key for point in front.points]
    there = store.points_of(keys, study, under)
    own = _own_front(store, study, under, there)
    reference = own.reference or there.reference
    volumes: list[float | None] = [None, None]
    if reference is not None:
        volumes = [_volume(one, reference) for one in (there, own)]
    found = {point.key for point in there.points}
    return Transfer(
        front.device,
        replace(there, reference=reference, hypervolume=volumes[0]),
        frozenset(_dominated(there)),
        tuple(key for key in keys if key not in found),
        *volumes,
    )


def _own_front(store: Store, study: str, device: str, there: FrontResult) -> FrontResult:
    record = store.study(study)
    if record.private:
        return store.front(study=study, device=device)
    return store.front(
        record.identity,
        task=record.task_identity,
        protocol=record.protocol,
        device=device,
        objectives=there.objectives,
    )


def _losses(result: FrontResult, points: tuple[FrontPoint, ...]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = [[o.loss(point.values[o.name].value) for o in result.objectives] for point in points]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(result.objectives))


def _volume(result: FrontResult, reference: tuple[float, ...]) -> float:
    limit = [o.loss(x) for o, x in zip(result.objectives, reference, strict=True)]
    return hypervolume(_losses(result, result.points), limit) if result.points else 0.0


def _dominated(result: FrontResult) -> list[str]:
    if not result.points:
        return []
    stay = nondominated(_losses(result, result.points))
    return [point.key for point, stays in zip(result.points, stay, strict=True) if not stays]
