"""A user's own graph in an .npz file: what is read, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archfront import spaces
from archfront.spaces._errors import DataError
from archfront.spaces.graph._graph import Graph
from archfront.spaces.graph._npz import read_graph_npz

N, D = 30, 4


def arrays(**changes: Any) -> dict[str, Any]:
    """A legal file with some arrays changed, or removed (None)."""
    rng = np.random.default_rng(0)
    good = {
        "x": rng.random((N, D)),
        "edge_index": np.stack([np.arange(N), (np.arange(N) + 1) % N]),
        "y": np.arange(N) % 3,
        **changes,
    }
    return {name: array for name, array in good.items() if array is not None}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def read(file: Path, **changes: Any) -> Graph:
    np.savez(file, **arrays(**changes))
    return read_graph_npz(file)


def refused(file: Path, message: str, **changes: Any) -> None:
    with pytest.raises(DataError, match=message):
        read(file, **changes)


def test_a_users_graph_binds_the_space(file: Path) -> None:
    np.savez(file, **arrays())
    space = spaces.load("dagnn", data=file)
    assert [spec.shape for spec in space.signature.inputs] == [(N, D), (2, 2 * N)]
    net = space.build(space.search_space.default)
    assert net(*space.prepared_example(space.search_space.default)).shape == (N, 3)
    assert space.search_space.identity == spaces.load("dagnn").search_space.identity


def test_without_splits_60_20_20_of_the_labelled_nodes_stratified(file: Path) -> None:
    y = np.arange(N) % 3
    y[20:] = -1
    rows = read(file, y=y).rows
    assert {name: len(part) for name, part in rows.items()} == {"train": 12, "val": 4, "test": 4}
    assert set(np.concatenate(list(rows.values()))) == set(range(20))
    assert all(set(y[part]) == {0, 1, 2} for part in rows.values())
    assert all(np.array_equal(rows[name], part) for name, part in read(file, y=y).rows.items())


def test_indices_masks_and_stacks_of_masks_mean_the_same(file: Path) -> None:
    parts = {"train": np.arange(10), "val": np.arange(10, 15), "test": np.arange(15, 30)}
    masks = {name: np.isin(np.arange(N), part) for name, part in parts.items()}
    as_indices = read(file, **{f"{n}_idx": p[::-1].copy() for n, p in parts.items()})
    as_masks = read(file, **{f"{n}_mask": m for n, m in masks.items()})
    stacked = read(file, **{f"{n}_masks": np.stack([m, ~m]) for n, m in masks.items()})
    for graph in (as_indices, as_masks, stacked):
        assert all(np.array_equal(graph.rows[name], part) for name, part in parts.items())


def test_missing_splits_share_what_the_given_ones_leave(file: Path) -> None:
    rows = read(file, train_idx=np.arange(10)).rows
    assert [len(rows[name]) for name in ("train", "val", "test")] == [10, 10, 10]
    assert set(np.concatenate(list(rows.values()))) == set(range(N))


def test_sparse_features_equal_dense_ones(file: Path) -> None:
    from scipy.sparse import random_array

    x = random_array((N, D), density=0.3, format="csr", random_state=0)
    parts = {"x_data": x.data, "x_indices": x.indices, "x_indptr": x.indptr, "x_shape": np.array(x.shape)}
    dense = read(file, x=x.toarray()).x
    assert np.array_equal(read(file, x=None, **parts).x, dense)
    ones = read(file, x=None, **{**parts, "x_data": None}).x
    assert np.array_equal(ones, (dense != 0).astype(np.float32))


def test_edges_are_made_undirected_once_and_self_loops_stay(file: Path) -> None:
    edge_index = np.array([[0, 1, 0, 2, 5], [1, 0, 1, 2, 3]], np.int32)
    assert read(file, edge_index=edge_index).edge_index.T.tolist() == [[0, 1], [1, 0], [2, 2], [3, 5], [5, 3]]


def test_labels_are_renumbered_in_order(file: Path) -> None:
    y = np.array([7, -1, 40])[np.arange(N) % 3]
    graph = read(file, y=y)
    assert set(graph.y[y == 7]) == {0}
    assert set(graph.y[y == 40]) == {1}
    assert set(graph.y[y == -1]) == {-1}
    assert graph.signature.outputs == 2


BAD: list[tuple[str, dict[str, Any]]] = [
    ("no array 'x'.*edge_index, y", {"x": None}),
    ("no array 'y'", {"y": None}),
    ("no array 'edge_index'", {"edge_index": None}),
    (r"'x' has shape \(30,\) and dtype float64: expected \(N, d\)", {"x": np.zeros(N)}),
    ("'x' has shape .* dtype <U1", {"x": np.full((N, D), "a")}),
    ("'x' of node 3, feature 1, is nan", {"x": np.where(np.arange(N * D).reshape(N, D) == 13, np.nan, 1.0)}),
    ("array 'x' holds pickled objects", {"x": np.array([[None] * D] * N)}),
    ("array 'edge_index' holds pickled objects", {"edge_index": np.array([[1], [None]])}),
    (r"'edge_index' has shape \(5, 2\) and dtype int64", {"edge_index": np.zeros((5, 2), np.int64)}),
    ("'edge_index' has shape .* dtype float64", {"edge_index": np.zeros((2, 5))}),
    (r"'edge_index' has values in 0\.\.30: expected node numbers 0\.\.29", {"edge_index": np.array([[0], [30]])}),
    (r"'edge_index' has values in -1\.\.0", {"edge_index": np.array([[-1], [0]])}),
    ("'x' has 30 rows and 'y' has 29", {"y": np.arange(29) % 3}),
    (r"'y' has shape \(30, 3\)", {"y": np.eye(3, dtype=np.int64)[np.arange(N) % 3]}),
    ("'y' has the value -2", {"y": np.arange(N) % 3 - 2}),
    ("'y' has 1 classes", {"y": np.zeros(N, np.int64)}),
    ("node 4 of split 'val' has label -1", {"y": np.where(np.arange(N) == 4, -1, np.arange(N) % 3), "val_idx": [4]}),
    (r"'train_idx' has values in 0\.\.99", {"train_idx": np.array([0, 99])}),
    (r"'train_idx' has shape \(2,\) and dtype float64", {"train_idx": np.array([0.0, 1.0])}),
    (r"'test_mask' has shape \(29,\) and dtype bool", {"test_mask": np.ones(29, bool)}),
    (r"'test_mask' .* dtype int64", {"test_mask": np.ones(N, np.int64)}),
    ("split 'val' has no node", {"val_mask": np.zeros(N, bool)}),
    ("node 2 is in the splits twice", {"train_idx": np.arange(3), "val_idx": np.arange(2, 5)}),
    ("no labelled node is left for split 'test'", {"train_idx": np.arange(15), "val_idx": np.arange(15, 30)}),
]
SPARSE = {"x": None, "x_indices": np.zeros(N, np.int64), "x_indptr": np.arange(N + 1), "x_shape": np.array([N, D])}
BAD_SPARSE: list[tuple[str, dict[str, Any]]] = [
    ("no array 'x_indices'", {"x_indices": None}),
    (r"'x_indices' has values in 0\.\.9: expected columns 0\.\.3", {"x_indices": np.arange(N) % 10}),
    ("'x_indptr' has shape .* expected 31 values ascending from 0 to 30", {"x_indptr": np.arange(N)}),
    ("'x_indptr' has shape", {"x_indptr": np.arange(N + 1)[::-1].copy()}),
    (r"'x_data' has shape \(3,\)", {"x_data": np.ones(3)}),
    (r"'x_shape' is \[30, 2147483648\]", {"x_shape": np.array([N, 2**31])}),
    (r"'x_shape' is \[-30, 4\]", {"x_shape": np.array([-N, D])}),
]


@pytest.mark.parametrize(("message", "changes"), BAD)
def test_a_wrong_file_is_refused_by_the_arrays_name(file: Path, message: str, changes: dict[str, Any]) -> None:
    refused(file, f"mine.npz.*{message}", **changes)


@pytest.mark.parametrize(("message", "changes"), BAD_SPARSE)
def test_wrong_sparse_parts_are_refused(file: Path, message: str, changes: dict[str, Any]) -> None:
    refused(file, message, **{**SPARSE, **changes})


def test_what_is_no_archive_is_refused(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DataError, match=r"mine\.npz is not an \.npz file"):
        read_graph_npz(file)
    np.savez(file, **arrays())
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"mine\.npz is not an \.npz file"):
        read_graph_npz(file)
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(DataError, match="one array without a name"):
        read_graph_npz(file)
