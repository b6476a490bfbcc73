"""Plots: a front over everything that was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archfront.search._types import Objective
from archfront.spaces._errors import UsageError

if TYPE_CHECKING:
    from archfront.cluster.front import Front

__all__ = ["plot_curve", "plot_fronts"]

FORMATS = (".png", ".svg", ".pdf")
COLOURS = ("#d1495b", "#00798c", "#edae49", "#30638e", "#5f0f40", "#386641")


def plot_fronts(fronts: Sequence[Front], path: Path) -> Path:
    """One panel per pair of objectives (cost across, quality up): evaluations grey, fronts coloured and connected, the
    default configuration as a star. Several fronts (devices) share the panels. Raises UsageError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.suffix not in FORMATS:
        raise UsageError(f"cannot plot to {str(path)!r}", f"use one of {', '.join(FORMATS)}")
    if len(fronts[0].objectives) < 2:
        raise UsageError("a plot needs two objectives", "use --json or --csv for this front")
    pairs = _pairs(fronts[0].objectives)
    figure = Figure(figsize=(6.4 * len(pairs), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for panel, (across, up) in zip(panels, pairs, strict=True):
        for colour, front in zip(COLOURS * len(fronts), fronts, strict=False):
            _draw(panel, front, across, up, colour)
        panel.set_xlabel(_label(fronts, across))
        panel.set_ylabel(_label(fronts, up))
        _scale(panel, fronts, across)
        panel.grid(alpha=0.25)
        panel.legend(fontsize="small")
    result = fronts[0].result
    devices = ", ".join(str(front.result.device) for front in fronts if front.result.device)
    figure.suptitle(f"{result.space} / {result.task}" + (f" on {devices}" if devices else ""))
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}", "give another file") from error
    return path


def _pairs(objectives: Sequence[Objective]) -> list[tuple[int, int]]:
    """Positions (across, up): the first objective up against each other one."""
    return [(i, 0) for i in range(1, len(objectives))]


def _label(fronts: Sequence[Front], position: int) -> str:
    """The metric with its unit; its device too when there is only one."""
    objective = fronts[0].objectives[position]
    name = objective.name if len(fronts) == 1 else objective.metric
    return f"{name} [{objective.unit}]" if objective.unit else name


def _draw(panel: Any, front: Front, across: int, up: int, colour: str) -> None:
    x, y = (front.objectives[i] for i in (across, up))
    told, default = _evaluations(front, x, y)
    device = front.result.device
    if len(told):
        label = None if panel.get_legend_handles_labels()[0] else "evaluated"
        panel.scatter(*told.T, s=14, color="0.75", zorder=1, label=label)
    points = sorted((p.values[x.name].value, p.values[y.name].value) for p in front.result.points)
    if points:
        label = f"front on {device}" if device else "front"
        panel.plot(*zip(*points, strict=True), "o-", ms=5, lw=1.3, color=colour, zorder=3, label=label)
    if default is not None:
        panel.plot(*default, "*", ms=13, color="black", zorder=4, label="paper's own setting")


def _evaluations(front: Front, x: Objective, y: Objective) -> tuple[Any, tuple[float, float] | None]:
    """Every told pair (n, 2) of the front's study or space, and the default configuration's."""
    result = front.result
    table = front.store.evaluations(space=None if result.study else result.space, study=result.study or None)
    if x.name not in table or y.name not in table:
        return np.empty((0, 2)), None
    table = table[table["status"] == "ok"]
    default = table[table["origin"] == "default"][[x.name, y.name]].dropna().to_numpy(dtype=float)
    pairs = table[[x.name, y.name]].dropna().to_numpy(dtype=float)
    return pairs, (float(default[0, 0]), float(default[0, 1])) if len(default) else None


def _scale(panel: Any, fronts: Sequence[Front], across: int) -> None:
    """A logarithmic cost axis where costs span more than a factor of twenty."""
    name = fronts[0].objectives[across].name
    values = [p.values[name].value for f in fronts for p in f.result.points if name in p.values]
    if values and min(values) > 0 and max(values) / min(values) > 20:
        panel.set_xscale("log")


def plot_curve(history: Sequence[tuple[int, float]], path: Path, study: str) -> Path:
    """Hypervolume against told evaluations, as a staircase. Raises UsageError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.suffix not in FORMATS:
        raise UsageError(f"cannot plot to {str(path)!r}", f"use one of {', '.join(FORMATS)}")
    if not history:
        raise UsageError(f"study {study!r} has no front yet", "let it run first")
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    panel.step(*zip(*history, strict=True), where="post", color=COLOURS[1])
    panel.set_xlabel("evaluations told")
    panel.set_ylabel("hypervolume")
    panel.set_title(study)
    panel.grid(alpha=0.25)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}", "give another file") from error
    return path
