"""The official files of Coauthor and Amazon, on small graphs in their format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from archfront import spaces
from archfront.spaces._errors import DataError
from archfront.spaces.graph._gnn_benchmark import read_gnn_benchmark

N = 130
CONNECTED = 124
"""A ring of the even-numbered and odd-numbered classes; the last six nodes stand in three pairs."""


def arrays() -> dict[str, Any]:
    ring = [(i, (i + 1) % CONNECTED) for i in range(CONNECTED)]
    pairs = [(i, i + 1) for i in range(CONNECTED, N, 2)]
    rows, columns = np.array([*ring, *pairs, (3, 3)]).T
    adjacency = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(N, N))
    attributes = csr_matrix(np.eye(N, 5, dtype=np.float32) * 3)
    parts: dict[str, Any] = {"labels": np.arange(N) % 2}
    for prefix, matrix in (("adj", adjacency), ("attr", attributes)):
        parts |= {f"{prefix}_{name}": getattr(matrix, name) for name in ("data", "indices", "indptr", "shape")}
    return parts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "official.npz"
    np.savez(path, **arrays(), class_names=np.array(["even", "odd"], object))
    return path


def test_features_are_binary_and_edges_undirected_without_loops(file: Path) -> None:
    graph = read_gnn_benchmark(file)
    assert graph.x.shape == (N, 5)
    assert set(np.unique(graph.x)) == {0.0, 1.0}
    edges = set(map(tuple, graph.edge_index.T.tolist()))
    assert (3, 3) not in edges
    assert {(b, a) for a, b in edges} == edges
    assert len(edges) == 2 * (CONNECTED + 3)


def test_the_largest_component_is_renumbered_with_its_labels(file: Path) -> None:
    whole, part = read_gnn_benchmark(file), read_gnn_benchmark(file, largest_component=True)
    assert part.x.shape[0] == CONNECTED
    assert (part.x == whole.x[:CONNECTED]).all()
    assert (part.y == whole.y[:CONNECTED]).all()
    assert (part.edge_index == whole.edge_index[:, whole.edge_index[0] < CONNECTED]).all()


def test_twenty_and_thirty_nodes_of_each_class(file: Path) -> None:
    graph, again, other = read_gnn_benchmark(file), read_gnn_benchmark(file), read_gnn_benchmark(file, seed=1)
    assert {name: np.bincount(graph.y[rows]).tolist() for name, rows in graph.rows.items()} == {
        "train": [20, 20],
        "val": [30, 30],
        "test": [15, 15],
    }
    assert all((graph.rows[name] == again.rows[name]).all() for name in graph.rows)
    assert (graph.rows["train"] != other.rows["train"]).any()


def test_an_official_file_may_be_given_as_the_users_data(file: Path) -> None:
    assert spaces.load("dagnn", data=file).signature.inputs[0].shape == (N, 5)
    assert spaces.load("dagnn", task="amazon_photo", data=file).signature.inputs[0].shape == (CONNECTED, 5)


def test_the_data_folders_file_must_have_the_papers_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = file.parent / "Photo" / "raw"
    folder.mkdir(parents=True)
    file.rename(folder / "amazon_electronics_photo.npz")
    monkeypatch.setenv("ARCHFRONT_DATA", str(file.parent))
    with pytest.raises(DataError, match="124 nodes, 248 edges, 5 features, 2 classes: expected 7487, 238086, 745, 8"):
        assert spaces.load("dagnn", task="amazon_photo").task().splits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.arange(N - 1) % 2}, r"'labels' 129: they must agree"),
        ({"labels": np.zeros(N, np.int64)}, "1 classes"),
        ({"labels": np.r_[np.arange(N - 1) % 2, 2]}, "class 2 has 1 nodes: expected more than 50"),
        ({"adj_shape": np.array([N, N + 1])}, r"'adj' has shape \(130, 131\)"),
        ({"attr_indices": np.full(5, 9)}, "'attr_indices' has values in 9..9"),
    ],
)
def test_wrong_files_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "wrong.npz", **{**arrays(), **changes})
    with pytest.raises(DataError, match=message):
        read_gnn_benchmark(tmp_path / "wrong.npz")
