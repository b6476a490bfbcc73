"""front."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archfront.cluster.cli._options import AsJson, StoreUrl
from archfront.cluster.cli._output import console, document, split_list
from archfront.cluster.cli._show_front import show_front, write_csv
from archfront.cluster.cli._transfer import show_transfer
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.cluster._export_all import ExportedFront
    from archfront.cluster._predicted import PredictedFront
    from archfront.cluster.front import Front
    from archfront.cluster.store import Store

__all__ = ["register"]

Texts = list[str]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="The Pareto front of a space or a study: table, plot, CSV or JSON.")(front)


def front(
    space: Annotated[str | None, typer.Argument(help="NAME or NAME/VARIANT; or give --study.")] = None,
    study: Annotated[str | None, typer.Option(help="Only this study's evaluations.")] = None,
    task: Annotated[str | None, typer.Option(help="One of the space's tasks.")] = None,
    device: Annotated[Texts | None, typer.Option(help="Whose latency; repeat it with --plot.")] = None,
    under_device: Annotated[
        str | None, typer.Option(help="With --study: its front as it is on this other device, and what that loses.")
    ] = None,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="Predict what is not measured on --device; such points are marked.")
    ] = False,
    predictor: Annotated[
        str, typer.Option(help="With --predicted: NAME or NAME(k=v); few_shot learns from other devices too.")
    ] = "few_shot",
    objective: Annotated[Texts | None, typer.Option(help=r"METRIC\[@DEVICE]\[:min|max]; repeat it.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Only evaluations of this many epochs.")] = None,
    supernet: Annotated[str | None, typer.Option(help="Only slices of this supernet file.")] = None,
    where: Annotated[Texts | None, typer.Option(help='Bounds, e.g. "latency_ms<=5"; repeat it.')] = None,
    best: Annotated[str | None, typer.Option(help="Only the best point in this metric.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it to a .png, .svg, .pdf or .html file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the points as CSV.")] = None,
    export_all: Annotated[
        Path | None, typer.Option(help="Write every network of the front, and index.json, to this folder.")
    ] = None,
    format: Annotated[str, typer.Option(help="With --export-all: torch, torch-export, onnx or onnx-int8.")] = "torch",
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show a front."""
    from archfront.cluster.front import Front
    from archfront.cluster.store import Store
    from archfront.search._types import Constraint

    if space is None and study is None:
        raise UsageError("which front?", "give a SPACE or --study NAME")
    if space is not None and ("/" in space or ":" in space):
        space = _stored_name(space)
    bounds = [Constraint.parse(text) for text in split_list(where or [])]
    devices: Sequence[str | None] = split_list(device or []) or [None]
    _refuse_several(devices, plot, export_all)
    if under_device is not None:
        if study is None:
            raise UsageError("--under-device is of one study's front", "give --study NAME")
        with Store(store, create=False) as opened:
            show_transfer(opened, study, under_device, devices[0], as_json)
        return
    if predicted and devices == [None]:
        raise UsageError("--predicted is for a device", "give --device NAME")
    with Store(store, create=False) as opened:
        protocol = _protocol(opened, space, study, task, epochs, supernet)
        question: dict[str, Any] = {
            "space": space,
            "study": study,
            "task": task,
            "protocol": protocol,
            "objectives": split_list(objective or []) or None,
            "where": bounds,
        }
        guesses = [_predicted(opened, predictor, {**question, "device": name}) for name in devices if predicted]
        results = [guess.result for guess in guesses] or [opened.front(device=name, **question) for name in devices]
        fronts = [Front(result, opened) for result in results]
        if best is not None:
            fronts = [f.only(f.best(best)) for f in fronts]
        for other in fronts[0].result.others:
            console(error=True).print(f"[dim]also in the store: {other}[/]")
        written = _written(fronts, plot, csv, export_all, format)
        if as_json:
            document(fronts[0].to_dict() if len(fronts) == 1 else [f.to_dict() for f in fronts])
            return
        for shown, guess in itertools.zip_longest(fronts, guesses):
            show_front(shown)
            if guess is not None:
                _say_what_is_guessed(guess, predictor, study)
        for line in written:
            console().print(line, markup=False)


def _refuse_several(devices: Sequence[str | None], plot: Path | None, export_all: Path | None) -> None:
    if len(devices) > 1 and export_all is not None:
        raise UsageError("--export-all is of one front", "give one --device")
    if len(devices) > 1 and plot is None:
        raise UsageError("a front has one device", "give one --device, or --plot FILE for several in one picture")


def _predicted(store: Store, predictor: str, question: dict[str, Any]) -> PredictedFront:
    from archfront.cluster._predicted import predicted_front
    from archfront.cluster.cli._search import parse_strategy

    name, parameters = parse_strategy(predictor, "predictor")
    return predicted_front(store, predictor=name, parameters=parameters, **question)


def _say_what_is_guessed(guess: PredictedFront, predictor: str, study: str | None) -> None:
    result = guess.result
    several = sum(bool(point.guessed) for point in result.points)
    source = f"{guess.learned} architectures measured on {result.device}"
    source += f" and what they take on {', '.join(guess.others)}" if guess.others else ""
    shown = console()
    shown.print(f"~ {several} of {len(result)} points are predicted by {predictor} from {source}", markup=False)
    if guess.unknown:
        shown.print(f"  left out: {guess.unknown} architectures that no other device knows")
    if several:
        shown.print(f"  measure more: archfront devices measure {result.device} --study {study or 'STUDY'} --sample 20")


def _written(
    fronts: Sequence[Front], plot: Path | None, csv: Path | None, export_all: Path | None, format: str
) -> list[str]:
    """Write what is asked for; what to say of it."""
    lines = []
    if plot is not None:
        from archfront.cluster._plot import plot_fronts  # with all that draws: seconds

        plot_fronts(fronts, plot)
        lines.append(f"wrote {plot}")
    if csv is not None:
        write_csv(fronts[0], csv)
        lines.append(f"wrote {csv}")
    if export_all is not None:
        exported = _exported(fronts[0], export_all, format)
        lines.append(f"wrote {exported.written} of {len(exported.entries)} networks and {exported.index}")
        lines += [f"  {entry['key'][:12]}: {entry['error']}" for entry in exported.entries if "error" in entry]
    return lines


def _exported(front: Front, folder: Path, format: str) -> ExportedFront:
    from archfront.cluster._export_all import export_front
    from archfront.cluster.export import FORMATS

    if format not in FORMATS:
        raise UnknownNameError.of("format", format, FORMATS)
    return export_front(front, folder, format)


def _stored_name(space: str) -> str:
    """NAME/VARIANT or a dotted path as studies store it: the default variant's is NAME alone, a class that an entry
    point registers has that name."""
    from archfront import spaces
    from archfront.spaces._registry import registered_name

    path, _, variant = space.partition("/")
    try:
        cls = spaces.registry.load(path)
    except (UsageError, UnknownNameError):
        if ":" in path:  # a bare search space, or a module that is not here: its studies have the name they were given
            return space
        raise
    default = not variant or cls.resolve_variant(variant) == cls.resolve_variant(None)
    return registered_name(cls) if default else f"{registered_name(cls)}/{variant}"


def _protocol(
    store: Any, space: str | None, study: str | None, task: str | None, epochs: int | None, supernet: str | None
) -> str | None:
    """The protocol of the newest fitting study with these epochs, or of slices of this bank."""
    if epochs is None and supernet is None:
        return None
    from archfront.cluster._request import located  # with torch

    fitting = []
    for record in store.studies():
        names = (record.space, record.space.partition("/")[0], record.identity)
        if (study and record.name != study) or (space and space not in names) or (task and record.task != task):
            continue
        own = record.options.get("supernet")
        of_bank = supernet is not None and own == located(supernet)
        of_epochs = epochs is not None and own is None and record.options.get("epochs") == epochs
        if of_bank or of_epochs:
            fitting.append(record)
    if not fitting:
        what = f"--epochs {epochs}" if supernet is None else f"--supernet {supernet}"
        raise UsageError(f"no study of this store has {what}", "see `archfront studies`")
    return str(fitting[-1].protocol)
