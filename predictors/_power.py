"""The power transform of Yeo and Johnson (2000), which brings labels nearer to a normal distribution."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from archfront.spaces._parameter import Floats

__all__ = ["Power"]

EXPONENTS = np.linspace(0, 2, 81)
"""Within these the transform's image is unbounded, so that every value has an inverse."""
SPREAD = 0.5
"""Standard deviation of the prior of the exponent around 1, the identity (our choice): ten labels tell little."""
CONSTANT = 1e-3
"""What the spread of labels that are all alike is taken to be, in units of their level (at least of 1)."""


@dataclass(frozen=True)
class Power:
    """t = (power((y - level) / spread) - shift) / scale: about standard normal for the labels it was made of.

    Between `low` and `high`, the ends of those labels, `backward` is its inverse; beyond, it goes straight on.
    """

    level: float
    spread: float
    exponent: float = 1.0
    shift: float = 0.0
    scale: float = 1.0
    low: float = -1.0
    high: float = 1.0

    @classmethod
    def of(cls, y: Floats, *, transform: bool = True) -> Power:
        """Of labels (n,); without `transform`, or where all are alike, only level and spread are taken off."""
        level, spread = float(y.mean()), float(y.std())
        if not spread > 1e-12 * max(1.0, abs(level)):
            return cls(level, CONSTANT * max(1.0, abs(level)))
        if not transform:
            return cls(level, spread)
        z = (y - level) / spread
        exponent = float(max(EXPONENTS, key=lambda e: _log_likelihood(z, float(e))))
        powered = _power(z, exponent)
        shift, scale = float(powered.mean()), float(powered.std())
        ends = (powered.min() - shift) / scale, (powered.max() - shift) / scale
        return cls(level, spread, exponent, shift, scale, float(ends[0]), float(ends[1]))

    @property
    def unit(self) -> tuple[float, float]:
        """Level and spread: what turns the values of `backward` into the metric's unit."""
        return self.level, self.spread

    def as_dict(self) -> dict[str, float]:
        """JSON."""
        return asdict(self)

    def forward(self, y: Floats) -> Floats:
        """t (n,) of labels."""
        return np.asarray((_power((y - self.level) / self.spread, self.exponent) - self.shift) / self.scale)

    def backward(self, t: Floats) -> Floats:
        """(y - level) / spread of any t."""
        if self.exponent == 1 and self.shift == 0 and self.scale == 1:
            return t
        inside = np.clip(t, self.low, self.high)
        powered = self.shift + self.scale * inside
        slope = self.scale * _inverse_slope(powered, self.exponent)
        return np.asarray(_inverse(powered, self.exponent) + slope * (t - inside))


def _power(z: Floats, exponent: float) -> Floats:
    above, below = np.log1p(np.maximum(z, 0)), np.log1p(np.maximum(-z, 0))
    return _scaled_expm1(above, exponent) - _scaled_expm1(below, 2 - exponent)


def _scaled_expm1(x: Floats, rate: float) -> Floats:
    """(exp(rate x) - 1) / rate, x for rate 0."""
    return np.asarray(np.expm1(rate * x) / rate if rate else x)


def _inverse(p: Floats, exponent: float) -> Floats:
    above, below = (
        np.expm1(np.log1p(rate * part) / rate if rate else part)
        for rate, part in ((exponent, np.maximum(p, 0)), (2 - exponent, np.maximum(-p, 0)))
    )
    return np.asarray(above - below)


def _inverse_slope(p: Floats, exponent: float) -> Floats:
    """Derivative of `_inverse`: 1 / (dp / dz), which is (1 + |z|)^(exponent - 1), above 0, or (..)^(1 - exponent)."""
    z = _inverse(p, exponent)
    return np.asarray((1 + np.abs(z)) ** np.where(z >= 0, 1 - exponent, exponent - 1))


def _log_likelihood(z: Floats, exponent: float) -> float:
    """Of normal transformed labels, times the exponent's prior, up to a constant."""
    jacobian = (exponent - 1) * np.sum(np.sign(z) * np.log1p(np.abs(z)))
    variance = max(float(_power(z, exponent).var()), 1e-300)
    return float(-0.5 * len(z) * np.log(variance) + jacobian - 0.5 * ((exponent - 1) / SPREAD) ** 2)
