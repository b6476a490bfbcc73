"""Vision transformers in which parameter-free layers replace every other self-attention (vit_pf.py, pit_pf.py)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces.vision._choice import Chosen
from archfront.spaces.vision.pflayer._operations import DropPath

__all__ = ["MIXERS", "EffLayer", "MixerBlock", "PoolingTransformer", "VisionTransformer"]

MIXERS = ("attn", "max3", "max5", "avg3", "identity")


class Attention(nn.Module):
    """Self-attention (batch, tokens, dim) -> the same; `heads` of a fixed width, so that heads and dim slice freely."""

    def __init__(self, dim: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.qkv = nn.Linear(dim, 3 * heads * head_width)
        self.proj = nn.Linear(heads * head_width, dim)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, tokens, head width)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, -1))
        return out


class EffLayer(nn.Module):
    """Linear dim -> ratio * dim, GELU, pool over the square token map, GELU, Linear back: one GELU on each side.

    `kind` names the pool; all pools share the two linears, for they have no weights of their own.
    """

    def __init__(self, dim: int, ratio: int, kind: str, side: int) -> None:
        super().__init__()
        self.side = side
        self.expand = nn.Linear(dim, ratio * dim)
        self.pool = _pool(kind)
        self.proj = nn.Linear(ratio * dim, dim)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        hidden = functional.gelu(self.expand(x))
        image = hidden.mT.reshape(len(x), -1, self.side, self.side)
        hidden = self.pool(image).flatten(2).mT
        out: Tensor = self.proj(functional.gelu(hidden))
        return out


def _pool(kind: str) -> nn.Module:
    if kind == "identity":
        return nn.Identity()
    size = int(kind[-1])
    return nn.AvgPool2d(size, 1, size // 2) if kind.startswith("avg") else nn.MaxPool2d(size, 1, size // 2)


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.proj = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        out: Tensor = self.proj(functional.gelu(self.expand(x)))
        return out


class MixerBlock(nn.Module):
    """x + DropPath(mixer(LN x)), then x + DropPath(MLP(LN x)); `mixer` is one of MIXERS."""

    def __init__(
        self,
        mixer: str,
        dim: int,
        *,
        side: int,
        heads: int,
        head_width: int,
        eff_ratio: int,
        mlp_ratio: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        if mixer == "attn":
            self.mixer = Chosen("attn", Attention(dim, heads, head_width))
        else:
            self.mixer = Chosen("eff", EffLayer(dim, eff_ratio, mixer, side))
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        x = x + self.drop_path(self.mixer(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class _Transformer(nn.Module):
    """Patches and a learnt position for each; the mean over tokens of the last norm goes to the head."""

    def __init__(self, patches: nn.Conv2d, position: tuple[int, ...], head: nn.Linear) -> None:
        super().__init__()
        self.patches = patches
        self.position = nn.Parameter(torch.zeros(position))
        nn.init.normal_(self.position, std=0.02)  # the authors truncate at 100 standard deviations
        self.norm = nn.LayerNorm(head.in_features, eps=1e-6)
        self.head = head

    def read_out(self, tokens: Tensor) -> Tensor:
        """Logits (batch, classes) of tokens (batch, n, dim)."""
        logits: Tensor = self.head(self.norm(tokens).mean(dim=1))
        return logits


class VisionTransformer(_Transformer):
    """ViT without a class token: image -> logits. Linear weights are drawn from N(0, 0.02^2)."""

    def __init__(self, patches: nn.Conv2d, side: int, blocks: list[MixerBlock], head: nn.Linear) -> None:
        super().__init__(patches, (1, side * side, patches.out_channels), head)
        self.blocks = nn.ModuleList(blocks)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        tokens = self.patches(x).flatten(2).mT + self.position
        for block in self.blocks:
            tokens = block(tokens)
        return self.read_out(tokens)


class PoolingTransformer(_Transformer):
    """PiT: stages of blocks; between them a depthwise 3x3 convolution of stride 2 doubles the channels.

    Linear layers keep torch's initial values, as in the authors' code.
    """

    def __init__(self, patches: nn.Conv2d, side: int, stages: list[list[MixerBlock]], head: nn.Linear) -> None:
        super().__init__(patches, (1, patches.out_channels, side, side), head)
        width = patches.out_channels
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        pools = [
            nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 3, stride=2, padding=1, groups=width * 2**i)
            for i in range(len(stages) - 1)
        ]
        self.pools = nn.ModuleList(pools)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        image: Any = self.patches(x) + self.position
        for i, stage in enumerate(self.stages):
            if i:
                image = self.pools[i - 1](image)
            side = image.shape[-1]
            tokens = image.flatten(2).mT
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                tokens = block(tokens)
            image = tokens.mT.reshape(len(x), -1, side, side)
        return self.read_out(image.flatten(2).mT)
