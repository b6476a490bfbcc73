"""A comparison as a picture: a panel per device or metric, a line with its confidence band per thing compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archfront.cluster._plot import COLOURS, new_figure, saved_figure

__all__ = ["plot_comparison"]

CONFIDENCE = 1.96
"""Standard errors to either side: a 95 % band of the mean."""
COLUMNS = 3
STYLES = ("-", ":", "-.")
"""Once the colours are used up."""


def plot_comparison(
    summary: Sequence[Mapping[str, Any]],
    title: str,
    path: Path,
    what: str,
    *,
    panel_by: str = "device",
    line_by: str = "strategy",
    across: str = "evaluations",
    up: str = "mean",
) -> Path:
    """Write the picture; the format is the path's ending. The last four name the summary's keys: `up` (beside it "sem")
    is drawn over `across`. Raises UsageError."""
    shown = list(dict.fromkeys(row[panel_by] for row in summary))
    lines: dict[tuple[Any, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in summary:
        lines[row[panel_by], row[line_by]].append(row)
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(4.6 * columns, 3.4 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    names = list(dict.fromkeys(row[line_by] for row in summary))
    for panel, name in zip(panels, shown, strict=False):
        for i, line in enumerate(names):
            points = sorted(lines[name, line], key=lambda row: int(row[across]))
            if not points:
                continue
            x, y = ([row[key] for row in points] for key in (across, up))
            band = [CONFIDENCE * (row["sem"] or 0.0) for row in points]
            colour = COLOURS[i % len(COLOURS)]
            style = "--" if line.startswith("peer:") else STYLES[i // len(COLOURS) % len(STYLES)]
            panel.plot(x, y, color=colour, label=line, linestyle=style, marker="o" if len(x) == 1 else None)
            low = [a - b for a, b in zip(y, band, strict=True)]
            panel.fill_between(x, low, [a + b for a, b in zip(y, band, strict=True)], color=colour, alpha=0.15)
        panel.set_title(str(name or ""), fontsize="medium")
        panel.set_xlabel(across)
        panel.set_ylabel(what)
        panel.grid(alpha=0.25)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    drawn = [panel.get_legend_handles_labels() for panel in panels]
    legend = {label: handle for handles, labels in drawn for handle, label in zip(handles, labels, strict=True)}
    panels[0].legend(legend.values(), legend.keys(), fontsize="small")
    figure.suptitle(title, fontsize="medium", wrap=True)
    return saved_figure(figure, path, dpi=80)  # many panels: enough for a page, and small in a repository
