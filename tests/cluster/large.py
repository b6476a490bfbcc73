"""A store with many evaluations on several devices, made through the store's own methods."""

from __future__ import annotations

import uuid

import numpy as np

from archfront.cluster.store import Outcome, ProposalRecord, Store, StudyRecord
from archfront.search._types import Evaluation, Objective, Proposal, Value
from archfront.spaces import Real, SearchSpace

__all__ = ["begin", "device_study", "fill"]

SPACE = SearchSpace(*(Real(f"x{i}", 0, 1) for i in range(3)))
ERROR = Objective("error", "min")
TOGETHER = 5_000
"""In one transaction."""


def device_study(device: int) -> str:
    """The name of the study that searches for a device."""
    return f"on d{device}"


def fill(store: Store, evaluations: int, devices: int, seed: int = 0) -> None:
    """One public study per device, which share out so many evaluations of error and latency on their device."""
    rng = np.random.default_rng(seed)
    for device in range(devices):
        study, latency = begin(store, device)
        epoch = store.begin_sitting(study)
        prefix = uuid.uuid4().hex[:24]
        number = evaluations // devices
        for first in range(0, number, TOGETHER):
            proposals = [_proposal(prefix, i, rng) for i in range(first, min(first + TOGETHER, number))]
            store.insert_proposals(study, epoch, [ProposalRecord(p, p.key, "running") for p in proposals])
            store.record(study, epoch, [_outcome(p, latency, rng) for p in proposals])
        store.end_sitting(study, "done", seconds=1.0, startup_seconds=0.0, epoch=epoch)


def begin(store: Store, device: int) -> tuple[str, str]:
    """Store a study for a device: its name, and that of its latency."""
    study, latency = device_study(device), Objective("latency_ms", "min", f"d{device}", "ms")
    store.create_study(
        StudyRecord(
            *(study, "large", SPACE.identity, (ERROR, latency), SPACE.to_dict(), SPACE.to_dict(), "table", "table-1"),
            *("signature", "protocol", "table", "random"),
            devices={f"d{device}": f"device-{device}"},
        )
    )
    return study, latency.name


def _proposal(prefix: str, number: int, rng: np.random.Generator) -> Proposal:
    config = dict(zip(SPACE.default, rng.random(3).tolist(), strict=True))
    return Proposal(f"{prefix}{number:08x}", number, config, rng.bytes(32).hex(), "random")


def _outcome(proposal: Proposal, latency: str, rng: np.random.Generator) -> Outcome:
    """The better, the slower, with noise: the front grows slowly with the number."""
    quality = float(rng.random())
    slowness = (1 + 30 * quality**2) * (1 + float(rng.exponential()))
    told = {"error": Value(1 - quality, "looked_up"), latency: Value(slowness, "looked_up")}
    return Outcome(Evaluation(proposal.config, proposal.key, "ok", told, proposal.id, {"epochs": 1.0}, 0.1, ""))
