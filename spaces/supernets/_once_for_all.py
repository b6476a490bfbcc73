"""The state dictionaries in which Once-for-All's MobileNetV3 super-networks are published."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from archfront.spaces._errors import DataError
from archfront.spaces.supernets._mobile import MobileShape

__all__ = ["BATCH_NORM", "bank_tensors", "by_our_names"]

BATCH_NORM = "weight|bias|running_mean|running_var|num_batches_tracked"
_OUTER = (
    (r"first_conv\.conv\.weight", "stem.conv.weight"),
    (rf"first_conv\.bn\.({BATCH_NORM})", r"stem.norm.\1"),
    (r"final_expand_layer\.conv\.weight", "last.conv.weight"),
    (rf"final_expand_layer\.bn\.({BATCH_NORM})", r"last.norm.\1"),
    (r"feature_mix_layer\.conv\.weight", "features.weight"),
    (r"classifier(?:\.linear)?\.(weight|bias)", r"classifier.\1"),
)
_BLOCK = r"blocks\.(\d+)\.(?:mobile_inverted_conv|conv)\.(.+)"
_PARTS = {"inverted_bottleneck": "expand", "depth_conv": "depthwise", "point_linear": "project"}
_INNER = (
    (rf"({'|'.join(_PARTS)})\.conv(?:\.conv)?\.weight", "{}.conv.weight"),
    (r"(depth_conv)\.conv\.(\d)to(\d)_matrix", "{}.conv.{}to{}"),
    (rf"({'|'.join(_PARTS)})\.bn(?:\.bn)?\.({BATCH_NORM})", "{}.norm.{}"),
    (r"depth_conv\.se\.fc\.reduce(?:\.conv)?\.(weight|bias)", "excite.reduce.{}"),
    (r"depth_conv\.se\.fc\.expand(?:\.conv)?\.(weight|bias)", "excite.restore.{}"),
)


def bank_tensors(state: Mapping[str, Tensor], shape: MobileShape) -> dict[str, Tensor]:
    """The bank's tensors by our names. Block 0 is the one before the stages; layers of elastic blocks lie one module
    deeper than those of plain ones. Raises DataError for a name that is none of this architecture's."""
    return by_our_names(state, lambda name: _renamed(name, shape), "MobileNetV3", "ofa_mbv3")


def by_our_names(
    state: Mapping[str, Tensor], renamed: Callable[[str], str | None], architecture: str, checkpoint: str
) -> dict[str, Tensor]:
    """Every tensor by the name that `renamed` gives it. Raises DataError for a name to which it gives none."""
    found = {}
    for name, tensor in state.items():
        ours = renamed(name.removeprefix("module."))
        if ours is None:
            raise DataError(
                f"tensor {name!r} is not one of a Once-for-All {architecture}",
                f"give the checkpoint of {checkpoint}, or one that archfront has written",
            )
        found[ours] = tensor
    return found


def _renamed(name: str, shape: MobileShape) -> str | None:
    for pattern, ours in _OUTER:
        if match := re.fullmatch(pattern, name):
            return match.expand(ours)
    block = re.fullmatch(_BLOCK, name)
    if block is None:
        return None
    number = int(block[1]) - 1
    stage, position = divmod(number, shape.most)
    if stage >= len(shape.channels):
        return None
    place = "first" if number < 0 else f"stages.{stage}.{position}"
    for pattern, ours in _INNER:
        if match := re.fullmatch(pattern, block[2]):
            return f"{place}.{ours.format(*(_PARTS.get(part, part) for part in match.groups()))}"
    return None
