"""What Once-for-All's super-networks of images have in common (Cai et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from archfront.spaces._channels import Axis
from archfront.spaces._data import is_here
from archfront.spaces._model_space import ModelSpace, Recipe
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Task
from archfront.spaces.vision._images import CIFAR10, image_classification, resized

__all__ = ["DROPOUT", "ImageSupernet", "outputs_of"]

DROPOUT = Real("dropout", 0.0, 0.5, default=0.1, bins=5, role="hyperparameter")


class ImageSupernet(ModelSpace):
    """Image (batch, channels, height, width) -> logits, with an elastic parameter `resolution`.

    The variant `small` trains here; the published sizes have the task `imagenet`, whose data comes only through --data.
    """

    sizes: ClassVar[Mapping[str, int]]
    """Side of the images by variant."""
    tasks = ("cifar10", "cifar100", "digits", "fashion_mnist", "mnist")
    recipe: Recipe = {
        "backprop": {
            "optimizer": "adamw",
            "lr": Real("lr", 1e-4, 1e-2, default=2e-3, log=True, bins=16, role="hyperparameter"),
            "weight_decay": Real(
                "weight_decay", 1e-5, 0.1, default=0.01, log=True, zero=True, bins=12, role="hyperparameter"
            ),
            "batch_size": Integer("batch_size", 32, 512, default=128, log=True, role="hyperparameter"),
            "schedule": "cosine",
            "gradient_clip": 1.0,
        },
        "supernet": {
            "rule": "progressive",
            "distillation": 0.5,
            "optimizer": "adamw",
            "lr": 2e-3,
            "weight_decay": 0.01,
            "batch_size": 64,
            "schedule": "cosine",
            "gradient_clip": 1.0,
        },
    }
    epochs = 15
    paper = (
        "Once-for-All: Train One Network and Specialize it for Efficient Deployment, Cai, Gan, Wang, Zhang, Han, 2020"
    )
    year = 2020

    @classmethod
    def tasks_of(cls, variant: str) -> tuple[str, ...]:
        """`small` is for CIFAR-10, for digits where that is not on this machine."""
        if variant != "small":
            return ("imagenet",)
        first = "cifar10" if is_here(*CIFAR10) else "digits"
        return (first, *(task for task in cls.tasks if task != first))

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        return image_classification(name, data=data, seed=seed, size=cls.sizes[variant])

    def prepare(self, config: Configuration, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (resized(inputs[0], config["resolution"]),)


def outputs_of(layer: str) -> list[Axis]:
    """Where the output channels of a convolution and of its batch norm lie."""
    norm = ("weight", "bias", "running_mean", "running_var")
    return [(f"{layer}.conv.weight", 0), *((f"{layer}.norm.{tensor}", 0) for tensor in norm)]
