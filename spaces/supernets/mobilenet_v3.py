"""Once-for-All on MobileNetV3 (Cai et al., ICLR 2020): elastic depth, width, kernel and resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces._blocks import Block
from archfront.spaces._channels import Channels
from archfront.spaces._choices import Ordinal
from archfront.spaces._condition import IndexBelow
from archfront.spaces._parameter import Parameter
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._supernet import corner
from archfront.spaces.supernets._image_supernet import DROPOUT, ImageSupernet, outputs_of
from archfront.spaces.supernets._mobile import SHAPES, MobileNet, MobileShape
from archfront.spaces.supernets._mobile_blocks import blocks_of
from archfront.spaces.supernets._once_for_all import bank_tensors

__all__ = ["MobileNetV3"]

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
RESOLUTIONS = {"small": (24, 28, 32), "w1.0": tuple(range(128, 225, 4)), "w1.2": tuple(range(128, 225, 4))}


def _space(shape: MobileShape, resolutions: tuple[int, ...]) -> SearchSpace:
    """kernel[b] and expansion[b]: b is the running number at full depth. The default is the whole network."""
    stages = range(len(shape.channels))
    depths = tuple(range(2 if shape.most > 2 else 1, shape.most + 1))
    depth = [Ordinal(f"depth[{s}]", depths, default=depths[-1], elastic=True, group="depth", index=s) for s in stages]

    def per_block(name: str, options: tuple[int, ...]) -> Iterator[Parameter]:
        for stage in stages:
            for position in range(shape.most):
                number = stage * shape.most + position
                when = (IndexBelow(f"depth[{stage}]", position),) if position >= depths[0] else ()
                yield Ordinal(
                    f"{name}[{number}]",
                    options,
                    default=options[-1],
                    elastic=True,
                    group=name,
                    index=number,
                    when=when,
                )

    return SearchSpace(
        *depth,
        *per_block("kernel", KERNELS),
        *per_block("expansion", EXPANSIONS),
        Ordinal("resolution", resolutions, default=resolutions[-1], elastic=True),
        DROPOUT,
    )


VARIANTS = {name: _space(shape, RESOLUTIONS[name]) for name, shape in SHAPES.items()}


class MobileNetV3(ImageSupernet):
    """Image (batch, channels, height, width) -> logits.

    Variants: `small` (width 0.5, 5 stages of at most 2 blocks, 32 pixels; smaller images are enlarged), and at 224
    pixels `w1.0` and `w1.2`, the published super-networks of 20 blocks, whose task `imagenet` has data only through
    --data and whose official checkpoints --supernet reads. Elastic: the first blocks of each stage, the leading
    channels in the middle of a block, resolution, and kernels: a 5x5 kernel is the centre of the 7x7 one, transformed
    by a learned 25x25 matrix, a 3x3 kernel the centre of that one, by a 9x9 matrix (section 3.3).
    """

    variants = VARIANTS
    search_space = VARIANTS["small"]
    sizes = {name: shape.size for name, shape in SHAPES.items()}
    shrinking = ("kernel", "depth", "depth", "expansion", "expansion")

    @property
    def shape(self) -> MobileShape:
        """What the variant fixes."""
        return SHAPES[self.variant]

    def build(self, config: Configuration) -> nn.Module:
        stages = self._stages(config)
        inputs, outputs = self.signature.inputs[0].shape[0], self.signature.outputs
        return MobileNet(self.shape, stages, inputs=inputs, outputs=outputs, dropout=config["dropout"])

    def _stages(self, config: Configuration) -> list[list[tuple[int, int]]]:
        """(kernel, expansion) of each block of each stage."""
        most = self.shape.most
        return [
            [(config[f"kernel[{most * s + j}]"], config[f"expansion[{most * s + j}]"]) for j in range(depth)]
            for s, depth in enumerate(config[f"depth[{s}]"] for s in range(len(self.shape.channels)))
        ]

    def blocks(self, config: Configuration) -> Sequence[Block]:
        inputs, outputs = self.signature.inputs[0].shape[0], self.signature.outputs
        return blocks_of(self.shape, self._stages(config), config["resolution"], inputs=inputs, outputs=outputs)

    def bank_only(self) -> Mapping[str, Tensor]:
        """The matrices that make smaller kernels, at first the identity: then a smaller kernel is the centre."""
        return {
            f"{_depthwise(s, j)}.{size}to{size - 2}": torch.eye((size - 2) ** 2)
            for s, j in self._blocks()
            for size in KERNELS[1:]
        }

    def slice_rule(
        self, name: str, tensor: Tensor, shape: tuple[int, ...], config: Configuration, bank_only: Mapping[str, Tensor]
    ) -> Tensor | None:
        if not name.endswith(".depthwise.conv.weight") or not name.startswith("stages."):
            return None
        block = name.removesuffix(".weight")
        weight = tensor[: shape[0]]
        for size in range(weight.shape[-1] - 2, shape[-1] - 1, -2):
            centre = corner(weight, (*weight.shape[:2], size, size))
            matrix = bank_only[f"{block}.{size + 2}to{size}"]
            weight = functional.linear(centre.flatten(2), matrix).view(*weight.shape[:2], size, size)
        return weight

    def channels(self) -> Iterator[Channels]:
        """The middles of the blocks, by the weights with which they are used; those of the gates likewise."""
        for stage, position in self._blocks():
            block = f"stages.{stage}.{position}"
            middle = [
                (f"{block}.project.conv.weight", 1),
                *outputs_of(f"{block}.expand"),
                *outputs_of(f"{block}.depthwise"),
            ]
            if self.shape.excited[stage]:
                reduce, restore = f"{block}.excite.reduce", f"{block}.excite.restore"
                middle += [(f"{reduce}.weight", 1), (f"{restore}.weight", 0), (f"{restore}.bias", 0)]
                gate = ((f"{restore}.weight", 1), (f"{reduce}.weight", 0), (f"{reduce}.bias", 0))
                yield Channels("expansion", gate[0], gate)
            yield Channels("expansion", middle[0], tuple(middle))

    def _blocks(self) -> list[tuple[int, int]]:
        """(stage, position) of every block that can be there."""
        return [(s, j) for s in range(len(self.shape.channels)) for j in range(self.shape.most)]

    def read_official(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return bank_tensors(state, self.shape)


def _depthwise(stage: int, position: int) -> str:
    return f"stages.{stage}.{position}.depthwise.conv"
