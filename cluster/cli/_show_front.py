"""A front as a table for people, and as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archfront.cluster.cli._output import console, number, table
from archfront.spaces._errors import UsageError

if TYPE_CHECKING:
    from archfront.cluster.front import Default, Front
    from archfront.cluster.store import FrontPoint
    from archfront.search._types import Objective

__all__ = ["changed", "show_front", "write_csv"]

SHOWN = 60
"""How many characters of a configuration a table shows."""


def show_front(front: Front) -> None:
    """Print a front as a table: cheapest first, the paper's own setting marked."""
    result = front.result
    source = f"study {result.study}" if result.study else "all studies"
    names = [o.name if result.device == "*" else o.metric for o in front.objectives]
    heads = [f"{name} [{o.unit}]" if o.unit else name for name, o in zip(names, front.objectives, strict=True)]
    title = f"{front.title} ({source}): {len(front)} points"
    default = front.default
    rows: list[list[object]] = []
    for point in result.points:
        mark = "★" if default is not None and point.key == default.key else ""
        values = [_shown(point, o) for o in front.objectives]
        rows.append(
            [
                mark,
                point.key[:12],
                *values,
                point.origin,
                changed(point.config, None if default is None else default.config),
            ]
        )
    if default is not None and all(point.key != default.key for point in result.points):
        values = [number(default.values.get(o.name)) for o in front.objectives]
        note = f"the paper's own setting ({_why_absent(front, default)})"
        rows.append(["★", default.key[:12], *values, "default", note])
    table(["", "key", *heads, "origin", "differs from the paper's setting in"], rows, title=title, right=heads)
    if default is not None:
        console().print("★ the paper's own setting")
    if result.hypervolume is not None:
        console().print(f"hypervolume {number(result.hypervolume)} against {_reference_text(front)}")


def _shown(point: FrontPoint, objective: Objective) -> str:
    """A number; a predicted one says so, and how far it may be off."""
    shown, guessed = number(point.values[objective.name].value), point.guessed
    if objective.metric not in guessed:
        return shown
    spread = guessed[objective.metric]
    return f"~{shown}" + ("" if spread is None else f" ± {number(spread)}")


def _why_absent(front: Front, default: Default) -> str:
    """Why the paper's own setting is no member: dominated by one that is at least as good in every objective, or out
    of the bounds."""
    signs = {o.name: -1.0 if o.direction == "max" else 1.0 for o in front.objectives}
    if not signs.keys() <= default.values.keys():
        return "not known here"
    dominated = any(
        all(sign * point.values[name].value <= sign * default.values[name] for name, sign in signs.items())
        for point in front.result.points
    )
    return "dominated" if dominated else "not within the bounds"


def _reference_text(front: Front) -> str:
    values = front.result.reference or ()
    return ", ".join(f"{o.name}={number(v)}" for o, v in zip(front.objectives, values, strict=False))


def changed(config: Mapping[str, Any], default: Mapping[str, Any] | None) -> str:
    """The parameters that differ from the default configuration, shortened."""
    if default is None:
        pairs = [f"{name}={number(value)}" for name, value in config.items()]
    else:
        pairs = [f"{n}={number(v)}" for n, v in config.items() if n in default and default[n] != v]
    text = " ".join(pairs) or "nothing"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def write_csv(front: Front, path: Path) -> None:
    """A row per point. Raises UsageError."""
    import csv

    configs = [name for point in front.result.points for name in point.config]
    metrics = list(dict.fromkeys(name for point in front.result.points for name in point.metrics))
    names = list(dict.fromkeys(configs))
    guessed = list(dict.fromkeys(name for point in front.result.points for name in point.guessed))
    heads = [*metrics, *(f"{name}.std" for name in guessed), *(f"config.{name}" for name in names)]
    try:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["key", *heads, "study", "origin", "kind"])
            for p in front.result.points:
                values = [*(p.metrics.get(m, "") for m in metrics), *(p.guessed.get(m, "") for m in guessed)]
                writer.writerow([p.key, *values, *(p.config.get(n, "") for n in names), p.study, p.origin, p.kind])
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from error
