"""What a plug-in's users may set, read from its `__init__`s."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from archfront.spaces._arguments import arguments_of, check_arguments
from archfront.spaces._errors import UnknownNameError, UsageError


class Root:
    def __init__(self, space: str, *, seed: int = 0) -> None:
        """Its own arguments are not its heirs' users' matter."""


class Base(Root):
    def __init__(self, *base: Any, population: int | None = None, rate: float = 0.5, **rest: Any) -> None:
        super().__init__(*base, **rest)


class Heir(Base):
    def __init__(
        self, *base: Any, goal: str, kind: Literal["one", "two"] = "one", quick: bool = False, **rest: Any
    ) -> None:
        super().__init__(*base, **rest)


KNOWN = arguments_of(Heir, Root)


def check(**given: Any) -> None:
    check_arguments("strategy 'heir'", KNOWN, {"goal": "front", **given})


def test_those_of_every_init_up_to_the_root() -> None:
    assert list(KNOWN) == ["population", "rate", "goal", "kind", "quick"]
    assert KNOWN["rate"].default == 0.5
    assert [name for name, argument in KNOWN.items() if argument.required] == ["goal"]


@pytest.mark.parametrize(
    "given", [{"population": 3}, {"population": None}, {"rate": 1}, {"rate": 0.1}, {"kind": "two"}, {"quick": True}]
)
def test_values_of_the_annotated_type_are_taken(given: dict[str, Any]) -> None:
    check(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"population": "x"}, "strategy 'heir': population='x' is not a whole number or null"),
        ({"population": 2.5}, "population=2.5"),
        ({"population": True}, "population=True"),
        ({"rate": "fast"}, "rate='fast' is not a number"),
        ({"rate": None}, "rate=None"),
        ({"quick": 1}, "quick=1 is not true or false"),
        ({"kind": "three"}, "kind='three' is not 'one' or 'two'"),
        ({"goal": 3}, "goal=3 is not a text"),
    ],
)
def test_values_of_another_type_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(**given)


def test_unknown_and_missing_ones_are_named() -> None:
    with pytest.raises(UnknownNameError, match=r"'popultion'.*did you mean 'population'"):
        check(popultion=3)
    with pytest.raises(UsageError, match=r"needs its parameter 'goal', a text: NAME\(goal=VALUE\)"):
        check_arguments("strategy 'heir'", KNOWN, {})
