"""The values that travel between predictors and those who ask them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from archfront.predictors._scores import Scores

__all__ = ["GUESSED_KINDS", "FitReport", "Fitted", "Model", "Prediction", "PredictorCapabilities"]

GUESSED_KINDS = frozenset({"predicted", "proxy"})
"""Values of these kinds are guesses: nothing is learned from them, and they never enter a front."""

Model = Mapping[str, Any]
"""What a fit learned, as data: JSON scalars, lists, NumPy arrays, and mappings of these. No objects, no code."""


@dataclass(frozen=True)
class PredictorCapabilities:
    """What a predictor can do beside a mean.

    `uncertainty`: predictions carry a standard deviation; `differentiable`: `differentiable` and `gradient` work;
    `noise_aware`: takes the noise level of a diffusion; `task_conditioned`: takes a task's embedding; `multi_output`:
    one model of all metrics, which may borrow from each other; `incremental`: a fit starts from the last one.
    """

    uncertainty: bool = False
    differentiable: bool = False
    noise_aware: bool = False
    task_conditioned: bool = False
    multi_output: bool = False
    incremental: bool = False


@dataclass(frozen=True)
class Prediction:
    """Guesses of n values in the metric's unit: `mean` (n,) and `std` (n,), that of a new measurement, or None."""

    mean: Floats
    std: Floats | None = None

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and (values.shape != (len(self.mean),) or not np.isfinite(values).all()):
                raise ValueError(f"{name} must be finite and of shape ({len(self.mean)},), not {values.shape}")
        if self.std is not None and (self.std < 0).any():
            raise ValueError("a standard deviation must not be negative")

    def __len__(self) -> int:
        return len(self.mean)

    def interval(self, level: float = 0.9) -> tuple[Floats, Floats]:
        """Bounds (n,) and (n,) of the central interval that holds a normal value with probability `level` (0..1).

        Raises UsageError where there is no standard deviation.
        """
        if not 0 < level < 1:
            raise UsageError(f"level={level} must lie between 0 and 1")
        if self.std is None:
            raise UsageError("this prediction carries no standard deviation", "ask one with capability `uncertainty`")
        half = NormalDist().inv_cdf((1 + level) / 2) * self.std
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Fitted:
    """What a predictor's `fit_metric` returns.

    `chosen`: hyperparameters that the fit chose, for the report. `out_of_fold` (n,): means for the training rows by
    models that had not seen them, where they are a by-product; `error`: the criterion that a choice was made by.
    """

    model: Model
    chosen: Mapping[str, Any] = field(default_factory=dict)
    out_of_fold: Floats | None = None
    error: float | None = None


@dataclass(frozen=True)
class FitReport:
    """What a fit did: rows trained on (the fewest over the metrics), cross-validated scores of the metrics that have
    some, chosen hyperparameters by metric, seconds of wall time."""

    n: int
    scores: Mapping[str, Scores]
    chosen: Mapping[str, Mapping[str, Any]]
    seconds: float
