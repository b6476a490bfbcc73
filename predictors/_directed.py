"""Directed graph networks over noised configurations, several side by side (DiffusionNAG's accuracy predictor)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DirectedEnsemble"]


class DirectedEnsemble(nn.Module):
    """x (networks or 1, batch, rows, columns), condition (networks or 1, batch) -> (networks, batch).

    Layer: (relu(A V W1) + relu(B V W2)) / 2 with A the row-normalised (mask + I) and B that of its transpose; the mean
    over the rows plus an embedding of the condition, a linear map without bias, then tanh of a linear one, and linear.
    With `context` > 0 a data set's embedding (networks or 1, context) joins before the tanh.
    """

    along: Tensor
    against: Tensor
    frequencies: Tensor

    def __init__(
        self,
        networks: int,
        columns: int,
        mask: Bool[Tensor, "rows rows"],
        *,
        hidden: int = 144,
        layers: int = 4,
        latent: int = 128,
        head: int = 32,
        context: int = 0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.rate = dropout
        linked = mask.float() + torch.eye(len(mask))
        self.register_buffer("along", linked / linked.sum(dim=1, keepdim=True), persistent=False)
        self.register_buffer("against", linked.T / linked.T.sum(dim=1, keepdim=True), persistent=False)
        half = hidden // 2
        frequencies = torch.exp(torch.arange(half) * (-math.log(10_000) / max(1, half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        widths = [columns] + [hidden] * layers
        pairs = list(pairwise(widths))
        self.ones = nn.ParameterList(_xavier(networks, i, o) for i, o in pairs)
        self.others = nn.ParameterList(_xavier(networks, i, o) for i, o in pairs)
        self.time = nn.ModuleList([_Linear(networks, 2 * half, 4 * hidden), _Linear(networks, 4 * hidden, hidden)])
        self.latent = _xavier(networks, hidden, latent)
        self.head = nn.ModuleList([_Linear(networks, latent + context, head), _Linear(networks, head, 1)])

    def forward(
        self,
        x: Float[Tensor, "some batch rows columns"],
        condition: Float[Tensor, "some batch"],
        context: Float[Tensor, "few context"] | None = None,
    ) -> Float[Tensor, "networks batch"]:
        for one, other in zip(self.ones, self.others, strict=True):
            along = functional.relu(self.along @ _mapped(x, one))
            against = functional.relu(self.against @ _mapped(x, other))
            x = functional.dropout((along + against) / 2, self.rate, self.training)
        angles = condition[..., None] * self.frequencies
        first, second = self.time
        embedding = second(functional.silu(first(torch.cat([angles.sin(), angles.cos()], dim=-1))))
        hidden = functional.dropout((x.mean(dim=2) + embedding) @ self.latent, self.rate, self.training)
        if context is not None:
            networks, batch, _ = hidden.shape
            hidden = torch.cat([hidden, context[:, None].expand(networks, batch, -1)], dim=2)
        into, out = self.head
        values: Tensor = out(torch.tanh(into(hidden)))[..., 0]
        return values


class _Linear(nn.Module):
    """A linear map with bias of each network: (networks or 1, batch, inputs) -> (networks, batch, outputs)."""

    def __init__(self, networks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = _xavier(networks, inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(networks, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        return x @ self.weight + self.bias


def _mapped(x: Tensor, weight: Tensor) -> Tensor:
    """x (networks or 1, batch, rows, inputs) by weights (networks, inputs, outputs): one product for each network, as a
    broadcast over the batch would copy the weights for every member."""
    mapped: Tensor = x.flatten(1, 2) @ weight
    return mapped.view(len(mapped), *x.shape[1:3], -1)


def _xavier(*shape: int) -> nn.Parameter:
    """Uniform in +-sqrt(6 / (inputs + outputs)) of the last two axes (Glorot and Bengio, 2010)."""
    bound = math.sqrt(6 / (shape[-2] + shape[-1]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
