"""Node classification tasks: named graphs whose signatures are known without loading, and a user's own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from archfront.spaces._data import find
from archfront.spaces._errors import DataError, UnknownNameError
from archfront.spaces._task import Signature, Split
from archfront.spaces._tasks import CLASSIFICATION_METRICS, NodeClassification
from archfront.spaces.graph._bundled import digits_knn, karate
from archfront.spaces.graph._gnn_benchmark import read_gnn_benchmark
from archfront.spaces.graph._graph import Graph, graph_signature
from archfront.spaces.graph._npz import opened, read_graph_npz
from archfront.spaces.graph._planetoid import planetoid_name, read_planetoid

__all__ = ["NAMED", "node_classification"]


@dataclass(frozen=True)
class GraphSet:
    """A named graph: its counts (edges in both directions) and how it is read, by the seed of its split."""

    nodes: int
    edges: int
    features: int
    classes: int
    read: Callable[[int], Graph]

    @property
    def signature(self) -> Signature:
        """Known without reading."""
        return graph_signature(self.nodes, self.edges, self.features, self.classes)


def node_classification(name: str, *, data: Path | None, seed: int) -> NodeClassification:
    """The task `name` on its own graph, read when a split is first asked for, or on a user's .npz file (ours or of
    Shchur et al.) or folder of Planetoid files. Directed edges are made undirected, repeated ones are dropped; self
    loops of our own .npz format stay.

    `seed` makes the splits of graphs that have none. Raises UnknownNameError, and DataError for a file that does not
    fit.
    """
    if name not in NAMED:
        raise UnknownNameError.of("graph", name, NAMED)
    if data is None:
        named = NAMED[name]
        return NodeClassification(name, named.signature, CLASSIFICATION_METRICS, lambda: _loaded(name, named, seed))
    graph = _read(data, name, seed)
    return NodeClassification(name, graph.signature, CLASSIFICATION_METRICS, graph.splits)


def _read(path: Path, name: str, seed: int) -> Graph:
    if path.is_dir():
        return read_planetoid(path, planetoid_name(path))
    with opened(path) as arrays:
        official = "adj_indptr" in arrays
    if official:
        return read_gnn_benchmark(path, seed, largest_component=name in AMAZON)
    return read_graph_npz(path, seed)


def _loaded(name: str, named: GraphSet, seed: int) -> Mapping[str, Split]:
    graph = named.read(seed)
    if graph.signature != named.signature:
        nodes, features = graph.x.shape
        raise DataError(
            f"task {name!r}: its file has {nodes} nodes, {graph.edge_index.shape[1]} edges, {features} features, "
            f"{graph.signature.outputs} classes",
            f"expected {named.nodes}, {named.edges}, {named.features}, {named.classes}: fetch it again",
        )
    return graph.splits()


def _planetoid(name: str, folder: str) -> Callable[[int], Graph]:
    """The official files in the data folder, as such or where torch-geometric keeps them, else the .npz."""

    def read(seed: int) -> Graph:
        path = find(f"planetoid/ind.{name}.graph", f"{folder}/raw/ind.{name}.graph", f"graph/{name}_planetoid.npz")
        return read_graph_npz(path, seed) if path.suffix == ".npz" else read_planetoid(path.parent, name)

    return read


def _gnn_benchmark(file: str, folder: str, *, largest_component: bool = False) -> Callable[[int], Graph]:
    """The official file in the data folder, as such or where torch-geometric keeps it."""

    def read(seed: int) -> Graph:
        path = find(f"gnn_benchmark/{file}.npz", f"{folder}/raw/{file}.npz")
        return read_gnn_benchmark(path, seed, largest_component=largest_component)

    return read


def _amazon(part: str) -> Callable[[int], Graph]:
    return _gnn_benchmark(f"amazon_electronics_{part.lower()}", part, largest_component=True)


def _stored(file: str) -> Callable[[int], Graph]:
    return lambda seed: read_graph_npz(find(f"graph/{file}.npz"), seed)


AMAZON = ("amazon_computers", "amazon_photo")
"""Of these the paper takes the largest connected component."""

NAMED: Mapping[str, GraphSet] = {
    "digits_knn": GraphSet(1797, 20_142, 64, 10, digits_knn),
    "karate": GraphSet(34, 156, 34, 2, karate),
    "cora": GraphSet(2708, 10_556, 1433, 7, _planetoid("cora", "Cora")),
    "citeseer": GraphSet(3327, 9104, 3703, 6, _planetoid("citeseer", "CiteSeer")),
    "pubmed": GraphSet(19_717, 88_648, 500, 3, _planetoid("pubmed", "PubMed")),
    "coauthor_cs": GraphSet(18_333, 163_788, 6805, 15, _gnn_benchmark("ms_academic_cs", "CS")),
    "coauthor_physics": GraphSet(34_493, 495_924, 8415, 5, _gnn_benchmark("ms_academic_phy", "Physics")),
    "amazon_computers": GraphSet(13_381, 491_556, 767, 10, _amazon("Computers")),
    "amazon_photo": GraphSet(7487, 238_086, 745, 8, _amazon("Photo")),
    "texas": GraphSet(183, 574, 1703, 5, _stored("texas_directed")),
    "wisconsin": GraphSet(251, 916, 1703, 5, _stored("wisconsin_directed")),
    "cornell": GraphSet(183, 554, 1703, 5, _stored("cornell_undirected")),
    "chameleon_filtered": GraphSet(890, 17_758, 2325, 5, _stored("chameleon_filtered_directed")),
    "squirrel_filtered": GraphSet(2223, 94_136, 2089, 5, _stored("squirrel_filtered_directed")),
}
"""The first needs no file. The last five store ten splits, of which the first is taken; Chameleon and Squirrel are
the versions without duplicates that leak from one split into another."""
