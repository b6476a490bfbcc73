"""Named graphs: their signatures, splits and counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archfront import spaces
from archfront.spaces._data import data_folder
from archfront.spaces._errors import DataError, UnknownNameError
from archfront.spaces._tasks import NodeClassification
from archfront.spaces.graph import _graphs
from archfront.spaces.graph._bundled import nearest_neighbours
from archfront.spaces.graph._graphs import NAMED, node_classification

FILES = sorted(set(NAMED) - {"digits_knn", "karate"})


def load(name: str, seed: int = 0) -> NodeClassification:
    return node_classification(name, data=None, seed=seed)


def loaded(name: str) -> NodeClassification:
    """The task with its data read; skips the test where the data folder has none."""
    task = load(name)
    try:
        assert task.splits
    except DataError as error:
        if error.message.startswith("no data file"):
            pytest.skip(f"ARCHFRONT_DATA has no {name}: {error.message}")
        raise
    return task


@pytest.mark.parametrize("name", NAMED)
def test_signatures_are_known_without_reading(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_reading(*parts: str) -> None:
        raise AssertionError("a signature must not read files")

    monkeypatch.setattr(_graphs, "find", no_reading)
    space = spaces.load("dagnn", task=name)
    x, edge_index = space.signature.inputs
    assert not space.signature.batched
    assert (edge_index.shape[0], edge_index.high, edge_index.dtype) == (2, x.shape[0], "int64")


@pytest.mark.parametrize("name", ["digits_knn", "karate", *FILES])
def test_graphs_are_undirected_and_labelled_where_it_counts(name: str) -> None:
    task = loaded(name)
    x, edge_index = task.example_input
    assert x.dtype == torch.float32
    assert (tuple(x.shape), tuple(edge_index.shape)) == tuple(spec.shape for spec in task.signature.inputs)
    edges = {tuple(edge) for edge in edge_index.T.tolist()}
    assert len(edges) == edge_index.shape[1], "no edge twice"
    assert {(b, a) for a, b in edges} == edges
    used: list[int] = []
    for split in task.splits.values():
        assert split.rows is not None
        assert split.inputs[0] is x, "splits share the graph"
        labels = split.target[split.rows]
        assert int(labels.min()) >= 0
        assert int(labels.max()) < task.signature.outputs
        used += split.rows.tolist()
    assert len(used) == len(set(used)), "splits do not overlap"


def sizes(task: NodeClassification) -> dict[str, int]:
    return {name: len(split) for name, split in task.splits.items()}


def test_digits_have_five_labels_per_class_and_three_hundred_for_validation() -> None:
    task = load("digits_knn")
    assert sizes(task) == {"train": 50, "val": 300, "test": 1447}
    train = task.splits["train"]
    assert train.target[train.rows].bincount().tolist() == [5] * 10
    _, edge_index = task.example_input
    same = (train.target[edge_index[0]] == train.target[edge_index[1]]).float().mean()
    assert float(same) > 0.9, "neighbours mostly show the same digit"


def test_the_seed_moves_the_split_and_not_the_graph() -> None:
    one, other, again = load("digits_knn", 0), load("digits_knn", 1), load("digits_knn", 0)
    assert torch.equal(one.example_input[1], other.example_input[1])
    assert not torch.equal(one.splits["train"].rows, other.splits["train"].rows)  # type: ignore[arg-type]
    assert one.identity == again.identity != other.identity


def test_karate_knows_its_two_leaders() -> None:
    task = load("karate")
    assert sizes(task) == {"train": 2, "val": 10, "test": 22}
    train = task.splits["train"]
    assert train.rows is not None
    assert train.rows.tolist() == [0, 33]
    assert train.target[train.rows].tolist() == [0, 1]
    assert train.target.bincount().tolist() == [17, 17]


def test_nearest_neighbours_by_cosine_lower_numbers_first() -> None:
    x = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [3.0, 0.0]])
    edges = nearest_neighbours(x, 2).T.reshape(-1, 2, 2)[:, :, 1]
    assert edges.tolist() == [[1, 4], [0, 4], [0, 1], [2, 0], [0, 1]]


def test_cora_is_the_public_split() -> None:
    task = loaded("cora")
    assert task.example_input[1].shape == (2, 10_556)
    assert sizes(task) == {"train": 140, "val": 500, "test": 1000}
    assert task.splits["train"].target[:140].bincount().tolist() == [20] * 7


def test_citeseer_keeps_its_fifteen_bare_nodes_without_a_label() -> None:
    task = loaded("citeseer")
    x, _ = task.example_input
    bare = task.splits["train"].target == -1
    assert int(bare.sum()) == 15
    assert not x[bare].any()


def test_a_missing_file_says_what_to_put_where(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"planetoid/ind\.cora\.graph.*graph/cora_planetoid\.npz.*ARCHFRONT_DATA"):
        assert load("cora").splits
    assert data_folder() == tmp_path


def test_an_unknown_graph_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"'coar'.*did you mean 'cora'"):
        node_classification("coar", data=None, seed=0)
    with pytest.raises(UnknownNameError, match="task of 'dagnn'"):
        spaces.load("dagnn", task="core")
