"""The comparison as a picture: a panel per device, a line with its confidence band per strategy."""

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


def plot_comparison(summary: Sequence[Mapping[str, Any]], title: str, path: Path, what: str) -> Path:
    """Write the picture; the format is the path's ending. Raises UsageError."""
    devices = list(dict.fromkeys(row["device"] for row in summary))
    lines: dict[tuple[Any, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in summary:
        lines[row["device"], row["strategy"]].append(row)
    columns = min(COLUMNS, len(devices))
    rows = -(-len(devices) // columns)
    figure = new_figure(4.6 * columns, 3.4 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    strategies = list(dict.fromkeys(row["strategy"] for row in summary))
    for panel, device in zip(panels, devices, strict=False):
        for i, strategy in enumerate(strategies):
            points = sorted(lines[device, strategy], key=lambda row: int(row["evaluations"]))
            if not points:
                continue
            x, y = ([row[name] for row in points] for name in ("evaluations", "mean"))
            band = [CONFIDENCE * (row["sem"] or 0.0) for row in points]
            colour = COLOURS[i % len(COLOURS)]
            panel.plot(x, y, color=colour, label=strategy, linestyle="--" if strategy.startswith("peer:") else "-")
            low = [a - b for a, b in zip(y, band, strict=True)]
            panel.fill_between(x, low, [a + b for a, b in zip(y, band, strict=True)], color=colour, alpha=0.15)
        panel.set_title(str(device or ""), fontsize="medium")
        panel.set_xlabel("evaluations")
        panel.set_ylabel(what)
        panel.grid(alpha=0.25)
    for panel in panels[len(devices) :]:
        panel.set_visible(False)
    panels[0].legend(fontsize="small")
    figure.suptitle(title, fontsize="medium", wrap=True)
    return saved_figure(figure, path)
