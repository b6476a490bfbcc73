"""Cora, CiteSeer and PubMed as their authors publish them: ind.<name>.{x,y,tx,ty,allx,ally,graph,test.index}."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archfront.spaces._data import Indices
from archfront.spaces._errors import DataError
from archfront.spaces._unpickle import unpickle
from archfront.spaces.graph._graph import Array, Graph, check_nodes, checked_graph, completed_splits

__all__ = ["planetoid_name", "read_planetoid"]

VALIDATION_NODES = 500


def planetoid_name(folder: Path) -> str:
    """The <name> of the one ind.<name>.graph in a folder. Raises DataError."""
    names = sorted(path.name.removeprefix("ind.").removesuffix(".graph") for path in folder.glob("ind.*.graph"))
    if len(names) != 1:
        raise DataError(
            f"folder {str(folder)!r} has {len(names)} files ind.<name>.graph", "expected one Planetoid data set"
        )
    return names[0]


def read_planetoid(folder: Path, name: str) -> Graph:
    """The public split: the rows of `y` are for training, the next 500 nodes for validation, test.index for testing.

    Nodes that test.index leaves out (15 of CiteSeer) have no features and label -1. Self loops and repeated edges are
    dropped. Raises DataError that names the file.
    """
    parts = {part: _matrix(folder, name, part) for part in ("y", "tx", "ty", "allx", "ally")}
    graph = unpickle(_existing(folder, name, "graph"))
    test = _test_index(_existing(folder, name, "test.index"))
    edges = _edges(graph, f"ind.{name}.graph")
    nodes = 1 + max(int(test.max()), len(parts["allx"]) - 1, len(graph) - 1)
    for rows, labels, which in (("tx", "ty", "test"), ("allx", "ally", "other")):
        if len(parts[rows]) != len(parts[labels]) or parts[rows].shape[1] != parts["allx"].shape[1]:
            raise DataError(f"ind.{name}.{rows} and .{labels} disagree on the {which} nodes", "fetch both again")
    if len(test) != len(parts["tx"]):
        raise DataError(f"ind.{name}.test.index has {len(test)} nodes and .tx {len(parts['tx'])}", "fetch both again")
    x = np.zeros((nodes, parts["allx"].shape[1]), np.float32)
    y = np.full(nodes, -1, np.int64)
    for at, rows, labels in ((np.arange(len(parts["allx"])), "allx", "ally"), (test, "tx", "ty")):
        x[at], y[at] = parts[rows], _classes(parts[labels])
    first = len(parts["y"])
    split = {"train": np.arange(first), "val": np.arange(first, first + VALIDATION_NODES), "test": np.sort(test)}
    check_nodes(name, "val", split["val"], nodes)
    kept = {part: rows[y[rows] >= 0] for part, rows in split.items()}
    return checked_graph(f"ind.{name}", x, edges, y, completed_splits(f"ind.{name}", y, kept, seed=0))


def _existing(folder: Path, name: str, part: str) -> Path:
    path = folder / f"ind.{name}.{part}"
    if not path.exists():
        raise DataError(f"no file {path.name!r} in {str(folder)!r}", "all eight files of the data set are needed")
    return path


def _matrix(folder: Path, name: str, part: str) -> Array:
    """A dense two-dimensional array, pickled as such or as a scipy csr matrix."""
    path = _existing(folder, name, part)
    found = unpickle(path)
    array = found.toarray() if hasattr(found, "toarray") else found
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiub":
        raise DataError(f"{path.name} holds {type(found).__name__}", "expected a matrix of numbers")
    return array


def _classes(one_hot: Array) -> Indices:
    return np.where(one_hot.any(axis=1), one_hot.argmax(axis=1), -1).astype(np.int64)


def _test_index(path: Path) -> Indices:
    try:
        index = np.array(path.read_text().split(), np.int64)
    except ValueError as error:
        raise DataError(f"{path.name} is not a list of node numbers", str(error)) from error
    if not len(index) or index.min() < 0 or index.max() >= 2**31:
        raise DataError(f"{path.name} has {len(index)} node numbers", "expected at least one, none negative")
    return index


def _edges(graph: Any, what: str) -> Indices:
    """(2, E) of a dictionary node -> list of neighbours, without self loops."""
    if not isinstance(graph, Mapping):
        raise DataError(f"{what} holds {type(graph).__name__}", "expected a dictionary node -> list of neighbours")
    try:
        pairs = [(int(a), int(b)) for a, neighbours in graph.items() for b in neighbours if a != b]
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} is not a dictionary node -> list of neighbours", str(error)) from error
    return np.array(pairs, np.int64).reshape(-1, 2).T
