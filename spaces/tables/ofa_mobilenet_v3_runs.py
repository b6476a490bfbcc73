"""Once-for-All MobileNetV3 sub-networks with measured ImageNet accuracy, from five published searches. A sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from archfront.spaces._choices import Ordinal
from archfront.spaces._condition import AtLeast
from archfront.spaces._metric import Metric
from archfront.spaces._search_space import SearchSpace
from archfront.spaces._table import Table, TableLookup, TableTask, column, genomes_of, read_parquet

__all__ = ["OfaMobileNetV3Runs"]

STAGES, LAYERS = 5, 4
SOURCE = "nas/ofa_mbv3_dynast_runs.parquet"


def _parameters() -> Iterator[Ordinal]:
    """Depth of each stage; kernel and expansion of each layer, active where the stage is that deep."""
    for stage in range(STAGES):
        yield Ordinal(f"d_{stage}", (2, 3, 4), default=4)
    for name, options in (("ks", (3, 5, 7)), ("e", (3, 4, 6))):
        for layer in range(STAGES * LAYERS):
            when = (AtLeast(f"d_{layer // LAYERS}", layer % LAYERS + 1),)
            yield Ordinal(f"{name}_{layer}", options, default=options[-1], when=when if layer % LAYERS >= 2 else ())


class OfaMobileNetV3Runs(TableLookup):
    """`error` is 1 - top-1 validation accuracy at 224 pixels. Rows that are the same network are one: their mean."""

    search_space = SearchSpace(*_parameters())
    tasks = ("imagenet",)
    complete = False
    paper = "Once-for-All (Cai et al., 2020)"
    year = 2020

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> TableTask:
        """`data`: the tidy file or its folder. Raises DataError."""
        where = "ofa_mbv3_dynast_runs"
        frame = read_parquet(SOURCE, data)
        columns = [column(frame, parameter, where).astype(int) for parameter in cls.search_space.names]
        rows = genomes_of(cls.search_space, columns, where)
        genomes, group = np.unique(rows, axis=0, return_inverse=True)

        def mean(source: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            counts = np.bincount(group, minlength=len(genomes))
            return np.bincount(group, column(frame, source, where), minlength=len(genomes)) / counts

        table = Table(
            genomes,
            {"table": {"error": 1 - mean("imagenet_top1_pct") / 100}},
            analytic={"params_m": mean("params") / 1e6, "macs_m": mean("macs") / 1e6},
        )
        return TableTask(name, (Metric("error", "min", "fraction", reference=0.999),), table)
