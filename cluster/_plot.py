"""Plots: a front over everything that was evaluated, hypervolume, predictions."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archfront.cluster._calibration import Calibration, newest_half
from archfront.predictors._prediction import Prediction
from archfront.predictors._scores import COVERED
from archfront.search._types import Objective
from archfront.spaces._errors import UsageError

if TYPE_CHECKING:
    from archfront.cluster.front import Front
    from archfront.cluster.store import CalibrationRow

__all__ = ["COLOURS", "new_figure", "plot_calibration", "plot_curve", "plot_curves", "plot_fronts", "saved_figure"]

FORMATS = (".png", ".svg", ".pdf", ".html")
OWN = "paper's own setting"
COLOURS = ("#d1495b", "#00798c", "#edae49", "#30638e", "#5f0f40", "#386641")


def plot_fronts(fronts: Sequence[Front], path: Path) -> Path:
    """One panel per pair of objectives (cost across, quality up): evaluations grey, fronts coloured and connected, the
    default configuration as a star. Several fronts (devices) share the panels. Raises UsageError."""
    _check_format(path)
    if len(fronts[0].objectives) < 2:
        raise UsageError("a plot needs two objectives", "use --json or --csv for this front")
    pairs = _pairs(fronts[0].objectives)
    figure = new_figure(6.4 * len(pairs))
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
    return saved_figure(
        figure, path, [point.metrics | {"key": point.key[:12]} for f in fronts for point in f.result.points]
    )


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
    _mark_guessed(panel, front, x, y, colour)
    if default is not None:
        label = None if OWN in panel.get_legend_handles_labels()[1] else OWN
        panel.plot(*default, "*", ms=13, color="black", zorder=4, label=label)


def _mark_guessed(panel: Any, front: Front, x: Objective, y: Objective, colour: str) -> None:
    """Predicted points are hollow, with bars of one standard deviation."""
    guessed = [point for point in front.result.points if point.guessed]
    if not guessed:
        return
    at = [[point.values[o.name].value for point in guessed] for o in (x, y)]
    reach = [[point.guessed.get(o.metric) or 0.0 for point in guessed] for o in (x, y)]
    style = {"fmt": "o", "ms": 6, "mfc": "white", "color": colour, "zorder": 5, "lw": 1, "capsize": 2}
    panel.errorbar(*at, xerr=reach[0], yerr=reach[1], label=f"predicted for {front.result.device}", **style)


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
    _check_format(path)
    if not history:
        raise UsageError(f"study {study!r} has no front yet", "let it run first")
    figure = new_figure(6.4)
    panel = figure.subplots()
    panel.step(*zip(*history, strict=True), where="post", color=COLOURS[1])
    panel.set_xlabel("evaluations told")
    panel.set_ylabel("hypervolume")
    panel.set_title(study)
    panel.grid(alpha=0.25)
    return saved_figure(figure, path)


def plot_curves(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path, title: str) -> Path:
    """Hypervolume against told evaluations of several studies, one staircase each. Raises UsageError."""
    _check_format(path)
    figure = new_figure(6.4)
    panel = figure.subplots()
    for i, (study, curve) in enumerate(curves.items()):
        style = ("-", "--", ":", "-.")[i // len(COLOURS) % 4]
        panel.step(*zip(*curve, strict=True), where="post", color=COLOURS[i % len(COLOURS)], ls=style, label=study)
    panel.set_xlabel("evaluations told")
    panel.set_ylabel("hypervolume")
    panel.set_title(title)
    panel.grid(alpha=0.25)
    panel.legend(fontsize="small")
    return saved_figure(figure, path)


def plot_calibration(metrics: Sequence[Calibration], path: Path, study: str) -> Path:
    """One panel per metric: predicted over found with 90 % intervals, the newest half of the predictions coloured. On
    the diagonal a prediction was right. Raises UsageError, also where there is nothing to draw."""
    _check_format(path)
    if not metrics:
        raise UsageError(f"study {study!r} has no prediction whose value is known", "see show STUDY --calibration")
    figure = new_figure(4.8 * len(metrics))
    for panel, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        newest = newest_half(metric.rows)
        _draw_predictions(panel, metric.rows[: len(metric.rows) - len(newest)], "0.6", "older half")
        _draw_predictions(panel, newest, COLOURS[1], "newest half")
        _frame_predictions(panel, metric)
    figure.suptitle(f"{study}: predicted against found, with 90 % intervals")
    return saved_figure(figure, path)


def _draw_predictions(panel: Any, rows: Sequence[CalibrationRow], colour: str, label: str) -> None:
    if not rows:
        return
    mean, std, value = np.array([(row.mean, row.std, row.value) for row in rows]).T
    low, high = Prediction(mean, std).interval(COVERED)
    style = {"ms": 3.5, "elinewidth": 0.8, "alpha": 0.7, "color": colour, "label": label}
    panel.errorbar(value, mean, yerr=[mean - low, high - mean], fmt="o", **style)


def _frame_predictions(panel: Any, metric: Calibration) -> None:
    """The same limits on both axes, taken from the points: a vast interval is cut rather than all points squeezed."""
    numbers = np.array([(row.mean, row.value) for row in metric.rows]).ravel()
    low, high = float(numbers.min()), float(numbers.max())
    if low > 0 and high / low > 20:
        panel.set_xscale("log")
        panel.set_yscale("log")
        limits = low / 1.2, high * 1.2
    else:
        margin = 0.05 * (high - low) or 0.05 * max(abs(high), 1.0)
        limits = low - margin, high + margin
    panel.plot(limits, limits, "--", lw=1, color="black", zorder=1)
    panel.set_xlim(limits)
    panel.set_ylim(limits)
    unit = f" [{metric.unit}]" if metric.unit else ""
    panel.set_xlabel(f"found{unit}")
    panel.set_ylabel(f"predicted{unit}")
    panel.set_title(metric.metric)
    panel.grid(alpha=0.25)
    panel.legend(fontsize="small")


def _check_format(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise UsageError(f"cannot plot to {str(path)!r}", f"use one of {', '.join(FORMATS)}")


def new_figure(width: float, height: float = 4.8) -> Any:
    """An empty figure of this size in inches that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def saved_figure(figure: Any, path: Path, points: Sequence[Mapping[str, Any]] = (), *, dpi: int = 150) -> Path:
    """Write the figure; an .html page also has the points in a table. Raises UsageError."""
    _check_format(path)
    try:
        if path.suffix != ".html":
            figure.savefig(path, dpi=dpi)
            return path
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg")
        path.write_text(_page(drawn.getvalue(), points))
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}", "give another file") from error
    return path


def _page(svg: str, points: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for point in points for name in point))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    cells = [[html.escape(str(point.get(name, ""))) for name in names] for point in points]
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    drawing = svg[svg.index("<svg") :]
    return f"<!doctype html><meta charset='utf-8'><title>front</title>{drawing}<table><tr>{head}</tr>{rows}</table>\n"
