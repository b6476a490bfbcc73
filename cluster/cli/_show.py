"""show: a study or one configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archfront.cluster.cli._options import AsJson, StoreUrl
from archfront.cluster.cli._output import console, document, number, table
from archfront.cluster.cli._understanding import show_calibration, show_importance
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.cluster.store import Store

__all__ = ["show", "text"]

FAILURES_SHOWN = 10


def show(
    what: Annotated[str, typer.Argument(help="A study's name, or a key (a unique prefix will do).")],
    file: Annotated[
        Path | None, typer.Argument(help="After --calibration: plot predicted against found to this file.")
    ] = None,
    curve: Annotated[Path | None, typer.Option(help="Plot hypervolume against trials to this file.")] = None,
    schedule: Annotated[
        Path | None,
        typer.Option(help="Of a KEY: plot what self-tuning did to its hyperparameters; a .csv file gets the numbers."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Of this device's front.")] = None,
    importance: Annotated[
        bool, typer.Option("--importance", help="The share of each objective's variance that each parameter explains.")
    ] = False,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="How well the strategy predicted what was found then.")
    ] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show a study or a configuration."""
    from archfront.cluster.store import Store

    asked = {
        "--importance": importance,
        "--calibration": calibration,
        "--curve": curve is not None,
        "--schedule": schedule is not None,
    }
    questions = [option for option, given in asked.items() if given]
    if len(questions) > 1:
        raise UsageError(f"{' and '.join(questions)} are {len(questions)} questions", "ask them one after the other")
    if file is not None and not calibration:
        raise UsageError(f"what is {str(file)!r} for?", f"archfront show {what} --calibration {file}")
    with Store(store, create=False) as opened:
        names = [record.name for record in opened.studies()]
        if what in names and schedule is not None:
            raise UsageError(f"{what!r} is a study: a schedule is of a key", f"archfront front --study {what}")
        if what in names and importance:
            show_importance(opened, what, as_json)
        elif what in names and calibration:
            show_calibration(opened, what, file, as_json)
        elif what in names:
            _show_study(opened, what, curve, device, as_json)
        elif schedule is not None:
            _show_schedule(opened, what, schedule, as_json)
        elif importance or calibration:
            raise UnknownNameError.of("study", what, names)
        else:
            try:
                matches = opened.find_key(what)
            except UnknownNameError:
                raise UnknownNameError.of("study or key", what, names) from None
            _show_key(opened, matches[0].study, matches[0].key, as_json)


def _show_schedule(store: Store, key: str, path: Path, as_json: bool) -> None:
    from archfront.cluster._schedules import plot_schedule, schedule_of

    found = schedule_of(store, key)
    plot_schedule(found, path, f"schedule of {key[:12]}")
    if as_json:
        document([{"epoch": r.epoch, "values": dict(r.values), "scales": dict(r.scales)} for r in found.rows])
        return
    first, last = found.rows[0], found.rows[-1]
    rows = [[name, first.values[name], last.values[name], last.scales.get(name, "")] for name in found.names]
    columns = ["parameter", f"epoch {first.epoch}", f"epoch {last.epoch}", "scale"]
    table(columns, rows, title="what self-tuning did", right=columns[1:])
    console().print(f"wrote {path}\nnext:\n  archfront train {key[:12]} --schedule {key[:12]}")


def _show_study(store: Store, name: str, curve: Path | None, device: str | None, as_json: bool) -> None:
    from archfront.cluster._plot import plot_curve
    from archfront.cluster._table_hash import table_hash
    from archfront.cluster.study import summary_of

    record = store.study(name)
    summary = summary_of(store, record)
    failures = [
        {"key": e.key, "status": e.status, "error": e.error}
        for _, _, e in store.told(name)
        if e.status not in ("ok", "stopped")
    ]
    facts = {
        **summary,
        "objectives": [f"{o.name}:{o.direction}" for o in record.objectives],
        "constraints": [str(c) for c in record.constraints],
        "devices": dict(record.devices),
        "trainer": record.trainer,
        "epochs": record.options.get("epochs"),
        "parameters": dict(record.parameters),
        "seed": record.seed,
        "train_seed": record.train_seed,
        "trials": record.budget.trials,
        "table_hash": table_hash(store, name),
        "failures": failures,
    }
    if curve is not None:
        plot_curve(store.hypervolume_history(name, device), curve, name)
    if as_json:
        document(facts)
        return
    shown = console()
    for key, value in facts.items():
        if key != "failures":
            shown.print(f"  [bold]{key}[/]: {text(value)}", markup=True)
    if failures:
        title = f"{len(failures)} failed"
        table(
            ["key", "status", "why"],
            [[f["key"][:12], f["status"], f["error"]] for f in failures[:FAILURES_SHOWN]],
            title=title,
        )
    if curve is not None:
        shown.print(f"wrote {curve}")


def _show_key(store: Store, study: str, key: str, as_json: bool) -> None:
    proposal = next(p for p in store.proposals(study) if p.proposal.key == key)
    told = [e for _, _, e in store.told(study) if e.key == key]
    reports = store.reports(proposal.proposal.id)
    values = {name: {"value": v.value, "kind": v.kind} for e in told for name, v in e.values.items()}
    facts: dict[str, Any] = {
        "key": key,
        "study": study,
        "origin": proposal.proposal.origin,
        "status": told[-1].status if told else proposal.state,
        "error": told[-1].error if told else "",
        "seconds": told[-1].seconds if told else None,
        "config": proposal.proposal.config,
        "values": values,
        "reports": [{"step": r.step, **r.metrics, **r.attributes} for r in reports],
        "weights": store.artefact(key, "weights") is not None,
    }
    if as_json:
        document(facts)
        return
    shown = console()
    for name in ("key", "study", "origin", "status", "error", "seconds", "weights"):
        if facts[name] not in ("", None):
            shown.print(f"  [bold]{name}[/]: {text(facts[name])}")
    table(["value", "", "kind"], [[n, v["value"], v["kind"]] for n, v in values.items()], right=[""])
    table(["parameter", "value"], [[n, text(v)] for n, v in facts["config"].items()])
    if reports:
        columns = ["epoch", *reports[0].metrics]
        table(columns, [[r.step, *r.metrics.values()] for r in reports], title="learning curve", right=columns)


def text(value: Any) -> str:
    """A value, a list or a mapping on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={number(v)}" for name, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return number(value)
