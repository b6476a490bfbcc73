"""What commands print: one JSON document, or tables for people. Errors go to standard error, or into the document."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["aside", "console", "document", "fail", "number", "split_list", "table", "wants_json"]


PIPED_WIDTH = 160
"""Columns where no terminal says how many it has."""


def console(*, error: bool = False) -> Console:
    """Standard output, or standard error for progress and notes."""
    from rich.console import Console

    piped = not (sys.stderr if error else sys.stdout).isatty()
    return Console(stderr=error, highlight=False, width=PIPED_WIDTH if piped else None)


def aside() -> AbstractContextManager[Any]:
    """While something runs: whatever prints then, does so on standard error. Ray says what became of its nodes, a
    user's function what it likes; a document stands alone on standard output."""
    return redirect_stdout(sys.stderr)


def document(data: Any) -> None:
    """Print one JSON document; numbers that are not finite become null."""
    print(json.dumps(_finite(data), indent=2))


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def wants_json() -> bool:
    """Whether --json stands on the command line: errors then are a document too."""
    return "--json" in sys.argv


def fail(code: str, message: str, hint: str) -> None:
    """Report an error."""
    if wants_json():
        document({"error": {"code": code, "message": message, "hint": hint}})
        return
    shown = console(error=True)
    shown.print(f"[bold red]error:[/] {_escaped(message)}")
    if hint:
        shown.print(f"  {_escaped(hint)}")


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", right: Sequence[str] = ()
) -> None:
    """Print a table; `right` names the columns of numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(_escaped(column), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_escaped(cell if isinstance(cell, str) else number(cell)) for cell in row))
    console().print(made)


def number(value: object) -> str:
    """A value as people read it: four significant digits for floats."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return str(value)


def split_list(texts: Sequence[str]) -> list[str]:
    """Split at commas outside brackets: "a,b(c=1,d=2)" is two."""
    parts: list[str] = []
    for text in texts:
        depth, current = 0, ""
        for letter in text:
            depth += (letter in "([") - (letter in ")]")
            if letter == "," and depth == 0:
                parts.append(current)
                current = ""
            else:
                current += letter
        parts.append(current)
    return [part.strip() for part in parts if part.strip()]
