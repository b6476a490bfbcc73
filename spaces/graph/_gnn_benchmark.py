"""Coauthor and Amazon graphs as Shchur et al. (2018) publish them: one .npz with the parts of two CSR matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from archfront.spaces._data import Indices
from archfront.spaces._errors import DataError
from archfront.spaces.graph._graph import Graph, checked_graph, checked_labels
from archfront.spaces.graph._npz import dense, entries, opened

__all__ = ["read_gnn_benchmark"]

TRAIN_PER_CLASS = 20
VALIDATION_PER_CLASS = 30


def read_gnn_benchmark(path: Path, seed: int = 0, *, largest_component: bool = False) -> Graph:
    """adj_* and attr_* (data, indices, indptr, shape) and `labels` (N,). Features are 0 or 1; self loops are dropped;
    `largest_component` keeps the nodes of that one only.

    By `seed` 20 nodes of each class are for training, 30 for validation, the rest for testing. Raises DataError that
    names the array.
    """
    with opened(path) as arrays:
        x = (dense(arrays, "attr") > 0).astype(np.float32)
        sources, targets, _, shape = entries(arrays, "adj")
        y = checked_labels(path.name, arrays["labels"])
    if shape != (len(x), len(x)) or len(y) != len(x):
        raise DataError(
            f"{path.name}: 'adj' has shape {shape}, 'attr' has {len(x)} rows, 'labels' {len(y)}", "they must agree"
        )
    edges = np.stack([sources, targets])[:, sources != targets]
    if largest_component:
        kept = _largest_component(edges, len(x))
        number = np.full(len(x), -1, np.int64)
        number[kept] = np.arange(len(kept))
        x, y, edges = x[kept], y[kept], number[edges[:, number[edges[0]] >= 0]]
    return checked_graph(path.name, x, edges, y, _split(path.name, y, seed))


def _largest_component(edges: Indices, nodes: int) -> Indices:
    """Its nodes, ascending."""
    adjacency = coo_matrix((np.ones(edges.shape[1], np.int8), (edges[0], edges[1])), shape=(nodes, nodes))
    _, component = connected_components(adjacency, directed=False)
    return np.flatnonzero(component == np.bincount(component).argmax())


def _split(what: str, y: Indices, seed: int) -> dict[str, Indices]:
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Indices]] = {"train": [], "val": [], "test": []}
    for label in np.unique(y[y >= 0]):
        rows = rng.permutation(np.flatnonzero(y == label))
        first, second = TRAIN_PER_CLASS, TRAIN_PER_CLASS + VALIDATION_PER_CLASS
        if len(rows) <= second:
            raise DataError(f"{what}: class {label} has {len(rows)} nodes", f"expected more than {second}")
        for name, part in zip(parts, (rows[:first], rows[first:second], rows[second:]), strict=True):
            parts[name].append(part)
    return {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}
