"""The sizes of ViT and PiT, and the networks of their configurations."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from archfront.spaces._errors import DataError
from archfront.spaces._search_space import Configuration
from archfront.spaces.vision.pflayer._transformer import MixerBlock, PoolingTransformer, VisionTransformer

__all__ = ["PITS", "VITS", "PitShape", "VitShape", "build_pit", "build_vit"]


@dataclass(frozen=True)
class VitShape:
    """What a ViT variant fixes; `dims` and `heads` are what may be searched, the largest is the paper's."""

    dims: tuple[int, ...]
    heads: tuple[int, ...]
    depth: int = 12
    head_width: int = 64
    patch: int = 16


@dataclass(frozen=True)
class PitShape:
    """What a PiT variant fixes. `dims` are channels per `units`, `heads` those of the first stage (doubled later)."""

    dims: tuple[int, ...]
    heads: tuple[int, ...]
    depths: tuple[int, ...]
    patch: int = 16
    stride: int = 8

    @property
    def head_width(self) -> int:
        """Width of a head in every stage."""
        return self.dims[-1]

    @property
    def units(self) -> int:
        """Channels of the first stage = dim * units."""
        return self.heads[-1]

    def number(self, stage: int, position: int) -> int:
        """The running number b of a block, counted at full depth."""
        return sum(self.depths[:stage]) + position


VITS = {
    "vit_ti": VitShape(dims=(96, 144, 192), heads=(1, 2, 3)),
    "vit_s": VitShape(dims=(192, 256, 320, 384), heads=(2, 4, 6)),
    "vit_b": VitShape(dims=(384, 512, 640, 768), heads=(4, 8, 12)),
}
PITS = {
    "pit_ti": PitShape(dims=(16, 24, 32), heads=(1, 2), depths=(2, 6, 4)),
    "pit_s": PitShape(dims=(24, 36, 48), heads=(1, 2, 3), depths=(2, 6, 4)),
    "pit_b": PitShape(dims=(32, 48, 64), heads=(2, 3, 4), depths=(3, 6, 4), patch=14, stride=7),
}


def build_vit(shape: VitShape, config: Configuration, image: tuple[int, ...], classes: int) -> VisionTransformer:
    """The ViT of a configuration for images (channels, side, side)."""
    side = _side(image, shape.patch, shape.patch)
    dim, depth = config["dim"], config["depth"]
    blocks = [
        MixerBlock(
            config[f"mixer[{i}]"],
            dim,
            side=side,
            heads=config["heads"],
            head_width=shape.head_width,
            eff_ratio=config["eff_ratio"],
            mlp_ratio=config["mlp_ratio"],
            drop_path=config["drop_path"] * i / max(1, depth - 1),
        )
        for i in range(depth)
    ]
    patches = nn.Conv2d(image[0], dim, shape.patch, shape.patch)
    return VisionTransformer(patches, side, blocks, nn.Linear(dim, classes))


def build_pit(shape: PitShape, config: Configuration, image: tuple[int, ...], classes: int) -> PoolingTransformer:
    """The PiT of a configuration for images (channels, side, side)."""
    first_side = side = _side(image, shape.patch, shape.stride)
    depths = [config[f"depth[{stage}]"] for stage in range(len(shape.depths))]
    width, done = config["dim"] * shape.units, 0
    stages = []
    for stage, depth in enumerate(depths):
        blocks = [
            MixerBlock(
                config[f"mixer[{shape.number(stage, i)}]"],
                width * 2**stage,
                side=side,
                heads=config["heads"] * 2**stage,
                head_width=shape.head_width,
                eff_ratio=config["eff_ratio"],
                mlp_ratio=config["mlp_ratio"],
                drop_path=config["drop_path"] * (done + i) / sum(depths),
            )
            for i in range(depth)
        ]
        stages.append(blocks)
        done += depth
        side = (side + 1) // 2
    patches = nn.Conv2d(image[0], width, shape.patch, shape.stride)
    head = nn.Linear(width * 2 ** (len(depths) - 1), classes)
    return PoolingTransformer(patches, first_side, stages, head)


def _side(image: tuple[int, ...], patch: int, stride: int) -> int:
    """Tokens per side. The pools need a square map."""
    if image[1] != image[2] or image[1] < patch:
        raise DataError(
            f"images of {image[1]}x{image[2]} pixels", f"transformers need square ones of at least {patch} pixels"
        )
    return (image[1] - patch) // stride + 1
