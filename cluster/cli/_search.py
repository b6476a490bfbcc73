"""search and resume."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archfront.cluster.cli._look import looked_into
from archfront.cluster.cli._options import AsJson, Files, StoreUrl
from archfront.cluster.cli._output import aside, console, document, fail, split_list
from archfront.cluster.cli._train import supernet_note
from archfront.spaces._errors import DataError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.cluster._loop import Progress
    from archfront.cluster.store import Store
    from archfront.cluster.study import Study
    from archfront.search._types import Constraint
    from archfront.trainers._types import Report

__all__ = ["default_workers", "parse_reference", "parse_strategy", "register"]

Texts = list[str]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help="Search a space: `archfront search pflayer --trials 40 --device cpu`.")(search)
    app.command(help="Continue a study that was interrupted or killed.")(resume)


def search(
    space: Annotated[str, typer.Argument(help="NAME, NAME/VARIANT, or pkg.mod:Class")],
    task: Annotated[str | None, typer.Option(help="One of the space's tasks.")] = None,
    strategy: Annotated[str, typer.Option(help="NAME, NAME(k=v,...), pkg.mod:Class, or auto")] = "auto",
    objective: Annotated[Texts | None, typer.Option(help=r"METRIC\[@DEVICE]\[:min|max]; repeat it.")] = None,
    constraint: Annotated[Texts | None, typer.Option(help='"latency_ms@cpu<=5"; repeat it.')] = None,
    device: Annotated[Texts | None, typer.Option(help="Where device metrics are measured; repeat it.")] = None,
    trials: Annotated[int | None, typer.Option(help="The study's total number of trials.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="Launch nothing after this time.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs per trial.", min=1)] = None,
    set_: Annotated[
        Texts | None,
        typer.Option("--set", help="NAME=VALUE fixes, NAME=LOW..HIGH narrows; also trainer.* and strategy.*"),
    ] = None,
    supernet: Annotated[str | None, typer.Option(help="train, or a supernet FILE: evaluate slices of it.")] = None,
    validation_fraction: Annotated[
        float, typer.Option(help="With --supernet: the share of the validation rows that slices are scored on.")
    ] = 1.0,
    trainer: Annotated[str | None, typer.Option(help="How configurations are trained.")] = None,
    scheduler: Annotated[str, typer.Option(help="Early stopping: none, asha, moasha, median.")] = "none",
    workers: Annotated[int | None, typer.Option(help="Parallel trials; 0: in this process, without Ray.")] = None,
    seed: Annotated[int, typer.Option(help="Of the strategy.")] = 0,
    train_seed: Annotated[int, typer.Option(help="Of initial weights and batches.")] = 0,
    reproducible: Annotated[bool, typer.Option("--reproducible", help="The same seed gives the same table.")] = False,
    lookahead: Annotated[
        int, typer.Option(help="With --reproducible: how many trials may run at once. It is part of the result.", min=1)
    ] = 8,
    max_failures: Annotated[
        int, typer.Option(help="How often a configuration whose worker died is tried again.", min=0)
    ] = 1,
    patience: Annotated[float, typer.Option(help="Seconds after which a worker that says nothing is given up.")] = 60,
    start: Annotated[
        str | None, typer.Option(help="What to try first: a JSON list of configurations, or a STUDY's front.")
    ] = None,
    popdb: Annotated[
        str | None, typer.Option(help="Leave out the values that dense regions of this STUDY's history never use.")
    ] = None,
    popdb_threshold: Annotated[float, typer.Option(help="A value's share there at which it is left out.")] = 0.01,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not take stored facts and measurements.")] = False,
    no_default: Annotated[bool, typer.Option("--no-default", help="Do not try the paper's own setting.")] = False,
    keep: Annotated[str, typer.Option(help="Whose weights stay: all, front, none.")] = "front",
    reference: Annotated[Texts | None, typer.Option(help="METRIC=VALUE of the reference point.")] = None,
    evaluate: Annotated[str | None, typer.Option(help="pkg.mod:function, with SPACE pkg.mod:search_space")] = None,
    data: Annotated[str | None, typer.Option(help="Your own data: .npz or an image folder.")] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study.")] = None,
    store: StoreUrl = None,
    files: Files = None,
    address: Annotated[str | None, typer.Option(help="Join the Ray cluster at this address.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, time one trial, run nothing.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show what Ray says.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search a space."""
    name, parameters = parse_strategy(strategy)
    settings, own = _settings(set_ or [])
    if trials is None and minutes is None:
        trials = 40
    options: dict[str, Any] = {
        "space": space,
        "task": task,
        "strategy": name,
        "parameters": {**parameters, **own},
        "objectives": split_list(objective or []),
        "constraints": split_list(constraint or []),
        "devices": split_list(device or []),
        "epochs": epochs,
        "settings": settings,
        "supernet": supernet,
        "validation_fraction": validation_fraction,
        "trainer": trainer,
        "scheduler": scheduler,
        "seed": seed,
        "train_seed": train_seed,
        "reproducible": reproducible,
        "lookahead": lookahead,
        "max_failures": max_failures,
        "patience": patience,
        "popdb": popdb,
        "popdb_threshold": popdb_threshold,
        "fresh": fresh,
        "default": not no_default,
        "keep": keep,
        "reference": parse_reference(reference or []),
        "evaluate": evaluate,
        "data": data,
    }
    from archfront.cluster.store import Store
    from archfront.cluster.study import Study

    if dry_run:
        from archfront.cluster._dry_run import dry_run as look

        with looked_into(store, files) as opened:
            asked = {**options, **_start(start, opened), "trials": trials, "minutes": minutes}
            facts = look(opened, asked, default_workers(workers, space, scheduler))
        if as_json:
            document(facts)
        else:
            _show_dry_run(facts)
        return
    with Store(store, files=files) as opened:
        chosen = study or _free_name(opened, space, name)
        made = Study(chosen, store=opened, **options, **_start(start, opened))
        _run_and_show(
            made,
            {
                "trials": trials,
                "minutes": minutes,
                "workers": default_workers(workers, space, scheduler),
                "address": address,
                "verbose": verbose,
            },
            as_json,
        )


def resume(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    trials: Annotated[int | None, typer.Option(help="A larger total: go on with a finished study.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="A larger total of time.")] = None,
    workers: Annotated[int | None, typer.Option(help="Parallel trials; 0: in this process, without Ray.")] = None,
    store: StoreUrl = None,
    files: Files = None,
    address: Annotated[str | None, typer.Option(help="Join the Ray cluster at this address.")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show what Ray says.")] = False,
    as_json: AsJson = False,
) -> None:
    """Continue a study."""
    from archfront.cluster.store import Store
    from archfront.cluster.study import Study

    with Store(store, files=files, create=False) as opened:
        found = Study.open(study, store=opened)
        if found.record.status == "done" and trials is None and minutes is None and not as_json:
            console().print(f"study [bold]{study}[/] is finished; go on with `--trials N`, a larger total.")
        scheduler = found.record.options["scheduler"]
        engine = default_workers(workers, found.record.options["space"] or "", scheduler)
        how = {"trials": trials, "minutes": minutes, "workers": engine, "address": address}
        _run_and_show(found, {**how, "verbose": verbose}, as_json)


def _run_and_show(study: Study, how: Mapping[str, Any], as_json: bool) -> None:
    from archfront.cluster._history import notes
    from archfront.cluster.cli._show_front import show_front

    try:
        with _progress(how.get("trials"), quiet=as_json) as (watch, heard), aside():
            summary = study.run(watch=watch, watch_supernet=heard, **how)
    except KeyboardInterrupt:
        fail("interrupted", f"study {study.name!r} was interrupted", f"go on with `archfront resume {study.name}`")
        raise typer.Exit(130) from None
    for note in notes(study.record):
        console(error=as_json).print(note, markup=False)
    if as_json:
        document(summary)
        return
    shown = console()
    if study.record.options.get("why"):
        shown.print(f"strategy [bold]{summary['strategy']}[/] (auto): {study.record.options['why']}")
    for line in _outcome(summary, study.record.constraints):
        shown.print(line)
    if summary["front_size"]:
        devices = list(study.record.devices)
        show_front(study.front(device=devices[0] if len(devices) > 1 else None))
    shown.print(_next_steps(study, summary))


def _outcome(summary: Mapping[str, Any], constraints: Sequence[Constraint]) -> Iterator[str]:
    volume = summary["hypervolume"]
    yield (
        f"study [bold]{summary['study']}[/]: {summary['told']} told ({summary['failed']} failed, {summary['reused']} "
        f"reused) in {summary['seconds']:.0f} s, front of {summary['front_size']}"
        + (f", hypervolume {volume:.4g}" if volume is not None else "")
    )
    if summary["failed"]:
        yield f"  why they failed: archfront show {summary['study']}"
    if constraints and not summary["front_size"] and summary["told"] > summary["failed"]:
        yield f"  nothing meets {' and '.join(map(str, constraints))} yet: loosen a bound, or resume with more trials"
    if summary["status"] == "interrupted":
        yield f"  not finished: archfront resume {summary['study']}"


def _next_steps(study: Study, summary: Mapping[str, Any]) -> str:
    device = next(iter(study.record.devices), None)
    on = f" --device {device}" if device else ""
    space = study.record.space
    lines = ["next:", f"  archfront front --study {summary['study']}{on} --plot front.png"]
    trained = not study.record.private and not _is_table(space)
    if trained and summary["front_size"]:
        best = study.front(device=device if len(study.record.devices) > 1 else None)[0]
        lines.append(f"  archfront export {best.key[:12]} --format onnx -o best.onnx")
        lines.append(f"  archfront spaces {space}")
    lines.append(f"  archfront show {summary['study']}")
    return "\n".join(lines)


@contextmanager
def _progress(
    trials: int | None, *, quiet: bool
) -> Iterator[tuple[Callable[[Progress], None], Callable[[Report, int], None]]]:
    """A live bar on standard error, for evaluations: told, failed, front size, hypervolume, time left; and one for the
    epochs of a supernet that is trained before."""
    if quiet:
        yield lambda _: None, lambda report, epochs: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console(error=True), transient=True) as bar:
        before = bar.add_task("training the supernet", total=None, note="", visible=False)
        task = bar.add_task("searching", total=trials, note="starting")

        def heard(report: Report, epochs: int) -> None:
            bar.update(before, completed=report.step, total=epochs, note=supernet_note(report), visible=True)

        def watch(progress: Progress) -> None:
            volume = "" if progress.hypervolume is None else f", hypervolume {progress.hypervolume:.4g}"
            note = f"{progress.failed} failed, front {progress.front_size}{volume}"
            bar.update(task, completed=progress.told, total=progress.trials, note=note)

        yield watch, heard


def parse_strategy(text: str, kind: str = "strategy") -> tuple[str, dict[str, Any]]:
    """Read NAME or NAME(k=v,...). Raises UsageError, which says what `kind` of thing the text names."""
    from archfront.trainers._union import parse_setting

    match = re.fullmatch(r"([^()]+)(?:\((.*)\))?", text.strip())
    if match is None:
        raise UsageError(f"{kind} {text!r} is not NAME or NAME(key=value,...)")
    pairs = [parse_setting(part) for part in split_list([match[2] or ""])]
    return match[1], {name: value[0] for name, value in pairs}


def _settings(texts: Texts) -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:
    """Settings of the space and trainer, and the strategy's own parameters."""
    from archfront.trainers._union import parse_setting

    parsed = dict(parse_setting(text) for text in texts)
    own = {name.removeprefix("strategy."): v for name, v in parsed.items() if name.startswith("strategy.")}
    ranges = [name for name, value in own.items() if len(value) > 1]
    if ranges:
        raise UsageError(f"strategy.{ranges[0]} takes one value, not a range")
    others = {name: value for name, value in parsed.items() if not name.startswith("strategy.")}
    return others, {name: value[0] for name, value in own.items()}


def parse_reference(texts: Texts) -> dict[str, float]:
    """Read METRIC=VALUE texts. Raises UsageError."""
    pairs = [text.partition("=") for text in split_list(texts)]
    try:
        return {name: float(value) for name, _, value in pairs}
    except ValueError:
        raise UsageError(f"--reference {', '.join(texts)!r} is not METRIC=NUMBER") from None


def _start(text: str | None, store: Store) -> dict[str, Any]:
    """A file's configurations, else the study of that name. Raises DataError, UnknownNameError."""
    if text is None:
        return {}
    if (path := Path(text)).exists() and not path.is_dir():
        return {"start": _configurations(path)}
    studies = [record.name for record in store.studies()]
    if text in studies:
        return {"start_from": text}
    raise UnknownNameError(
        f"--start {text!r} is neither a file nor a study of this store",
        f"give a JSON list of configurations, or a study's name; {UnknownNameError.of('study', text, studies).hint}",
    )


def _configurations(path: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise DataError(f"cannot read --start {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"--start {str(path)!r} is not JSON: {error}") from error
    configs = data if isinstance(data, list) else [data]
    if not all(isinstance(config, dict) for config in configs):
        raise DataError(f"--start {str(path)!r} is not a list of configurations", '[{"depth": 3}, ...]')
    return configs


def default_workers(asked: int | None, space: str = "", scheduler: str = "none") -> int:
    """As asked; by default one per core, and none for a table: a look-up takes less than starting a trial on Ray."""
    if asked is not None:
        return asked
    if scheduler == "none" and _is_table(space):
        return 0
    return min(8, os.cpu_count() or 1)


def _is_table(space: str) -> bool:
    from archfront import spaces
    from archfront.spaces import LookupSpace

    name = space.partition("/")[0]
    return name in spaces.names() and issubclass(spaces.registry.load(name), LookupSpace)


def _free_name(store: Any, space: str, strategy: str) -> str:
    base = re.sub(r"[^\w]+", "-", f"{space}-{strategy}").strip("-")
    taken = {record.name for record in store.studies()}
    return next(name for i in range(1, len(taken) + 2) if (name := f"{base}-{i}") not in taken)


def _show_dry_run(facts: Mapping[str, Any]) -> None:
    shown = console()
    for name, value in facts.items():
        shown.print(f"  [bold]{name}[/]: {', '.join(map(str, value)) if isinstance(value, list) else value}")
