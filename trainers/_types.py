"""The values trainers speak with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from archfront.spaces._errors import UsageError

__all__ = ["Budget", "Report"]


@dataclass(frozen=True)
class Budget:
    """What one training may spend: planned epochs (schedules depend on them) and the share of the training data."""

    epochs: int
    data_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"epochs={self.epochs} must be at least 1")
        if not 0 < self.data_fraction <= 1:
            raise UsageError(f"data_fraction={self.data_fraction} must lie in (0, 1]")


@dataclass(frozen=True)
class Report:
    """After `step` epochs: validation metrics, and what else is worth plotting (train_loss, lr, val_loss ...)."""

    step: int
    metrics: Mapping[str, float]
    attributes: Mapping[str, float] = field(default_factory=dict)
