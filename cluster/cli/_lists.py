"""spaces, strategies, predictors and trainers."""

from __future__ import annotations

import inspect
import math
import sys
from typing import Annotated, Any

import typer

from archfront.cluster.cli._options import AsJson
from archfront.cluster.cli._output import console, document, number, table

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help="The spaces that can be searched; `spaces NAME` shows one's parameters.")(spaces)
    app.command(help="The search strategies and their parameters.")(strategies)
    app.command(help="The predictors.")(predictors)
    app.command(help="The trainers and their parameters.")(trainers)


def spaces(
    name: Annotated[str | None, typer.Argument(help="NAME or NAME/VARIANT")] = None, as_json: AsJson = False
) -> None:
    """List spaces, or show one."""
    from archfront import spaces as registered

    if name is None:
        rows = [_space_facts(n) for n in registered.names()]
        if as_json:
            document(rows)
            return
        columns = ["name", "paper", "year", "parameters", "size", "elastic", "tasks", "variants"]
        table(columns, [[_cell(r[c]) for c in columns] for r in rows], right=["parameters", "size"])
        return
    facts = _space_facts(name)
    space = registered.registry.load(name.partition("/")[0])
    variant = space.resolve_variant(name.partition("/")[2] or None)
    own = space.variants[variant] if variant else space.search_space
    if as_json:
        document({**facts, "space": own.to_dict()})
        return
    shown = console()
    for key in ("name", "paper", "year", "tasks", "variants", "exports", "trainers"):
        shown.print(f"  [bold]{key}[/]: {_cell(facts[key])}")
    columns = ["parameter", "kind", "values", "default", "active when", "role", "flags"]
    table(columns, [_parameter_row(p) for p in own], title=f"{len(own)} parameters, {_size(own.size)} configurations")


def _space_facts(name: str) -> dict[str, Any]:
    from archfront import spaces as registered

    cls = registered.registry.load(name.partition("/")[0])
    variant = cls.resolve_variant(name.partition("/")[2] or None)
    own = cls.variants[variant] if variant else cls.search_space
    formats = ["torch", *(f for f in ("torch-export", "onnx") if f not in cls.exports)]
    return {
        "name": name,
        "paper": cls.paper,
        "year": cls.year,
        "parameters": len(own),
        "size": own.size,
        "log10_size": math.log10(own.size) if math.isfinite(own.size) else None,
        "elastic": own.where(elastic=True),
        "tasks": list(cls.tasks_of(variant)),
        "variants": list(cls.variants),
        "exports": formats,
        "trainers": list(cls.recipe),
    }


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) if len(value) <= 8 else f"{len(value)}: {', '.join(map(str, value[:4]))}, ..."
    return _size(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value or "")


def _size(size: float) -> str:
    if not math.isfinite(size):
        return "∞"
    return str(size) if size < 1e6 else f"10^{math.log10(size):.1f}"


def _parameter_row(parameter: Any) -> list[object]:
    options = getattr(parameter, "options", None)
    values = ", ".join(map(str, options)) if options else f"{number(parameter.low)} .. {number(parameter.high)}"
    flags = [f for f in ("log", "zero", "elastic", "self_tuned") if getattr(parameter, f, None)]
    when = " and ".join(str(c) for c in parameter.when)
    return [
        parameter.name,
        parameter.kind,
        values,
        str(parameter.default),
        when,
        ", ".join([*flags, parameter.role[:5]]),
    ]


def strategies(as_json: AsJson = False) -> None:
    """List strategies."""
    from archfront import search

    rows: list[dict[str, Any]] = []
    for name in search.names():
        cls = search.load(name)
        able = cls.capabilities
        rows.append(
            {
                "name": name,
                "about": _first_line(cls),
                "parameters": {n: _plain(v) for n, v in cls.defaults().items()},
                "objectives": able.objectives,
                "constraints": able.constraints,
                "determinism": able.determinism,
            }
        )
    if as_json:
        document(rows)
        return
    parameters = [", ".join(f"{n}={v}" for n, v in row["parameters"].items()) for row in rows]
    table(
        ["name", "parameters", "objectives", "about"],
        [[r["name"], p, str(r["objectives"] or "any"), r["about"]] for r, p in zip(rows, parameters, strict=True)],
    )


def predictors(as_json: AsJson = False) -> None:
    """List predictors."""
    from archfront import predictors as registered

    names = registered.names()
    if as_json:
        document([{"name": name} for name in names])
    elif names:
        table(["name"], [[name] for name in names])
    else:
        console().print("no predictor is registered")


def trainers(as_json: AsJson = False) -> None:
    """List trainers."""
    from archfront import trainers as registered

    rows: list[dict[str, Any]] = []
    for name in registered.names():
        cls = registered.load(name)
        parameters = {p.name: p.default for p in cls.parameters}
        rows.append({"name": name, "about": _first_line(cls), "parameters": parameters})
    if as_json:
        document(rows)
        return
    table(
        ["name", "parameters (--set trainer.NAME=VALUE)", "about"],
        [[r["name"], ", ".join(f"{n}={v}" for n, v in r["parameters"].items()), r["about"]] for r in rows],
    )


def _first_line(cls: type) -> str:
    """The first line of the file a class is the registered one of: what it is and which paper."""
    return (inspect.getdoc(sys.modules[cls.__module__]) or inspect.getdoc(cls) or "").split("\n")[0]


def _plain(value: Any) -> Any:
    return None if value is inspect.Parameter.empty else value
