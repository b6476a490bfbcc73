"""A whole front as files, with an index of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archfront.cluster.export import SUFFIXES, export
from archfront.cluster.front import Front
from archfront.spaces._errors import ArchfrontError, UsageError

__all__ = ["ExportedFront", "export_front"]

INDEX = "index.json"


@dataclass(frozen=True)
class ExportedFront:
    """The folder's index: one entry per member of the front, cheapest first, with its file or why there is none."""

    index: Path
    entries: tuple[dict[str, Any], ...]

    @property
    def written(self) -> int:
        """How many files there are."""
        return sum("file" in entry for entry in self.entries)


def export_front(front: Front, folder: Path, format: str = "torch") -> ExportedFront:
    """Write every member of a front in one format, and `index.json`: keys, configurations, metrics, files. A member
    without weights, or that the format cannot express, has its error there. Raises UsageError for a bad folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {str(folder)!r}: {error.strerror}") from error
    device = front.result.device if front.result.device != "*" else None
    entries = []
    for member in front:
        entry: dict[str, Any] = {"key": member.key, "config": dict(member.config), "metrics": member.metrics}
        path = folder / f"{member.key[:12]}{SUFFIXES[format]}"
        try:
            study = member.point.study or None
            done = export(front.store, member.key, path, format=format, study=study, device=device, space=front.space)
            entry |= {"file": path.name, "difference": done.difference}
            entry |= {"scores": dict(done.scores)} if done.scores else {}
        except ArchfrontError as error:
            entry["error"] = str(error)
        entries.append(entry)
    head = {name: value for name, value in front.to_dict().items() if name not in ("points", "stored")}
    (folder / INDEX).write_text(json.dumps({**head, "format": format, "points": entries}, indent=2) + "\n")
    return ExportedFront(folder / INDEX, tuple(entries))
