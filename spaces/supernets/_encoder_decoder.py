"""The Transformer (Vaswani et al., 2017), post-norm, in the sizes of HAT (Wang et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SHAPES", "Attention", "DecoderLayer", "EncoderDecoder", "EncoderLayer", "FeedForward", "TransformerShape"]

FIRST_POSITION = 2
"""fairseq counts positions from behind its padding token, 1, and official weights know them so."""


@dataclass(frozen=True)
class TransformerShape:
    """What a variant fixes: the width inside of attention and the numbers of layers; and the options of the rest."""

    inner: int
    encoder_layers: int
    decoder_layers: int
    widths: tuple[int, ...]
    middles: tuple[int, ...]
    heads: tuple[int, ...]
    attended: tuple[int, ...]


SHAPES = {
    "small": TransformerShape(32, 2, 2, (32, 48), (32, 64, 96), (2, 4), (-1, 1)),
    "wmt14_en_de": TransformerShape(512, 6, 6, (512, 640), (1024, 2048, 3072), (4, 8), (-1, 1, 2)),
}


class Attention(nn.Module):
    """softmax(q k' / sqrt(inner / heads)) v per head: queries of x, keys and values of the memory.

    `inner` is the width of all heads together: heads share it out, so their number changes no tensor.
    """

    def __init__(self, width: int, memory_width: int, *, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(memory_width, inner)
        self.v_proj = nn.Linear(memory_width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(
        self,
        x: Float[Tensor, "batch queries width"],
        memory: Float[Tensor, "batch keys memory_width"],
        mask: Float[Tensor, "batch 1 1 keys"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "batch queries width"]:
        """`mask` is added to the scores; `causal` lets query i see the keys 0..i only."""
        q, k, v = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for y in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory))
        )
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        out: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """W2 relu(W1 x) (eq. 2 of Vaswani et al.)."""

    def __init__(self, width: int, middle: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, middle)
        self.narrow = nn.Linear(middle, width)

    def forward(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        y: Tensor = self.narrow(self.widen(x).relu())
        return y


class EncoderLayer(nn.Module):
    """norm(x + dropout(f(x))) for f the self-attention, then the feed-forward network."""

    def __init__(self, width: int, *, inner: int, middle: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, width, inner=inner, heads=heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, middle)
        self.final_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch source width"], mask: Float[Tensor, "batch 1 1 source"]
    ) -> Float[Tensor, "batch source width"]:
        x = self.attention_norm(x + self.dropout(self.attention(x, x, mask)))
        y: Tensor = self.final_norm(x + self.dropout(self.feed_forward(x)))
        return y


class DecoderLayer(nn.Module):
    """As in the encoder, but causal, and with attention to what the encoder gives in the middle."""

    def __init__(
        self,
        width: int,
        encoder_width: int,
        *,
        inner: int,
        middle: int,
        heads: int,
        cross_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention = Attention(width, width, inner=inner, heads=heads)
        self.attention_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, encoder_width, inner=inner, heads=cross_heads)
        self.cross_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, middle)
        self.final_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch target width"],
        memory: Float[Tensor, "batch keys encoder_width"],
        mask: Float[Tensor, "batch 1 1 keys"],
    ) -> Float[Tensor, "batch target width"]:
        x = self.attention_norm(x + self.dropout(self.attention(x, x, causal=True)))
        x = self.cross_norm(x + self.dropout(self.cross_attention(x, memory, mask)))
        y: Tensor = self.final_norm(x + self.dropout(self.feed_forward(x)))
        return y


class Positions(nn.Module):
    """Sinusoids (section 3.5 of Vaswani et al.) in fairseq's order: `widest` / 2 sines, then as many cosines.

    Both sides of every sub-network take their first columns, so that a column means one frequency to shared weights.
    """

    frequencies: Tensor

    def __init__(self, widest: int, padding: int) -> None:
        super().__init__()
        self.padding, half = padding, widest // 2
        exponents = torch.arange(half) / (half - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * exponents), persistent=False)

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length widest"]:
        """Padding takes no position, on whichever side it stands."""
        places = (tokens != self.padding).cumsum(dim=1) + (FIRST_POSITION - 1)
        angles = places[..., None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class EncoderDecoder(nn.Module):
    """Source tokens (batch, source), previous target tokens (batch, target) -> logits (batch, target, vocabulary).

    One table embeds both languages and gives the logits. Its rows are as wide as the wider side; each side uses its
    first columns. `seen` says of each decoder layer to how many of the last encoder layers it attends: their outputs
    are one long memory (HAT, section 2.1).
    """

    def __init__(
        self,
        vocabulary: int,
        encoder_width: int,
        decoder_width: int,
        encoder: Sequence[EncoderLayer],
        decoder: Sequence[DecoderLayer],
        *,
        seen: Sequence[int],
        widest: int,
        dropout: float,
        padding: int,
    ) -> None:
        super().__init__()
        self.encoder_width, self.decoder_width = encoder_width, decoder_width
        self.seen, self.padding = tuple(seen), padding
        self.embedding = nn.Embedding(vocabulary, max(encoder_width, decoder_width))
        self.positions = Positions(widest, padding)
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.dropout = nn.Dropout(dropout)
        self._initialise()

    def _initialise(self) -> None:
        """As fairseq does: with this deviation the scaled embeddings have variance 1."""
        nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, source: Int[Tensor, "batch source"], previous: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocabulary"]:
        """Logit i is for the target token behind the previous tokens 0..i. Padding of `previous` must be at its end:
        there no earlier token sees it."""
        mask, encoded = self._mask(source), []
        x = self._embedded(source, self.encoder_width)
        for layer in self.encoder:
            x = layer(x, mask)
            encoded.append(x)
        y = self._embedded(previous, self.decoder_width)
        for layer, seen in zip(self.decoder, self.seen, strict=True):
            y = layer(y, torch.cat(encoded[-seen:], dim=1), mask.repeat(1, 1, 1, seen))
        return functional.linear(y, self.embedding.weight[:, : self.decoder_width])

    def _embedded(self, tokens: Int[Tensor, "batch length"], width: int) -> Float[Tensor, "batch length _width"]:
        embedded = self.embedding(tokens)[..., :width] * math.sqrt(width)
        y: Tensor = self.dropout(embedded + self.positions(tokens)[..., :width])
        return y

    def _mask(self, tokens: Int[Tensor, "batch source"]) -> Float[Tensor, "batch 1 1 source"]:
        """What is added to the scores of keys: nothing for a word, a number that leaves no weight for padding, but
        finite, so that a sentence of padding alone gives no NaN."""
        scores = self.embedding.weight.new_zeros(tokens.shape)
        return scores.masked_fill(tokens == self.padding, torch.finfo(scores.dtype).min)[:, None, None]
