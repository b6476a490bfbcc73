"""Learning Features with Parameter-Free Layers (Han et al., ICLR 2022): pools in the place of trainable layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces._choices import Ordinal
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._model_space import ModelSpace, Recipe
from archfront.spaces._search_space import Configuration
from archfront.spaces._supernet import chunked
from archfront.spaces._task import Task
from archfront.spaces.vision._choice import cover_one_at_a_time
from archfront.spaces.vision._images import image_classification
from archfront.spaces.vision.pflayer._differentiable import chosen_operations, mix_operations
from archfront.spaces.vision.pflayer._resnet import RESNETS, ResNet, build_resnet
from archfront.spaces.vision.pflayer._tables import PRESETS, VARIANTS, epochs_of, recipe_of
from archfront.spaces.vision.pflayer._towers import PITS, VITS, build_pit, build_vit

__all__ = ["PfLayer"]

SMALLEST_SIDE = 32
IMAGENET_SIDE = 224


class PfLayer(ModelSpace):
    """Image (batch, channels, height, width) -> logits; per block a trainable or a parameter-free spatial layer.

    Variants: `small` (32 pixels, smaller images are enlarged), and at 224 pixels `resnet50`, `vit_ti`, `vit_s`,
    `vit_b`, `pit_ti`, `pit_s`, `pit_b`, whose task `imagenet` has data only through --data. PRESETS are the authors'
    nine models. Elastic: depth keeps the first blocks of each stage, widths and ratios the leading channels, heads the
    first; a choice of operation is a sub-module of its own name. The paper's supernet block may keep separate
    batch-norm statistics per kind of operation; here every sub-network's statistics are recalibrated instead.
    """

    variants = VARIANTS
    search_space = VARIANTS["small"]
    tasks = ("digits", "fashion_mnist", "mnist", "cifar10", "cifar100")
    paper = "Learning Features with Parameter-Free Layers, Han, Yun, Heo, Yoo, ICLR 2022"
    year = 2022

    @classmethod
    def tasks_of(cls, variant: str) -> tuple[str, ...]:
        return cls.tasks if variant == "small" else ("imagenet",)

    @classmethod
    def recipe_of(cls, variant: str) -> Recipe:
        return recipe_of(variant)

    @classmethod
    def epochs_of(cls, variant: str) -> int:
        return epochs_of(variant)

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        size = None if variant == "small" else IMAGENET_SIDE
        return image_classification(name, data=data, seed=seed, size=size)

    @classmethod
    def preset(cls, name: str) -> tuple[str, Configuration]:
        """(variant, configuration) of one of the authors' models, e.g. "resnet50_hybrid". Raises UnknownNameError."""
        if name not in PRESETS:
            raise UnknownNameError.of("preset of 'pflayer'", name, PRESETS)
        variant, changes = PRESETS[name]
        return variant, cls.variants[variant].fix(changes).default

    def prepare(self, config: Configuration, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Images below 32 pixels are enlarged to 32x32, bilinearly."""
        (images,) = inputs
        if min(images.shape[-2:]) >= SMALLEST_SIDE:
            return inputs
        return (functional.interpolate(images, size=(SMALLEST_SIDE, SMALLEST_SIDE), mode="bilinear"),)

    def build(self, config: Configuration) -> nn.Module:
        image, classes = self.signature.inputs[0].shape, self.signature.outputs
        if self.variant in RESNETS:
            return build_resnet(RESNETS[self.variant], config, image[0], classes)
        if self.variant in VITS:
            return build_vit(VITS[self.variant], config, image, classes)
        return build_pit(PITS[self.variant], config, image, classes)

    def mixed(self, config: Configuration, temperature: float = 1.0) -> nn.Module:
        """The network of a configuration with all candidate operations in every block, weighted by parameters named
        `alpha` (DARTS). Raises UsageError for variants and blocks whose candidates cannot be summed."""
        return mix_operations(self._resnet(config), RESNETS[self.variant], config, temperature)

    def discretised(self, net: nn.Module, config: Configuration) -> Configuration:
        """The configuration in which every block of a mixed network has its best operation."""
        assert isinstance(net, ResNet)
        return self.search_space.canonicalise({**config, **chosen_operations(net, RESNETS[self.variant], config)})

    def _resnet(self, config: Configuration) -> ResNet:
        if self.variant not in RESNETS:
            raise UsageError(f"variant {self.variant!r} has no mixed network", f"use {' or '.join(RESNETS)}")
        return build_resnet(RESNETS[self.variant], config, self.signature.inputs[0].shape[0], self.signature.outputs)

    def cover(self, fixed: Mapping[str, Any] | None = None) -> list[Configuration]:
        """Every block type with every operation in all blocks at once; for the shortcut of a first block, which the
        full width may not need, also every smaller width."""
        space = self.search_space.fix(fixed or {})
        if self.variant not in RESNETS:
            return cover_one_at_a_time(space)
        found = cover_one_at_a_time(
            space, product=("block",), inert=("post_pool_norm",), anchors={"post_pool_norm": "BN"}
        )
        widths = space["width_mult"]
        assert isinstance(widths, Ordinal)
        first = {config["block"]: config for config in reversed(found)}
        narrow = [{**config, "width_mult": width} for config in first.values() for width in widths.options[:-1]]
        return [*found, *map(space.canonicalise, narrow)]

    def slice_rule(
        self, name: str, tensor: Tensor, shape: tuple[int, ...], config: Configuration, bank_only: Mapping[str, Tensor]
    ) -> Tensor | None:
        """Queries, keys and values are three blocks on axis 0; the positions of a ViT have their channels last."""
        if ".qkv." in name:
            return chunked(tensor, shape, 3)
        if name == "position" and self.variant in VITS:
            return tensor[:, :, : shape[2]]
        return None
