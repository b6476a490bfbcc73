"""Studies side by side: hypervolume against evaluations, all measured from one reference point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archfront.cluster._front import Front
from archfront.cluster._running_volume import RunningVolume
from archfront.predictors._prediction import GUESSED_KINDS
from archfront.search._types import Constraint, Evaluation, Objective
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.cluster.store import Store, StudyRecord

__all__ = ["SHARES", "Compared", "Comparison", "compare_studies"]

SHARES = (0.9, 0.95, 0.99)
"""Shares of the best final hypervolume whose first evaluation is looked for."""


@dataclass(frozen=True)
class Compared:
    """One study. `curve` is (evaluations told, hypervolume) after each change, from the first evaluation to the last;
    `reached` the evaluations it took to each of `SHARES`, None where the study never got there."""

    study: str
    strategy: str
    seed: int
    told: int
    front_size: int
    hypervolume: float
    curve: tuple[tuple[int, float], ...]
    reached: Mapping[float, int | None]


@dataclass(frozen=True)
class Comparison:
    """`reference` holds raw values by objective; `protocols` how many different ones the studies have."""

    objectives: tuple[Objective, ...]
    reference: Mapping[str, float]
    studies: tuple[Compared, ...]
    protocols: int


def compare_studies(store: Store, names: Sequence[str], reference: Mapping[str, float] | None = None) -> Comparison:
    """Recompute every study's front from its ok evaluations as they were told, within its constraints.

    The reference is the worst, per objective, of the studies' own; `reference` overrides it by metric. Raises
    UsageError for studies that cannot be compared or have no values, UnknownNameError for a study or a metric.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"study {twice[0]!r} is named twice", "name each study once")
    records = [store.study(name) for name in names]
    if not records:
        raise UsageError("no study to compare", "archfront compare STUDY STUDY ...")
    for other in records[1:]:
        _check_comparable(records[0], other)
    objectives, bounds = records[0].objectives, records[0].constraints
    limit = _reference(store, records, reference or {})
    told = [[evaluation for _, _, evaluation in store.told(name)] for name in names]
    losses = [[_losses(evaluation, objectives, bounds) for evaluation in study] for study in told]
    measured = [_curve(study, list(limit.values())) for study in losses]
    best = max(curve[-1][1] if curve else 0.0 for curve, _ in measured)
    studies = tuple(
        Compared(
            record.name,
            record.strategy,
            record.seed,
            len(study),
            size,
            curve[-1][1] if curve else 0.0,
            tuple(curve),
            {share: _first(curve, share * best) for share in SHARES},
        )
        for record, study, (curve, size) in zip(records, told, measured, strict=True)
    )
    raw = {o.name: o.loss(limit[o.name]) for o in objectives}
    return Comparison(objectives, raw, studies, len({record.protocol for record in records}))


def _check_comparable(one: StudyRecord, other: StudyRecord) -> None:
    """Raises UsageError with the first reason why two studies' hypervolumes do not mean the same."""
    for (what, shown, identity), (_, there, its_identity) in zip(_meaning(one), _meaning(other), strict=True):
        if shown != there:
            raise UsageError(
                f"studies {one.name!r} and {other.name!r} have different {what}: "
                f"{shown or 'none'} and {there or 'none'}",
                f"compare studies with the same {what}",
            )
        if identity != its_identity:
            raise UsageError(
                f"studies {one.name!r} and {other.name!r} have different {what}, both called {shown or 'none'}",
                "compare studies of one space, task and set of devices, as they were defined then",
            )


def _meaning(record: StudyRecord) -> list[tuple[str, str, tuple[str, ...]]]:
    """What a study's hypervolume depends on: (its name, how it is shown, what makes it the same)."""
    objectives = sorted(record.objectives, key=lambda o: o.name)
    bounds = sorted(record.constraints, key=str)
    return [
        ("space", record.space, (record.identity,)),
        ("task", record.task, (record.task_identity, record.signature)),
        (
            "objectives",
            ", ".join(f"{o.name}:{o.direction}" for o in objectives),
            tuple(record.devices.get(o.device or "", "") for o in objectives),
        ),
        ("constraints", ", ".join(map(str, bounds)), tuple(record.devices.get(c.device or "", "") for c in bounds)),
    ]


def _reference(store: Store, records: Sequence[StudyRecord], given: Mapping[str, float]) -> dict[str, float]:
    """By objective of the first study, minimised."""
    objectives = records[0].objectives
    override: dict[str, float] = {}
    for metric, value in given.items():
        meant = [o for o in objectives if metric in (o.name, o.metric)]
        if not meant:
            raise UnknownNameError.of("objective", metric, [o.name for o in objectives])
        if not math.isfinite(value):
            raise UsageError(f"the reference {metric}={value} is not finite", "give a number")
        override.update({o.name: o.loss(value) for o in meant})
    own: dict[str, list[float]] = {o.name: [] for o in objectives}
    for record in records:
        stored = store.front(study=record.name, device="*")
        for o, value in zip(stored.objectives, stored.reference or (), strict=False):
            own[o.name].append(o.loss(value))
    limit = {
        name: override[name] if name in override else max(values, default=math.nan) for name, values in own.items()
    }
    unknown = [name for name, value in limit.items() if math.isnan(value)]
    if unknown:
        raise UsageError(f"no study has an ok evaluation with {', '.join(unknown)} yet", "let one run first")
    return limit


def _losses(
    evaluation: Evaluation, objectives: Sequence[Objective], bounds: Sequence[Constraint]
) -> list[float] | None:
    """The point to minimise; None for an evaluation that no front takes (failed, a guess, out of bounds)."""
    values = evaluation.values
    wanted = [values.get(o.name) for o in objectives]
    if evaluation.status != "ok" or any(v is None or v.kind in GUESSED_KINDS for v in wanted):
        return None
    if not all(c.name in values and c.violation(values[c.name].value) <= 0 for c in bounds):
        return None
    return [o.loss(values[o.name].value) for o in objectives]


def _curve(losses: Sequence[list[float] | None], limit: Sequence[float]) -> tuple[list[tuple[int, float]], int]:
    """(evaluations, hypervolume) at the first evaluation, after each change and at the last; the final front's size."""
    front, running = Front(len(limit)), RunningVolume(limit)
    curve: list[tuple[int, float]] = []
    for n, point in enumerate(losses, start=1):
        if point is not None:
            front.add(str(n), point)
            running.add(point)
        volume = running.value
        if not curve or volume != curve[-1][1] or n == len(losses):
            curve.append((n, volume))
    return curve, len(front)


def _first(curve: Sequence[tuple[int, float]], volume: float) -> int | None:
    return next((n for n, reached in curve if reached >= volume > 0), None)
