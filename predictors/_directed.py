"""Directed graph networks over noised configurations, several side by side (DiffusionNAG's accuracy predictor)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.predictors._side_by_side import Linear, mapped, xavier

__all__ = ["DirectedEnsemble"]


class DirectedEnsemble(nn.Module):
    """x (networks or 1, batch, rows, columns), condition (networks or 1, batch) -> (networks, batch).

    Layer: (relu(A V W1) + relu(B V W2)) / 2 with A the row-normalised (mask + I) and B that of its transpose; the mean
    over the rows plus an embedding of the condition, a linear map without bias, then tanh of a linear one, and linear.
    With `context` > 0 the embedding of each configuration's data set (networks, batch or 1, context) joins before the
    tanh. Where the mask connects everything it tells no row from another: then every row has weights of its own in the
    first layer, (networks, rows, columns, hidden).
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
        of_rows = (networks, len(mask)) if mask.all() else (networks,)
        widths = [columns] + [hidden] * layers
        shapes = [((networks,) if i else of_rows) + pair for i, pair in enumerate(pairwise(widths))]
        self.ones = nn.ParameterList(xavier(*shape) for shape in shapes)
        self.others = nn.ParameterList(xavier(*shape) for shape in shapes)
        self.time = nn.ModuleList([Linear(networks, 2 * half, 4 * hidden), Linear(networks, 4 * hidden, hidden)])
        self.latent = xavier(networks, hidden, latent)
        self.head = nn.ModuleList([Linear(networks, latent + context, head), Linear(networks, head, 1)])

    def forward(
        self,
        x: Float[Tensor, "some batch rows columns"],
        condition: Float[Tensor, "some batch"],
        context: Float[Tensor, "networks few context"] | None = None,
    ) -> Float[Tensor, "networks batch"]:
        for one, other in zip(self.ones, self.others, strict=True):
            along = functional.relu(self.along @ mapped(x, one))
            against = functional.relu(self.against @ mapped(x, other))
            x = functional.dropout((along + against) / 2, self.rate, self.training)
        angles = condition[..., None] * self.frequencies
        first, second = self.time
        embedding = second(functional.silu(first(torch.cat([angles.sin(), angles.cos()], dim=-1))))
        hidden = functional.dropout((x.mean(dim=2) + embedding) @ self.latent, self.rate, self.training)
        if context is not None:
            hidden = torch.cat([hidden, context.expand(-1, hidden.shape[1], -1)], dim=2)
        into, out = self.head
        values: Tensor = out(torch.tanh(into(hidden)))[..., 0]
        return values
