"""What a study has taught: which parameters matter, and how well its strategy predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archfront.cluster.cli._output import console, document, number, table

if TYPE_CHECKING:
    from archfront.cluster._calibration import Calibration
    from archfront.cluster.store import Store
    from archfront.predictors._importance import Importance

__all__ = ["show_calibration", "show_importance"]

PARAMETERS_SHOWN = 20
PAIRS_SHOWN = 5


def show_importance(store: Store, name: str, as_json: bool) -> None:
    """Which parameters decide each objective. Raises TooFewPointsError."""
    from archfront.predictors._importance import importance
    from archfront.spaces import SearchSpace

    record = store.study(name)
    space = SearchSpace.from_dict(record.searched)
    ok = [e for _, _, e in store.told(name) if e.status == "ok"]
    answers: dict[str, tuple[int, Importance]] = {}
    for o in record.objectives:
        usable = [e for e in ok if o.name in e.values and math.isfinite(e.values[o.name].value)]
        losses = [o.loss(e.values[o.name].value) for e in usable]
        answers[o.name] = len(usable), importance(space, [e.config for e in usable], losses, record.seed)
    if not as_json:
        for objective, (count, found) in answers.items():
            _print_importance(f"{objective} ({count} evaluations)", found)
        if any(parameter.when for parameter in space):
            console().print("  a parameter that is not active counts as its default")
        return
    mains = [
        {"objective": objective, "parameter": s.parameters[0], "share": s.share, "std": s.std}
        for objective, (_, found) in answers.items()
        for s in found.parameters
    ]
    pairs = [
        {"objective": objective, "parameters": s.parameters, "share": s.share, "std": s.std}
        for objective, (_, found) in answers.items()
        for s in found.pairs[:PAIRS_SHOWN]
    ]
    document({"study": name, "importance": mains, "pairs": pairs})


def _print_importance(title: str, found: Importance) -> None:
    shown = [*found.parameters[:PARAMETERS_SHOWN], *found.groups, *found.pairs[:PAIRS_SHOWN]]
    rows = [[" × ".join(s.parameters), s.share, s.std] for s in shown]
    table(["parameter", "share", "std"], rows, title=title, right=["share", "std"])
    if more := found.parameters[PARAMETERS_SHOWN:]:
        console().print(f"  {len(more)} more parameters explain {number(sum(s.share for s in more))} together")


def show_calibration(store: Store, name: str, file: Path | None, as_json: bool) -> None:
    """What the strategy predicted against what was found; `file` gets the picture. Raises UsageError for a picture of
    nothing."""
    from archfront.cluster._calibration import calibration_of
    from archfront.cluster._plot import plot_calibration

    found = calibration_of(store, name)
    if file is not None:
        plot_calibration(found, file, name)
    if as_json:
        document({"study": name, "calibration": [_agreements(metric) for metric in found], "rows": _rows(found)})
        return
    if not found:
        console().print(_nothing(store, name))
        return
    _print_calibration(found)
    if file is not None:
        console().print(f"wrote {file}")


def _parts(found: Calibration) -> list[tuple[str, Any]]:
    return [("all", found.whole), ("newest half", found.newest)]


def _agreements(found: Calibration) -> dict[str, Any]:
    parts = {part.replace(" ", "_"): asdict(agreement) for part, agreement in _parts(found)}
    return {"metric": found.metric, "unit": found.unit, **parts}


def _rows(found: Sequence[Calibration]) -> list[dict[str, Any]]:
    return [asdict(row) for metric in found for row in metric.rows]


def _nothing(store: Store, name: str) -> str:
    """Why there is nothing to compare, and what to do about it."""
    record = store.study(name)
    predicted = sum(bool(p.proposal.predicted) for p in store.proposals(name))
    if predicted:
        return f"study {name!r}: none of its {predicted} predictions has an ok evaluation yet"
    return (
        f"study {name!r}: strategy {record.strategy!r} has predicted nothing so far. "
        f"Strategies that do, after their first proposals: {', '.join(_predicting())}"
    )


def _predicting() -> list[str]:
    """Strategies that say what they expect, for whoever asks a study of another one."""
    from archfront import search

    return [name for name in search.names() if search.load(name).capabilities.predicts]


def _print_calibration(found: Sequence[Calibration]) -> None:
    columns = ["metric", "predictions", "n", "Kendall tau", "RMSE", "bias", "unit", "in 90 % interval"]
    rows = [
        [metric.metric, part, a.n, a.kendall, a.rmse, a.bias, metric.unit, _percent(a.coverage)]
        for metric in found
        for part, a in _parts(metric)
    ]
    table(columns, rows, right=[*columns[2:6], columns[7]])
    console().print("  RMSE and bias (predicted - found) in the metric's unit; interval: mean +- 1.645 std")
    for metric in found:
        if unsure := metric.whole.unsure:
            console().print(
                f"  {metric.metric}: {unsure} of {metric.whole.n} predictions have no std and count in no interval"
            )


def _percent(share: float | None) -> str:
    return "no std" if share is None else f"{100 * share:.0f} %"
