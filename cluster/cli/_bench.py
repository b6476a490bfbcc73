"""bench: strategies and predictors compared on tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from archfront.cluster.cli._options import AsJson, StoreUrl
from archfront.cluster.cli._output import console, document, split_list, table
from archfront.spaces._errors import UsageError

__all__ = ["register"]

Texts = list[str]
SHOWN = (50, 100, 150, 250)
"""Evaluations at which the table has columns, where there are rows; beside the last."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Compare strategies, or predictors, on tables.")
    group.command(help="Hypervolume by evaluations: `archfront bench search --device raspi4 --seeds 5`.")(search)
    app.add_typer(group, name="bench")


def search(
    space: Annotated[str, typer.Option(help="A table.")] = "nasbench201",
    task: Annotated[str | None, typer.Option(help="One of the space's tasks.")] = None,
    device: Annotated[Texts | None, typer.Option(help="A column of the table; repeat it.")] = None,
    strategies: Annotated[str, typer.Option(help="NAME or NAME(k=v), separated by commas.")] = "auto,nsga2,random",
    peers: Annotated[str | None, typer.Option(help="Other libraries: optuna:tpe,... or none.")] = None,
    trials: Annotated[int, typer.Option(help="Evaluations per run.", min=1)] = 250,
    seeds: Annotated[str, typer.Option(help="N, or FIRST:END for FIRST..END-1.")] = "5",
    epochs: Annotated[int | None, typer.Option(help="Which column of the table.")] = None,
    objective: Annotated[Texts | None, typer.Option(help=r"METRIC\[@DEVICE]\[:min|max]; repeat it.")] = None,
    reference: Annotated[Texts | None, typer.Option(help="METRIC=VALUE of the reference point.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at once; 0: in this process, without Ray.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write NAME.md, NAME.json and NAME.png of this path.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture.")] = None,
    store: StoreUrl = None,
    address: Annotated[str | None, typer.Option(help="Join the Ray cluster at this address.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare strategies. Finished runs are kept: the same command continues, `--seeds 5:20` adds."""
    from archfront.cluster.bench.search import DEFAULT_PEERS, Comparison, compare
    from archfront.cluster.cli._search import default_workers, parse_reference, parse_strategy
    from archfront.cluster.store import Store

    for path in (out, plot):
        if path is not None and not path.parent.exists():
            raise UsageError(f"no folder {str(path.parent)!r} to write to", "make it first")
    others = DEFAULT_PEERS if peers is None else [p for p in split_list([peers]) if p != "none"]
    named = [*map(parse_strategy, split_list([strategies])), *((f"peer:{peer}", {}) for peer in others)]
    comparison = Comparison(
        space,
        task,
        tuple(split_list(device or [])) or (None,),
        tuple(named),
        tuple(_seeds(seeds)),
        trials,
        epochs,
        tuple(split_list(objective or [])),
        tuple(sorted(parse_reference(reference or []).items())),
    )
    with Store(store) as opened, _progress(quiet=as_json) as watch:
        found = compare(opened, comparison, workers=default_workers(workers), address=address, watch=watch)
    found = {key: found[key] for key in ("protocol", "rows", "summary")}
    whole = all(row["share"] is not None for row in found["rows"])
    what = "share of the full front's hypervolume" if whole else "hypervolume"
    title = f"{space}{'' if task is None else f' / {task}'}: {what}, mean of seeds"
    for path in ([plot] if plot else []) + ([out.with_suffix(".png")] if out else []):
        from archfront.cluster.bench._plot import plot_comparison

        plot_comparison(found["summary"], title, path, what)
    if out is not None:
        _write(out, title, found)
    if as_json:
        document(found)
        return
    _show(found["summary"], title)


def _seeds(text: str) -> range:
    """Read N or FIRST:END. Raises UsageError."""
    first, colon, end = text.partition(":")
    try:
        chosen = range(int(first), int(end)) if colon else range(int(first))
    except ValueError:
        raise UsageError(f"--seeds {text!r} is not N or FIRST:END", "e.g. --seeds 5, then --seeds 5:20") from None
    if not chosen or chosen[0] < 0:
        raise UsageError(f"--seeds {text!r} names no seed", "e.g. --seeds 5")
    return chosen


def _cells(summary: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A row per device and strategy: mean ± standard error at SHOWN and at the last evaluation."""
    last = max(row["evaluations"] for row in summary)
    at = [n for n in SHOWN if n < last and any(row["evaluations"] == n for row in summary)] + [last]
    lines: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for row in summary:
        lines.setdefault((row["device"] or "", row["strategy"]), {})[row["evaluations"]] = row
    columns = ["device", "strategy", *map(str, at), "seeds", "CPU s per proposal"]
    cells = []
    for (device, strategy), by_count in sorted(lines.items(), key=lambda pair: (pair[0][0], -_mean(pair[1], last))):
        end = by_count.get(last) or by_count[max(by_count)]
        values = [_value(by_count[n]) if n in by_count else "" for n in at]
        cells.append([device, strategy, *values, str(end["seeds"]), f"{end['seconds_per_proposal']:.3g}"])
    return columns, cells


def _mean(by_count: Mapping[int, Mapping[str, Any]], last: int) -> float:
    return float(by_count[last]["mean"]) if last in by_count else 0.0


def _value(row: Mapping[str, Any]) -> str:
    error = "" if row["sem"] is None else f" ± {row['sem']:.3f}"
    return (f"{row['mean']:.3f}" if abs(row["mean"]) < 100 else f"{row['mean']:.5g}") + error


def _show(summary: Sequence[Mapping[str, Any]], title: str) -> None:
    columns, cells = _cells(summary)
    table(columns, cells, title=title)


def _write(out: Path, title: str, found: Mapping[str, Any]) -> None:
    """NAME.md and NAME.json, with the command and the machine's shape."""
    import os
    import platform
    import sys

    from archfront.cluster._device import cpu_model

    command = " ".join(["archfront", *(f"'{a}'" if set(a) & set("() *") else a for a in sys.argv[1:])])
    machine = f"{os.cpu_count()} cores of {cpu_model()}, Python {platform.python_version()}"
    columns, cells = _cells(found["summary"])
    lines = [f"# {title}", "", f"`{command}` on {machine}.", "", f"![{title}]({out.name}.png)", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    try:
        out.with_suffix(".md").write_text("\n".join(lines) + "\n")
        out.with_suffix(".json").write_text(
            json.dumps({"command": command, "machine": machine, **found}, indent=1) + "\n"
        )
    except OSError as error:
        raise UsageError(f"cannot write {str(out)!r}: {error.strerror}", "give another path") from error
    console(error=True).print(f"written: {out}.md, {out}.json, {out}.png")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int, Any], None]]:
    """A live bar on standard error: runs done, of all."""
    if quiet:
        yield lambda done, of, run: None
        return
    from rich.progress import Progress

    with Progress(console=console(error=True), transient=True) as bar:
        task = bar.add_task("comparing", total=None)

        def watch(done: int, of: int, run: Any) -> None:
            last = "" if run is None else f": {run.strategy} on {run.device}, seed {run.seed}"
            bar.update(task, total=of, completed=done, description=f"{done} of {of} runs{last}")

        yield watch
