"""Ask a fresh strategy again, as a study asked it: the same proposals, or the first that differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from archfront.cluster._plan import Plan
from archfront.cluster.store import ProposalRecord, Store
from archfront.search._types import Configuration, Evaluation, Proposal
from archfront.spaces._errors import UsageError

__all__ = ["Difference", "Replay", "replayed"]


@dataclass(frozen=True)
class Difference:
    """The first proposal that is not what it was. `proposed` is None where the strategy now proposes nothing."""

    number: int
    told: int
    stored: Configuration
    stored_origin: str
    proposed: Configuration | None
    proposed_origin: str


@dataclass(frozen=True)
class Replay:
    """How many of a study's proposals were asked again and were the same. `determinism` is what the strategy promises:
    one that promises "none" may differ."""

    study: str
    strategy: str
    determinism: str
    proposals: int
    same: int
    difference: Difference | None


def replayed(store: Store, plan: Plan) -> Replay:
    """Ask a study's strategy again. Raises UsageError for a study whose asks were not stored."""
    name = plan.record.name
    records = store.proposals(name)
    _check(name, records)
    strategy = plan.strategy()
    tells = _tells(store, name)
    told = 0
    ids: dict[str, str] = {}

    def same(stored: Sequence[ProposalRecord], proposals: Sequence[Proposal]) -> Difference | None:
        for i, record in enumerate(stored):
            if i == len(proposals) or proposals[i].key != record.proposal.key:
                return _difference(record.proposal, proposals[i] if i < len(proposals) else None, told)
            ids[record.proposal.id] = proposals[i].id
        return None

    difference = None
    for ask, group in groupby(records, key=lambda record: record.ask):
        mine = list(group)
        if ask is None:  # entered: told elsewhere
            difference = same(mine, [strategy.enter(record.proposal.config) for record in mine])
        else:
            while told < ask.told:
                batch = next(tells)
                strategy.tell([replace(e, proposal=ids[str(e.proposal)]) for e in batch])
                told += len(batch)
            difference = same(mine, strategy.ask(ask.size).proposals)
        if difference is not None:
            break
    promised = strategy.capabilities.determinism
    return Replay(name, plan.record.strategy, promised, len(records), len(ids), difference)


def _check(name: str, records: Sequence[ProposalRecord]) -> None:
    if any(record.ask is None and record.proposal.origin != "foreign" for record in records):
        raise UsageError(
            f"study {name!r} began before archfront kept when each proposal was asked", "only newer ones are replayed"
        )


def _tells(store: Store, name: str) -> Iterator[list[Evaluation]]:
    """What was told at once, in order."""
    for _, rows in groupby(store.told(name), key=lambda row: row[1]):
        yield [evaluation for _, _, evaluation in rows]


def _difference(stored: Proposal, proposed: Proposal | None, told: int) -> Difference:
    now = (None, "") if proposed is None else (proposed.config, proposed.origin)
    return Difference(stored.number, told, stored.config, stored.origin, *now)
