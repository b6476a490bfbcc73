"""The rows of the scale benchmark: one file of JSON, and one page with the peers beside ours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from _results import RESULTS, machine

__all__ = ["Row", "keep", "row"]

Row = dict[str, Any]


def row(
    part: str, what: str, asked: str, measured: float, unit: str, peer: str = "", peers: float | None = None
) -> Row:
    """One line of the table; `ratio` is ours to the peer's."""
    ratio = None if peers is None else measured / peers
    line = {"part": part, "what": what, "asked": asked, "measured": measured, "unit": unit}
    return {**line, "peer": peer, "peer's": peers, "ratio": ratio}


def keep(part: str, rows: list[Row], parts: Iterable[str]) -> None:
    """Replace a part's rows in docs/results/scale.json, and write the page of all of them."""
    file, order = RESULTS / "scale.json", list(parts)
    content = json.loads(file.read_text()) if file.exists() else {"machine": machine(), "rows": []}
    kept = {name: [r for r in content["rows"] if r["part"] == name] for name in order}
    kept[part] = rows
    content["rows"] = [r for name in order for r in kept[name]]
    lines = ",\n".join(json.dumps(r) for r in content["rows"])
    file.write_text(f'{{"machine": {json.dumps(content["machine"])},\n"rows": [\n{lines}\n]}}\n')
    (RESULTS / "scale.md").write_text(page(content))


def page(content: dict[str, Any]) -> str:
    """All rows as one table."""
    shape = content["machine"]
    where = f"{shape['cores']} cores of {shape['cpu']}, {shape['memory_gb']} GB, Python {shape['python']}"
    lines = ["| what | asked | measured | peer | peer's | ratio |", "|" + " --- |" * 6]
    for r in content["rows"]:
        peers, ratio = (f"{r[name]:.4g}" if r[name] is not None else "" for name in ("peer's", "ratio"))
        lines.append(
            f"| {r['what']} | {r['asked']} | {r['measured']:.4g} {r['unit']} | {r['peer']} | {peers} | {ratio} |"
        )
    return "\n".join(["# Scale", "", TEXT.strip(), "", f"On {where}.", "", *lines, ""])


TEXT = """
`python benchmarks/scale.py --out` (`--parts` names some: path, sleep, writer, front, reports, million, queries). Ours
and the peer's in one run; the ratio is ours to the peer's. Faults: [chaos.md](chaos.md).

- *path*: ask, lease, evaluation on Ray, tell, durable store and front, of evaluations that take microseconds, timed
  between the first and the last commit.
- *sleep*: what a slot loses from the end of one evaluation to the beginning of the next.
- *writer*: 8 processes hand results to one writer, which takes what waits, commits with full synchronisation, and
  answers; each process waits for the answer before its next message. Every result was there afterwards, once.
- *million*: one proposal at a time, after a thousand and after a million evaluations, in one process.
"""
