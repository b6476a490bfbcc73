"""What a self-tuning network answers to first order in its hyperparameters: output and penalties of activations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from archfront.spaces._penalties import Penalty
from archfront.trainers._convert import ResponseNet
from archfront.trainers._linearise import LINEARISATIONS, frozen_statistics
from archfront.trainers._penalties import total, watched

__all__ = ["first_order"]


def first_order(
    net: ResponseNet, inputs: tuple[Tensor, ...], delta: Float[Tensor, "rows hypers"], *, linearisation: str
) -> tuple[Tensor, Tensor | float]:
    """The output around the current hyperparameters, delta away from them, and the sum of the network's penalties of
    activations that are linearised alike. Gradients reach the response alone; the general terms are constants."""
    penalties: list[Penalty] = []
    shapes: list[torch.Size] = []

    def answer(at: Tensor) -> Tensor:
        net.rows.h = at
        with watched(net) as seen:
            output = net(*inputs)
        net.rows.h = None
        parts = [output, *(h for _, h in seen)]
        penalties.extend(penalty for penalty, _ in seen)
        shapes.extend(part.shape for part in parts)
        return torch.cat([part.flatten() for part in parts])

    with frozen_statistics(net):
        flat = LINEARISATIONS[linearisation](answer, delta)
    parts = torch.split(flat, [shape.numel() for shape in shapes])
    output, *given = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
    return output, total(list(zip(penalties, given, strict=True)))
