"""The set transformer of prior-data fitted networks (Müller et al., 2022): points attend to the context's points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces.inference._bar_distribution import merged, spread, tail_scales

__all__ = ["CHUNK", "Memory", "PfnNetwork", "PfnShape"]

CHUNK = 1024
"""Queries that pass the layers at once: what a layer makes of them should stay in a processor's cache."""


@dataclass(frozen=True)
class PfnShape:
    """What a network is built from. `buckets`: of the head, a divisor of the finest grid's; `tails`: half-normal ends;
    `pre_norm`: norms before each part of a layer; `attends_itself`: a query reads its own key beside the context's."""

    features: int
    emsize: int = 64
    layers: int = 3
    heads: int = 4
    nhid: int = 128
    buckets: int = 100
    tails: bool = True
    pre_norm: bool = False
    attends_itself: bool = True


@dataclass(frozen=True)
class Memory:
    """What a layer's queries read of the context; `known` says which points count, None: all."""

    keys: Float[Tensor, "batch heads context size"]
    values: Float[Tensor, "batch heads context size"]
    known: Bool[Tensor, "batch context"] | None


class Attention(nn.Module):
    """Multi-head attention to the context and to oneself. The output starts at zero."""

    def __init__(self, emsize: int, heads: int, attends_itself: bool) -> None:
        super().__init__()
        self.heads, self.attends_itself = heads, attends_itself
        self.qkv = nn.Linear(emsize, 3 * emsize)
        nn.init.xavier_uniform_(self.qkv.weight)  # as PyTorch's own attention does
        nn.init.zeros_(self.qkv.bias)
        self.out = _zero(nn.Linear(emsize, emsize))

    def forward(
        self, x: Float[Tensor, "batch points emsize"], allowed: Bool[Tensor, "batch points points"]
    ) -> Float[Tensor, "batch points emsize"]:
        """`allowed[b, i, j]`: point i reads point j; one that may read nothing gets zeros."""
        some = allowed.any(-1, keepdim=True)
        mixed = functional.scaled_dot_product_attention(*self.projected(x), attn_mask=(allowed | ~some)[:, None])
        return self._joined(mixed * some[:, None])

    def projected(self, x: Float[Tensor, "batch points emsize"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, heads, points, emsize / heads)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def of_queries(
        self, x: Float[Tensor, "batch queries emsize"], memory: Memory
    ) -> Float[Tensor, "batch queries emsize"]:
        """What `forward` gives for points that read the context and themselves: no matrix between queries."""
        q, k, v = self.projected(x)
        q = q * q.shape[-1] ** -0.5
        own = (q * k).sum(-1, keepdim=True)
        if not memory.keys.shape[2]:
            return self._joined(v if self.attends_itself else torch.zeros_like(v))
        scores = q @ memory.keys.mT
        if memory.known is not None:
            scores = scores.masked_fill(~memory.known[:, None, None], torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, -1)
        mixed = weights @ memory.values
        if self.attends_itself:
            total = scores.amax(-1, keepdim=True) - weights.amax(-1, keepdim=True).log()  # log sum exp of the scores
            mixed = torch.lerp(mixed, v, torch.sigmoid(own - total))
        elif memory.known is not None:
            mixed = mixed * memory.known.any(-1)[:, None, None, None]
        return self._joined(mixed)

    def _joined(self, mixed: Float[Tensor, "batch heads points size"]) -> Float[Tensor, "batch points emsize"]:
        joined: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return joined


class Layer(nn.Module):
    """Attention, then a perceptron, each with a skip and a norm after it (or before it). Starts as skip and norm."""

    def __init__(self, shape: PfnShape) -> None:
        super().__init__()
        self.pre_norm = shape.pre_norm
        self.attention = Attention(shape.emsize, shape.heads, shape.attends_itself)
        self.norm1, self.norm2 = nn.LayerNorm(shape.emsize), nn.LayerNorm(shape.emsize)
        self.linear1 = nn.Linear(shape.emsize, shape.nhid)
        self.linear2 = _zero(nn.Linear(shape.nhid, shape.emsize))

    def forward(
        self, x: Float[Tensor, "batch points emsize"], allowed: Bool[Tensor, "batch points points"]
    ) -> Float[Tensor, "batch points emsize"]:
        return self._finished(x, self.attention(self.read(x), allowed))

    def of_queries(
        self, x: Float[Tensor, "batch queries emsize"], memory: Memory
    ) -> Float[Tensor, "batch queries emsize"]:
        """`forward` for queries, see `Attention.of_queries`."""
        return self._finished(x, self.attention.of_queries(self.read(x), memory))

    def read(self, x: Float[Tensor, "batch points emsize"]) -> Float[Tensor, "batch points emsize"]:
        """What attention sees of x."""
        seen: Tensor = self.norm1(x) if self.pre_norm else x
        return seen

    def _finished(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + mixed if self.pre_norm else self.norm1(x + mixed)
        hidden = self.norm2(x) if self.pre_norm else x
        x = x + self.linear2(functional.gelu(self.linear1(hidden)))
        result: Tensor = x if self.pre_norm else self.norm2(x)
        return result


class PfnNetwork(nn.Module):
    """x (batch, points, features), y (batch, points), known (batch, points) -> (batch, points, finest buckets + 2).

    The output are log-probabilities over the finest grid, then the scales of the two tails (0: bounded); see
    `BarDistribution.of_output`. A head of fewer buckets is the fine one with neighbours merged, each coarse
    probability shared out again by width. y is read where it is known.
    """

    def __init__(self, shape: PfnShape, borders: Float[Tensor, " edges"]) -> None:
        super().__init__()
        self.shape = shape
        finest = len(borders) - 1
        if finest % shape.buckets or shape.emsize % shape.heads:
            raise ValueError(f"{shape.buckets} buckets must divide {finest}, {shape.heads} heads {shape.emsize}")
        self.register_buffer("borders", borders[None].clone())
        self.embed_x = nn.Linear(shape.features, shape.emsize)
        self.embed_y = nn.Linear(1, shape.emsize)
        self.blocks = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.emsize) if shape.pre_norm else nn.Identity()
        self.hidden = nn.Linear(shape.emsize, shape.nhid)
        self.head = nn.Linear(shape.nhid, finest)

    def forward(
        self,
        x: Float[Tensor, "batch points features"],
        y: Float[Tensor, "batch points"],
        known: Bool[Tensor, "batch points"],
    ) -> Float[Tensor, "batch points outputs"]:
        allowed = known[:, None, :].expand(-1, x.shape[1], -1)
        if self.shape.attends_itself:
            allowed = allowed | torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        tokens = self._tokens(x, y, known)
        for block in self.blocks:
            tokens = block(tokens, allowed)
        return self._with_scales(self._decoded(tokens))

    def context(
        self,
        x: Float[Tensor, "batch context features"],
        y: Float[Tensor, "batch context"],
        known: Bool[Tensor, "batch context"] | None = None,
    ) -> list[Memory]:
        """All that queries need of the context, for each layer. `known`: which points count (default: all)."""
        tokens = self._tokens(x, y, torch.ones_like(y, dtype=torch.bool) if known is None else known)
        allowed = torch.ones(len(x), x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
        if known is not None:
            allowed = known[:, None, :].expand_as(allowed)
        memory = []
        for block in self.blocks:
            assert isinstance(block, Layer)
            _, keys, values = block.attention.projected(block.read(tokens))
            memory.append(Memory(keys, values, known))
            tokens = block(tokens, allowed)
        return memory

    def answers(
        self, memory: list[Memory], x: Float[Tensor, "batch queries features"]
    ) -> Float[Tensor, "batch queries outputs"]:
        """What `forward` gives for queries beside the context of `memory`; costs queries * context."""
        parts = [self._with_scales(self.log_probs(memory, part)) for part in torch.split(x, CHUNK, 1)]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def log_probs(
        self, memory: list[Memory], x: Float[Tensor, "batch queries features"]
    ) -> Float[Tensor, "batch queries buckets"]:
        """`answers` without the scales, all queries at once: quickest for `CHUNK` of them."""
        tokens = self.embed_x(x)
        for block, held in zip(self.blocks, memory, strict=True):
            assert isinstance(block, Layer)
            tokens = block.of_queries(tokens, held)
        return self._decoded(tokens)

    def _tokens(self, x: Tensor, y: Tensor, known: Tensor) -> Tensor:
        labels = self.embed_y(torch.where(known, y, 0)[..., None])
        tokens: Tensor = self.embed_x(x) + labels * known[..., None]
        return tokens

    def _decoded(self, tokens: Tensor) -> Tensor:
        """Log-probabilities over the finest grid."""
        logits = self.head(functional.gelu(self.hidden(self.norm(tokens))))
        log_probs = torch.log_softmax(logits, -1)
        size = log_probs.shape[-1] // self.shape.buckets
        if size > 1:
            borders = self.get_buffer("borders").to(log_probs.dtype)
            log_probs = spread(merged(log_probs, size), borders, size)
        return log_probs

    def _with_scales(self, log_probs: Tensor) -> Tensor:
        borders = self.get_buffer("borders").to(log_probs.dtype)
        scales = tail_scales(borders) if self.shape.tails else torch.zeros_like(borders[:, :2])
        return torch.cat([log_probs, scales.expand(*log_probs.shape[:-1], 2)], -1)


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
