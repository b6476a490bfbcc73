"""The power transform of labels: SciPy's function, an inverse inside, a straight line outside."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import yeojohnson

from archfront.predictors._power import Power, _power


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.7, 2.0])
def test_it_is_yeo_and_johnsons(exponent: float) -> None:
    z = np.linspace(-3, 3, 41)
    assert _power(z, exponent) == pytest.approx(yeojohnson(z, exponent))


@pytest.mark.parametrize("transform", [True, False])
def test_backward_inverts_forward(transform: bool) -> None:
    y = 5 + 3 * np.exp(np.random.default_rng(0).normal(size=60))
    power = Power.of(y, transform=transform)
    t = power.forward(y)
    level, spread = power.unit
    assert level + spread * power.backward(t) == pytest.approx(y)
    assert t.mean() == pytest.approx(0, abs=1e-9)
    assert t.std() == pytest.approx(1)
    assert (power.exponent < 0.5) == transform, "a long tail to the right is drawn in"


def test_beyond_the_labels_it_goes_straight_on() -> None:
    y = np.exp(np.random.default_rng(0).normal(size=60))
    power = Power.of(y)
    t = np.linspace(power.high, power.high + 8, 5)
    steps = np.diff(power.backward(t))
    assert steps == pytest.approx(np.full(4, steps[0]))
    near = power.backward(np.array([power.high - 1e-5, power.high, power.high + 1e-5]))
    assert np.diff(near)[0] == pytest.approx(np.diff(near)[1], rel=1e-3)
    assert (np.diff(power.backward(np.linspace(-9, 9, 400))) > 0).all()


def test_an_outlier_does_not_squeeze_the_others() -> None:
    y = np.append(np.linspace(0.05, 0.1, 20), 0.9)
    assert np.ptp(Power.of(y).forward(y[:-1])) > 2.5 * np.ptp(Power.of(y, transform=False).forward(y[:-1]))


@pytest.mark.parametrize("value", [0.0, 7.5, -3e6])
def test_constant_labels(value: float) -> None:
    power = Power.of(np.full(5, value))
    assert (power.forward(np.full(5, value)) == 0).all()
    assert power.unit == (value, 1e-3 * max(1, abs(value)))


def test_few_labels_leave_it_nearly_alone() -> None:
    assert Power.of(np.array([1.0, 2.0])).exponent == pytest.approx(1, abs=0.3)
