"""How many canonical configurations a conditional space has, without listing them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from archfront.spaces._parameter import Parameter

__all__ = ["count_configurations"]

_INACTIVE = object()


def count_configurations(parameters: Sequence[Parameter]) -> float:
    """Exact number of canonical configurations (an int), or math.inf when a continuum can be active.

    Walks the parameters in order and keeps, per combination of the parents that still have children to come, how many
    prefixes lead there: the work grows with the number of live parents, not with the number of parameters.
    """
    last_child = {c.parent: i for i, p in enumerate(parameters) for c in p.when}
    states: Counter[tuple[tuple[str, Any], ...]] = Counter({(): 1})
    for i, parameter in enumerate(parameters):
        following: Counter[tuple[tuple[str, Any], ...]] = Counter()
        for state, count in states.items():
            values = dict(state)
            active = all(values[c.parent] is not _INACTIVE and c.holds(values[c.parent]) for c in parameter.when)
            if active and not math.isfinite(parameter.size):
                return math.inf
            alive = {name: value for name, value in values.items() if last_child[name] > i}
            if parameter.name not in last_child:
                following[tuple(alive.items())] += count * (int(parameter.size) if active else 1)
                continue
            for value in _values(parameter) if active else iter([_INACTIVE]):
                following[(*alive.items(), (parameter.name, value))] += count
        states = following
    return sum(states.values())


def _values(parameter: Parameter) -> Iterator[Any]:
    return iter(parameter.decode(parameter.enumerate()))
