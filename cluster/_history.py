"""What an earlier study of the same space gives a new one: its front as first proposals, and a smaller space by PopDB.

It is read before the new study is checked, and what was taken stands in the new study's record: resume needs no earlier
study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archfront.cluster.store import ALL_DEVICES, Store, StudyRecord
from archfront.search._popdb import THRESHOLD, carried, reduce
from archfront.search._types import Configuration
from archfront.spaces._errors import ConfigurationError, UsageError
from archfront.spaces._numbers import Real
from archfront.spaces._search_space import SearchSpace

__all__ = ["Past", "lessons_of", "notes", "with_pasts"]

LISTED = 5
"""Lost members of a front that are named."""


@dataclass(frozen=True)
class Past:
    """An earlier study: the space it searched, its ok configurations in told order, and those of its front over all of
    its objectives."""

    study: str
    space: str
    searched: SearchSpace
    told: tuple[Configuration, ...]
    front: tuple[Configuration, ...]

    def check(self, option: str, space: str, searched: SearchSpace) -> None:
        """Raise UsageError for another space, or a study that has found nothing."""
        if self.searched.identity != searched.identity:
            raise UsageError(
                f"{option} {self.study!r} searched {self.space} ({self.searched.identity[:8]}), this study searches "
                f"{space} ({searched.identity[:8]})",
                "name a study of the same space and variant",
            )
        if not self.front:
            raise UsageError(f"{option} {self.study!r} has no front: nothing it tried came back ok", "run it first")


def with_pasts(store: Store, options: Mapping[str, Any]) -> dict[str, Any]:
    """A request's options with what the store holds of the studies named in `popdb` and `start_from`; `earlier` is the
    store itself, for strategies that learn from other tasks.

    Raises UnknownNameError with the closest name.
    """
    pasts = {name: _past_of(store, str(options[name])) for name in ("popdb", "start_from") if options.get(name)}
    return {**options, **pasts, "earlier": store}


def _past_of(store: Store, name: str) -> Past:
    record = store.study(name)
    told = tuple(evaluation.config for _, _, evaluation in store.told(name) if evaluation.status == "ok")
    front = tuple(dict(point.config) for point in store.front(study=name, device=ALL_DEVICES).points)
    return Past(name, record.space, SearchSpace.from_dict(record.searched), told, front)


def lessons_of(
    popdb: str | Past | None, threshold: float, start_from: str | Past | None, searched: SearchSpace, space: str
) -> tuple[SearchSpace, dict[str, Any]]:
    """The searched space, reduced, and what the record's options keep of the earlier studies. Raises UsageError."""
    assert not isinstance(popdb, str), "with_pasts reads what a name stands for"
    assert not isinstance(start_from, str), "with_pasts reads what a name stands for"
    if popdb is None and threshold != THRESHOLD:
        raise UsageError(f"popdb_threshold={threshold:g} without an earlier study", "add --popdb STUDY")
    lessons: dict[str, Any] = {"popdb": None, "start_from": None}
    if popdb is not None:
        popdb.check("--popdb", space, searched)
        searched, facts = _reduced(popdb, threshold, searched)
        lessons["popdb"] = facts
        if facts["default_lost"]:  # another configuration would be shown as the paper's own setting
            lessons["default"] = False
    if start_from is not None:
        start_from.check("--start", space, searched)
        lessons["start_from"] = _started(start_from, searched)
    return searched, lessons


def _reduced(past: Past, threshold: float, searched: SearchSpace) -> tuple[SearchSpace, dict[str, Any]]:
    try:
        found = reduce(searched, past.told, threshold=threshold, front=past.front, origin=past.searched)
    except UsageError as error:
        raise UsageError(f"--popdb {past.study!r}: {error.message}", error.hint) from error
    return found.space, {
        "study": past.study,
        "threshold": threshold,
        "removed": {name: list(values) for name, values in found.removed.items()},
        "clustered": found.clustered,
        "noise": found.noise,
        "size": [_choices(searched), _choices(found.space)],
        "front": len(past.front),
        "lost": [past.searched.key(config) for config in found.lost],
        "default_lost": _carried(searched.default, searched, found.space) is None,
    }


def _started(past: Past, searched: SearchSpace) -> dict[str, Any]:
    """The front's members that are legal here, each once."""
    members = [_carried(config, past.searched, searched) for config in past.front]
    legal = {searched.key(config): config for config in members if config is not None}
    return {"study": past.study, "configs": list(legal.values()), "skipped": members.count(None)}


def _carried(config: Configuration, origin: SearchSpace, space: SearchSpace) -> Configuration | None:
    try:
        return carried(config, origin, space)
    except ConfigurationError:
        return None


def _choices(space: SearchSpace) -> float:
    """How many configurations a space has, one value of each real taken: finite."""
    return space.fix({p.name: p.default for p in space if isinstance(p, Real)}).size


def notes(record: StudyRecord) -> Iterator[str]:
    """What a study took from earlier ones, a sentence each."""
    if (reduced := record.options.get("popdb")) is not None:
        yield _note_of_popdb(reduced)
    if (warm := record.options.get("start_from")) is not None:
        skipped = f", {warm['skipped']} skipped: not legal in this space" if warm["skipped"] else ""
        yield f"warm start: {len(warm['configs'])} configurations from the front of study {warm['study']}{skipped}"
    if others := record.options.get("other_tasks"):
        names = ", ".join(str(name) for name, _ in others[:LISTED]) + (", ..." if len(others) > LISTED else "")
        yield f"other tasks: learns from {sum(told for _, told in others)} evaluations of studies {names}"


def _note_of_popdb(reduced: Mapping[str, Any]) -> str:
    removed, lost = reduced["removed"], reduced["lost"]
    before, after = map(_count, reduced["size"])
    members = ", ".join(key[:12] for key in lost[:LISTED]) + (", ..." if len(lost) > LISTED else "")
    return (
        f"popdb: {sum(map(len, removed.values()))} values of {len(removed)} parameters removed, {before} -> {after} "
        f"configurations ({reduced['clustered']} of {reduced['clustered'] + reduced['noise']} of study "
        f"{reduced['study']} lie in dense regions); "
        + (f"lost are {len(lost)} of its front's {reduced['front']}: {members}" if lost else "its front stays whole")
        + ("; the space's default is removed too and not tried" if reduced["default_lost"] else "")
    )


def _count(number: float) -> str:
    return f"{number:,.0f}" if number < 1e9 else f"{number:.2g}"
