"""Between the values that travel and their JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar, cast

from archfront.search._types import Constraint, Kind, Objective, Value

__all__ = [
    "chunks",
    "constraint_in",
    "constraint_out",
    "dumps",
    "finite",
    "loads",
    "number",
    "objective_in",
    "objective_out",
    "stored_value",
    "values_in",
    "values_out",
]

T = TypeVar("T")


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))  # `json.dumps` would make one for each call
_DECODER = json.JSONDecoder()


def dumps(thing: Any) -> str:
    """JSON that every database takes: NaN and infinities become "nan", "inf", "-inf", which float() reads back."""
    if not thing and type(thing) in (dict, list):
        return "{}" if type(thing) is dict else "[]"
    try:
        return _ENCODER.encode(thing)
    except (TypeError, ValueError):
        return _ENCODER.encode(_plain(thing))


def loads(text: str) -> Any:
    """What `dumps` wrote. Half of the time of `json.loads`, which looks for white space that is not there."""
    return _DECODER.raw_decode(text)[0]


def _plain(thing: Any) -> Any:
    if isinstance(thing, Mapping):
        return {str(key): _plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple, set, frozenset)):
        return [_plain(value) for value in thing]
    if hasattr(thing, "tolist"):  # numpy scalars and arrays
        return _plain(thing.tolist())
    if isinstance(thing, float) and not math.isfinite(thing):
        return str(thing)
    if thing is None or isinstance(thing, (str, int, float)):
        return thing
    raise TypeError(f"{thing!r} of type {type(thing).__name__} cannot be stored as JSON")


def finite(value: float | None) -> float | None:
    """`value` for a column: NULL where it is not finite (SQLite has no NaN)."""
    return float(value) if value is not None and math.isfinite(value) else None


def stored_value(value: float | None, kind: str) -> Value:
    """The value of a row that has a number and a kind."""
    return Value(number(value), cast(Kind, kind))


def number(stored: float | None) -> float:
    """A column's number: NaN for NULL."""
    return math.nan if stored is None else float(stored)


def values_out(values: Mapping[str, Value]) -> dict[str, Any]:
    """Values by name, as JSON."""
    return {
        name: {"value": _text(v.value), "kind": v.kind, "std": None if v.std is None else _text(v.std), "n": v.n}
        for name, v in values.items()
    }


def _text(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def values_in(stored: Mapping[str, Any]) -> dict[str, Value]:
    """The inverse of `values_out`."""
    return {
        name: Value(float(v["value"]), v["kind"], None if v["std"] is None else float(v["std"]), v["n"])
        for name, v in stored.items()
    }


def objective_out(objective: Objective) -> dict[str, Any]:
    """An objective, as JSON."""
    return {
        "metric": objective.metric,
        "direction": objective.direction,
        "device": objective.device,
        "unit": objective.unit,
    }


def objective_in(stored: Mapping[str, Any]) -> Objective:
    """The inverse of `objective_out`."""
    return Objective(stored["metric"], stored["direction"], stored["device"], stored["unit"])


def constraint_out(constraint: Constraint) -> dict[str, Any]:
    """A constraint, as JSON."""
    return {
        "metric": constraint.metric,
        "operator": constraint.operator,
        "bound": constraint.bound,
        "device": constraint.device,
    }


def constraint_in(stored: Mapping[str, Any]) -> Constraint:
    """The inverse of `constraint_out`."""
    return Constraint(stored["metric"], stored["operator"], float(stored["bound"]), stored["device"])


def chunks(items: Sequence[T], size: int = 5000) -> Iterator[list[T]]:
    """Parts that fit into one IN list on both databases."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
