"""NAS-Bench-Graph (Qin et al., 2022): 26,206 graph networks of four nodes on nine graph data sets."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from archfront.spaces._choices import Categorical
from archfront.spaces._metric import Metric
from archfront.spaces._parameter import Repeated
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._table import Table, TableLookup, TableTask, column, genomes_of, read_parquet

__all__ = ["NasBenchGraph"]

OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
LINKS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
"""Digit i: where node i + 1 takes its input from; 0 is the cell's input."""
CLASSES = MappingProxyType(
    {"cora": 7, "citeseer": 6, "pubmed": 3, "cs": 15, "physics": 5, "photo": 8, "computers": 10, "arxiv": 40}
)
PROTEINS = "proteins"
"""Many binary labels: its quality is the area under the curve, and only some operations were trained."""


class NasBenchGraph(TableLookup):
    """`error` is 1 - validation accuracy (`auc` for proteins); the device `gpu` is the benchmark's own.

    Cells that are the same graph share a row, whichever way they are written. Cells that skip from their input to their
    output are not in the benchmark: they are invalid (10 % of all ways of writing a cell).
    """

    search_space = SearchSpace(
        Categorical("links", LINKS, default="0123"), Repeated(Categorical("op", OPERATIONS, default="gcn"), 4)
    )
    tasks = (*CLASSES, PROTEINS)
    paper = "NAS-Bench-Graph (Qin et al., 2022)"
    year = 2022

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> TableTask:
        """`data`: the tidy file or its folder. Raises DataError."""
        where = "nasbench_graph"
        frame = read_parquet("nas/nasbench_graph.parquet", data)
        links = ["".join(str(int(n)) for n in row) for row in zip(*(frame[f"link_{i}"] for i in range(4)), strict=True)]
        valid, test = column(frame, f"valid_{name}", where), column(frame, f"test_{name}", where)
        auc = name == PROTEINS
        metric = Metric("auc", "max", reference=0.5)
        if not auc:
            metric = Metric("error", "min", "fraction", reference=1 - 1 / CLASSES[name])
        table = Table(
            genomes_of(cls.search_space, [links, *(frame[f"op_{i}"] for i in range(4))], where),
            {"table": {metric.name: valid if auc else 1 - valid}},
            {"table": {metric.name: test if auc else 1 - test}},
            {"params_m": column(frame, f"params_m_{name}", where)},
            {"gpu": {"latency_ms": 1e3 * column(frame, f"lat_s_{name}", where)}},
            {"": ~np.isfinite(valid)},
            f"the benchmark has not trained it on {name}",
        )
        return TableTask(name, (metric,), table)

    @cached_property
    def _rows(self) -> dict[Any, int]:
        return {cell_graph(config): row for row, config in enumerate(self.configurations())}

    def row(self, config: Configuration) -> int | None:
        """The row of the cell's graph."""
        return self._rows.get(cell_graph(config))


def cell_graph(config: Configuration) -> Any:
    """What a cell computes, equal for two ways of writing it: (sub-trees, how often the input itself is an output).

    A cell is a rooted tree of operations whose leaves are summed; a sub-tree is (operation, its sub-trees, how often
    its own value is an output). A skip connection is its parent. The order of sub-trees does not matter.
    """
    operations = [config[f"op[{i}]"] for i in range(4)]
    children: dict[int, list[int]] = {node: [] for node in range(5)}
    for node, parent in enumerate(config["links"], start=1):
        children[int(parent)].append(node)

    return _below(0, operations, children)


def _below(node: int, operations: list[str], children: dict[int, list[int]]) -> tuple[tuple[Any, ...], int]:
    """The sub-trees of a node, and how often its own value is an output."""
    if not children[node]:
        return (), 1
    trees: list[Any] = []
    outputs = 0
    for child in children[node]:
        grand, ends = _below(child, operations, children)
        if operations[child - 1] == "skip":
            trees += grand
            outputs += ends
        else:
            trees.append((operations[child - 1], grand, ends))
    return tuple(sorted(trees)), outputs
