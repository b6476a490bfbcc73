"""Image-to-image tasks: generative classification, super-resolution, denoising, and a user's own pairs of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from archfront.spaces._errors import DataError, UnknownNameError
from archfront.spaces._metric import METRICS
from archfront.spaces._task import Batch, Signature, Split, Task, TensorSpec
from archfront.spaces._tasks import IMAGE_METRICS, Classification, ImageToImage
from archfront.spaces.vision._arrays import checked_images, completed, one_shape, read_npz
from archfront.spaces.vision._images import image_classification

__all__ = ["IMAGE_TASKS", "NOISE_STD", "Denoising", "GenerativeClassification", "image_to_image"]

NOISE_STD = 0.3
"""Standard deviation of the noise of `denoise`; pixels lie in 0..1, noisy ones are not clipped."""
IMAGE_TASKS = ("gencls", "sr2", "denoise")

Load = Callable[[], Mapping[str, Split]]


class GenerativeClassification(ImageToImage):
    """Image -> the prototype of its class, the mean training image of the class. Metrics: error, then the image ones.

    The predicted class of an output is that of the nearest prototype.
    """

    @cached_property
    def prototypes(self) -> Tensor:
        """(classes, pixels): the distinct targets, in sorted order."""
        prototypes: Tensor = torch.unique(torch.cat([split.target for split in self.splits.values()]), dim=0)
        return prototypes

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        prototypes = self.prototypes.double().to(output.device)
        predicted = torch.cdist(output.double(), prototypes).argmin(dim=1)
        wanted = torch.cdist(target.double(), prototypes).argmin(dim=1)
        return {"error": float((predicted != wanted).double().mean()), **super().score(output, target)}

    def reference(self, metric: str) -> float | None:
        """For the error: that of always answering the commonest class."""
        if metric != "error":
            return super().reference(metric)
        target = self.split("val").target
        _, counts = torch.unique(target, dim=0, return_counts=True)
        return 1.0 - float(counts.max()) / len(target)


class Denoising(ImageToImage):
    """Image + N(0, 0.3^2) -> image. Validation and test noise is fixed; training images are clean until `corrupt`."""

    def corrupt(self, inputs: tuple[Tensor, ...], target: Tensor, generator: torch.Generator) -> Batch:
        """Fresh noise for a training batch."""
        (images,) = inputs
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        return (images + NOISE_STD * noise,), target


def image_to_image(name: str, *, data: Path | None, seed: int) -> Task:
    """The task gencls, sr2 or denoise on scikit-learn's digits, `<task>_<set>` on another named set or, with `data`,
    on a user's labelled images; `pairs` on an .npz file with `x` and `target`.

    Inputs are images (C, h, w) in 0..1, targets flat (d_y,). Raises UnknownNameError, DataError.
    """
    if name == "pairs":
        return _pairs(data, seed)
    kind, _, on = name.partition("_")
    if kind not in IMAGE_TASKS:
        raise UnknownNameError.of("image-to-image task", name, (*IMAGE_TASKS, "pairs"))
    source = _labelled(on or "digits", data, seed)
    channels, height, width = source.signature.inputs[0].shape
    pixels = channels * height * width
    if kind == "gencls":
        metrics = (METRICS["error"], *IMAGE_METRICS)
        return GenerativeClassification(
            name, _signature(source.signature.inputs[0].shape, pixels), metrics, lambda: _prototyped(source.splits)
        )
    if kind == "sr2":
        if min(height, width) < 2:
            raise DataError(f"images of {height}x{width} pixels", "super-resolution by 2 needs at least 2x2")
        signature = _signature((channels, height // 2, width // 2), pixels)
        return ImageToImage(name, signature, IMAGE_METRICS, lambda: _halved(source.splits))
    signature = _signature((channels, height, width), pixels)
    return Denoising(name, signature, IMAGE_METRICS, lambda: _noisy(source.splits, seed))


def _labelled(name: str, data: Path | None, seed: int) -> Classification:
    try:
        return image_classification(name, data=data, seed=seed)
    except DataError as error:
        if "no array 'y" not in error.message:
            raise
        hint = f"{error.hint}; images with target images, not labels, are the task 'pairs'"
        raise DataError(error.message, hint) from error


def _signature(shape: tuple[int, ...], outputs: int) -> Signature:
    return Signature("image_to_image", (TensorSpec(shape),), outputs)


def _prototyped(splits: Mapping[str, Split]) -> dict[str, Split]:
    train = splits["train"]
    images, labels = train.inputs[0].flatten(1), train.target
    prototypes = torch.stack([images[labels == kind].mean(dim=0) for kind in range(int(labels.max()) + 1)])
    return {name: Split(split.inputs, prototypes[split.target]) for name, split in splits.items()}


def _halved(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Inputs are means over 2x2 pixels; an odd last row or column is left out of them."""
    return {
        name: Split((functional.avg_pool2d(split.inputs[0], 2),), split.inputs[0].flatten(1))
        for name, split in splits.items()
    }


def _noisy(splits: Mapping[str, Split], seed: int) -> dict[str, Split]:
    noisy = {"train": Split(splits["train"].inputs, splits["train"].inputs[0].flatten(1))}
    for number, name in enumerate(("val", "test"), start=1):
        images = splits[name].inputs[0]
        noise = np.random.default_rng((seed, number)).normal(0, NOISE_STD, tuple(images.shape))
        noisy[name] = Split((images + torch.from_numpy(noise).float(),), images.flatten(1))
    return noisy


def _pairs(data: Path | None, seed: int) -> ImageToImage:
    if data is None or data.is_dir():
        raise DataError("task 'pairs' has no data of its own", "give --data an .npz file with 'x' and 'target'")
    parts = read_npz(data, "target")
    images = {part: checked_images(rows.x, f"{data.name}: 'x' of part {part!r}") for part, rows in parts.items()}
    targets = {part: checked_images(rows.y, f"{data.name}: 'target' of part {part!r}") for part, rows in parts.items()}
    shape = one_shape([x.shape[1:] for x in images.values()], f"{data.name}: 'x'")
    outputs = prod(one_shape([y.shape[1:] for y in targets.values()], f"{data.name}: 'target'"))
    splits = {
        name: Split((torch.from_numpy(images[part][rows]),), torch.from_numpy(targets[part][rows]).flatten(1))
        for name, (part, rows) in completed({part: len(x) for part, x in images.items()}, None, seed).items()
    }
    return ImageToImage("pairs", _signature(shape, outputs), IMAGE_METRICS, lambda: splits)
