"""studies, show, compare and gc."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archfront.cluster.cli._options import AsJson, Files, StoreUrl
from archfront.cluster.cli._output import console, document, number, split_list, table
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.cluster.store import Store
    from archfront.predictors._importance import Importance

__all__ = ["register"]

FAILURES_SHOWN = 10
PARAMETERS_SHOWN = 20
PAIRS_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help="List the studies of a store; `studies rm NAME` removes one.")(studies)
    app.command(help="A study or one configuration: values, learning curve, failures.")(show)
    app.command(help="Hypervolume against evaluations of several studies, from one reference point.")(compare)
    app.command(help="Remove weights that are on no front, and files that nothing names.")(gc)


def studies(
    action: Annotated[str | None, typer.Argument(help="rm")] = None,
    name: Annotated[str | None, typer.Argument(help="The study to remove.")] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """List or remove studies."""
    from archfront.cluster.store import Store
    from archfront.cluster.study import summary_of

    if action not in (None, "rm"):
        raise UnknownNameError.of("action", str(action), ["rm"])
    with Store(store) as opened:
        if action == "rm":
            if name is None:
                raise UsageError("which study?", "archfront studies rm NAME")
            opened.remove_study(name)
            opened.gc()
            if as_json:
                document({"removed": name})
            else:
                console().print(f"removed study {name}; its evaluations stay as facts for others")
            return
        summaries = [summary_of(opened, record) for record in opened.studies()]
    if as_json:
        document(summaries)
        return
    columns = ["study", "space", "task", "strategy", "status", "told", "failed", "front_size", "hypervolume", "seconds"]
    rows = [[s[c] for c in columns] for s in summaries]
    table(columns, rows, right=columns[5:])


def show(
    what: Annotated[str, typer.Argument(help="A study's name, or a key (a unique prefix will do).")],
    curve: Annotated[Path | None, typer.Option(help="Plot hypervolume against trials to this file.")] = None,
    device: Annotated[str | None, typer.Option(help="Of this device's front.")] = None,
    importance: Annotated[
        bool, typer.Option("--importance", help="The share of each objective's variance that each parameter explains.")
    ] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show a study or a configuration."""
    from archfront.cluster.store import Store

    if importance and curve is not None:
        raise UsageError("--importance and --curve are two questions", "ask them one after the other")
    with Store(store) as opened:
        names = [record.name for record in opened.studies()]
        if what in names and importance:
            _show_importance(opened, what, as_json)
        elif what in names:
            _show_study(opened, what, curve, device, as_json)
        elif importance:
            raise UnknownNameError.of("study", what, names)
        else:
            try:
                matches = opened.find_key(what)
            except UnknownNameError:
                raise UnknownNameError.of("study or key", what, names) from None
            _show_key(opened, matches[0].study, matches[0].key, as_json)


def _show_study(store: Store, name: str, curve: Path | None, device: str | None, as_json: bool) -> None:
    from archfront.cluster._plot import plot_curve
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
            shown.print(f"  [bold]{key}[/]: {_text(value)}", markup=True)
    if failures:
        title = f"{len(failures)} failed"
        table(
            ["key", "status", "why"],
            [[f["key"][:12], f["status"], f["error"]] for f in failures[:FAILURES_SHOWN]],
            title=title,
        )
    if curve is not None:
        shown.print(f"wrote {curve}")


def _show_importance(store: Store, name: str, as_json: bool) -> None:
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


def compare(
    names: Annotated[list[str], typer.Argument(metavar="STUDY...", help="The studies, of the same space and task.")],
    plot: Annotated[Path | None, typer.Option(help="Plot one curve per study to this file.")] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="METRIC=VALUE from which the volume counts; default: the studies' worst.")
    ] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Compare studies."""
    from archfront.cluster._compare import SHARES, compare_studies
    from archfront.cluster._plot import plot_curves
    from archfront.cluster.store import Store

    with Store(store) as opened:
        found = compare_studies(opened, names, _numbers(reference or []))
        record = opened.study(names[0])
    if plot is not None:
        title = " / ".join(filter(None, (record.space, record.task)))
        plot_curves({f"{s.study} ({s.strategy})": s.curve for s in found.studies}, plot, title)
    if found.protocols > 1:
        console(error=True).print("note: the studies were evaluated by different protocols (trainer, epochs or data)")
    shares = {share: f"{100 * share:g} %" for share in SHARES}
    if as_json:
        studies = [
            {
                **{
                    name: getattr(s, name)
                    for name in ("study", "strategy", "seed", "told", "front_size", "hypervolume")
                },
                "reached": {f"{share:g}": n for share, n in s.reached.items()},
                "curve": s.curve,
            }
            for s in found.studies
        ]
        document({"reference": found.reference, "studies": studies})
        return
    columns = ["study", "strategy", "seed", "trials", "front size", "hypervolume", *shares.values()]
    rows = [
        [s.study, s.strategy, s.seed, s.told, s.front_size, s.hypervolume, *(s.reached[share] for share in shares)]
        for s in found.studies
    ]
    table(columns, rows, right=columns[2:])
    shown = console()
    shown.print(f"  reference: {_text(dict(found.reference))}")
    shown.print(f"  {', '.join(shares.values())}: evaluations to this share of the best final hypervolume")
    if plot is not None:
        shown.print(f"wrote {plot}")


def _numbers(settings: Sequence[str]) -> dict[str, float]:
    """METRIC=VALUE texts, also several between commas."""
    numbers = {}
    for text in split_list(settings):
        metric, _, value = text.partition("=")
        try:
            numbers[metric.strip()] = float(value)
        except ValueError:
            raise UsageError(f"reference {text!r} is not METRIC=VALUE", "for example error=0.5") from None
    return numbers


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
        "reports": [{"step": r.step, **r.metrics} for r in reports],
        "weights": store.artefact(key, "weights") is not None,
    }
    if as_json:
        document(facts)
        return
    shown = console()
    for name in ("key", "study", "origin", "status", "error", "seconds", "weights"):
        if facts[name] not in ("", None):
            shown.print(f"  [bold]{name}[/]: {_text(facts[name])}")
    table(["value", "", "kind"], [[n, v["value"], v["kind"]] for n, v in values.items()], right=[""])
    table(["parameter", "value"], [[n, _text(v)] for n, v in facts["config"].items()])
    if reports:
        columns = ["epoch", *reports[0].metrics]
        table(columns, [[r.step, *r.metrics.values()] for r in reports], title="learning curve", right=columns)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={number(v)}" for name, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return number(value)


def gc(
    store: StoreUrl = None,
    files: Files = None,
    as_json: AsJson = False,
) -> None:
    """Tidy up."""
    from archfront.cluster.store import Store

    with Store(store, files=files) as opened:
        removed = opened.gc()
    if as_json:
        document({"removed": removed})
    else:
        console().print(f"removed {len(removed)} files")
