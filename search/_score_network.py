"""The score network of DiffusionNAG (An et al., 2024): a transformer over the rows of a noised configuration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from archfront.predictors._sde import Sde, VarianceExploding
from archfront.predictors._time import TimeEmbedding, position_encoding

__all__ = ["ScoreNetwork", "ScoreShape"]

FORBIDDEN = -1e9
"""Score of what a row must not look at: a row that may look at nothing looks at everything alike."""


@dataclass(frozen=True)
class ScoreShape:
    """The paper's sizes: 12 blocks of width 64, 8 heads, inner width 128."""

    width: int = 64
    blocks: int = 12
    heads: int = 8
    inner: int = 128
    dropout: float = 0.1


class ScoreNetwork(nn.Module):
    """x_t (batch, rows, columns), t (batch,) -> grad log p_t(x_t) of the same shape.

    The attention mask (rows, rows) says which rows a row looks at, `positions` (rows,) index its positional encoding.
    Outputs of all blocks, each through a LayerNorm of its own, are concatenated for the head. For the variance
    preserving processes the score is the head's output over -std (the code's rule; the paper's figure does not say).
    """

    attention: Tensor
    encoding: Tensor

    def __init__(
        self,
        columns: int,
        attention: Bool[Tensor, "rows rows"],
        positions: Int[Tensor, " rows"],
        sde: Sde,
        shape: ScoreShape | None = None,
    ) -> None:
        super().__init__()
        shape = shape or ScoreShape()
        width = shape.width
        self.sde, self.shape = sde, shape
        mask = torch.zeros(attention.shape).masked_fill(~attention, FORBIDDEN)
        self.register_buffer("attention", mask, persistent=False)
        self.register_buffer("encoding", position_encoding(positions, width), persistent=False)
        self.embedding = nn.Linear(columns, width)
        self.dropout = nn.Dropout(shape.dropout)
        self.time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(shape.blocks))
        total = width * shape.blocks
        self.head = nn.Sequential(
            nn.Linear(total, 2 * total),
            nn.ELU(),
            nn.Linear(2 * total, 2 * total),
            nn.ELU(),
            nn.Linear(2 * total, columns),
        )

    def forward(
        self, x: Float[Tensor, "batch rows columns"], t: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch rows columns"]:
        hidden = self.dropout(self.embedding(x) * self.shape.width**0.5) + self.encoding
        hidden = hidden + self.time(self.sde.condition(t))[:, None]
        outputs = []
        for block, norm in zip(self.blocks, self.norms, strict=True):
            hidden = block(hidden, self.attention)
            outputs.append(norm(hidden))
        score: Tensor = self.head(torch.cat(outputs, dim=2))
        return score if isinstance(self.sde, VarianceExploding) else -score / self.sde.std(t)[:, None, None]


class Block(nn.Module):
    """x + drop(attention(norm x)), then x + drop(W2 drop(relu(W1 norm x)))."""

    def __init__(self, shape: ScoreShape) -> None:
        super().__init__()
        width = shape.width
        self.heads, self.rate = shape.heads, shape.dropout
        self.norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.first, self.second = nn.Linear(width, shape.inner), nn.Linear(shape.inner, width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(
        self, x: Float[Tensor, "batch rows width"], mask: Float[Tensor, "rows rows"]
    ) -> Float[Tensor, "batch rows width"]:
        x = x + self.dropout(self._attended(self.norm(x), mask))
        inner = self.dropout(functional.relu(self.first(self.inner_norm(x))))
        total: Tensor = x + self.dropout(self.second(inner))
        return total

    def _attended(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, rows, width = x.shape
        parts = self.queries_keys_values(x).view(batch, rows, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=rate)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, rows, width))
        return out
