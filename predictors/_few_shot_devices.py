"""What other devices are known to take: where it comes from, how it varies, on which scale it is added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from archfront.predictors._context import Context
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration
from archfront.spaces._table import TableLookup

__all__ = ["TRANSFORMS", "Devices", "Known", "OtherDevices", "Transform", "checked", "tabulated"]

Known = Callable[[Sequence[Configuration]], Floats]
"""Values (n, m) of n canonical configurations on m other devices, always the same m in the same order: positive, in
any unit, NaN where a device has none."""

JITTER = 1e-6
"""Added to correlations of 1: devices that always agree must not make a matrix singular."""
LEAST = 10
"""Configurations that all devices know, below which nothing is learned of how they vary."""


@dataclass(frozen=True)
class OtherDevices(Context):
    """A context that knows other devices: `known` tells their values."""

    known: Known | None = None


def tabulated(space: TableLookup, devices: Sequence[str], metric: str = "latency_ms") -> Known:
    """What a table says of these devices; NaN where it has no row, or the row is not valid on the device.

    Raises UnknownNameError for a device that the table does not have with this metric.
    """
    table = space.table
    offered = [device for device, metrics in space.devices.items() if metric in metrics]
    for device in devices:
        if device not in offered:
            raise UnknownNameError.of(f"device of table {space.name!r}", device, offered)
    values = np.stack([table.device[device][metric] for device in devices], axis=1)
    for i, device in enumerate(devices):
        for marked in {"", device} & set(table.invalid):
            values[table.invalid[marked], i] = np.nan
    values = np.concatenate([values, np.full((1, len(devices)), np.nan)])  # row -1: of no configuration

    def known(configs: Sequence[Configuration]) -> Floats:
        rows = [table.row(genome) for genome in space.search_space.to_ints(configs)]
        return np.asarray(values[np.array([-1 if row is None else row for row in rows], np.int64)])

    return known


def checked(values: Floats, n: int) -> Floats:
    """`values` as `Known` promises them for n configurations. Raises UsageError."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or len(values) != n or not values.shape[1]:
        raise UsageError(f"known gives values of shape {values.shape} for {n} configurations", "(n, devices)")
    wrong = ~np.isnan(values) & ~((values > 0) & (values < np.inf))
    if wrong.any():
        row, device = np.argwhere(wrong)[0]
        raise UsageError(
            f"known gives {values[row, device]} for its device {device}, in row {row} of {n}",
            "positive numbers, and NaN where there is no value",
        )
    return values


@dataclass(frozen=True)
class Transform:
    """A scale on which devices may add up.

    `moments` turns mean and variance of a normal value on it into those of the value itself; `log_slope` is the log of
    its derivative, which makes densities on different scales comparable.
    """

    apply: Callable[[Floats], Floats]
    log_slope: Callable[[Floats], Floats]
    moments: Callable[[Floats, Floats], tuple[Floats, Floats]]


def _squared(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    mean = np.maximum(mean, 0)  # of a root: what is below is an extrapolation
    return mean**2 + variance, 4 * mean**2 * variance + 2 * variance**2


def _exponential(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    level = np.exp(mean + variance / 2)
    return level, level**2 * np.expm1(variance)


TRANSFORMS: Mapping[str, Transform] = {
    "root": Transform(np.sqrt, lambda y: -np.log(2 * np.sqrt(y)), _squared),
    "logarithm": Transform(np.log, lambda y: -np.log(y), _exponential),
    "none": Transform(lambda y: y, np.zeros_like, lambda mean, variance: (mean, variance)),
}
"""The first stands between the others: a design is made on it."""


@dataclass(frozen=True)
class Devices:
    """How the m other devices vary, on one scale: `centre` (m,), `spread` (m,) and correlation `alike` (m, m);
    `features` are the features' means."""

    centre: Floats
    spread: Floats
    alike: Floats
    features: Floats

    @classmethod
    def of(cls, values: Floats, features: Floats) -> Devices:
        """From values (n, m) on the scale and features (n, f). Raises UsageError where hardly a row is complete."""
        whole = values[np.isfinite(values).all(axis=1)]
        if len(whole) < LEAST:
            raise UsageError(
                f"all other devices together know {len(whole)} of {len(values)} configurations",
                "leave out the devices that know few, or give the configurations that are known as pool=",
            )
        centre, spread = whole.mean(axis=0), np.where(np.ptp(whole, axis=0) > 0, whole.std(axis=0), 1.0)
        standard = (whole - centre) / spread
        alike = standard.T @ standard / len(standard) + JITTER * np.eye(len(spread))
        return cls(centre, spread, alike, features.mean(axis=0))

    def rows(self, values: Floats, features: Floats) -> Floats:
        """(n, 1 + m + f): 1, the standardised values, the centred features."""
        standard = self._filled((values - self.centre) / self.spread)
        return np.concatenate([np.ones((len(values), 1)), standard, features - self.features], axis=1)

    def mean(self, rows: Floats) -> Floats:
        """Of the devices (n,), for `rows`."""
        return np.asarray(rows[:, 1 : 1 + len(self.centre)].mean(axis=1))

    def _filled(self, standard: Floats) -> Floats:
        """What is missing replaced by its expectation given the rest of the row, the devices being jointly normal."""
        missing = np.isnan(standard)
        for pattern in np.unique(missing[missing.any(axis=1)], axis=0):
            rows = (missing == pattern).all(axis=1)
            weight = np.linalg.solve(self.alike[np.ix_(~pattern, ~pattern)], self.alike[np.ix_(~pattern, pattern)])
            standard[np.ix_(rows, pattern)] = standard[np.ix_(rows, ~pattern)] @ weight
        return standard
