"""The learning rate of self-tuning: it falls where the validation loss stands still, or at planned epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FallingRate"]

MILESTONES = (0.3, 0.6, 0.9)
"""Shares of the planned epochs after which `schedule` step lowers the rates (60, 120 and 180 of 200 epochs)."""
SMALLEST_SHARE = 1e-3
"""Of its first value, below which a learning rate that fell on plateaus ends the training (0.01 to 1e-5)."""


class FallingRate:
    """Follows the validation losses of a run's epochs; the settings are those of trainer self_tuning."""

    def __init__(self, settings: Mapping[str, Any], epochs: int) -> None:
        self.settings, self.epochs = settings, epochs
        self.lr = float(settings["lr"])
        self.losses: list[float] = []

    def at(self, epoch: int) -> float:
        """The rate of an epoch, counted from 0."""
        if self.settings["schedule"] != "step":
            return self.lr
        passed = sum(epoch >= share * self.epochs for share in MILESTONES)
        return float(self.lr * self.settings["lr_decay"] ** passed)

    def hear(self, loss: float) -> None:
        """One more epoch; the rate falls where its loss exceeds the best of all but the last `plateau_epochs`."""
        self.losses.append(loss)
        window = self.settings["plateau_epochs"]
        if self.settings["schedule"] != "plateau" or len(self.losses) <= window:
            return
        if loss > min(self.losses[:-window]):
            self.lr *= self.settings["lr_decay"]

    def is_over(self) -> bool:
        """Whether the rate has fallen so far, or the last best epoch is so long ago, that the training ends."""
        if self.lr < SMALLEST_SHARE * self.settings["lr"]:
            return True
        patience = self.settings["early_stopping"]
        if not patience or not self.losses:
            return False
        return bool(len(self.losses) - 1 - self.losses.index(min(self.losses)) >= patience)
