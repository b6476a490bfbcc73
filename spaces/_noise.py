"""Modules whose strength a trainer may move while it trains, for a whole batch or for each example of it."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces._errors import UsageError

__all__ = ["Adjustable", "GaussianNoise", "for_batch", "per_example"]


@runtime_checkable
class Adjustable(Protocol):
    """A module whose attribute called `strength` is a number, or a tensor (batch,) with a number for each example.

    A class attribute `per_batch` = True says that it takes one number for a whole batch: the first example's.
    """

    strength: ClassVar[str]


def per_example(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A strength, shaped so that it multiplies x (batch, ...) example by example. Raises UsageError."""
    if isinstance(value, Tensor) and len(value) not in (1, len(x)):
        raise UsageError(
            f"a module sees {len(x)} rows for {len(value)} examples: its first axis is not the batch",
            "give it one strength for the whole batch",
        )
    return value.view(-1, *[1] * (x.dim() - 1)) if isinstance(value, Tensor) else value


def for_batch(value: float | Tensor) -> float | Tensor:
    """A strength as one number for the whole batch: the first example's."""
    return value.flatten()[0] if isinstance(value, Tensor) else value


class GaussianNoise(nn.Module):
    """x + N(0, std^2) while training, x otherwise."""

    strength: ClassVar[str] = "std"
    std: float | Tensor

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or (isinstance(self.std, float | int) and self.std <= 0):
            return x
        return x + per_example(self.std, x) * torch.randn_like(x)
