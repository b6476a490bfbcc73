"""The blocks of a MobileNetV3, named as in the latency table of NSGANetV2 (Lu et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Sequence

from archfront.spaces._blocks import Block
from archfront.spaces.supernets._mobile import MobileShape
from archfront.spaces.supernets._side import Shrinking

__all__ = ["blocks_of"]


def blocks_of(
    shape: MobileShape, stages: Sequence[Sequence[tuple[int, int]]], resolution: int, *, inputs: int, outputs: int
) -> list[Block]:
    """Of an image of this side; `stages` holds (kernel, expansion) of each block."""
    image = _Mobile(resolution, inputs)
    image.add("stem", "first_conv", shape.scaled(shape.stem), by=shape.stem_stride)
    image.block("first", image.channels, expand=1, kernel=3, stride=1, se=0)
    for stage, blocks in enumerate(stages):
        for position, (kernel, expansion) in enumerate(blocks):
            stride = 1 if position else shape.strides[stage]
            how = {"expand": expansion, "kernel": kernel, "stride": stride, "se": int(shape.excited[stage])}
            image.block(f"stages.{stage}.{position}", shape.scaled(shape.channels[stage]), **how)
    image.add("last", "final_expand_layer", shape.scaled(shape.last))
    image.pooled()
    image.add("features", "feature_mix_layer", shape.scaled(shape.features))
    image.add("classifier", "classifier", outputs)
    return image.blocks


class _Mobile(Shrinking):
    def block(self, module: str, channels: int, *, expand: int, kernel: int, stride: int, se: int) -> None:
        """An inverted bottleneck; `se` is 1 where it squeezes and excites."""
        skips = int(stride == 1 and self.channels == channels)
        how = {"expand": expand, "kernel": kernel, "stride": stride, "idskip": skips, "se": se}
        self.add(module, "MBConv", channels, by=stride, **how)
