"""front and export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archfront.cluster.cli._options import AsJson, Files, StoreUrl
from archfront.cluster.cli._output import console, document, number, split_list, table
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.cluster._export_all import ExportedFront
    from archfront.cluster.front import Default, Front
    from archfront.cluster.store import Store

__all__ = ["register", "show_front"]

Texts = list[str]
SHOWN = 60
"""How many characters of a configuration a table shows."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help="The Pareto front of a space or a study: table, plot, CSV or JSON.")(front)
    app.command(help="Write a network to a file that is loaded back and compared.")(export)


def front(
    space: Annotated[str | None, typer.Argument(help="NAME or NAME/VARIANT; or give --study.")] = None,
    study: Annotated[str | None, typer.Option(help="Only this study's evaluations.")] = None,
    task: Annotated[str | None, typer.Option(help="One of the space's tasks.")] = None,
    device: Annotated[Texts | None, typer.Option(help="Whose latency; repeat it with --plot.")] = None,
    under_device: Annotated[
        str | None, typer.Option(help="With --study: its front as it is on this other device, and what that loses.")
    ] = None,
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
    if len(devices) > 1 and export_all is not None:
        raise UsageError("--export-all is of one front", "give one --device")
    if len(devices) > 1 and plot is None:
        raise UsageError("a front has one device", "give one --device, or --plot FILE for several in one picture")
    if under_device is not None:
        if study is None:
            raise UsageError("--under-device is of one study's front", "give --study NAME")
        with Store(store, create=False) as opened:
            _show_transfer(opened, study, under_device, devices[0], as_json)
        return
    with Store(store, create=False) as opened:
        protocol = _protocol(opened, space, study, task, epochs, supernet)
        fronts = [
            Front(
                opened.front(
                    space,
                    study,
                    task=task,
                    protocol=protocol,
                    device=name,
                    objectives=split_list(objective or []) or None,
                    where=bounds,
                ),
                opened,
            )
            for name in devices
        ]
        if best is not None:
            fronts = [f.only(f.best(best)) for f in fronts]
        for other in fronts[0].result.others:
            console(error=True).print(f"[dim]also in the store: {other}[/]")
        written = _written(fronts, plot, csv, export_all, format)
        if as_json:
            document(fronts[0].to_dict() if len(fronts) == 1 else [f.to_dict() for f in fronts])
            return
        for shown in fronts:
            show_front(shown)
        for line in written:
            console().print(line, markup=False)


def _show_transfer(store: Store, study: str, under: str, device: str | None, as_json: bool) -> None:
    from archfront.cluster._transfer import transferred

    moved = transferred(store, study, under, device)
    if as_json:
        extra = {
            "source": moved.source,
            "dominated": sorted(moved.dominated),
            "missing": list(moved.missing),
            "best_hypervolume": moved.best,
            "loss": moved.loss,
        }
        document({**moved.result.document(), **extra})
        return
    names = [objective.metric for objective in moved.result.objectives]
    title = f"front of study {study} on {moved.source}, as it is on {under}: {len(moved.result.points)} points"
    rows = [
        [
            point.key[:12],
            *(point.values[o.name].value for o in moved.result.objectives),
            "dominated" * (point.key in moved.dominated),
        ]
        for point in moved.result.points
    ]
    shown = console()
    shown.print(title)
    table(["key", *names, ""], rows, right=names)
    if moved.missing:
        shown.print(
            f"{len(moved.missing)} members have no value on {under}: archfront devices measure {under} --study {study}"
        )
    if moved.loss is not None:
        kept = f"hypervolume {number(moved.volume)} of the {number(moved.best)} known for {under}"
        shown.print(f"{kept}: {100 * moved.loss:.1f} % lost")


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
        _write_csv(fronts[0], csv)
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


def show_front(front: Front) -> None:
    """Print a front as a table: cheapest first, the paper's own setting marked."""
    result = front.result
    source = f"study {result.study}" if result.study else "all studies"
    names = [o.name if result.device == "*" else o.metric for o in front.objectives]
    heads = [f"{name} [{o.unit}]" if o.unit else name for name, o in zip(names, front.objectives, strict=True)]
    title = f"{front.title} ({source}): {len(front)} points"
    default = front.default
    rows: list[list[object]] = []
    for point in result.points:
        mark = "★" if default is not None and point.key == default.key else ""
        values = [number(point.values[o.name].value) for o in front.objectives]
        rows.append(
            [
                mark,
                point.key[:12],
                *values,
                point.origin,
                changed(point.config, None if default is None else default.config),
            ]
        )
    if default is not None and all(point.key != default.key for point in result.points):
        values = [number(default.values.get(o.name)) for o in front.objectives]
        note = f"the paper's own setting ({_why_absent(front, default)})"
        rows.append(["★", default.key[:12], *values, "default", note])
    table(["", "key", *heads, "origin", "differs from the paper's setting in"], rows, title=title, right=heads)
    if default is not None:
        console().print("★ the paper's own setting")
    if result.hypervolume is not None:
        console().print(f"hypervolume {number(result.hypervolume)} against {_reference_text(front)}")


def _why_absent(front: Front, default: Default) -> str:
    """Why the paper's own setting is no member: dominated by one that is at least as good in every objective, or out
    of the bounds."""
    signs = {o.name: -1.0 if o.direction == "max" else 1.0 for o in front.objectives}
    if not signs.keys() <= default.values.keys():
        return "not known here"
    dominated = any(
        all(sign * point.values[name].value <= sign * default.values[name] for name, sign in signs.items())
        for point in front.result.points
    )
    return "dominated" if dominated else "not within the bounds"


def _reference_text(front: Front) -> str:
    values = front.result.reference or ()
    return ", ".join(f"{o.name}={number(v)}" for o, v in zip(front.objectives, values, strict=False))


def changed(config: Mapping[str, Any], default: Mapping[str, Any] | None) -> str:
    """The parameters that differ from the default configuration, shortened."""
    if default is None:
        pairs = [f"{name}={number(value)}" for name, value in config.items()]
    else:
        pairs = [f"{n}={number(v)}" for n, v in config.items() if n in default and default[n] != v]
    text = " ".join(pairs) or "nothing"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _write_csv(front: Front, path: Path) -> None:
    import csv

    configs = [name for point in front.result.points for name in point.config]
    metrics = list(dict.fromkeys(name for point in front.result.points for name in point.metrics))
    names = list(dict.fromkeys(configs))
    try:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["key", *metrics, *(f"config.{name}" for name in names), "study", "origin", "kind"])
            for p in front.result.points:
                values = [p.metrics.get(m, "") for m in metrics]
                writer.writerow([p.key, *values, *(p.config.get(n, "") for n in names), p.study, p.origin, p.kind])
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from error


def export(
    key: Annotated[str, typer.Argument(help="A key of a front; a unique prefix will do.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
    format: Annotated[str, typer.Option(help="torch, torch-export, onnx or onnx-int8.")] = "torch",
    study: Annotated[str | None, typer.Option(help="Of this study.")] = None,
    device: Annotated[str | None, typer.Option(help="The device the file is meant for: it says so.")] = None,
    store: StoreUrl = None,
    files: Files = None,
    as_json: AsJson = False,
) -> None:
    """Write a network."""
    from archfront.cluster.export import export as write
    from archfront.cluster.store import Store

    with Store(store, files=files, create=False) as opened:
        done = write(opened, key, output, format=format, study=study, device=device)
    if as_json:
        shown = {"key": done.key, "format": done.format, "path": str(done.path), "largest_difference": done.difference}
        document({**shown, "scores": dict(done.scores)} if done.scores else shown)
        return
    if done.scores:
        values = ", ".join(f"{name} {number(value)}" for name, value in done.scores.items())
        console().print(
            f"wrote {done.path} ({done.path.stat().st_size / 1e3:.0f} kB): on the validation split {values}; "
            f"{number(done.difference)} worse than before quantisation"
        )
        return
    console().print(
        f"wrote {done.path} ({done.path.stat().st_size / 1e3:.0f} kB): loaded back, "
        f"largest difference from the module {done.difference:.1e}"
    )
