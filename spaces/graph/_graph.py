"""One graph in memory with its node labels and splits: the checks that every source of graphs passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from archfront.spaces._data import Indices, split_indices
from archfront.spaces._errors import DataError
from archfront.spaces._task import SPLITS, Signature, Split, TensorSpec

__all__ = ["Array", "Graph", "checked_graph", "checked_labels", "completed_splits", "graph_signature", "undirected"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Graph:
    """x (N, d) float32, edge_index (2, E) int64 with each edge both ways, y (N,) int64 (-1 none), rows per split."""

    x: NDArray[np.float32]
    edge_index: Indices
    y: Indices
    rows: Mapping[str, Indices]

    @property
    def signature(self) -> Signature:
        """Node and edge counts are part of it."""
        nodes, features = self.x.shape
        return graph_signature(nodes, self.edge_index.shape[1], features, int(self.y.max()) + 1)

    def splits(self) -> dict[str, Split]:
        """All splits share the graph's tensors and differ in their rows."""
        inputs = (torch.from_numpy(self.x), torch.from_numpy(self.edge_index))
        target = torch.from_numpy(self.y)
        return {name: Split(inputs, target, torch.from_numpy(rows)) for name, rows in self.rows.items()}


def graph_signature(nodes: int, edges: int, features: int, classes: int) -> Signature:
    """(x, edge_index) -> logits; `edges` counts both directions."""
    inputs = (TensorSpec((nodes, features)), TensorSpec((2, edges), "int64", nodes))
    return Signature("node_classification", inputs, classes, batched=False)


def checked_graph(what: str, x: Array, edge_index: Array, y: Indices, rows: Mapping[str, Indices]) -> Graph:
    """The graph of these arrays, made undirected. DataErrors name `what` and the array, and what was expected."""
    found = f"{what}: 'x' has shape {x.shape} and dtype {x.dtype}"
    if x.ndim != 2 or 0 in x.shape or x.dtype.kind not in "fiub":
        raise DataError(found, "expected (N, d) numbers, one row per node")
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        node, feature = np.argwhere(~np.isfinite(x))[0]
        raise DataError(
            f"{what}: 'x' of node {node}, feature {feature}, is {x[node, feature]}", "expected finite values"
        )
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.dtype.kind not in "iu":
        raise DataError(
            f"{what}: 'edge_index' has shape {edge_index.shape} and dtype {edge_index.dtype}",
            "expected (2, E) integers: sources and targets",
        )
    check_nodes(what, "edge_index", edge_index, len(x))
    if len(y) != len(x):
        raise DataError(f"{what}: 'x' has {len(x)} rows and 'y' has {len(y)}", "they must agree")
    return Graph(np.ascontiguousarray(x), undirected(edge_index.astype(np.int64), len(x)), y, rows)


def check_nodes(what: str, name: str, array: Array, nodes: int) -> None:
    """Raise DataError unless every number is that of a node."""
    if array.size and not (array.min() >= 0 and array.max() < nodes):
        raise DataError(
            f"{what}: {name!r} has values in {array.min()}..{array.max()}", f"expected node numbers 0..{nodes - 1}"
        )


def checked_labels(what: str, y: Array) -> Indices:
    """Labels 0..C-1, -1 for none: integers, mapped to their position among the sorted distinct ones."""
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(f"{what}: 'y' has shape {y.shape} and dtype {y.dtype}", "expected (N,) integers, -1 for none")
    if len(y) and y.min() < -1:
        raise DataError(f"{what}: 'y' has the value {y.min()}", "expected classes 0, 1, ... and -1 for none")
    labels = y.astype(np.int64)
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        raise DataError(f"{what}: 'y' has {len(classes)} classes", "a classification needs at least two")
    return np.where(labels >= 0, np.searchsorted(classes, labels), -1).astype(np.int64)


def completed_splits(what: str, y: Indices, rows: Mapping[str, Indices], seed: int) -> dict[str, Indices]:
    """Every split. Without any: 60/20/20 of the labelled nodes, stratified; else the missing ones share, evenly and at
    random, the labelled nodes that no given split uses.

    Raises DataError for rows that are empty, not labelled, repeated, or in two splits.
    """
    for name, given in rows.items():
        if not len(given):
            raise DataError(f"{what}: split {name!r} has no node", "give it some, or leave it out")
        if (y[given] < 0).any():
            node = int(given[y[given] < 0][0])
            raise DataError(
                f"{what}: node {node} of split {name!r} has label -1", "splits may hold labelled nodes only"
            )
    used = np.concatenate([*rows.values(), np.empty(0, np.int64)])
    nodes, counts = np.unique(used, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{what}: node {nodes[counts > 1][0]} is in the splits twice", "splits must not overlap")
    missing = [name for name in SPLITS if name not in rows]
    labelled = np.flatnonzero(y >= 0)
    if len(missing) == len(SPLITS):
        return {name: labelled[part] for name, part in split_indices(y[labelled], seed).items()}
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(labelled, used))
    if len(rest) < len(missing):
        raise DataError(f"{what}: no labelled node is left for split {missing[0]!r}", "give all three splits")
    shares = zip(missing, np.array_split(rest, len(missing)), strict=True) if missing else ()
    return {**rows, **{name: np.sort(part) for name, part in shares}}


def undirected(edge_index: Indices, nodes: int) -> Indices:
    """Each edge once in both directions, self loops once, sorted by source and target: (2, E')."""
    both = np.concatenate([edge_index, edge_index[::-1]], axis=1)
    codes = np.unique(both[0] * nodes + both[1])
    return np.stack([codes // nodes, codes % nodes])
