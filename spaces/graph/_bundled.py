"""Graphs that need no file: a nearest-neighbour graph of scikit-learn's digits, and Zachary's karate club."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._data import Indices
from archfront.spaces.graph._graph import Graph, checked_graph

__all__ = ["digits_knn", "karate", "nearest_neighbours"]

NEIGHBOURS = 8


def digits_knn(seed: int) -> Graph:
    """1,797 digits of 8 x 8 pixels in 0..1, each joined to the 8 most similar ones by cosine (either way round).

    Splits by `seed`: 5 of each class for training, 300 for validation, the rest for testing.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels, y = bunch.data, bunch.target.astype(np.int64)
    rng = np.random.default_rng(seed)
    train = np.sort(np.concatenate([rng.permutation(np.flatnonzero(y == digit))[:5] for digit in range(10)]))
    rest = rng.permutation(np.setdiff1d(np.arange(len(y)), train))
    rows = {"train": train, "val": np.sort(rest[:300]), "test": np.sort(rest[300:])}
    return checked_graph("digits_knn", pixels / 16, nearest_neighbours(pixels, NEIGHBOURS), y, rows)


def karate(seed: int) -> Graph:
    """34 members known by their number alone, and which of two clubs they joined after the split.

    For training the two leaders (nodes 0 and 33); by `seed` 5 of each club for validation, the
    other 22 for testing.
    """
    import networkx

    club = networkx.karate_club_graph()
    y = np.array([int(club.nodes[node]["club"] != "Mr. Hi") for node in club], np.int64)
    leaders = np.array([0, len(y) - 1])
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.setdiff1d(np.flatnonzero(y == side), leaders)) for side in (0, 1)]
    rows = {"train": leaders, **{k: np.sort(np.concatenate([m[s] for m in members])) for k, s in _PARTS.items()}}
    edges = np.array(list(club.edges), np.int64).T
    return checked_graph("karate", np.eye(len(y), dtype=np.float32), edges, y, rows)


_PARTS = {"val": slice(None, 5), "test": slice(5, None)}


def nearest_neighbours(x: NDArray[Any], k: int) -> Indices:
    """Directed edges (2, n k) from each row to the k rows of largest cosine; ties go to the lower number.

    Products of integer-valued rows are exact, so the graph is the same on every platform.
    """
    cosine = (x @ x.T) / np.sqrt((x * x).sum(axis=1))
    np.fill_diagonal(cosine, -np.inf)
    chosen = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return np.stack([np.repeat(np.arange(len(x)), k), chosen.ravel()])
