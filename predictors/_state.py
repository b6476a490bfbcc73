"""Models as JSON beside named arrays: no pickled code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["joined", "separated"]

BLOB = "blob"
"""The one key of a mapping that stands for an array."""


def separated(tree: Any, path: str, blobs: dict[str, NDArray[Any]]) -> Any:
    """`tree` as JSON; its arrays go to `blobs`, named by where they stood ("error/weight"). TypeError for objects."""
    if isinstance(tree, np.ndarray):
        if tree.dtype.hasobject:
            raise TypeError(f"{path}: an array of objects cannot be stored")
        blobs[path] = tree.copy()
        return {BLOB: path}
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, Mapping):
        return {str(name): separated(part, f"{path}/{name}", blobs) for name, part in tree.items()}
    if isinstance(tree, list | tuple):
        return [separated(part, f"{path}/{i}", blobs) for i, part in enumerate(tree)]
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"{path}: a {type(tree).__name__} cannot be stored")


def joined(tree: Any, blobs: Mapping[str, NDArray[Any]]) -> Any:
    """Inverse of `separated`, up to tuples, which come back as lists."""
    if isinstance(tree, Mapping):
        if set(tree) == {BLOB}:
            return np.array(blobs[tree[BLOB]])
        return {name: joined(part, blobs) for name, part in tree.items()}
    return [joined(part, blobs) for part in tree] if isinstance(tree, list) else tree
