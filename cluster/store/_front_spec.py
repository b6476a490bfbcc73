"""What one front asks of its candidates."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, or_, select

from archfront.cluster.store._candidates import Scope, Slot
from archfront.cluster.store._codec import constraint_in, constraint_out, objective_in, objective_out
from archfront.cluster.store._models import FrontRow
from archfront.predictors._prediction import GUESSED_KINDS
from archfront.search._types import Constraint, Objective, Value

__all__ = ["ALL_DEVICES", "FrontSpec", "facts_of", "of_device", "select_specs", "specs_of_study", "specs_touched"]

ALL_DEVICES = "*"
"""The device of a study's front over all of its objectives, kept when they lie on several devices."""


@dataclass(frozen=True)
class FrontSpec:
    """A front's scope, its device identity ("" none, "*" all), objectives, and constraints, each with its slot."""

    scope: Scope
    device: str
    objectives: tuple[tuple[Objective, Slot], ...]
    constraints: tuple[tuple[Constraint, Slot], ...] = ()
    id: int = 0
    version: int = 0

    @property
    def names(self) -> dict[str, Slot]:
        """The slot of every value that matters, by the name under which it is told."""
        return {o.name: slot for o, slot in self.objectives} | {c.name: slot for c, slot in self.constraints}

    def losses(self, values: Mapping[Slot, Value]) -> tuple[float, ...] | None:
        """The point to minimise; None when a value is missing, not finite or a guess, or a constraint is violated."""
        point = []
        for objective, slot in self.objectives:
            value = values.get(slot)
            if value is None or value.kind in GUESSED_KINDS or not math.isfinite(value.value):
                return None
            point.append(objective.loss(value.value))
        for constraint, slot in self.constraints:
            bounded = values.get(slot)
            if bounded is None or not constraint.violation(bounded.value) <= 0:  # NaN satisfies nothing
                return None
        return tuple(point)

    @property
    def name(self) -> str:
        """What makes a kept front unique."""
        if self.scope.study is not None:
            return f"study/{self.scope.study}/{self.device}"
        scope = (self.scope.identity, self.scope.signature, self.scope.task_identity, self.scope.protocol)
        what = sorted(f"{o.metric}@{slot[1]}:{o.direction}" for o, slot in self.objectives)
        return "facts/" + hashlib.sha256(json.dumps([*scope, self.device, what]).encode()).hexdigest()

    def row(self) -> dict[str, Any]:
        """The row of a new kept front."""
        return {
            "name": self.name,
            "study_id": self.scope.study,
            "identity": self.scope.identity,
            "signature": self.scope.signature,
            "task_identity": self.scope.task_identity,
            "protocol": self.scope.protocol,
            "device": self.device,
            "objectives": [{**objective_out(o), "identity": slot[1]} for o, slot in self.objectives],
            "constraints": [{**constraint_out(c), "identity": slot[1]} for c, slot in self.constraints],
            "version": 0,
        }


def specs_of_study(
    scope: Scope, objectives: Sequence[Objective], constraints: Sequence[Constraint], devices: Mapping[str, str]
) -> list[FrontSpec]:
    """The fronts that a study asks for: one per device (objectives of other devices left out), or one without.

    With several devices also one over all objectives. Constraints hold on each of them.
    """
    bounds = tuple((c, (c.metric, devices.get(c.device or "", c.device or ""))) for c in constraints)
    used = list(dict.fromkeys(o.device for o in objectives if o.device is not None))

    def spec(device: str, kept: Sequence[str]) -> FrontSpec:
        chosen = of_device(objectives, kept[0]) if len(kept) == 1 else objectives
        slots = tuple((o, (o.metric, devices[o.device] if o.device is not None else "")) for o in chosen)
        return FrontSpec(scope, device, slots, bounds)

    fronts = [spec(devices[name], [name]) for name in used] or [spec("", [])]
    return [*fronts, spec(ALL_DEVICES, used)] if len(used) > 1 else fronts


def of_device(objectives: Sequence[Objective], name: str) -> list[Objective]:
    """Those of a front on this device: its own, and those of no device that have no counterpart on it (the quality of
    the weights, where the device quantises them)."""
    own = {o.metric for o in objectives if o.device == name}
    return [o for o in objectives if o.device == name or (o.device is None and o.metric not in own)]


def facts_of(identity: Any, task_identity: Any, protocols: Any) -> ColumnElement[bool]:
    """Which fronts are those of everyone's facts of a space, task and protocols."""
    return and_(
        FrontRow.study_id.is_(None),
        FrontRow.identity == identity,
        FrontRow.task_identity == task_identity,
        FrontRow.protocol.in_(protocols),
    )


_SPECS = select(FrontRow.__table__).order_by(FrontRow.__table__.c.id)
_VERSIONS = select(FrontRow.id, FrontRow.version).order_by(FrontRow.id)
_OWN = _VERSIONS.where(FrontRow.study_id == bindparam("study")).with_for_update()
_TOUCHED = _VERSIONS.where(
    or_(
        FrontRow.study_id == bindparam("study"),
        facts_of(bindparam("space"), bindparam("task"), bindparam("protocols", expanding=True)),
    )
).with_for_update()


def specs_touched(
    connection: Connection, known: dict[int, FrontSpec], study: Mapping[str, Any], protocols: Collection[str]
) -> list[FrontSpec]:
    """The kept fronts that a study's new evaluations may change, locked: its own, and for a public study those of
    everyone's facts. `known` holds fronts seen before, of which nothing but the version changes."""
    place = {"study": study["id"], "space": study["identity"], "task": study["task_identity"]}
    if study["private"]:
        found = connection.execute(_OWN, {"study": study["id"]}).all()
    else:
        found = connection.execute(_TOUCHED, {**place, "protocols": sorted(protocols)}).all()
    unknown = [id_ for id_, _ in found if id_ not in known]
    if unknown:
        known.update({spec.id: spec for spec in select_specs(connection, FrontRow.id.in_(unknown))})
    return [replace(known[id_], version=version) for id_, version in found]


def select_specs(connection: Connection, *where: ColumnElement[bool], lock: bool = True) -> list[FrontSpec]:
    """The kept fronts that fit, oldest first; `lock` holds other writers of them back until the transaction ends."""
    query = _SPECS.where(*where)
    found = connection.execute(query.with_for_update() if lock else query)
    return [
        FrontSpec(
            Scope(row["study_id"], row["identity"], row["signature"], row["task_identity"], row["protocol"]),
            row["device"],
            tuple((objective_in(o), (o["metric"], o["identity"])) for o in row["objectives"]),
            tuple((constraint_in(c), (c["metric"], c["identity"])) for c in row["constraints"]),
            row["id"],
            row["version"],
        )
        for row in found.mappings()
    ]
