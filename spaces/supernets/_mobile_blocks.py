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
    image = Shrinking(resolution, inputs)

    def mobile(module: str, channels: int, expansion: int, kernel: int, stride: int, *, excited: bool) -> None:
        skips = stride == 1 and image.channels == channels
        properties = {"expand": expansion, "kernel": kernel, "stride": stride, "idskip": skips, "se": excited}
        image.add(module, "MBConv", channels, by=stride, **{name: int(x) for name, x in properties.items()})

    image.add("stem", "first_conv", shape.scaled(shape.stem), by=shape.stem_stride)
    mobile("first", image.channels, 1, 3, 1, excited=False)
    for stage, blocks in enumerate(stages):
        for position, (kernel, expansion) in enumerate(blocks):
            stride = 1 if position else shape.strides[stage]
            channels = shape.scaled(shape.channels[stage])
            excited = shape.excited[stage]
            mobile(f"stages.{stage}.{position}", channels, expansion, kernel, stride, excited=excited)
    image.add("last", "final_expand_layer", shape.scaled(shape.last))
    image.pooled()
    image.add("features", "feature_mix_layer", shape.scaled(shape.features))
    image.add("classifier", "classifier", outputs)
    return image.blocks
