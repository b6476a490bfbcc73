"""MobileNetV3 blocks (Howard et al., 2019) in the sizes of Once-for-All (Cai et al., 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["SHAPES", "ConvNorm", "MobileBlock", "MobileNet", "MobileShape", "divisible", "hidden_width"]

SQUEEZE = 4
"""A squeeze-and-excitation block has a quarter of the channels in its middle."""


@dataclass(frozen=True)
class MobileShape:
    """What a variant fixes. Per stage: channels at width 1, stride of its first block, whether it squeezes and excites,
    and its activation; `most` blocks in each."""

    width: float
    size: int
    stem_stride: int
    strides: tuple[int, ...]
    most: int
    channels: tuple[int, ...] = (24, 40, 80, 112, 160)
    excited: tuple[bool, ...] = (False, True, False, True, True)
    hard_swish: tuple[bool, ...] = (False, False, True, True, True)
    stem: int = 16
    last: int = 960
    features: int = 1280

    def scaled(self, channels: int) -> int:
        """Channels at this width."""
        return divisible(channels * self.width)


SHAPES = {
    "small": MobileShape(0.5, 32, 1, (2, 2, 2, 1, 2), 2),
    "w1.0": MobileShape(1.0, 224, 2, (2, 2, 2, 1, 2), 4),
    "w1.2": MobileShape(1.2, 224, 2, (2, 2, 2, 1, 2), 4),
}


def divisible(value: float, by: int = 8) -> int:
    """The multiple of `by` nearest to `value`, not more than 10 % below it, at least `by`."""
    nearest = max(by, int(value + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * value else nearest


def hidden_width(inputs: int, expansion: float) -> int:
    """Channels in the middle of a block."""
    return divisible(round(inputs * expansion))


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, act: nn.Module, *, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = act

    def forward(self, x: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n outputs _h _w"]:
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y


class SqueezeExcite(nn.Module):
    """x * gate(mean of x over the pixels), a gate per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = divisible(channels // SQUEEZE)
        self.reduce = nn.Conv2d(channels, middle, 1)
        self.restore = nn.Conv2d(middle, channels, 1)
        self.relu, self.gate = nn.ReLU(), nn.Hardsigmoid()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        y: Tensor = x * self.gate(self.restore(self.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        return y


class MobileBlock(nn.Module):
    """Widen by 1x1, filter each channel, squeeze and excite, narrow by 1x1; x is added where the shape stays."""

    def __init__(
        self, inputs: int, outputs: int, *, middle: int, kernel: int, stride: int, excited: bool, hard_swish: bool
    ) -> None:
        super().__init__()
        act = nn.Hardswish if hard_swish else nn.ReLU
        self.shortcut = stride == 1 and inputs == outputs
        if middle != inputs:
            self.expand = ConvNorm(inputs, middle, 1, act())
        self.depthwise = ConvNorm(middle, middle, kernel, act(), stride=stride, groups=middle)
        if excited:
            self.excite = SqueezeExcite(middle)
        self.project = ConvNorm(middle, outputs, 1, nn.Identity())
        self.layers = [name for name in ("expand", "depthwise", "excite", "project") if hasattr(self, name)]

    def forward(self, x: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n outputs _h _w"]:
        y = x
        for name in self.layers:
            y = getattr(self, name)(y)
        return x + y if self.shortcut else y


class MobileNet(nn.Module):
    """Image (batch, channels, h, w) -> logits (batch, classes). `stages` holds (kernel, expansion) of each block."""

    def __init__(
        self,
        shape: MobileShape,
        stages: Iterable[Sequence[tuple[int, float]]],
        *,
        inputs: int,
        outputs: int,
        dropout: float,
    ) -> None:
        super().__init__()
        here = shape.scaled(shape.stem)
        self.stem = ConvNorm(inputs, here, 3, nn.Hardswish(), stride=shape.stem_stride)
        self.first = MobileBlock(here, here, middle=here, kernel=3, stride=1, excited=False, hard_swish=False)
        self.stages = nn.ModuleList()
        for stage, blocks in enumerate(stages):
            made = nn.ModuleList()
            for position, (kernel, expansion) in enumerate(blocks):
                there = shape.scaled(shape.channels[stage])
                made.append(
                    MobileBlock(
                        here,
                        there,
                        middle=hidden_width(here, expansion),
                        kernel=kernel,
                        stride=1 if position else shape.strides[stage],
                        excited=shape.excited[stage],
                        hard_swish=shape.hard_swish[stage],
                    )
                )
                here = there
            self.stages.append(made)
        self.last = ConvNorm(here, shape.scaled(shape.last), 1, nn.Hardswish())
        features = shape.scaled(shape.features)
        self.features = nn.Conv2d(shape.scaled(shape.last), features, 1, bias=False)
        self.act, self.dropout = nn.Hardswish(), nn.Dropout(dropout)
        self.classifier = nn.Linear(features, outputs)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        x = self.first(self.stem(x))
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x)
        x = self.features(self.last(x).mean((2, 3), keepdim=True))
        logits: Tensor = self.classifier(self.dropout(self.act(x).flatten(1)))
        return logits
