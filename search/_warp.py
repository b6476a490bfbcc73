"""Monotone warps that make losses look normal: models see the warped ones, comparisons the real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Warp"]

Floats = NDArray[np.float64]
POWERS = (-6.0, 6.0)
LEAST_SPREAD = 1e-150
"""Losses closer together are equal: the squares of what is between them are zero."""


@dataclass(frozen=True)
class Warp:
    """Box-Cox (1964) for losses of one sign, Yeo-Johnson (2000) for others, then standardised; ascending.

    `sign` is -1 where all losses are negative (what is maximised is positive) and 0 for Yeo-Johnson.
    """

    sign: int
    power: float
    centre: float
    scale: float
    shift: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(cls, losses: Floats) -> Warp:
        """The warp of most likelihood for losses (n,), all finite."""
        from scipy.stats import boxcox_normmax, yeojohnson_normmax

        sign = 1 if (losses > 0).all() else -1 if (losses < 0).all() else 0
        shift, unit = (float(np.median(losses)), _spread(losses)) if sign == 0 else (0.0, 1.0)
        power = 1.0
        if np.ptp(losses) > LEAST_SPREAD and len(losses) > 2:
            with np.errstate(all="ignore"):
                given = (losses - shift) / unit if sign == 0 else sign * losses / np.exp(np.log(abs(losses)).mean())
                power = float(yeojohnson_normmax(given) if sign == 0 else boxcox_normmax(given, method="mle"))
        power = float(np.clip(power, *POWERS)) if np.isfinite(power) else 1.0
        if sign:
            unit = float(np.exp(np.log(abs(losses)).mean()))  # the power does not depend on it: keeps numbers small
        raw = cls(sign, power, 0.0, 1.0, shift, unit)(losses)
        return cls(sign, power, float(raw.mean()), _spread(raw), shift, unit)

    def __call__(self, losses: Floats) -> Floats:
        """Warped losses, of mean 0 and variance 1 where the warp was made."""
        from scipy.special import boxcox
        from scipy.stats import yeojohnson

        x = (losses - self.shift) / self.unit
        raw = yeojohnson(x, self.power) if self.sign == 0 else self.sign * boxcox(self.sign * x, self.power)
        return np.asarray((raw - self.centre) / self.scale, np.float64)

    def back(self, warped: Floats) -> Floats:
        """The losses; beyond what the warp can reach, the nearest it can."""
        from scipy.special import inv_boxcox

        raw = warped * self.scale + self.centre
        if self.sign:
            x = self.sign * _bounded(self.sign * raw, self.power)
            return np.asarray(self.sign * inv_boxcox(self.sign * x, self.power) * self.unit + self.shift)
        below = raw < 0
        up = inv_boxcox(_bounded(np.where(below, 0, raw), self.power), self.power) - 0
        down = inv_boxcox(_bounded(np.where(below, -raw, 0), 2 - self.power), 2 - self.power)
        return np.asarray(np.where(below, 1 - down, up - 1) * self.unit + self.shift)


def _spread(values: Floats) -> float:
    """The standard deviation; 1 of values that are equal."""
    spread = float(values.std())
    return spread if spread > LEAST_SPREAD else 1.0


def _bounded(raw: Floats, power: float) -> Floats:
    """Values that Box-Cox reaches: power * raw + 1 is positive."""
    if power > 0:
        return np.asarray(np.maximum(raw, -(1 - 1e-9) / power))
    return np.asarray(raw if power == 0 else np.minimum(raw, (1 - 1e-9) / -power))
