"""Data sets as vectors: a set transformer over the rows of each class, then over the classes (MetaD2A; Lee et al.)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.predictors._side_by_side import Linear, xavier

__all__ = ["EMBEDDING", "SetEncoder"]

EMBEDDING = 56
HEADS = 4


class Attention(nn.Module):
    """x (networks or 1, batch, rows, inputs) and y (the same, keys, inputs) to (networks, batch, rows, dim).

    O = Q + softmax(Q K^T / sqrt(dim)) V by heads, then O + relu(linear(O)); Q are the projected queries and dim is the
    full width, not a head's. No layer norm. `there` (batch, keys) says which keys count.
    """

    def __init__(self, networks: int, inputs: int, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (Linear(networks, inputs, dim) for _ in range(3))
        self.out = Linear(networks, dim, dim)
        self.scale = math.sqrt(dim)

    def forward(self, x: Tensor, y: Tensor, there: Tensor | None = None) -> Tensor:
        """As the class says."""
        query, key, value = (
            _heads(_each_row(layer, z)) for layer, z in ((self.query, x), (self.key, y), (self.value, y))
        )
        scores = query @ key.mT / self.scale
        if there is not None:
            scores = scores.masked_fill(~there[None, :, None, None], -torch.inf)
        out = (query + scores.softmax(dim=-1) @ value).transpose(2, 3).flatten(-2)
        attended: Tensor = out + functional.relu(_each_row(self.out, out))
        return attended


class SetPool(nn.Module):
    """Sets (networks or 1, batch, members, inputs) -> (networks, batch, dim): members attend to each other twice, a
    learned seed attends to them, then a linear map."""

    def __init__(self, networks: int, inputs: int, dim: int) -> None:
        super().__init__()
        self.first, self.second = Attention(networks, inputs, dim), Attention(networks, dim, dim)
        self.seed = xavier(networks, 1, dim)
        self.pool, self.out = Attention(networks, dim, dim), Linear(networks, dim, dim)

    def forward(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        """As the class says."""
        x = self.first(x, x, there)
        x = self.second(x, x, there)
        seed = self.seed[:, None].expand(-1, x.shape[1], -1, -1)
        pooled: Tensor = self.out(self.pool(seed, x, there)[:, :, 0])
        return pooled


class SetEncoder(nn.Module):
    """Data sets, each a tensor (classes, rows, features), to D (networks, data sets, dim): each network has an encoder
    of its own, so that members of an ensemble stay independent. Neither the order of rows nor that of classes counts.

    The paper's sizes: 20 rows of each class, 512 features, 56 dimensions.
    """

    def __init__(self, networks: int, features: int, *, dim: int = EMBEDDING) -> None:
        super().__init__()
        self.of_class, self.of_set = SetPool(networks, features, dim), SetPool(networks, dim, dim)

    def forward(self, sets: Sequence[Float[Tensor, "_ rows features"]]) -> Float[Tensor, "networks sets dim"]:
        prototypes = self.of_class(torch.cat(list(sets))[None])
        counts = [len(one) for one in sets]
        most = max(counts)
        parts = [functional.pad(p, (0, 0, 0, most - p.shape[1])) for p in prototypes.split(counts, dim=1)]
        there = torch.arange(most) < torch.tensor(counts)[:, None]
        embedded: Tensor = self.of_set(torch.stack(parts, dim=1), there)
        return embedded


def _each_row(layer: Linear, x: Tensor) -> Tensor:
    """A layer on (networks or 1, batch, rows, inputs)."""
    mapped: Tensor = layer(x.flatten(1, 2))
    return mapped.view(len(mapped), *x.shape[1:3], -1)


def _heads(x: Tensor) -> Tensor:
    """(networks, batch, rows, dim) to (networks, batch, heads, rows, dim / heads)."""
    return x.view(*x.shape[:3], HEADS, -1).transpose(2, 3)
