"""Hypothesis strategies for search spaces."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st

from archfront.spaces import AtLeast, Categorical, Equals, In, IndexBelow, Integer, Ordinal, Real, Repeated, SearchSpace
from archfront.spaces._condition import Condition
from archfront.spaces._parameter import Parameter

__all__ = ["finite_spaces", "spaces"]

OPTIONS = ("a", "b", "c", None, True, 2.5)


@st.composite
def parameters(draw: st.DrawFn, name: str, when: tuple[Condition, ...], finite: bool) -> Parameter:
    kinds = ["categorical", "ordinal", "integer", *([] if finite else ["real"])]
    kind = draw(st.sampled_from(kinds))
    common: dict[str, Any] = {"when": when, "elastic": draw(st.booleans())}
    if kind == "categorical":
        options = draw(st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=3, unique=True))
        return Categorical(name, tuple(options), **common)
    if kind == "ordinal":
        values = draw(st.lists(st.integers(-4, 9), min_size=1, max_size=4, unique=True))
        return Ordinal(name, tuple(sorted(values)), **common)
    if kind == "integer":
        low, span, step = draw(st.integers(1, 5)), draw(st.integers(0, 6)), draw(st.integers(1, 3))
        return Integer(name, low, low + span, step=step, log=draw(st.booleans()), **common)
    low, span = draw(st.floats(1e-3, 1.0)), draw(st.floats(0, 10))
    return Real(
        name, low, low + span, log=draw(st.booleans()), zero=draw(st.booleans()), bins=draw(st.integers(1, 9)), **common
    )


@st.composite
def conditions(draw: st.DrawFn, parent: Parameter) -> Condition:
    if isinstance(parent, Categorical | Ordinal):
        some = draw(st.lists(st.sampled_from(parent.options), min_size=1, unique=True))
        return draw(st.sampled_from([Equals(parent.name, some[0]), In(parent.name, tuple(some))]))
    if isinstance(parent, Integer):
        value = draw(st.sampled_from(range(parent.low, parent.high + 1, parent.step)))
        return draw(st.sampled_from([Equals(parent.name, value), AtLeast(parent.name, value)]))
    assert isinstance(parent, Real)
    return AtLeast(parent.name, draw(st.floats(parent.low, parent.high)))


@st.composite
def spaces(draw: st.DrawFn, finite: bool = False) -> SearchSpace:
    """Up to six parameters, some conditional on up to two earlier ones, perhaps a repeated group."""
    made: list[Parameter] = []
    for i in range(draw(st.integers(1, 5))):
        parents = draw(st.lists(st.sampled_from(made), max_size=2, unique=True)) if made else []
        when = tuple(draw(conditions(parent)) for parent in parents)
        made.append(draw(parameters(f"p{i}", when, finite)))
    entries: list[Parameter | Repeated] = list(made)
    counters = [p for p in made if isinstance(p, Integer) and p.size > 1]
    if counters and draw(st.booleans()):
        parent = draw(st.sampled_from(counters))
        member = draw(parameters("g", (), finite))
        entries.append(Repeated(member, min(3, int(parent.high)), when=IndexBelow(parent.name)))
    return SearchSpace(*entries)


def finite_spaces() -> st.SearchStrategy[SearchSpace]:
    """Spaces without reals."""
    return spaces(finite=True)
