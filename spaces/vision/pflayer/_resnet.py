"""Residual networks whose spatial layers are chosen block by block (resnet_pf.py of the authors' code)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces._search_space import Configuration
from archfront.spaces.vision._choice import Chosen
from archfront.spaces.vision.pflayer._operations import FULL_CONVOLUTIONS, ConvNorm, DropPath, spatial_operation

__all__ = ["BLOCKS", "RESNETS", "Block", "ResNet", "ResNetShape", "build_resnet"]

BLOCKS = ("bottleneck", "inverted", "basic")
EXPANDED = 6
"""Hidden width of the inverted block, in multiples of its inputs."""


@dataclass(frozen=True)
class ResNetShape:
    """What a variant fixes: stem channels and kernel, channels and most blocks per stage, bottleneck expansion.

    Every stage but the first halves the resolution in its first block; `stem_stride` 2 adds a 3x3 max-pool.
    """

    stem: int
    stem_kernel: int
    stem_stride: int
    planes: tuple[int, ...]
    depths: tuple[int, ...]
    expansion: int

    def number(self, stage: int, position: int) -> int:
        """The running number b of a block, counted at full depth, so that it does not move with depth."""
        return sum(self.depths[:stage]) + position


RESNETS = {
    "small": ResNetShape(16, 3, 1, (16, 32, 64), (2, 3, 2), expansion=2),
    "resnet50": ResNetShape(64, 7, 2, (64, 128, 256, 512), (3, 4, 6, 3), expansion=4),
}


class Block(nn.Module):
    """y = ReLU(shortcut(x) + E(S(R(x)))), x (batch, inputs, height, width), S the chosen spatial operation.

    bottleneck: R 1x1 to m = planes * mid_ratio, E 1x1 to planes * expansion. inverted: R 1x1 to 6 * inputs *
    mid_ratio, E 1x1 to planes, no last ReLU (MobileNetV2); a full convolution does the work of R as well
    (Fused-MBConv: in the expanded width it would have 36 times the weights). basic: no R, E 3x3 to planes; a full
    convolution gives m channels, the others keep theirs.
    """

    def __init__(
        self,
        kind: str,
        operation: str,
        inputs: int,
        planes: int,
        *,
        stride: int,
        expansion: int,
        mid_ratio: float,
        post_pool_norm: str,
        drop_path: float,
    ) -> None:
        super().__init__()
        full = operation in FULL_CONVOLUTIONS
        base = EXPANDED * inputs if kind == "inverted" else planes
        mid = max(1, round(base * mid_ratio))
        reduces = kind == "bottleneck" or (kind == "inverted" and not full)
        self.outputs = planes * expansion if kind == "bottleneck" else planes
        if reduces:
            self.reduce = ConvNorm(inputs, mid, 1)
        entering = mid if reduces else inputs
        self.spatial = spatial_operation(operation, entering, mid, post_pool_norm)
        self.expand = ConvNorm(mid if full else entering, self.outputs, 3 if kind == "basic" else 1, act=False)
        if stride != 1 or inputs != self.outputs:
            self.shortcut = ConvNorm(inputs, self.outputs, 1, stride, act=False)
        self.drop_path = DropPath(drop_path)
        self.act = nn.Identity() if kind == "inverted" else nn.ReLU(inplace=True)
        self.reduces, self.projects = reduces, stride != 1 or inputs != self.outputs

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs rows columns"]:
        kept = self.shortcut(x) if self.projects else x
        hidden = self.expand(self.spatial(self.reduce(x) if self.reduces else x))
        y: Tensor = self.act(kept + self.drop_path(hidden))
        return y


class ResNet(nn.Module):
    """Image (batch, channels, height, width) -> logits (batch, classes); blocks are stages.<s>.<b>.<kind>."""

    def __init__(self, stem: nn.Module, stages: list[list[Chosen]], head: nn.Linear) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        self.head = head

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        x = self.stem(x).contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU, pools above all
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                x = block(x)
        logits: Tensor = self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def build_resnet(shape: ResNetShape, config: Configuration, channels: int, classes: int) -> ResNet:
    """The network of a configuration. The stem keeps its width, as in the authors' code."""
    total = sum(config[f"depth[{stage}]"] for stage in range(len(shape.planes)))
    width, done = shape.stem, 0
    stages: list[list[Chosen]] = []
    for stage, planes in enumerate(shape.planes):
        blocks = []
        for position in range(config[f"depth[{stage}]"]):
            halves = stage > 0 and position == 0
            number = shape.number(stage, position)
            block = Block(
                config["block"],
                config[f"down_op[{stage}]"] if halves else config[f"spatial_op[{number}]"],
                width,
                max(1, int(planes * config["width_mult"])),
                stride=2 if halves else 1,
                expansion=shape.expansion,
                mid_ratio=config["mid_ratio"],
                post_pool_norm=config["post_pool_norm"],
                drop_path=config["drop_path"] * done / max(1, total - 1),
            )
            blocks.append(Chosen(config["block"], block))
            width, done = block.outputs, done + 1
        stages.append(blocks)
    return ResNet(_stem(shape, channels), stages, nn.Linear(width, classes))


def _stem(shape: ResNetShape, channels: int) -> nn.Module:
    body = ConvNorm(channels, shape.stem, shape.stem_kernel, shape.stem_stride)
    parts: OrderedDict[str, nn.Module] = OrderedDict(body=body)
    if shape.stem_stride > 1:
        parts["pool"] = nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(parts)
