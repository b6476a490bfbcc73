"""Layers of several networks side by side: every weight has a leading axis of networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Linear", "mapped", "xavier"]


class Linear(nn.Module):
    """A linear map with bias of each network: (networks or 1, batch, inputs) -> (networks, batch, outputs)."""

    def __init__(self, networks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = xavier(networks, inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(networks, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return x @ self.weight + self.bias


def mapped(x: Tensor, weight: Tensor) -> Tensor:
    """x (networks or 1, batch, rows, inputs) by weights (networks, inputs, outputs), or (networks, rows, inputs,
    outputs) for rows with their own: one product for each, as a broadcast over the batch would copy the weights for
    every member."""
    if weight.ndim == 4:
        return (x.transpose(1, 2) @ weight).transpose(1, 2)
    product: Tensor = x.flatten(1, 2) @ weight
    return product.view(len(product), *x.shape[1:3], -1)


def xavier(*shape: int) -> nn.Parameter:
    """Uniform in +-sqrt(6 / (inputs + outputs)) of the last two axes (Glorot and Bengio, 2010)."""
    bound = math.sqrt(6 / (shape[-2] + shape[-1]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
