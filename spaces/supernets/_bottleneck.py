"""ResNet-D bottlenecks (He et al., 2019, "Bag of tricks") in the sizes of Once-for-All (Cai et al., 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces.supernets._mobile import ConvNorm, divisible

__all__ = ["SHAPES", "BottleneckNet", "BottleneckShape"]


@dataclass(frozen=True)
class BottleneckShape:
    """What a variant fixes. Per stage: channels at width 1, stride of its first block, and how many blocks it has at
    least; `extra` more at most. All channels are multiples of `multiple`; a stem of stride 2 ends in pooling."""

    size: int
    multiple: int
    stem: int
    stem_stride: int
    channels: tuple[int, ...]
    base: tuple[int, ...]
    extra: int
    strides: tuple[int, ...] = (1, 2, 2, 2)

    def rounded(self, channels: float) -> int:
        """A legal number of channels."""
        return divisible(channels, self.multiple)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(stage, position in it) of each block at full depth, by its running number."""
        return [(stage, position) for stage, base in enumerate(self.base) for position in range(base + self.extra)]


SHAPES = {
    # multiples of 8 would leave narrow layers one width for all options
    "small": BottleneckShape(32, 1, 16, 1, (32, 64, 128, 256), (1, 1, 1, 1), 1),
    "full": BottleneckShape(224, 8, 64, 2, (256, 512, 1024, 2048), (2, 2, 4, 2), 2),
}


class Stem(nn.Module):
    """Three 3x3 convolutions instead of one of 7x7 (ResNet-C); the middle one, which may be absent, is residual."""

    def __init__(self, inputs: int, outputs: int, *, middle: int, residual: bool, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, middle, 3, nn.ReLU(), stride=stride)
        if residual:
            self.residual = ConvNorm(middle, middle, 3, nn.ReLU())
        self.last = ConvNorm(middle, outputs, 3, nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, padding=1) if stride > 1 else nn.Identity()

    def forward(self, x: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n outputs _h _w"]:
        x = self.first(x)
        if hasattr(self, "residual"):
            x = x + self.residual(x)
        y: Tensor = self.pool(self.last(x))
        return y


class Bottleneck(nn.Module):
    """relu(shortcut(x) + y), y: narrow by 1x1, filter by 3x3, widen by 1x1. A shortcut that projects averages the
    pixels before its 1x1 convolution, which a stride would skip (ResNet-D)."""

    def __init__(self, inputs: int, outputs: int, *, middle: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.narrow = ConvNorm(inputs, middle, 1, nn.ReLU())
        self.filter = ConvNorm(middle, middle, 3, nn.ReLU(), stride=stride)
        self.widen = ConvNorm(middle, outputs, 1, nn.Identity())
        self.pool = (
            nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
        )
        self.shortcut = ConvNorm(inputs, outputs, 1, nn.Identity()) if projects else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n outputs _h _w"]:
        y: Tensor = self.act(self.shortcut(self.pool(x)) + self.widen(self.filter(self.narrow(x))))
        return y


class BottleneckNet(nn.Module):
    """Image (batch, channels, h, w) -> logits (batch, classes). `stem` is its channels (middle, output), `stages` the
    channels of each and its blocks' expansions."""

    def __init__(
        self,
        shape: BottleneckShape,
        stem: tuple[int, int],
        stages: Iterable[tuple[int, Sequence[float]]],
        *,
        residual_stem: bool,
        inputs: int,
        outputs: int,
        dropout: float,
    ) -> None:
        super().__init__()
        middle, here = stem
        self.stem = Stem(inputs, here, middle=middle, residual=residual_stem, stride=shape.stem_stride)
        self.stages = nn.ModuleList()
        for stride, (there, expansions) in zip(shape.strides, stages, strict=True):
            made = nn.ModuleList()
            for position, expansion in enumerate(expansions):
                # only the first block of a stage changes the shape; it projects at every width, so no name moves
                first = position == 0
                made.append(
                    Bottleneck(
                        here,
                        there,
                        middle=shape.rounded(round(there * expansion)),
                        stride=stride if first else 1,
                        projects=first,
                    )
                )
                here = there
            self.stages.append(made)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(here, outputs)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        x = self.stem(x)
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x)
        logits: Tensor = self.classifier(self.dropout(x.mean((2, 3))))
        return logits
