"""Image classification tasks: named data sets whose signatures are known without loading, and a user's own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from archfront.spaces._data import data_folder, find
from archfront.spaces._errors import DataError, UnknownNameError
from archfront.spaces._task import Signature, Split, TensorSpec
from archfront.spaces._tasks import CLASSIFICATION_METRICS, Classification
from archfront.spaces.vision._arrays import Rows, checked_images, checked_labels, completed, one_shape, read_npz
from archfront.spaces.vision._folder import read_image_folder
from archfront.spaces.vision._official import read_cifar, read_imagenet32, read_mnist

__all__ = ["CIFAR10", "NAMED", "image_classification", "load_rows", "resized", "user_rows"]

CIFAR10 = ("cifar-10-batches-py", "vision/cifar10_4k.npz")
"""Where CIFAR-10, or a part of it, may lie."""


@dataclass(frozen=True)
class ImageSet:
    """A named data set: shape (channels, height, width) of its images, number of classes, how its parts are read."""

    shape: tuple[int, int, int]
    classes: int
    read: Callable[[], dict[str, Rows]]


def image_classification(name: str, *, data: Path | None, seed: int, size: int | None = None) -> Classification:
    """The task `name` on its own data set, loaded when a split is first asked for, or on a user's file or folder.

    Inputs are (C, H, W) float32 in 0..1, brought to `size` squared if given. Official test sets are kept; what is
    missing is cut from the rest (20 % of all rows each), stratified by class, by `seed`.
    Raises UnknownNameError, and DataError for a file that does not fit.
    """
    if name not in NAMED:
        raise UnknownNameError.of("image set", name, NAMED)
    named = NAMED[name]
    if data is None:
        channels, height, width = named.shape
        shape = (channels, size or height, size or width)
        return _classification(name, shape, named.classes, lambda: load_rows(named.read(), name, seed, size))
    splits = load_rows(user_rows(data, size), data.name, seed, size)
    classes = 1 + max(int(split.target.max()) for split in splits.values())
    return _classification(name, tuple(splits["train"].inputs[0].shape[1:]), classes, lambda: splits)


def _classification(
    name: str, shape: tuple[int, ...], classes: int, load: Callable[[], Mapping[str, Split]]
) -> Classification:
    signature = Signature("image_classification", (TensorSpec(shape),), classes)
    return Classification(name, signature, CLASSIFICATION_METRICS, load)


def user_rows(path: Path, size: int | None = None) -> dict[str, Rows]:
    """The parts of an .npz file with `x` and `y`, or of an image folder."""
    return read_image_folder(path, size) if path.is_dir() else read_npz(path, "y")


def load_rows(parts: Mapping[str, Rows], what: str, seed: int, size: int | None = None) -> dict[str, Split]:
    """Checked train, val and test splits of labelled images. Raises DataError that names `what` and the array."""
    images = {part: checked_images(rows.x, f"{what}: {_array_name('x', part)}") for part, rows in parts.items()}
    one_shape([x.shape[1:] for x in images.values()], what)
    labels, _ = checked_labels(parts, what)
    rows_of = completed({part: len(x) for part, x in images.items()}, {p: r.y for p, r in parts.items()}, seed)
    return {
        name: Split((resized(torch.from_numpy(images[part][rows]), size),), torch.from_numpy(labels[part][rows]))
        for name, (part, rows) in rows_of.items()
    }


def resized(images: Tensor, size: int | None) -> Tensor:
    """Images (n, C, H, W) brought to `size` squared: bilinear, averaging where they shrink."""
    if size is None or tuple(images.shape[-2:]) == (size, size):
        return images
    return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)


def _array_name(name: str, part: str) -> str:
    return repr(name if part == "all" else f"{name}_{part}")


def _digits() -> dict[str, Rows]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return {"all": Rows((bunch.images / 16).astype("float32"), bunch.target)}


def _mnist_like(folders: tuple[str, ...], fallback: str) -> Callable[[], dict[str, Rows]]:
    def read() -> dict[str, Rows]:
        path = find(*folders, fallback)
        return read_mnist(path) if path.is_dir() else read_npz(path, "y")

    return read


def _cifar(classes: int, *places: str) -> Callable[[], dict[str, Rows]]:
    def read() -> dict[str, Rows]:
        path = find(*places)
        return read_cifar(path, classes) if path.is_dir() else read_npz(path, "y")

    return read


def _imagenet() -> dict[str, Rows]:
    raise DataError(
        f"task 'imagenet' has no data of its own in {str(data_folder())!r}",
        "give --data an image folder (train/class/file) or an .npz file",
    )


NAMED: Mapping[str, ImageSet] = {
    "digits": ImageSet((1, 8, 8), 10, _digits),
    "fashion_mnist": ImageSet(
        (1, 28, 28), 10, _mnist_like(("fashion_mnist", "FashionMNIST/raw"), "vision/fashion_sprite_900.npz")
    ),
    "mnist": ImageSet((1, 28, 28), 10, _mnist_like(("mnist", "MNIST/raw"), "vision/mnist_10k.npz")),
    "cifar10": ImageSet((3, 32, 32), 10, _cifar(10, *CIFAR10)),
    "cifar100": ImageSet((3, 32, 32), 100, _cifar(100, "cifar-100-python")),
    "imagenet32": ImageSet((3, 32, 32), 1000, lambda: read_imagenet32(find("imagenet32"))),
    "imagenet": ImageSet((3, 224, 224), 1000, _imagenet),
}
