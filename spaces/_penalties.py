"""Penalties on activations, which add to the training loss (Merity et al., 2017: AR and TAR)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces._noise import for_batch

__all__ = ["ActivationPenalty", "Penalty", "TemporalPenalty"]


class Penalty(nn.Module, ABC):
    """An identity: trainers add what `of` says of its input to the loss that they descend, and to no metric."""

    strength: ClassVar[str]
    per_batch: ClassVar[bool] = True

    def forward(self, h: Tensor) -> Tensor:
        """h itself."""
        return h

    @abstractmethod
    def of(self, h: Tensor) -> Tensor:
        """The penalty of an input; its strength is a number, no gradient reaches it."""


class ActivationPenalty(Penalty):
    """alpha mean(h^2)."""

    strength: ClassVar[str] = "alpha"
    alpha: float | Tensor

    def __init__(self, alpha: float = 0.0) -> None:
        super().__init__()
        self.alpha = alpha

    def of(self, h: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        return for_batch(self.alpha) * h.square().mean()


class TemporalPenalty(Penalty):
    """beta mean((h_t - h_{t-1})^2) along the axis of time; 0 for a single step."""

    strength: ClassVar[str] = "beta"
    beta: float | Tensor

    def __init__(self, beta: float = 0.0, *, axis: int = 1) -> None:
        super().__init__()
        self.beta, self.axis = beta, axis

    def of(self, h: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        steps = h.diff(dim=self.axis).square()
        return for_batch(self.beta) * steps.sum() / max(1, steps.numel())
