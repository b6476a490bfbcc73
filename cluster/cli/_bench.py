"""bench: strategies and predictors compared on tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from archfront.cluster.cli._options import AsJson, StoreUrl
from archfront.cluster.cli._output import aside, console, document, number, split_list, table
from archfront.spaces._errors import UsageError

__all__ = ["register"]

Texts = list[str]
Cells = tuple[list[str], list[list[str]]]
"""Columns, and rows of texts."""
SHOWN = (50, 100, 150, 250)
"""Evaluations at which the table has columns, where there are rows; beside the last."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Compare strategies, or predictors, on tables.")
    group.command(help="Hypervolume by evaluations: `archfront bench search --device raspi4 --seeds 5`.")(search)
    group.command(help="Kendall's tau by training rows: `archfront bench predictors --device raspi4`.")(predictors)
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

    _check_folders(out, plot)
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
    with Store(store) as opened, _progress(_described_run, quiet=as_json) as watch, aside():
        found = compare(opened, comparison, workers=default_workers(workers), address=address, watch=watch)
    found = {key: found[key] for key in ("protocol", "rows", "summary")}
    whole = all(row["share"] is not None for row in found["rows"])
    what = "share of the full front's hypervolume" if whole else "hypervolume"
    title = f"{space}{'' if task is None else f' / {task}'}: {what}, mean of seeds"
    for path in ([plot] if plot else []) + ([out.with_suffix(".png")] if out else []):
        from archfront.cluster.bench._plot import plot_comparison

        plot_comparison(found["summary"], title, path, what)
    _give(found, _cells(found["summary"]), title, out, as_json=as_json)


def predictors(
    space: Annotated[str, typer.Option(help="A table, samples of a space included.")] = "nasbench201",
    task: Annotated[str | None, typer.Option(help="One of the space's tasks.")] = None,
    device: Annotated[Texts | None, typer.Option(help="A column of the table, beside quality; repeat it.")] = None,
    predictors: Annotated[str | None, typer.Option(help="NAME or NAME(k=v), separated by commas.")] = None,
    sizes: Annotated[str, typer.Option(help="Rows to fit on, separated by commas.")] = "50,100,250,500",
    seeds: Annotated[str, typer.Option(help="N, or FIRST:END for FIRST..END-1.")] = "3",
    test: Annotated[int, typer.Option(help="Other rows to predict.", min=2)] = 1000,
    epochs: Annotated[int | None, typer.Option(help="Which column of the table.")] = None,
    workers: Annotated[int | None, typer.Option(help="Fits at once; 0: in this process, without Ray.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write NAME.md, NAME.json and NAME.png of this path.")] = None,
    store: StoreUrl = None,
    address: Annotated[str | None, typer.Option(help="Join the Ray cluster at this address.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare predictors. Finished fits are kept: the same command continues, `--seeds 3:10` adds."""
    from archfront.cluster.bench.predictors import Comparison, compare
    from archfront.cluster.cli._search import default_workers, parse_strategy
    from archfront.cluster.store import Store

    _check_folders(out)
    named = None if predictors is None else split_list([predictors])
    if named == []:
        raise UsageError("--predictors names none", "e.g. --predictors ridge,svr; leave it out for all that fit")
    comparison = Comparison(
        space,
        task,
        tuple(split_list(device or [])),
        tuple(parse_strategy(text, "predictor") for text in named or []),
        _sizes(sizes),
        tuple(_seeds(seeds)),
        test,
        epochs,
    )
    with Store(store) as opened, _progress(_described_fit, quiet=as_json) as watch, aside():
        found = compare(opened, comparison, workers=default_workers(workers), address=address, watch=watch)
    title = f"{space}{'' if task is None else f' / {task}'}: {test} rows predicted, mean of seeds"
    if out is not None:
        from archfront.cluster.bench._plot import plot_comparison

        drawn = [{**row, "panel": _truth(row), "line": _predictor(row)} for row in found["summary"]]
        what, keys = "Kendall's tau", {"panel_by": "panel", "line_by": "line", "across": "size", "up": "kendall"}
        plot_comparison(drawn, title, out.with_suffix(".png"), what, **keys)
    _give(found, _predictor_cells(found["summary"]), title, out, as_json=as_json)


def _check_folders(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.parent.exists():
            raise UsageError(f"no folder {str(path.parent)!r} to write to", "make it first")


def _give(found: Mapping[str, Any], cells: Cells, title: str, out: Path | None, *, as_json: bool) -> None:
    """Write the files where wanted, and the document or the table."""
    if out is not None:
        _write(out, title, found, cells)
    if as_json:
        document(found)
    else:
        table(*cells, title=title)


def _sizes(text: str) -> tuple[int, ...]:
    """Ascending, each once. Raises UsageError."""
    try:
        chosen = sorted({int(part) for part in split_list([text])})
    except ValueError:
        chosen = []
    if not chosen or chosen[0] < 1:
        raise UsageError(f"--sizes {text!r} is not a list of numbers of rows", "e.g. --sizes 50,100,250,500")
    return tuple(chosen)


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


def _predictor_cells(summary: Sequence[Mapping[str, Any]]) -> Cells:
    """A row per metric, size and predictor, the best first."""
    columns = ["metric", "rows", "predictor", "Kendall tau", "RMSE", "in 90 %", "seeds", "fit CPU s", "predict CPU s"]
    order = list(dict.fromkeys(_truth(row) for row in summary))
    cells = []
    for row in sorted(summary, key=lambda row: (order.index(_truth(row)), row["size"], -abs(row["kendall"]))):
        error = "" if row["sem"] is None else f" ± {row['sem']:.3f}"
        coverage = "" if row["coverage"] is None else f"{row['coverage']:.3f}"
        seconds = [f"{row[name]:.3g}" for name in ("fit_seconds", "predict_seconds")]
        scores = [f"{row['kendall']:.3f}{error}", number(row["rmse"]), coverage, str(row["seeds"])]
        cells.append([_truth(row), str(row["size"]), _predictor(row), *scores, *seconds])
    return columns, cells


def _truth(row: Mapping[str, Any]) -> str:
    return str(row["truth"]) if row["device"] is None else f"{row['truth']}@{row['device']}"


def _predictor(row: Mapping[str, Any]) -> str:
    """With the metric that it offers where that is not the one it is scored by: a proxy."""
    return str(row["predictor"]) if row["metric"] == row["truth"] else f"{row['predictor']}: {row['metric']}"


def _cells(summary: Sequence[Mapping[str, Any]]) -> Cells:
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


def _write(out: Path, title: str, found: Mapping[str, Any], cells: Cells) -> None:
    """NAME.md and NAME.json, with the command and the machine's shape."""
    import os
    import platform
    import sys

    from archfront.cluster._device import cpu_model

    command = " ".join(["archfront", *(f"'{a}'" if set(a) & set("() *") else a for a in sys.argv[1:])])
    machine = f"{os.cpu_count()} cores of {cpu_model()}, Python {platform.python_version()}"
    columns, rows = cells
    lines = [f"# {title}", "", f"`{command}` on {machine}.", "", f"![{title}]({out.name}.png)", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    try:
        out.with_suffix(".md").write_text("\n".join(lines) + "\n")
        out.with_suffix(".json").write_text(_json({"command": command, "machine": machine, **_brief(found)}))
    except OSError as error:
        raise UsageError(f"cannot write {str(out)!r}: {error.strerror}", "give another path") from error
    console(error=True).print(f"written: {out}.md, {out}.json, {out}.png")


def _brief(found: Mapping[str, Any]) -> dict[str, Any]:
    """Rows in six digits, without the names that `columns` gives once, and what all of them have in common said once:
    `DataFrame(content["rows"], columns=content["columns"])`."""
    rows = found["rows"]
    names = dict.fromkeys(name for row in rows for name in row)
    common = {name: rows[0].get(name) for name in names if all(row.get(name) == rows[0].get(name) for row in rows)}
    columns = [name for name in names if name not in common]
    own = [[_rounded(row.get(name)) for name in columns] for row in rows]
    return {**found, "all rows": common, "columns": columns, "rows": own}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _json(content: Mapping[str, Any]) -> str:
    """A line per row: 20 seeds on six devices are thousands of rows."""

    def text(value: Any) -> str:
        if not isinstance(value, list):
            return json.dumps(value)
        return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"

    return "{\n" + ",\n".join(f"{json.dumps(name)}: {text(value)}" for name, value in content.items()) + "\n}\n"


def _described_run(run: Any) -> str:
    return f"{run.strategy} on {run.device}, seed {run.seed}"


def _described_fit(fit: Any) -> str:
    return f"{fit.label} of {fit.column} on {fit.size} rows, seed {fit.seed}"


@contextmanager
def _progress(described: Callable[[Any], str], *, quiet: bool) -> Iterator[Callable[[int, int, Any], None]]:
    """A live bar on standard error: pieces done, of all, and the latest."""
    if quiet:
        yield lambda done, of, piece: None
        return
    from rich.progress import Progress

    with Progress(console=console(error=True), transient=True) as bar:
        task = bar.add_task("comparing", total=None)

        def watch(done: int, of: int, piece: Any) -> None:
            last = "" if piece is None else f": {described(piece)}"
            bar.update(task, total=of, completed=done, description=f"{done} of {of}{last}")

        yield watch
