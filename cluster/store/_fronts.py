"""Keep fronts true: points are added one by one; a changed or withdrawn one has its front computed again."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, or_, select, update

from archfront.cluster._front import Front
from archfront.cluster.store._candidates import Candidate, Scope
from archfront.cluster.store._codec import chunks, values_out
from archfront.cluster.store._front_cache import FrontCache
from archfront.cluster.store._front_spec import FrontSpec, select_specs
from archfront.cluster.store._models import EvaluationRow, FrontPointRow, FrontRow, Observation, ProposalRow
from archfront.cluster.store._sql import insert_new
from archfront.search._types import Value

__all__ = ["ask_for", "kind_of", "refresh", "refresh_architectures"]


_POINTS = FrontPointRow.__table__.c
_LAST_FACT = select(func.max(Observation.id))
_LAST_TOLD = select(func.max(EvaluationRow.sequence)).where(EvaluationRow.study_id == bindparam("study"))
_ENTER = insert(FrontPointRow)
_LEAVE = (
    update(FrontPointRow)
    .where(_POINTS.front_id == bindparam("b_front"), _POINTS.key == bindparam("b_key"))
    .where(_POINTS.left_sequence.is_(None))
    .values(left_sequence=bindparam("b_left"))
)
_ADVANCE = update(FrontRow).where(FrontRow.__table__.c.id == bindparam("b_id")).values(version=bindparam("b_version"))


def ask_for(connection: Connection, cache: FrontCache, specs: Sequence[FrontSpec]) -> None:
    """Keep these fronts from now on; one that is new is computed from what is there."""
    insert_new(connection, FrontRow.__table__, [spec.row() for spec in specs])
    kept = select_specs(connection, FrontRow.name.in_([spec.name for spec in specs]), FrontRow.version == 0)
    refresh(connection, cache, kept, everything=True)


def refresh(
    connection: Connection,
    cache: FrontCache,
    specs: Sequence[FrontSpec],
    *,
    keys: Collection[str] = (),
    architectures: Collection[str] = (),
    told: Mapping[int | None, Sequence[Candidate]] = MappingProxyType({}),
    now: Mapping[int | None, int] = MappingProxyType({}),
    everything: bool = False,
) -> None:
    """Bring locked fronts up to date after the values of `keys` or `architectures` (or everything) may have changed.

    `told` has what `keys` are now, and `now` the last sequence number, by study, where nothing need be read for it.

    The number of statements does not grow with the number of keys, and nothing but these is read as long as no
    point on a front changes its values.
    """
    journals = [_Journal(spec) for spec in specs]
    by_scope: dict[Scope, list[_Journal]] = defaultdict(list)
    for journal in journals:
        by_scope[journal.spec.scope].append(journal)
    for scope, mine in by_scope.items():
        names = {name: slot for journal in mine for name, slot in journal.spec.names.items()}
        whole = _once(scope, connection, names, _devices([journal.spec for journal in mine]))
        if everything:
            changed = whole()
        elif scope.study in told:
            changed = scope.completed(connection, told[scope.study], names, architectures)
        else:
            changed = scope.candidates(connection, names, keys, architectures)
        present = now[scope.study] if scope.study in now else _last_sequence(connection, scope)
        for journal in mine:
            front = cache.front(connection, journal.spec)
            if everything or not _extend(front, journal, changed, keys, present):
                _recompute(front, journal, whole(), present)
    _write(connection, cache, journals)


def refresh_architectures(
    connection: Connection,
    cache: FrontCache,
    identity: str,
    signature: str,
    architectures: Collection[str],
    *,
    but: Sequence[FrontSpec] = (),
) -> None:
    """Bring every kept front up to date on which these architectures stand, or could, `but` those that are already."""
    if not architectures:
        return
    holders: set[int] = set()
    for part in chunks(sorted(architectures)):
        query = select(ProposalRow.study_id).where(ProposalRow.architecture_key.in_(part)).distinct()
        holders.update(connection.scalars(query))
    specs = select_specs(
        connection,
        FrontRow.identity == identity,
        FrontRow.signature == signature,
        or_(FrontRow.study_id.is_(None), FrontRow.study_id.in_(holders)),
    )
    done = {spec.id for spec in but}
    refresh(connection, cache, [spec for spec in specs if spec.id not in done], architectures=architectures)


class _Journal:
    """What happens to one front in one transaction."""

    def __init__(self, spec: FrontSpec) -> None:
        self.spec = spec
        self.rows: list[dict[str, Any]] = []
        self.leaves: list[dict[str, Any]] = []
        self._entered: dict[str, dict[str, Any]] = {}

    def enter(self, candidate: Candidate, sequence: int) -> None:
        values = {objective.name: candidate.values[slot] for objective, slot in self.spec.objectives}
        row = {
            "front_id": self.spec.id,
            "key": candidate.key,
            "proposal_id": candidate.proposal,
            "observation_id": candidate.observation,
            "values": values_out(values),
            "kind": kind_of(self.spec, values),
            "entered_sequence": sequence,
            "left_sequence": None,
        }
        self._entered[candidate.key] = row
        self.rows.append(row)

    def leave(self, key: str, sequence: int) -> None:
        if key in self._entered:
            self._entered.pop(key)["left_sequence"] = sequence
        else:
            self.leaves.append({"b_front": self.spec.id, "b_key": key, "b_left": sequence})

    @property
    def changed(self) -> bool:
        return bool(self.rows or self.leaves)


def kind_of(spec: FrontSpec, values: dict[str, Value]) -> str:
    """A point's kind: its first quality value's, else its first value's (rule 15; guesses never get here)."""
    quality = [values[o.name].kind for o, (_, device) in spec.objectives if not device]
    first = next(iter(values.values())).kind
    return next((kind for kind in quality if kind != "analytic"), first)


def _extend(front: Front, journal: _Journal, changed: Sequence[Candidate], keys: Collection[str], now: int) -> bool:
    """Add what is new; False, with nothing done, when a point on the front changed or is gone."""
    losses = {candidate.key: journal.spec.losses(candidate.values) for candidate in changed}
    touched = [key for key in {*keys, *losses} if key in front]
    if any(losses.get(key) != front.point(key) for key in touched):
        return False
    told = set(keys)
    for candidate in changed:
        point = losses[candidate.key]
        if point is None:
            continue
        change = front.add(candidate.key, point)
        if change.entered:
            sequence = candidate.sequence if candidate.key in told else now
            journal.enter(candidate, sequence)
            for key in change.left:
                journal.leave(key, sequence)
    return True


def _recompute(front: Front, journal: _Journal, candidates: Sequence[Candidate], now: int) -> None:
    before = dict(front.items())
    losses = {candidate.key: journal.spec.losses(candidate.values) for candidate in candidates}
    front.rebuild({key: point for key, point in losses.items() if point is not None})
    for key, point in before.items():
        if front.point(key) != point:
            journal.leave(key, now)
    for candidate in candidates:
        present = front.point(candidate.key)
        if present is not None and before.get(candidate.key) != present:
            journal.enter(candidate, now)


def _once(
    scope: Scope, connection: Connection, names: dict[str, Any], devices: Collection[str] | None
) -> Callable[[], list[Candidate]]:
    return functools.cache(lambda: scope.candidates(connection, names, devices=devices))


def _devices(specs: Sequence[FrontSpec]) -> set[str] | None:
    """Devices of which every candidate for one of these fronts has a value; None where some front asks for none."""
    asked = [{slot[1] for _, slot in spec.objectives if slot[1]} for spec in specs]
    return set[str]().union(*asked) if all(asked) else None


def _last_sequence(connection: Connection, scope: Scope) -> int:
    if scope.study is None:
        return connection.scalar(_LAST_FACT) or 0
    return connection.scalar(_LAST_TOLD, {"study": scope.study}) or 0


def _write(connection: Connection, cache: FrontCache, journals: Sequence[_Journal]) -> None:
    leaves = [leave for journal in journals for leave in journal.leaves]
    if leaves:
        connection.execute(_LEAVE, leaves)
    rows = [row for journal in journals for row in journal.rows]
    if rows:
        connection.execute(_ENTER, rows)
    moved = [journal.spec for journal in journals if journal.changed or journal.spec.version == 0]
    if moved:
        versions = [{"b_id": spec.id, "b_version": spec.version + 1} for spec in moved]
        connection.execute(_ADVANCE, versions)
        for spec in moved:
            cache.advance(spec.id, spec.version + 1)
