"""Once-for-All on ResNet-50-D (Cai et al., ICLR 2020): elastic depth, width, expansion and resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from archfront.spaces._blocks import Block
from archfront.spaces._channels import Axis, Channels
from archfront.spaces._choices import Ordinal
from archfront.spaces._condition import IndexBelow
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces.supernets._bottleneck import SHAPES, BottleneckNet, BottleneckShape
from archfront.spaces.supernets._image_supernet import DROPOUT, ImageSupernet, outputs_of
from archfront.spaces.supernets._once_for_all_resnet import bank_tensors
from archfront.spaces.supernets._side import Shrinking

__all__ = ["ResNet50"]

EXPANSIONS = (0.2, 0.25, 0.35)
WIDTHS = (0.65, 0.8, 1.0)
RESOLUTIONS = {"small": (24, 28, 32), "full": tuple(range(128, 225, 16))}


def _space(shape: BottleneckShape, resolutions: tuple[int, ...]) -> SearchSpace:
    """The default is the whole network. expansion[b]: b is the running number at full depth."""
    stages = range(len(shape.base))
    depths = tuple(range(shape.extra + 1))

    def expansions() -> Iterator[Ordinal]:
        for number, (stage, position) in enumerate(shape.blocks):
            beyond = position - shape.base[stage]
            when = (IndexBelow(f"depth[{stage + 1}]", beyond),) if beyond >= 0 else ()
            yield _elastic("expansion", number, EXPANSIONS, when)

    return SearchSpace(
        # of no group: "depth" by itself means the stages', whose options are others
        Ordinal("depth[0]", (0, 2), default=2, elastic=True),
        *(_elastic("depth", stage + 1, depths) for stage in stages),
        *expansions(),
        *(_elastic("width", number, WIDTHS) for number in range(2 + len(stages))),
        Ordinal("resolution", resolutions, default=resolutions[-1], elastic=True),
        DROPOUT,
    )


def _elastic(group: str, index: int, options: tuple[float, ...], when: tuple[IndexBelow, ...] = ()) -> Ordinal:
    return Ordinal(f"{group}[{index}]", options, default=options[-1], elastic=True, group=group, index=index, when=when)


VARIANTS = {name: _space(shape, RESOLUTIONS[name]) for name, shape in SHAPES.items()}


class ResNet50(ImageSupernet):
    """Image (batch, channels, height, width) -> logits.

    Variants: `small` (4 stages of at most 2 blocks, an eighth of the channels, 32 pixels; smaller images are enlarged),
    and `full`, the published super-network of 18 blocks at 224 pixels, whose task `imagenet` has data only through
    --data and whose official checkpoint --supernet reads. Elastic: the first blocks of each stage, the leading
    channels of stem, stages and the middle of each block, and resolution.

    depth[0] is the stem's: 2 with its residual convolution, 0 without (1 in the published space is the same network as
    0 and therefore absent). depth[1..4] is how many blocks a stage has beyond its least. width[0] is the stem's middle,
    width[1] its output, width[2..5] the stages. In `full` the middle of the stem, a multiple of 8, has 24 channels at
    width 0.65 and at 0.8: two options, as published, but one network.
    """

    variants = VARIANTS
    search_space = VARIANTS["small"]
    sizes = {name: shape.size for name, shape in SHAPES.items()}
    shrinking = ("depth[0]", "depth", "depth", "expansion", "expansion", "width", "width")

    @property
    def shape(self) -> BottleneckShape:
        """What the variant fixes."""
        return SHAPES[self.variant]

    def build(self, config: Configuration) -> nn.Module:
        return BottleneckNet(
            self.shape,
            self._stem(config),
            self._stages(config),
            residual_stem=config["depth[0]"] > 0,
            inputs=self.signature.inputs[0].shape[0],
            outputs=self.signature.outputs,
            dropout=config["dropout"],
        )

    def _stem(self, config: Configuration) -> tuple[int, int]:
        """Channels of its middle and of its output."""
        shape = self.shape
        middle = shape.rounded(shape.rounded(shape.stem * config["width[0]"]) // 2)
        return middle, shape.rounded(shape.stem * config["width[1]"])

    def _stages(self, config: Configuration) -> list[tuple[int, list[float]]]:
        """The channels of each stage, and the expansion of each of its blocks."""
        shape = self.shape
        widths = [shape.rounded(full * config[f"width[{stage + 2}]"]) for stage, full in enumerate(shape.channels)]
        expansions: list[list[float]] = [[] for _ in widths]
        for number, (stage, position) in enumerate(shape.blocks):
            if position < shape.base[stage] + config[f"depth[{stage + 1}]"]:
                expansions[stage].append(config[f"expansion[{number}]"])
        return list(zip(widths, expansions, strict=True))

    def blocks(self, config: Configuration) -> Sequence[Block]:
        shape, (middle, outputs) = self.shape, self._stem(config)
        image = Shrinking(config["resolution"], self.signature.inputs[0].shape[0])
        image.add("stem", "stem", outputs, by=shape.stem_stride**2, middle=middle, residual=int(config["depth[0]"] > 0))
        for stage, (channels, expansions) in enumerate(self._stages(config)):
            for position, expansion in enumerate(expansions):
                how = {"middle": shape.rounded(round(channels * expansion)), "projects": int(position == 0)}
                stride = shape.strides[stage] if position == 0 else 1
                image.add(f"stages.{stage}.{position}", "bottleneck", channels, by=stride, stride=stride, **how)
        image.pooled()
        image.add("classifier", "classifier", self.signature.outputs)
        return image.blocks

    def channels(self) -> Iterator[Channels]:
        """The middles of the blocks, on both sides of their 3x3 convolution; the stem's, and what a stage hands on."""
        blocks = [f"stages.{stage}.{position}" for stage, position in self.shape.blocks]
        for block in blocks:
            narrow, kernel, widen = (f"{block}.{layer}" for layer in ("narrow", "filter", "widen"))
            yield _between("expansion", outputs_of(narrow), [(f"{kernel}.conv.weight", 1)])
            yield _between("expansion", outputs_of(kernel), [(f"{widen}.conv.weight", 1)])
        residual = outputs_of("stem.residual")
        middle: list[Axis] = [("stem.last.conv.weight", 1), ("stem.residual.conv.weight", 1)]
        yield _between("width", [*outputs_of("stem.first"), *residual], middle)
        makers, takers = outputs_of("stem.last"), []
        for stage, _ in enumerate(self.shape.channels):
            mine = [block for block in blocks if block.startswith(f"stages.{stage}.")]
            takers += [(f"{mine[0]}.narrow.conv.weight", 1), (f"{mine[0]}.shortcut.conv.weight", 1)]
            yield _between("width", makers, takers)
            makers = [*outputs_of(f"{mine[0]}.shortcut"), *(axis for b in mine for axis in outputs_of(f"{b}.widen"))]
            takers = [(f"{block}.narrow.conv.weight", 1) for block in mine[1:]]
        yield _between("width", makers, [("classifier.weight", 1), *takers])

    def read_official(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return bank_tensors(state, self.shape)


def _between(group: str, makers: list[Axis], takers: list[Axis]) -> Channels:
    """Channels between the layers that make them and those that take them: as important as the first of these finds."""
    return Channels(group, takers[0], (*makers, *takers))
