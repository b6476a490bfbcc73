"""Progressive shrinking (Cai et al., 2020, section 3.3): which sub-networks are drawn when."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from archfront.spaces._choices import Categorical
from archfront.spaces._parameter import Parameter
from archfront.spaces._search_space import SearchSpace

__all__ = ["Phase", "phases_of"]


@dataclass(frozen=True)
class Phase:
    """Sub-networks are drawn from `space`; it has more values of the group `opened` than the phase before."""

    opened: str
    space: SearchSpace


def phases_of(space: SearchSpace, order: Sequence[str] = ()) -> list[Phase]:
    """The first phase has the largest network only, each further one smaller values of the next group in `order`.

    A group that stands there several times is opened step by step, the larger values first. Groups that are not in a
    given `order` are open from the beginning (resolution); without an order every group is opened once, as they come.
    """
    groups: dict[str, list[Parameter]] = {}
    for parameter in space:
        if parameter.size > 1:
            groups.setdefault(parameter.group or parameter.name, []).append(parameter)
    order = [group for group in order or groups if group in groups]
    times = Counter(order)
    ranges = {p.name: _from_the_largest(p, 0.0) for group in times for p in groups[group]}
    phases = [Phase("", space.narrow(ranges))]
    steps: Counter[str] = Counter()
    for group in order:
        steps[group] += 1
        share = steps[group] / times[group]
        ranges.update({p.name: _from_the_largest(p, share) for p in groups[group]})
        opened = space.narrow({name: ends for name, ends in ranges.items() if ends != ALL})
        if opened != phases[-1].space:
            phases.append(Phase(group, opened))
    return phases


ALL: tuple[Any, Any] = (None, None)
"""Every value."""


def _from_the_largest(parameter: Parameter, share: float) -> tuple[Any, Any]:
    """The ends of this share of the values below the largest; what has no order has all its values or its default."""
    largest: Any = parameter.largest()
    if share == 1 or (share and isinstance(parameter, Categorical)):
        return ALL
    if isinstance(parameter, Categorical):
        return largest, largest
    if not math.isfinite(parameter.size):
        return largest - share * (largest - parameter.smallest()), largest
    values = parameter.decode(parameter.enumerate())
    return values[-1 - math.ceil(share * (len(values) - 1))], largest
