"""The rows of the scale benchmark: one file of JSON, and one page with the peers beside ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from _results import RESULTS, machine

__all__ = ["Row", "keep", "row"]

Row = dict[str, Any]
PARTS = ("path", "sleep", "writer", "front", "reports", "million", "queries", "reproducible", "faults")
"""In the order of the page."""


def row(
    part: str, what: str, asked: str, measured: float, unit: str, peer: str = "", peers: float | None = None
) -> Row:
    """One line of the table; `ratio` is ours to the peer's."""
    ratio = None if peers is None else measured / peers
    line = {"part": part, "what": what, "asked": asked, "measured": measured, "unit": unit}
    return {**line, "peer": peer, "peer's": peers, "ratio": ratio}


def keep(part: str, rows: list[Row], command: str) -> None:
    """Replace a part's rows in docs/results/scale.json, and write the page of all of them."""
    file = RESULTS / "scale.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    kept[part] = {"command": command, "machine": machine(), "rows": rows}
    content = {name: kept[name] for name in PARTS if name in kept}
    file.write_text(json.dumps(content, indent=1) + "\n")
    (RESULTS / "scale.md").write_text(page(content))


def page(content: dict[str, Any]) -> str:
    """All rows as one table."""
    places = [shape(measured["machine"]) for measured in content.values()]
    here = list(dict.fromkeys(places))
    lines = ["| command | what | asked | measured | peer | peer's | ratio |", "|" + " --- |" * 7]
    for measured, place in zip(content.values(), places, strict=True):
        command = f"`{measured['command']}`" + (f" ({here.index(place) + 1})" if len(here) > 1 else "")
        for r in measured["rows"]:
            peers, ratio = (f"{r[name]:.4g}" if r[name] is not None else "" for name in ("peer's", "ratio"))
            ours = f"{r['measured']:.4g} {r['unit']}"
            lines.append(f"| {command} | {r['what']} | {r['asked']} | {ours} | {r['peer']} | {peers} | {ratio} |")
    machines = [f"({n}) {one}" for n, one in enumerate(here, start=1)] if len(here) > 1 else here
    return "\n".join(["# Scale", "", TEXT.strip(), "", f"On {'; '.join(machines)}.", "", *lines, ""])


def shape(facts: Mapping[str, Any]) -> str:
    """A machine in words."""
    return f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gb']} GB, Python {facts['python']}"


TEXT = """
Each command runs in a clone with `make setup` done (`.venv/bin/python`); `python benchmarks/scale.py --out` runs all of
its parts. Ours and the peer's are measured in one run; the ratio is ours to the peer's.

- *path*: ask, lease, evaluation on Ray, tell, durable store and front, of evaluations that take microseconds, timed
  between the first and the last commit.
- *sleep*: what a slot loses from the end of one evaluation to the beginning of the next.
- *writer*: 8 processes hand results to one writer, which takes what waits, commits with full synchronisation, and
  answers; each process waits for the answer before its next message. Every result was there afterwards, once.
- *million*: one proposal at a time, after a thousand and after a million evaluations, in one process.
- *queries*: 200 times each, in a process that has imported the store alone: where Ray, torch and Optuna are in memory
  too, the 99th percentile has a whole garbage collection more (about 0.1 s), the median is the same.
- *reproducible*: real Ray, evaluations that take 0 to 50 ms at random; tables by the hash that `archfront show` prints.
- *faults*: see [chaos.md](chaos.md) for each kind.
"""
