"""studies, compare and gc; the command show is registered here too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archfront.cluster.cli._look import looked_into
from archfront.cluster.cli._options import AsJson, Files, StoreUrl
from archfront.cluster.cli._output import console, document, split_list, table
from archfront.cluster.cli._show import show, text
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.cluster._replay import Replay

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help="List the studies of a store; `studies rm NAME` removes one.")(studies)
    app.command(help="A study or one configuration: values, learning curve, failures.")(show)
    app.command(help="Ask a study's strategy again as it was asked: are its proposals the same?")(replay)
    app.command(help="Hypervolume against evaluations of several studies, from one reference point.")(compare)
    app.command(help="Remove weights that are on no front, and files that nothing names.")(gc)


def replay(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Replay a study's asks from what it was told. Ends with 1 when a proposal differs."""
    from archfront.cluster.store import Store
    from archfront.cluster.study import Study

    with Store(store, create=False) as opened:
        found = Study.open(study, store=opened).replay()
    if as_json:
        document(asdict(found))
    else:
        for line in _replayed(found):
            console().print(line, markup=False, soft_wrap=True)
    if found.difference is not None:
        raise typer.Exit(1)


def _replayed(found: Replay) -> Iterator[str]:
    gone = found.difference
    if gone is None:
        yield f"study {found.study!r}: all {found.proposals} proposals of {found.strategy} are the same"
        return
    yield f"study {found.study!r}: proposal {gone.number} differs, after {gone.told} evaluations were told"
    yield f"  stored   ({gone.stored_origin}): {gone.stored}"
    now = "nothing" if gone.proposed is None else f"({gone.proposed_origin}): {gone.proposed}"
    yield f"  replayed {now}"
    if found.determinism == "none":
        yield f"  {found.strategy} promises no determinism"


def studies(
    action: Annotated[str | None, typer.Argument(help="rm")] = None,
    name: Annotated[str | None, typer.Argument(help="The study to remove.")] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """List or remove studies."""
    from archfront.cluster.study import summary_of

    if action not in (None, "rm"):
        raise UnknownNameError.of("action", str(action), ["rm"])
    with looked_into(store) as opened:
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

    with Store(store, create=False) as opened:
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
    shown.print(f"  reference: {text(dict(found.reference))}")
    shown.print(f"  {', '.join(shares.values())}: evaluations to this share of the best final hypervolume")
    if plot is not None:
        shown.print(f"wrote {plot}")


def _numbers(settings: Sequence[str]) -> dict[str, float]:
    """METRIC=VALUE texts, also several between commas."""
    numbers = {}
    for setting in split_list(settings):
        metric, _, value = setting.partition("=")
        try:
            numbers[metric.strip()] = float(value)
        except ValueError:
            raise UsageError(f"reference {setting!r} is not METRIC=VALUE", "for example error=0.5") from None
    return numbers


def gc(
    store: StoreUrl = None,
    files: Files = None,
    as_json: AsJson = False,
) -> None:
    """Tidy up."""
    from archfront.cluster.store import Store

    with Store(store, files=files, create=False) as opened:
        removed = opened.gc()
    if as_json:
        document({"removed": removed})
    else:
        console().print(f"removed {len(removed)} files")
