"""Accel-NASBench (Ahmad et al., 2023): 5,138 EfficientNet-like networks on six accelerators. A sample, not a space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from archfront.spaces._choices import Ordinal
from archfront.spaces._metric import Metric
from archfront.spaces._search_space import SearchSpace
from archfront.spaces._table import Table, TableLookup, TableTask, column, genomes_of, no_value, read_parquet

__all__ = ["AccelNasBench"]

BLOCKS = 7
OPTIONS = {"e": (1, 4, 6), "k": (3, 5), "l": (1, 2, 3, 4), "se": (0, 1)}
"""Expansion, kernel, layers and squeeze-excite of each block."""
THROUGHPUT = ("a100", "3090", "tpuv2", "tpuv3", "zcu102", "vck190")
LATENCY = ("zcu102", "vck190")


def _parameters() -> Iterator[Ordinal]:
    for block in range(BLOCKS):
        for name, options in OPTIONS.items():
            yield Ordinal(f"block{block}_{name}", options)


class AccelNasBench(TableLookup):
    """`error` is 1 - top-1 validation accuracy of a short proxy training on ImageNet."""

    search_space = SearchSpace(*_parameters())
    tasks = ("imagenet_proxy",)
    complete = False
    paper = "Accel-NASBench (Ahmad et al., 2023)"
    year = 2023

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> TableTask:
        """`data`: the tidy file or its folder. Raises DataError."""
        where = "accel_nasbench"
        frame = read_parquet("nas/accel_nasbench.parquet", data)
        names = cls.search_space.names
        columns = [column(frame, parameter, where).astype(int) for parameter in names]
        genomes = genomes_of(cls.search_space, columns, where)
        first = np.sort(np.unique(genomes, axis=0, return_index=True)[1])
        frame = frame.iloc[first]
        devices = {d: {"throughput_per_s": column(frame, f"throughput_img_s_{d}", where)} for d in THROUGHPUT}
        for device in LATENCY:
            devices[device]["latency_ms"] = column(frame, f"lat_ms_{device}", where)
        table = Table(
            genomes[first],
            {"table": {"error": 1 - column(frame, "val_top1_acc_pct", where) / 100}},
            analytic={m: column(frame, m, where) for m in ("params_m", "macs_m")},
            device=devices,
            invalid={device: no_value(values) for device, values in devices.items()},
            why="the benchmark has no measurement",
        )
        return TableTask(name, (Metric("error", "min", "fraction", reference=0.999),), table)
