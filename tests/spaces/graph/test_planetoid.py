"""Planetoid's official files, on a small set in their format."""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from archfront import spaces
from archfront.spaces._errors import DataError
from archfront.spaces.graph._npz import read_graph_npz
from archfront.spaces.graph._planetoid import planetoid_name, read_planetoid

KNOWN, TESTED, CLASSES = 520, [523, 520, 524], 2  # nodes 521 and 522 are missing from test.index, as in CiteSeer
TRAIN = 4


def one_hot(labels: Any) -> Any:
    return np.eye(CLASSES, dtype=np.int32)[labels]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ind.toy.*: node i has i as its first feature and label i % 2; a path of all nodes, with doubled entries."""
    known, tested = np.arange(KNOWN), np.array(TESTED)
    graph: dict[int, list[int]] = defaultdict(list)
    for i in range(KNOWN):
        graph[i] += [i + 1, i + 1, i] if i + 1 < KNOWN else [i]
    for i in (520, 523, 524):
        graph[i] = [0]
    graph[521], graph[522] = [], []
    allx = csr_matrix(np.stack([known, np.ones(KNOWN)], axis=1).astype(np.float32))
    parts = {
        "x": allx[:TRAIN],
        "y": one_hot(known[:TRAIN] % CLASSES),
        "tx": csr_matrix(np.stack([tested, np.zeros(3)], axis=1).astype(np.float32)),
        "ty": one_hot(tested % CLASSES),
        "allx": allx,
        "ally": one_hot(known % CLASSES),
        "graph": graph,
    }
    for part, content in parts.items():
        (tmp_path / f"ind.toy.{part}").write_bytes(pickle.dumps(content, protocol=2))
    (tmp_path / "ind.toy.test.index").write_text("\n".join(map(str, TESTED)) + "\n")
    return tmp_path


def test_rows_meet_their_nodes_whatever_the_order_of_the_test_index(folder: Path) -> None:
    graph = read_planetoid(folder, "toy")
    nodes = [*range(KNOWN), *sorted(TESTED)]
    assert graph.x.shape == (525, 2)
    assert graph.x[nodes, 0].tolist() == nodes
    assert graph.y[nodes].tolist() == [i % CLASSES for i in nodes]
    assert not graph.x[[521, 522]].any()
    assert graph.y[[521, 522]].tolist() == [-1, -1]


def test_the_public_split_and_edges_once_each_way(folder: Path) -> None:
    graph = read_planetoid(folder, "toy")
    assert graph.rows["train"].tolist() == list(range(TRAIN))
    assert graph.rows["val"].tolist() == list(range(TRAIN, TRAIN + 500))
    assert graph.rows["test"].tolist() == sorted(TESTED)
    assert graph.edge_index.shape == (2, 2 * (KNOWN - 1 + 3)), "no self loop, no edge twice"


def test_a_folder_may_be_given_as_the_users_data(folder: Path) -> None:
    space = spaces.load("dagnn", data=folder)
    assert space.signature.inputs[0].shape == (525, 2)
    assert planetoid_name(folder) == "toy"


def test_the_data_folders_cora_must_have_coras_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "planetoid").mkdir()
    for file in folder.glob("ind.toy.*"):
        file.rename(folder / "planetoid" / file.name.replace("toy", "cora"))
    monkeypatch.setenv("ARCHFRONT_DATA", str(folder))
    with pytest.raises(DataError, match=r"task 'cora': its file has 525 nodes, 1044 edges.*expected 2708, 10556"):
        assert spaces.load("dagnn", task="cora").task().splits


def test_wrong_files_are_named(folder: Path, tmp_path: Path) -> None:
    index = folder / "ind.toy.test.index"
    index.write_text("520\nfoo\n")
    with pytest.raises(DataError, match=r"ind\.toy\.test\.index is not a list of node numbers"):
        read_planetoid(folder, "toy")
    index.write_text("520\n")
    with pytest.raises(DataError, match=r"test\.index has 1 nodes and \.tx 3"):
        read_planetoid(folder, "toy")
    (folder / "ind.toy.graph").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match=r"ind\.toy\.graph holds list"):
        read_planetoid(folder, "toy")
    (folder / "ind.toy.allx").write_bytes(pickle.dumps("text"))
    with pytest.raises(DataError, match=r"ind\.toy\.allx holds str"):
        read_planetoid(folder, "toy")
    (folder / "ind.toy.ty").write_bytes(pickle.dumps(Path))
    with pytest.raises(DataError, match=r"ind\.toy\.ty.*asks for pathlib"):
        read_planetoid(folder, "toy")
    (folder / "ind.toy.ty").unlink()
    with pytest.raises(DataError, match=r"no file 'ind\.toy\.ty'"):
        read_planetoid(folder, "toy")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 0 files"):
        planetoid_name(tmp_path)


def test_stored_npz_and_official_files_read_alike(folder: Path) -> None:
    graph = read_planetoid(folder, "toy")
    np.savez(
        folder / "toy.npz",
        feat_indptr=csr_matrix(graph.x).indptr,
        feat_indices=csr_matrix(graph.x).indices,
        feat_data=csr_matrix(graph.x).data,
        feat_shape=np.array(graph.x.shape),
        edge_index=graph.edge_index.astype(np.int32),
        label=graph.y.astype(np.int8),
        **{f"{name}_idx": rows for name, rows in graph.rows.items()},
    )
    again = read_graph_npz(folder / "toy.npz")
    for one, other in ((graph.x, again.x), (graph.edge_index, again.edge_index), (graph.y, again.y)):
        assert np.array_equal(one, other)
