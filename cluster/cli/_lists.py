"""spaces, strategies, predictors and trainers."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archfront.cluster.cli._options import AsJson
from archfront.cluster.cli._output import console, document, number, table

if TYPE_CHECKING:
    from archfront.spaces._model_space import ModelSpace
    from archfront.spaces._parameter import Parameter
    from archfront.spaces._search_space import SearchSpace

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
    cls, variant = _class_and_variant(name)
    facts, searched, trained = _space_facts(name), _searched(cls, variant), not _looked_up(cls)
    if as_json:
        document({**facts, "space": cls.space_of(variant).to_dict(), "searched": searched.to_dict()})
        return
    shown = console()
    for key in ("name", "paper", "year", "tasks", "variants", "exports", *(["trainers"] if trained else []), "epochs"):
        shown.print(f"  [bold]{key}[/]: {_cell(facts[key])}")
    free = [searched[name] for name in searched.varied]
    columns = ["parameter", "kind", "values", "default", "active when", "role", "flags"]
    how = f"with trainer {facts['trainers'][0]}" if trained else "of a table"
    title = f"{len(free)} parameters {how}, {_size(searched.size)} configurations"
    table(columns, _parameter_rows(free), title=title)
    fixed = ", ".join(f"{p.name}={p.default}" for p in searched if p.size == 1)
    if fixed:
        shown.print(f"  [bold]fixed[/] (--set NAME=VALUE or NAME=LOW..HIGH): {fixed}")


def _class_and_variant(name: str) -> tuple[type[ModelSpace], str]:
    from archfront import spaces as registered

    cls = registered.registry.load(name.partition("/")[0])
    return cls, cls.resolve_variant(name.partition("/")[2] or None)


def _searched(cls: type[ModelSpace], variant: str) -> SearchSpace:
    """What a search of the space varies by default, and what its recipe fixes."""
    from archfront import trainers as registered
    from archfront.trainers._union import union

    if _looked_up(cls):
        return cls.space_of(variant)
    recipe = cls.recipe_of(variant)
    return union(cls.space_of(variant), recipe, registered.load(next(iter(recipe), "backprop")))


def _looked_up(cls: type[ModelSpace]) -> bool:
    """Whether the space's values stand in a table: nothing is trained."""
    from archfront.spaces import LookupSpace

    return issubclass(cls, LookupSpace)


def _space_facts(name: str) -> dict[str, Any]:
    cls, variant = _class_and_variant(name)
    own = cls.space_of(variant)
    from archfront.spaces import LookupSpace

    looked_up = issubclass(cls, LookupSpace)
    formats = [] if looked_up else ["torch", *(f for f in ("torch-export", "onnx") if f not in cls.exports)]
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
        "trainers": [] if looked_up else list(cls.recipe_of(variant)) or ["backprop"],
        "epochs": list(cls.protocols) if issubclass(cls, LookupSpace) else cls.epochs_of(variant),
    }


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) if len(value) <= 8 else f"{len(value)}: {', '.join(map(str, value[:4]))}, ..."
    return _size(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value or "")


def _size(size: float) -> str:
    if not math.isfinite(size):
        return "∞"
    return str(size) if size < 1e6 else f"10^{math.log10(size):.1f}"


def _parameter_rows(parameters: Sequence[Parameter]) -> list[list[str]]:
    """A row each; neighbours of a repeated group that differ by their index only share one: `dropout[0..29]`."""
    rows: list[tuple[str | None, list[Parameter], list[str]]] = []
    for parameter in parameters:
        cells = _parameter_cells(parameter)
        if rows and parameter.group is not None and rows[-1][0] == parameter.group and rows[-1][2] == cells:
            rows[-1][1].append(parameter)
        else:
            rows.append((parameter.group, [parameter], cells))
    return [
        [members[0].name, *_parameter_cells(members[0], members[0].index)]
        if len(members) == 1
        else [f"{group}[{members[0].index}..{members[-1].index}]", *cells]
        for group, members, cells in rows
    ]


def _parameter_cells(parameter: Parameter, index: object = "i") -> list[str]:
    """Kind, values, default, condition, role, flags; the parameter's own index in a condition is written as `index`."""
    from archfront.spaces import IndexBelow

    flags = [f for f in ("log", "zero", "elastic", "self_tuned") if getattr(parameter, f, None)]
    when = " and ".join(
        f"{c.parent} > {index}" if isinstance(c, IndexBelow) and c.index == parameter.index else str(c)
        for c in parameter.when
    )
    default = number(parameter.default) if isinstance(parameter.default, float) else str(parameter.default)
    return [parameter.kind, _values(parameter), default, when, parameter.role, ", ".join(flags)]


def _values(parameter: Parameter) -> str:
    if (options := getattr(parameter, "options", None)) is not None:
        return ", ".join(map(str, options))
    step = getattr(parameter, "step", 1)
    steps = f" by {step}" if step > 1 else ""
    unit = f" {parameter.unit}" if parameter.unit else ""
    return f"{number(parameter.low)} .. {number(parameter.high)}{steps}{unit}"  # type: ignore[attr-defined]


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
                "parameters": {n: None if a.required else a.default for n, a in cls.parameters().items()},
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

    rows: list[dict[str, Any]] = []
    for name in registered.names():
        cls = registered.load(name)
        rows.append(
            {
                "name": name,
                "about": _first_line(cls),
                "parameters": {n: None if a.required else a.default for n, a in cls.parameters().items()},
                "minimum": cls.minimum,
                "uncertainty": cls.capabilities.uncertainty,
            }
        )
    if as_json:
        document(rows)
        return
    parameters = [", ".join(f"{n}={_cell(v)}" for n, v in row["parameters"].items()) for row in rows]
    table(
        ["name", "parameters", "rows needed", "uncertainty", "about"],
        [
            [r["name"], p, str(r["minimum"]), "yes" if r["uncertainty"] else "", r["about"]]
            for r, p in zip(rows, parameters, strict=True)
        ],
    )


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
