"""Schedules that self-tuned trainings have left in the store, and their plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archfront.spaces._errors import DataError, UsageError
from archfront.trainers._schedule import VALUE, Schedule
from archfront.trainers._types import Report

if TYPE_CHECKING:
    from archfront.cluster.store import Store

__all__ = ["plot_schedule", "schedule_of", "schedule_text"]


def schedule_of(store: Store, key: str, study: str | None = None) -> Schedule:
    """What the newest self-tuned training of a key (a unique prefix will do) has reported. Raises UnknownNameError,
    UsageError for a key whose trainings have left none."""
    for match in store.find_key(key, study):
        reports = [
            Report(r.step, r.metrics, r.attributes)
            for r in store.reports(store.proposal_of(match.study, match.key).proposal.id)
            if any(name.startswith(VALUE) for name in r.attributes)
        ]
        if reports:
            return Schedule.from_reports(reports)
    raise UsageError(
        f"key {key!r} has no schedule: no self-tuned training of it was reported",
        "search with --trainer self_tuning, then show or replay one of its keys",
    )


def schedule_text(store: Store, given: str) -> str:
    """A schedule as JSON: from a CSV file, or of a key. Raises DataError, UnknownNameError, UsageError."""
    if not given.endswith(".csv"):
        return schedule_of(store, given).to_json()
    try:
        return Schedule.from_csv(Path(given).read_text()).to_json()
    except OSError as error:
        hint = "write one: archfront show KEY --schedule FILE.csv"
        raise DataError(f"no schedule file {given!r}: {error.strerror}", hint) from error


def plot_schedule(schedule: Schedule, path: Path, title: str) -> Path:
    """A panel for each parameter (members of a group share one): its value by epoch, its perturbation's scale as a
    band; .csv writes the table instead. Raises UsageError for a file type that cannot be written."""
    if path.suffix == ".csv":
        path.write_text(schedule.to_csv())
        return path
    from archfront.cluster._plot import COLOURS, new_figure, saved_figure

    groups: dict[str, list[str]] = {}
    for name in schedule.names:
        groups.setdefault(name.partition("[")[0], []).append(name)
    figure = new_figure(4.2 * min(3, len(groups)), 3.2 * ((len(groups) + 2) // 3))
    panels = figure.subplots((len(groups) + 2) // 3, min(3, len(groups)), squeeze=False).ravel()
    epochs = [row.epoch for row in schedule.rows]
    for panel, (group, members) in zip(panels, groups.items(), strict=False):
        for name, colour in zip(members, COLOURS * len(members), strict=False):
            values = [row.values[name] for row in schedule.rows]
            panel.step(epochs, values, where="post", color=colour, lw=1.5, label=name)
        panel.set_title(group)
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.25)
        if len(members) > 1:
            panel.legend(fontsize="x-small")
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    figure.suptitle(title)
    return saved_figure(figure, path, [{"epoch": r.epoch, **r.values} for r in schedule.rows])
