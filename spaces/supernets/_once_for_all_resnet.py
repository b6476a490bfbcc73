"""The state dictionaries in which Once-for-All's ResNet-50 super-network is published."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from archfront.spaces.supernets._bottleneck import BottleneckShape
from archfront.spaces.supernets._once_for_all import BATCH_NORM, by_our_names

__all__ = ["bank_tensors"]

_STEM = {"0": "first", "1.conv": "residual", "2": "last"}
_BLOCK = {"conv1": "narrow", "conv2": "filter", "conv3": "widen", "downsample": "shortcut"}
_LAYER = (
    (r"conv(?:\.conv)?\.weight", "conv.weight"),
    (rf"bn(?:\.bn)?\.({BATCH_NORM})", r"norm.\1"),
)


def bank_tensors(state: Mapping[str, Tensor], shape: BottleneckShape) -> dict[str, Tensor]:
    """The bank's tensors by our names. Blocks are counted at full depth; layers of elastic blocks lie one module deeper
    than those of plain ones. Raises DataError for a name that is none of this architecture's."""
    return by_our_names(state, lambda name: _renamed(name, shape), "ResNet-50", "ofa_resnet50")


def _renamed(name: str, shape: BottleneckShape) -> str | None:
    if match := re.fullmatch(r"classifier(?:\.linear){1,2}\.(weight|bias)", name):
        return f"classifier.{match[1]}"
    if match := re.fullmatch(r"input_stem\.(0|1\.conv|2)\.(.+)", name):
        return _within(f"stem.{_STEM[match[1]]}", match[2])
    if match := re.fullmatch(rf"blocks\.(\d+)\.({'|'.join(_BLOCK)})\.(.+)", name):
        number = int(match[1])
        if number < len(shape.blocks):
            stage, position = shape.blocks[number]
            return _within(f"stages.{stage}.{position}.{_BLOCK[match[2]]}", match[3])
    return None


def _within(layer: str, rest: str) -> str | None:
    for pattern, ours in _LAYER:
        if match := re.fullmatch(pattern, rest):
            return f"{layer}.{match.expand(ours)}"
    return None
