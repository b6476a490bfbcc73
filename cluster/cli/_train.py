"""train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archfront.cluster.cli._options import AsJson, Files, StoreUrl
from archfront.cluster.cli._output import aside, console, document, number, table
from archfront.spaces._errors import UsageError

if TYPE_CHECKING:
    from archfront.cluster._train import TrainedBank, TrainedKey
    from archfront.trainers._types import Report

__all__ = ["register", "supernet_note"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Train a space's supernet into a file, or one configuration in full.")(train)


def train(
    target: Annotated[str, typer.Argument(help="A SPACE with --supernet, else a KEY; a unique prefix will do.")],
    supernet: Annotated[bool, typer.Option("--supernet", help="Train the weights all sub-networks share.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="With --supernet: the file to write.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs; by default those of the recipe.", min=1)] = None,
    seeds: Annotated[int, typer.Option(help="Of a KEY: how many trainings.", min=1)] = 3,
    from_supernet: Annotated[
        bool, typer.Option("--from-supernet", help="Of a KEY: begin with its slice of its study's supernet.")
    ] = False,
    schedule: Annotated[
        str | None,
        typer.Option(help="Of a KEY: follow the schedule of a self-tuned KEY, or of a CSV file, by plain training."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="With --supernet: one of the space's tasks.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="With --supernet: NAME=VALUE fixes, NAME=LOW..HIGH narrows; also trainer.*"),
    ] = None,
    train_seed: Annotated[int, typer.Option(help="Of initial weights and batches; the first of --seeds.")] = 0,
    data: Annotated[str | None, typer.Option(help="Your own data.")] = None,
    study: Annotated[str | None, typer.Option(help="The KEY of this study.")] = None,
    store: StoreUrl = None,
    files: Files = None,
    as_json: AsJson = False,
) -> None:
    """Train a supernet or a key."""
    from archfront.cluster._train import train_bank, train_key
    from archfront.cluster.store import Store
    from archfront.trainers._union import parse_setting

    if not supernet:
        _refuse({"--output": output, "--task": task, "--set": set_}, "needs --supernet")
        with Store(store, files=files, create=False) as opened, _key_progress(quiet=as_json) as heard, aside():
            trained = train_key(
                opened,
                target,
                epochs=epochs,
                seeds=seeds,
                train_seed=train_seed,
                data=data,
                from_supernet=from_supernet,
                schedule=schedule,
                study=study,
                watch=heard,
            )
        _show_key(trained, as_json)
        return
    of_key = {"--study": study, "--from-supernet": from_supernet or None, "--schedule": schedule}
    _refuse(of_key, "is of a KEY: leave --supernet out")
    if output is None:
        raise UsageError("where to?", f"archfront train {target} --supernet -o FILE")
    options = {
        "space": target,
        "task": task,
        "data": data,
        "epochs": epochs,
        "settings": dict(parse_setting(text) for text in set_ or []),
        "train_seed": train_seed,
    }
    with Store(store, files=files) as opened, _supernet_progress(quiet=as_json) as watch, aside():
        bank = train_bank(opened, options, output, watch)
    _show_bank(bank, target, as_json)


def _refuse(given: Mapping[str, Any], why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} {why}")


def supernet_note(report: Report) -> str:
    """What a progress bar says of a supernet's epoch."""
    metric = next(iter(report.metrics))
    smallest = report.attributes.get(f"smallest.{metric}")
    note = f"{metric}: largest {report.metrics[metric]:.4g}"
    return note if smallest is None else f"{note}, smallest {smallest:.4g}"


@contextmanager
def _supernet_progress(*, quiet: bool) -> Iterator[Callable[[Report, int], None]]:
    if quiet:
        yield lambda report, epochs: None
        return
    with _bar("training the supernet") as moved:
        yield lambda report, epochs: moved(report.step, epochs, supernet_note(report))


@contextmanager
def _key_progress(*, quiet: bool) -> Iterator[Callable[[int, int, int], None]]:
    if quiet:
        yield lambda seed, epoch, epochs: None
        return
    with _bar("training") as moved:
        yield lambda seed, epoch, epochs: moved(epoch, epochs, f"seed {seed}")


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs, {task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(error=True), transient=True) as bar:
        task = bar.add_task(what, total=None, note="", visible=False)

        def moved(done: int, of: int, note: str) -> None:
            bar.update(task, completed=done, total=of, note=note, visible=True)

        yield moved


def _show_bank(bank: TrainedBank, space: str, as_json: bool) -> None:
    if as_json:
        document({**asdict(bank), "path": str(bank.path)})
        return
    shown = console()
    trained = "already trained, from the store" if bank.reused else f"trained for {bank.epochs} epochs"
    shown.print(f"wrote {bank.path} ({bank.path.stat().st_size / 1e6:.1f} MB, {trained})")
    metrics = list(bank.largest)
    rows = [
        [f"{name} sub-network", *(values[metric] for metric in metrics)]
        for name, values in (("largest", bank.largest), ("smallest", bank.smallest))
    ]
    table(["on the validation split", *metrics], rows, right=metrics)
    shown.print(f"next:\n  archfront search {space} --supernet {bank.path} --device cpu")


def _show_key(trained: TrainedKey, as_json: bool) -> None:
    if as_json:
        values = {name: {"mean": mean, "std": std} for name, (mean, std) in trained.metrics.items()}
        document({**asdict(trained), "metrics": values})
        return
    shown, seeds = console(), len(trained.seeds)
    shown.print(f"[bold]{trained.key[:12]}[/]: {trained.epochs} epochs, {seeds} seed{'s' * (seeds > 1)}")
    if trained.key != trained.source:
        shown.print(f"  ({trained.source[:12]} with the trainer's parameters)")
    rows = [[name, mean, f"± {number(std)}" if seeds > 1 else ""] for name, (mean, std) in trained.metrics.items()]
    table(["metric", "mean", "std"], rows, right=["mean"])
    shown.print(f"the weights of seed {trained.best} are kept\nnext:")
    shown.print(f"  archfront export {trained.key[:12]} --format onnx -o {trained.key[:12]}.onnx")
