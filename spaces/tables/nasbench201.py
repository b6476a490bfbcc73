"""NAS-Bench-201 (Dong & Yang, 2020): every cell of six operations, on 27 device settings (HW-NAS-Bench, HELP).

`error` at --epochs 200 is 1 - test accuracy after the full training (there is no validation accuracy for it), at
--epochs 12 it is 1 - validation accuracy of the separate short training.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from archfront.spaces._choices import Categorical
from archfront.spaces._data import data_folder
from archfront.spaces._errors import DataError
from archfront.spaces._metric import Metric
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._table import Table, TableLookup, TableTask, column, genomes_of, read_parquet
from archfront.spaces._task import Signature, TensorSpec
from archfront.spaces._wiring import Wiring
from archfront.spaces.tables._cells import OPERATIONS, CellNetwork

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NasBench201"]

EDGES = ("op_0_1", "op_0_2", "op_1_2", "op_0_3", "op_1_3", "op_2_3")
"""Parameter names: operation on the edge from the first node to the second."""
RESIDUAL = ("nor_conv_3x3", "none", "nor_conv_3x3", "skip_connect", "none", "skip_connect")
"""The residual block as a cell: the paper's ResNet baseline, and the default configuration."""

TASKS = {"cifar100": (32, 100), "cifar10": (32, 10), "in16": (16, 120)}
"""Task to (pixels, classes)."""
OPTIMISED_AWAY_MS = 0.05
"""A cell with less latency than this is disconnected: the device's compiler removed it."""
NODE_KINDS = ("input", "output", *OPERATIONS)
ENDS = ((-1, 0), *((int(edge[3]), int(edge[5])) for edge in EDGES), (3, 4))
"""Of the nodes of a cell's graph: between which of the cell's own nodes 0 to 3 they stand."""
FLOW = np.array([[end == start for start, _ in ENDS] for _, end in ENDS])
"""Whether a node's output goes to another."""
ACCURACY, LATENCY = "nas/nb201_accuracy.parquet", "nas/nb201_latency_help.parquet"
HOW = "the official files: archfront data import nasbench201 FOLDER"


class NasBench201(TableLookup):
    """Images (batch, 3, pixels, pixels) -> logits; cells of 15,625 kinds, 16 channels, 5 cells per stage."""

    search_space = SearchSpace(
        *(Categorical(edge, OPERATIONS, default=default) for edge, default in zip(EDGES, RESIDUAL, strict=True))
    )
    tasks = tuple(TASKS)
    protocols = MappingProxyType({12: "val_acc_ep12", 200: "test_acc_ep200"})
    paper = "NAS-Bench-201 (Dong & Yang, 2020)"
    year = 2020

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> TableTask:
        """`data`: a folder with the tidy files; by default they lie in the data folder. Without the one of latencies
        there are no devices. Raises DataError."""
        pixels, classes = TASKS[name]
        accuracy = read_parquet(ACCURACY, data, how=HOW)
        measured = data_folder() / LATENCY if data is None else data / Path(LATENCY).name
        latency = read_parquet(LATENCY, data, how=HOW) if measured.exists() else accuracy[["arch_index"]]
        signature = Signature("classification", (TensorSpec((3, pixels, pixels)),), classes)
        chance = Metric("error", "min", "fraction", reference=1 - 1 / classes)
        return TableTask(name, (chance,), table_of(cls.search_space, accuracy, latency, name), signature)

    def build(self, config: Configuration) -> nn.Module:
        """The network of a cell (section 2 and figure 1 of the paper)."""
        return CellNetwork([config[edge] for edge in EDGES], outputs=self.signature.outputs)

    def to_graph(self, config: Configuration) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
        """The cell with its operations as nodes: input, the six edges in the order of EDGES, output (N = 8).

        Features (8, 7) one-hot: input, output, then OPERATIONS. An operation feeds those that start where it ends; an
        idle one has no links.
        """
        idle = self.idle(config)
        kinds = ["input", *(config[edge] for edge in EDGES), "output"]
        features = np.array([[float(kind == known) for known in NODE_KINDS] for kind in kinds])
        used = np.array([True, *(edge not in idle for edge in EDGES), True])
        return features, FLOW & used[:, None] & used, np.arange(len(kinds))

    def wiring(self) -> Wiring:
        """The line graph of the cell: input, the edges in the order of EDGES, output (N = 8)."""
        rows = ("input", *EDGES, "output")
        return Wiring(rows, FLOW, np.arange(len(rows)))

    def idle(self, config: Configuration) -> set[str]:
        """Edges whose result does not reach the cell's output, `none` among them: compilers may drop them."""
        read, idle = {"3"}, set()
        for edge in reversed(EDGES):  # what leaves a node comes before what enters it
            _, start, end = edge.split("_")
            if end in read and config[edge] != "none":
                read.add(start)
            else:
                idle.add(edge)
        return idle

    def cover(self, fixed: object = None) -> list[Configuration]:
        """One configuration per operation: edges are independent, and a sub-module is named by edge and operation."""
        chosen = dict(fixed) if isinstance(fixed, dict) else {}
        return [self.search_space.canonicalise({**dict.fromkeys(EDGES, op), **chosen}) for op in OPERATIONS]


def table_of(space: SearchSpace, accuracy: pd.DataFrame, latency: pd.DataFrame, task: str) -> Table:
    """The table of a task from the tidy frames: accuracies in percent, latencies in ms. Raises DataError."""
    where = "nb201_accuracy"
    missing = [edge for edge in EDGES if edge not in accuracy]
    if missing:
        raise DataError(f"{where} has no column {missing[0]!r}", f"it has {', '.join(map(str, accuracy))}")
    if len(accuracy) != space.size:
        raise DataError(f"{where} has {len(accuracy):,} rows, not {space.size:,}", HOW)
    joined = accuracy.merge(latency, on="arch_index", how="left", validate="one_to_one")
    operations = [[OPERATIONS[int(code)] for code in joined[edge]] for edge in EDGES]
    final = 1 - column(joined, f"test_acc_{task}_ep200", where) / 100
    devices = {
        name.removeprefix("lat_ms_"): {"latency_ms": column(joined, name, "nb201_latency_help")}
        for name in map(str, latency)
        if name.startswith("lat_ms_")
    }
    first = ("raspi4",) if "raspi4" in devices else ()
    devices = {name: devices[name] for name in (*first, *(d for d in devices if d not in first))}
    return Table(
        genomes_of(space, operations, where),
        {
            "test_acc_ep200": {"error": final},
            "val_acc_ep12": {"error": 1 - column(joined, f"val_acc_{task}_ep12", where) / 100},
        },
        {"val_acc_ep12": {"error": final}},
        {
            "params_m": column(joined, f"params_m_{task}", where),
            "macs_m": column(joined, f"flops_m_{task}", where),
        },
        devices,
        {name: ~(values["latency_ms"] >= OPTIMISED_AWAY_MS) for name, values in devices.items()},
        f"the cell is disconnected: its recorded latency is under {OPTIMISED_AWAY_MS} ms",
    )


def arch_string(config: Configuration) -> str:
    """The benchmark's own name of a cell: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""
    nodes = [[f"{config[f'op_{i}_{j}']}~{i}" for i in range(j)] for j in (1, 2, 3)]
    return "+".join(f"|{'|'.join(edges)}|" for edges in nodes)


def parse_arch_string(text: str) -> Configuration:
    """Inverse of `arch_string`. Raises DataError."""
    edges = [part.partition("~") for node in text.split("+") for part in node.strip("|").split("|")]
    if len(edges) != len(EDGES) or any(operation not in OPERATIONS for operation, _, _ in edges):
        raise DataError(f"{text!r} is no cell of NAS-Bench-201", "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    return {edge: operation for edge, (operation, _, _) in zip(EDGES, edges, strict=True)}
