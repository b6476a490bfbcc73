"""Graphs in .npz files: dense or sparse features, edges, labels, splits as indices or masks."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._data import Indices
from archfront.spaces._errors import DataError
from archfront.spaces._task import SPLITS
from archfront.spaces.graph._graph import Array, Graph, check_nodes, checked_graph, checked_labels, completed_splits

__all__ = ["Arrays", "dense", "entries", "opened", "read_graph_npz"]

LARGEST = 2**31
"""Numbers a dense feature matrix may have (8 GiB): more than that is taken for a damaged x_shape."""


def read_graph_npz(path: Path, seed: int = 0) -> Graph:
    """`x` (N, d) or CSR parts x_data (optional: all ones), x_indices, x_indptr, x_shape; `edge_index` (2, E); `y` (N,)
    with -1 for none; {train,val,test}_idx or _mask, the rest is split by `seed`.

    The names feat_* and `label`, and stacks of masks (splits, N) called {train,val,test}_masks, are known too: of
    several stored splits the first is taken. Raises DataError that names the array.
    """
    with opened(path) as arrays:
        y = checked_labels(path.name, arrays.either("y", "label"))
        rows: dict[str, Indices] = {
            name: found for name in SPLITS if (found := _rows(arrays, name, len(y))) is not None
        }
        return checked_graph(
            path.name, _features(arrays), arrays["edge_index"], y, completed_splits(path.name, y, rows, seed)
        )


class Arrays:
    """The arrays of an open archive, read when asked for; pickled objects are refused by name."""

    def __init__(self, path: Path, file: Mapping[str, Any]) -> None:
        self.what, self._file = path.name, file

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def __getitem__(self, name: str) -> Array:
        if name not in self._file:
            there = ", ".join(sorted(self._file)) or "nothing"
            raise DataError(f"{self.what} has no array {name!r}", f"it has {there}")
        try:
            array: Array = self._file[name]
        except (ValueError, zlib.error, zipfile.BadZipFile, EOFError, OSError) as error:
            if "allow_pickle" in str(error):
                raise DataError(
                    f"{self.what}: array {name!r} holds pickled objects, which are never loaded",
                    "save plain numbers: sparse features as x_data, x_indices, x_indptr, x_shape",
                ) from error
            raise DataError(f"{self.what}: array {name!r} is damaged", f"{type(error).__name__}: {error}") from error
        return array

    def either(self, name: str, other: str) -> Array:
        """The array of the first name, or of the other where only that one is there."""
        return self[other] if other in self and name not in self else self[name]


@contextmanager
def opened(path: Path) -> Iterator[Arrays]:
    """The arrays of an .npz file. Raises DataError for what is none."""
    with path.open("rb") as stream:  # np.load leaves its own open where the archive is damaged
        try:
            file: Any = np.load(stream, allow_pickle=False)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path.name} is not an .npz file", f"{type(error).__name__}: {error}") from error
        if isinstance(file, np.ndarray):
            raise DataError(f"{path.name} holds one array without a name", "save x, edge_index and y with np.savez")
        yield Arrays(path, file)


def _features(arrays: Arrays) -> Array:
    if "x" in arrays or ("x_indptr" not in arrays and "feat_indptr" not in arrays):
        return arrays["x"]  # raises the error that lists what is there
    return dense(arrays, "x" if "x_indptr" in arrays else "feat")


def dense(arrays: Arrays, prefix: str) -> NDArray[np.float32]:
    """The matrix of the CSR parts PREFIX_data (optional: all ones), _indices, _indptr and _shape. Raises DataError."""
    rows, columns, values, shape = entries(arrays, prefix)
    if shape[0] * shape[1] > LARGEST:
        raise DataError(f"{arrays.what}: '{prefix}_shape' is {list(shape)}", f"expected [N, d], N d <= {LARGEST}")
    matrix = np.zeros(shape, np.float32)
    np.add.at(matrix, (rows, columns), values.astype(np.float32))
    return matrix


def entries(arrays: Arrays, prefix: str) -> tuple[Indices, Indices, Array, tuple[int, int]]:
    """Row, column and value of each entry of a CSR matrix, and its shape. Raises DataError."""
    names = {part: f"{prefix}_{part}" for part in ("data", "indices", "indptr", "shape")}
    parts = {part: arrays[name] for part, name in names.items() if part != "data"}
    for part, array in parts.items():
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise _wrong(arrays.what, names[part], array, "(k,) integers")
    indices, indptr, shape = (parts[part].astype(np.int64) for part in ("indices", "indptr", "shape"))
    data = arrays[names["data"]] if names["data"] in arrays else np.ones(len(indices), np.float32)
    if data.shape != indices.shape or data.dtype.kind not in "fiub":
        raise _wrong(arrays.what, names["data"], data, f"{indices.shape} numbers, one per entry of {names['indices']}")
    if len(shape) != 2 or not (shape > 0).all():
        raise DataError(f"{arrays.what}: {names['shape']!r} is {shape.tolist()}", "expected [N, d], both above 0")
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise _wrong(arrays.what, names["indptr"], indptr, f"{shape[0] + 1} values ascending from 0 to {len(indices)}")
    if len(indices) and not (indices.min() >= 0 and indices.max() < shape[1]):
        raise DataError(
            f"{arrays.what}: {names['indices']!r} has values in {indices.min()}..{indices.max()}",
            f"expected columns 0..{shape[1] - 1}",
        )
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return rows, indices, data, (int(shape[0]), int(shape[1]))


def _rows(arrays: Arrays, split: str, nodes: int) -> Indices | None:
    """The split's nodes, ascending; None where the file does not say."""
    if f"{split}_idx" in arrays:
        array = arrays[f"{split}_idx"]
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise _wrong(arrays.what, f"{split}_idx", array, "(k,) integers")
        check_nodes(arrays.what, f"{split}_idx", array, nodes)
        return np.sort(array.astype(np.int64))
    for name in (f"{split}_mask", f"{split}_masks"):
        if name in arrays:
            array = arrays[name]
            if array.dtype != np.bool_ or array.ndim not in (1, 2) or array.shape[-1] != nodes or not len(array):
                raise _wrong(arrays.what, name, array, f"({nodes},) or (splits, {nodes}) bool")
            return np.flatnonzero(array if array.ndim == 1 else array[0])
    return None


def _wrong(what: str, name: str, array: Array, expected: str) -> DataError:
    return DataError(f"{what}: {name!r} has shape {array.shape} and dtype {array.dtype}", f"expected {expected}")
