"""The running hypervolume against moocore's of the same points, in any order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archfront.cluster._front import Front, hypervolume
from archfront.cluster._running_volume import RunningVolume
from archfront.cluster._volume import Volume
from archfront.search import Objective

REFERENCE = (4.0, 3.5, 5.0)


@st.composite
def points(draw: st.DrawFn) -> list[tuple[float, ...]]:
    """In one to three objectives, with ties, some beyond the reference, now and then something not finite."""
    near = st.integers(-1, 6).map(float)
    number = st.one_of(near, near, st.floats(0, 5), st.sampled_from([math.nan, math.inf, -math.inf]))
    return draw(st.lists(st.tuples(*[number] * draw(st.integers(1, 3))), min_size=1, max_size=40))


@given(points())
def test_it_is_moocores_after_every_point(given_points: list[tuple[float, ...]]) -> None:
    reference = REFERENCE[: len(given_points[0])]
    running, finite = RunningVolume(reference), []
    for point in given_points:
        finite += [point] if all(map(math.isfinite, point)) else []
        expected = hypervolume(np.array(finite).reshape(-1, len(reference)), reference)
        assert running.add(point) == running.value == pytest.approx(expected, abs=1e-9)


@given(points())
def test_it_counts_the_front_within_the_reference(given_points: list[tuple[float, ...]]) -> None:
    reference = REFERENCE[: len(given_points[0])]
    running, front = RunningVolume(reference), Front(len(reference))
    for i, point in enumerate(given_points):
        running.add(point)
        if all(x < r for x, r in zip(point, reference, strict=True)):
            front.add(str(i), point)
    stays = {point for _, point in front.items()}
    assert {point for point in given_points if point in running} == stays


def test_a_study_shows_the_volume_from_its_first_20_values_and_then_keeps_the_reference() -> None:
    goals = (Objective("error", "min"), Objective("acc", "max"))
    rng = np.random.default_rng(0)
    losses = rng.random((60, 2)).tolist()
    volume = Volume(goals, None)
    assert volume.value is None
    for n, point in enumerate(losses, start=1):
        volume.saw(point)
        first = np.array(losses[: min(n, 20)])
        margin = np.where(np.ptp(first, axis=0) > 0, np.ptp(first, axis=0), np.maximum(abs(first.max(axis=0)), 1))
        expected = hypervolume(np.array(losses[:n]), (first.max(axis=0) + 0.1 * margin).tolist())
        assert volume.value == pytest.approx(expected)
    assert Volume(goals, (2.0, None)).value is None
