"""The reference point of a study: declared, or taken from its first 20 ok values and frozen (rule 15)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select, update

from archfront.cluster._front import REFERENCE_VALUES, reference_point
from archfront.cluster.store._codec import objective_in, values_in
from archfront.cluster.store._front_choice import Chosen
from archfront.cluster.store._models import EvaluationRow, StudyRow
from archfront.cluster.store._studies import study_id
from archfront.search._types import Objective

__all__ = ["freeze_reference", "reference_of"]


def freeze_reference(connection: Connection, here: Mapping[str, Any], told: int) -> None:
    """Fill what is unknown of the reference from the first 20 ok values, as soon as they are there."""
    if told < REFERENCE_VALUES or None not in here["reference"]:
        return
    objectives = [objective_in(o) for o in here["objectives"]]
    losses = _first_losses(connection, here["id"], objectives)
    if len(losses) < REFERENCE_VALUES:
        return
    computed = reference_point(losses)
    assert computed is not None
    reference = [
        o.loss(x) if known is None else known
        for o, x, known in zip(objectives, computed, here["reference"], strict=True)
    ]
    connection.execute(update(StudyRow).where(StudyRow.id == here["id"]).values(reference=reference))


def _first_losses(connection: Connection, study: int, objectives: Sequence[Objective]) -> list[tuple[float, ...]]:
    """The losses of the first 20 ok evaluations in which every objective is finite, as told (among the first 200)."""
    query = select(EvaluationRow.values).where(EvaluationRow.study_id == study, EvaluationRow.status == "ok")
    losses: list[tuple[float, ...]] = []
    for stored in connection.scalars(query.order_by(EvaluationRow.sequence).limit(10 * REFERENCE_VALUES)):
        values = values_in(stored)
        row = tuple(o.loss(values[o.name].value) for o in objectives if o.name in values)
        if len(row) == len(objectives) and all(map(math.isfinite, row)):
            losses.append(row)
        if len(losses) == REFERENCE_VALUES:
            break
    return losses


def reference_of(connection: Connection, chosen: Chosen) -> tuple[float, ...] | None:
    """The study's reference for the front's objectives; what it does not say comes from its first ok values.

    Objectives on which the study has no values (another device) take theirs from the front's candidates.
    """
    study = chosen.study
    declared = {o.name: x for o, x in zip(study.objectives, study.reference or (), strict=True) if x is not None}
    if any(objective.name not in declared for objective, _ in chosen.spec.objectives):
        losses = _first_losses(connection, study_id(connection, study.name), study.objectives)
        told = reference_point(losses) or ()
        for o, x in zip(study.objectives, told, strict=False):
            declared.setdefault(o.name, o.loss(x))
    unknown = [(o, slot) for o, slot in chosen.spec.objectives if o.name not in declared]
    if unknown:
        spec = replace(chosen.spec, objectives=tuple(unknown), constraints=())
        points = [spec.losses(c.values) for c in spec.scope.candidates(connection, spec.names)]
        computed = reference_point([point for point in points if point is not None]) or ()
        for (o, _), x in zip(unknown, computed, strict=False):
            declared[o.name] = o.loss(x)
    names = [o.name for o, _ in chosen.spec.objectives]
    return tuple(declared[name] for name in names) if all(name in declared for name in names) else None
