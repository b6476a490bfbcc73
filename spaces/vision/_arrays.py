"""Images and labels as arrays: what an .npz file must hold, and the checks that every source of images passes."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._data import SHARES, cut, split_indices
from archfront.spaces._errors import DataError

__all__ = ["Rows", "checked_images", "checked_labels", "completed", "read_npz"]

Array = NDArray[Any]
WHOLE = "all"
"""The part of a data set that has no split of its own."""
CHANNELS = 4


@dataclass(frozen=True, eq=False)
class Rows:
    """Images `x` (n, H, W[, C]) and their labels (n,) or target images, row by row."""

    x: Array
    y: Array


def read_npz(path: Path, second: str) -> dict[str, Rows]:
    """The parts of an .npz file: {"all"} from `x` and `second` ("y", "target"), or those of `x_train`, `x_val`,
    `x_test` that it has. Raises DataError that lists what is there."""
    arrays = _arrays_of(path)
    if "x" in arrays:
        names = {WHOLE: ("x", second)}
    else:
        splits = [name for name in ("train", "val", "test") if f"x_{name}" in arrays]
        names = {name: (f"x_{name}", f"{second}_{name}") for name in splits}
        if "train" not in names:
            raise _missing(path, "x" if not splits else "x_train", arrays)
    parts = {}
    for part, (x, y) in names.items():
        if y not in arrays:
            raise _missing(path, y, arrays)
        parts[part] = Rows(arrays[x], arrays[y])
        if len(parts[part].x) != len(parts[part].y):
            raise DataError(
                f"{path.name}: {x!r} has {len(arrays[x])} rows and {y!r} has {len(arrays[y])}", "they must agree"
            )
    return parts


def _arrays_of(path: Path) -> dict[str, Array]:
    """Every array of at least one axis; pickled objects are refused, other than in arrays nobody asks for."""
    try:
        with path.open("rb") as stream:  # np.load leaves its own open where the archive is damaged
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(f"{path.name} holds one array without a name", "save it with np.savez(x=..., y=...)")
            wanted = [name for name in file.files if name.partition("_")[0] in ("x", "y", "target")]
            return {name: _read(path, name, file) if name in wanted else np.empty(0) for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name} is not an .npz file", f"{type(error).__name__}: {error}") from error


def _read(path: Path, name: str, file: Mapping[str, Any]) -> Array:
    try:
        array: Array = file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{path.name}: array {name!r} holds pickled objects, which are never loaded",
            "save numbers (uint8 images, integer labels) or text of dtype str",
        ) from error
    except zlib.error as error:
        raise DataError(f"{path.name}: array {name!r} is damaged", str(error)) from error
    if array.ndim == 0:
        raise DataError(f"{path.name}: {name!r} is a single value {array!s}", "expected one row per image")
    return array


def _missing(path: Path, name: str, arrays: Mapping[str, Array]) -> DataError:
    there = ", ".join(sorted(arrays)) or "nothing"
    return DataError(f"{path.name} has no array {name!r}", f"it has {there}")


def checked_images(array: Array, what: str) -> NDArray[np.float32]:
    """(n, C, H, W) in 0..1 of images (n, H, W) or (n, H, W, C) as uint8 or float 0..1.

    `what` names file and array in the DataError for anything else.
    """
    found = f"{what} has shape {array.shape} and dtype {array.dtype}"
    expected = "expected (N, H, W) or (N, H, W, C), uint8 or float in 0..1"
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(found, expected)
    if array.ndim == 4 and array.shape[-1] > CHANNELS:
        first = ": channels come last, use x.transpose(0, 2, 3, 1)" if array.shape[1] <= CHANNELS else ""
        raise DataError(found, f"{expected} with C at most {CHANNELS}{first}")
    images = array[..., None] if array.ndim == 3 else array
    return np.ascontiguousarray(_unit_range(images, found, expected).transpose(0, 3, 1, 2))


def _unit_range(array: Array, found: str, expected: str) -> NDArray[np.float32]:
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if array.dtype.kind != "f":
        raise DataError(found, f"{expected}: integers of 0..255 must be stored as uint8")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN lands here
        raise DataError(f"{found} and values in {low:g}..{high:g}", f"{expected}: scale them")
    return array.astype(np.float32)


def checked_labels(parts: Mapping[str, Rows], what: str) -> tuple[dict[str, NDArray[np.int64]], int]:
    """(labels 0..C-1 of each part, C): integers or strings, mapped to their position among the sorted distinct ones.

    Raises DataError for other labels, for a single class, and for a class that is missing from the training part.
    """
    for part, rows in parts.items():
        if rows.y.ndim != 1 or rows.y.dtype.kind not in "iubU":
            raise DataError(
                f"{what}: labels of part {part!r} have shape {rows.y.shape} and dtype {rows.y.dtype}",
                "expected (N,) integers 0..C-1 or strings",
            )
    classes = np.unique(np.concatenate([rows.y for rows in parts.values()]))
    if len(classes) < 2:
        raise DataError(f"{what} has {len(classes)} class", "a classification needs at least two")
    if "train" in parts:
        unseen = np.setdiff1d(classes, parts["train"].y)
        if len(unseen):
            raise DataError(f"{what}: no training row has the label {unseen[0].item()!r}", "every class needs some")
    return {part: np.searchsorted(classes, rows.y).astype(np.int64) for part, rows in parts.items()}, len(classes)


def completed(
    sizes: Mapping[str, int], labels: Mapping[str, Array] | None, seed: int
) -> dict[str, tuple[str, NDArray[np.int64]]]:
    """Split name -> (part it comes from, its rows). Parts that exist are kept.

    Without any split: 60/20/20. Else a missing "val" or "test" is cut from "train": 20 % of all rows, a third of the
    training rows at most. Stratified where there are labels.
    """

    def strata(part: str) -> Array:
        return labels[part] if labels is not None else np.zeros(sizes[part], np.int64)

    if WHOLE in sizes:
        return {name: (WHOLE, rows) for name, rows in split_indices(strata(WHOLE), seed).items()}
    splits = {part: (part, np.arange(size)) for part, size in sizes.items()}
    rng = np.random.default_rng(seed)
    for name, share in SHARES.items():
        if name not in splits:
            kept = splits["train"][1]
            number = min(round(share * sum(sizes.values())), len(kept) // 3)
            kept, taken = cut(kept, strata("train"), number, rng, into=f"{name} split")
            splits["train"], splits[name] = ("train", kept), ("train", taken)
    return splits


def one_shape(shapes: Sequence[tuple[int, ...]], what: str) -> tuple[int, ...]:
    """The shape that all parts share. Raises DataError."""
    if len(set(shapes)) != 1:
        raise DataError(f"{what}: the parts have images of shapes {sorted(set(shapes))}", "they must have one shape")
    return shapes[0]
