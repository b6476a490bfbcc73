"""Where benchmarks put what they measured: JSON and a page, with the command and the machine's shape."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archfront.cluster._device import cpu_model

__all__ = ["machine", "write"]

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    memory_gb = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    return {"cpu": cpu_model(), "cores": os.cpu_count(), "memory_gb": memory_gb, "python": platform.python_version()}


def write(
    name: str, title: str, text: str, rows: Sequence[dict[str, Any]], facts: dict[str, Any] | None = None
) -> None:
    """Write docs/results/NAME.json and NAME.md, and print the table."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}".strip()
    content = {"command": command, "machine": machine(), **(facts or {}), "rows": list(rows)}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    shape = machine()
    where = f"{shape['cores']} cores of {shape['cpu']}, {shape['memory_gb']} GB, Python {shape['python']}"
    page = [f"# {title}", "", text.strip(), "", f"`{command}` on {where}.", "", *lines]
    if facts:
        page += ["", *(f"- {key}: {_cell(value)}" for key, value in facts.items())]
    (RESULTS / f"{name}.md").write_text("\n".join(page) + "\n")
    print("\n".join(lines))
    for key, value in (facts or {}).items():
        print(f"{key}: {_cell(value)}")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
