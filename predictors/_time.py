"""Sinusoidal encodings of times and of positions."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["TimeEmbedding", "position_encoding"]


class TimeEmbedding(nn.Module):
    """[sin, cos] of c exp(-k ln(10000) / (width / 2 - 1)), then Linear, swish, Linear."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.register_buffer("frequencies", torch.exp(torch.arange(half) * (-math.log(10_000) / max(1, half - 1))))
        self.first, self.second = nn.Linear(2 * half, 4 * width), nn.Linear(4 * width, width)

    def forward(self, c: Float[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        angles = c[:, None] * self.frequencies
        hidden = nn.functional.silu(self.first(torch.cat([angles.sin(), angles.cos()], dim=1)))
        embedding: Tensor = self.second(hidden)
        return embedding


def position_encoding(positions: Int[Tensor, " rows"], width: int) -> Float[Tensor, "rows width"]:
    """sin and cos, interleaved, of position / 10000^(2 i / width) (Vaswani et al., 2017)."""
    angles = positions[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]
