"""A study's table as one hash: whether two searches found the same, without comparing them row by row."""

from __future__ import annotations

import hashlib
import json

from archfront.cluster.store import Store

__all__ = ["table_hash"]


def table_hash(store: Store, study: str) -> str:
    """SHA-256 (hexadecimal) of keys, origins, statuses and metrics in the order of proposals.

    Two studies with one seed have the same with `reproducible`, whatever their workers and interruptions. Measured
    values and times are left out: they differ between any two runs.
    """
    told = {evaluation.proposal: evaluation for _, _, evaluation in store.told(study)}
    digest = hashlib.sha256()
    for record in store.proposals(study):
        row = [record.proposal.key, record.proposal.origin]
        if (evaluation := told.get(record.proposal.id)) is not None:
            metrics = sorted((name, v.kind, repr(v.value)) for name, v in evaluation.values.items())
            row += [evaluation.status, *(text for metric in metrics if metric[1] != "measured" for text in metric)]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
