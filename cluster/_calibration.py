"""How far the predictions of a study's strategy can be trusted: what it predicted, against what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from archfront.predictors._prediction import Prediction
from archfront.predictors._scores import COVERED, kendall_tau, root_mean_squared_error
from archfront.spaces._metric import METRICS

if TYPE_CHECKING:
    from archfront.cluster.store import CalibrationRow, Store

__all__ = ["Agreement", "Calibration", "agreement", "calibration_of", "newest_half"]


@dataclass(frozen=True)
class Agreement:
    """Of `n` predictions with what was found. `kendall` (tau-b) in -1..1, 0 where one side is constant; `rmse` and
    `bias` (mean of predicted - found) in the metric's unit.

    `coverage` is the share of values inside the central 90 % interval (mean +- 1.645 std), 0..1, of the predictions
    that have a standard deviation; `unsure` counts those that have none. None where none has.
    """

    n: int
    kendall: float
    rmse: float
    bias: float
    coverage: float | None
    unsure: int


@dataclass(frozen=True)
class Calibration:
    """The predictions of one metric, oldest first, and their agreement: of the whole, and of the newest half, which was
    made by models that knew more. `unit` is "" where none is known."""

    metric: str
    unit: str
    rows: tuple[CalibrationRow, ...]
    whole: Agreement
    newest: Agreement


def calibration_of(store: Store, study: str) -> tuple[Calibration, ...]:
    """One per predicted metric, in the order of the study's objectives; empty without a prediction whose value is
    known. Raises UnknownNameError for a study that is not there."""
    record = store.study(study)
    rows = store.calibration(study)
    units = {o.name: o.unit for o in record.objectives}
    names = dict.fromkeys([*units, *(row.metric for row in rows)])
    by_metric = {name: tuple(row for row in rows if row.metric == name) for name in names}
    return tuple(
        Calibration(name, units.get(name) or _unit(name), own, agreement(own), agreement(newest_half(own)))
        for name, own in by_metric.items()
        if own
    )


def newest_half(rows: Sequence[CalibrationRow]) -> Sequence[CalibrationRow]:
    """The later ones; of an odd number the larger half."""
    return rows[len(rows) // 2 :]


def agreement(rows: Sequence[CalibrationRow]) -> Agreement:
    """Of at least one prediction of one metric."""
    mean, std, value = np.array([(row.mean, row.std, row.value) for row in rows], np.float64).T
    sure = std > 0
    coverage = None
    if sure.any():
        low, high = Prediction(mean[sure], std[sure]).interval(COVERED)
        coverage = float(np.mean((low <= value[sure]) & (value[sure] <= high)))
    return Agreement(
        len(rows),
        kendall_tau(mean, value),
        root_mean_squared_error(mean, value),
        float(np.mean(mean - value)),
        coverage,
        int((~sure).sum()),
    )


def _unit(name: str) -> str:
    metric = METRICS.get(name.partition("@")[0])
    return metric.unit if metric else ""
