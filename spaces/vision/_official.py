"""The official files of MNIST, Fashion-MNIST (idx-ubyte), CIFAR and ImageNet-32 (python pickles), as published."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._errors import DataError
from archfront.spaces._unpickle import unpickle
from archfront.spaces.vision._arrays import Rows

__all__ = ["read_cifar", "read_idx", "read_imagenet32", "read_mnist"]

_UBYTE = 0x08
_CIFAR_PIXELS = 3 * 32 * 32


def read_mnist(folder: Path) -> dict[str, Rows]:
    """Parts "train" and "test" of a folder with {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]."""
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(_either(folder, f"{prefix}-images-idx3-ubyte"), axes=3)
        labels = read_idx(_either(folder, f"{prefix}-labels-idx1-ubyte"), axes=1)
        if len(images) != len(labels):
            raise DataError(
                f"{folder}: {prefix} has {len(images)} images and {len(labels)} labels", "fetch both files again"
            )
        parts[part] = Rows(images, labels)
    return parts


def _either(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise DataError(f"no file {name!r} or '{name}.gz' in {str(folder)!r}", "all four official files are needed")


def read_idx(path: Path, *, axes: int) -> NDArray[np.uint8]:
    """The array of an idx file, gzipped or not: bytes 0 0 type axes, one big-endian uint32 per axis, then the data.

    Raises DataError that says which of these is wrong.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be read", f"{type(error).__name__}: {error}") from error
    magic = bytes([0, 0, _UBYTE, axes])
    header = 4 + 4 * axes
    if len(content) < header or content[:4] != magic:
        raise DataError(
            f"{path.name} starts with bytes {content[:4].hex(' ')}",
            f"an idx file of uint8 with {axes} axes starts with {magic.hex(' ')}",
        )
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise DataError(f"{path.name} has {len(content)} bytes, its header {shape} needs {expected}", "fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_cifar(folder: Path, classes: int) -> dict[str, Rows]:
    """Parts "train" and "test" of cifar-10-batches-py (`classes` 10) or cifar-100-python (100, the fine labels)."""
    if classes == 10:
        files = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
        labels = "labels"
    else:
        files, labels = {"train": ["train"], "test": ["test"]}, "fine_labels"
    parts = {}
    for part, names in files.items():
        batches = [_batch(folder / name, labels, classes) for name in names]
        parts[part] = Rows(np.concatenate([b.x for b in batches]), np.concatenate([b.y for b in batches]))
    return parts


def read_imagenet32(folder: Path) -> dict[str, Rows]:
    """Parts "train" (as many train_data_batch_<i> as are there) and "test" (val_data) of the 32-pixel ImageNet.

    Its labels count from 1; the `mean` image that each file carries is not subtracted.
    """
    train = sorted(folder.glob("train_data_batch_*"), key=lambda path: (len(path.name), path.name))
    if not train:
        raise DataError(f"no file 'train_data_batch_<i>' in {str(folder)!r}", "unpack the official 32x32 version")
    batches = [_batch(path, "labels", 1000, first=1) for path in train]
    rows = Rows(np.concatenate([b.x for b in batches]), np.concatenate([b.y for b in batches]))
    return {"train": rows, "test": _batch(folder / "val_data", "labels", 1000, first=1)}


def _batch(path: Path, labels: str, classes: int, first: int = 0) -> Rows:
    if not path.exists():
        raise DataError(f"no file {path.name!r} in {str(path.parent)!r}", "unpack the official python version whole")
    content: Any = unpickle(path)
    if not isinstance(content, dict) or "data" not in content or labels not in content:
        there = ", ".join(sorted(map(str, content))) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path.name} lacks 'data' or {labels!r}", f"it has {there}")
    x, y = np.asarray(content["data"]), np.asarray(content[labels])
    if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != _CIFAR_PIXELS:
        raise DataError(f"{path.name}: 'data' has shape {x.shape} and dtype {x.dtype}", "expected (N, 3072) uint8")
    last = first + classes - 1
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or (len(y) and not first <= y.min() <= y.max() <= last):
        raise DataError(f"{path.name}: {labels!r} has shape {y.shape}", f"expected {len(x)} integers {first}..{last}")
    return Rows(x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), y - first)
