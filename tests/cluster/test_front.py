"""The incremental front against moocore from scratch, in any order, with ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archfront.cluster._front import Change, Front, hypervolume, nondominated, reference_point

Points = list[tuple[float, ...]]


@st.composite
def grids(draw: st.DrawFn, size: int = 30) -> Points:
    """Integer points with many ties, in 1 to 4 objectives; now and then something not finite."""
    objectives = draw(st.integers(1, 4))
    number = st.one_of(
        st.integers(0, 4).map(float), st.integers(0, 4).map(float), st.sampled_from([math.nan, math.inf])
    )
    return draw(st.lists(st.tuples(*[number] * objectives), max_size=size))


def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def brute(points: Points) -> set[str]:
    finite = {str(i): p for i, p in enumerate(points) if all(map(math.isfinite, p))}
    return {key for key, p in finite.items() if not any(beats(q, p) for q in finite.values())}


@given(grids())
def test_incremental_equals_moocore_equals_brute_force(points: Points) -> None:
    front = Front(len(points[0]) if points else 2)
    here: set[str] = set()
    for i, point in enumerate(points):
        change = front.add(str(i), point)
        assert change.entered == (str(i) in front)
        assert set(change.left) <= here
        here = (here | {str(i)} if change.entered else here) - set(change.left)
    assert set(dict(front.items())) == here == brute(points)
    assert len(front) == len(here)
    if points:
        mask = nondominated(np.array(points))
        assert {str(i) for i in np.flatnonzero(mask)} == here


@given(grids(), st.data())
def test_replacing_and_withdrawing_equals_starting_again(points: Points, data: st.DataObject) -> None:
    front = Front(len(points[0]) if points else 2)
    known = {str(i): point for i, point in enumerate(points)}
    for key, point in known.items():
        front.add(key, point)
    for _ in range(3):
        if not known:
            return
        key = data.draw(st.sampled_from(sorted(known)))
        point = data.draw(st.one_of(st.none(), st.tuples(*[st.integers(0, 4)] * front.objectives)))
        change = front.replace(key, point, known)
        if point is None:
            del known[key]
        else:
            known[key] = point
        again = Front(front.objectives)
        for other in sorted(known, reverse=True):
            again.add(other, known[other])
        assert dict(front.items()) == dict(again.items())
        assert change.entered == (key in front)


def test_equal_points_all_stay_and_leave_together() -> None:
    front = Front(2)
    assert front.add("a", (1, 1)) == front.add("b", (1.0, 1.0)) == Change(True)
    assert front.add("a", (1, 1)) == Change(False)
    assert front.add("c", (0, 1)) == Change(True, ("a", "b"))
    assert front.point("c") == (0.0, 1.0)
    assert front.point("a") is None


def test_many_points_on_one_front() -> None:
    front = Front(3)
    for i in range(50):
        assert front.add(str(i), (i, 50 - i, 1)).entered
    assert len(front) == 50
    assert len(front.add("best", (0, 0, 0)).left) == 50


def test_a_changed_point_is_refused_by_add() -> None:
    front = Front(1)
    front.add("a", (1,))
    with pytest.raises(ValueError, match=r"'a'.*replace"):
        front.add("a", (0.5,))
    with pytest.raises(ValueError, match="2 values"):
        front.add("b", (1, 2))
    with pytest.raises(ValueError, match="objectives=0"):
        Front(0)


def test_hypervolume() -> None:
    assert hypervolume(np.array([[1.0, 1.0], [5.0, 0.0], [math.nan, 0.0]]), (2, 2)) == 1.0
    assert hypervolume(np.array([[1.0], [3.0]]), (2,)) == 1.0
    assert hypervolume(np.array([[3.0, 3.0]]), (2, 2)) == 0.0
    assert hypervolume(np.empty((0, 3)), (1, 1, 1)) == 0.0


def test_reference_point() -> None:
    assert reference_point([(0.0, 10.0), (1.0, 10.0), (math.nan, 99.0)]) == pytest.approx((1.1, 11.0))
    assert reference_point([(0.5,)]) == pytest.approx((0.6,))
    assert reference_point([(-40.0,)]) == pytest.approx((-36.0,))
    assert reference_point([(float(i),) for i in range(30)]) == pytest.approx((20.9,))
    assert reference_point([]) is None
