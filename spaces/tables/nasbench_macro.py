"""NAS-Bench-Macro (Su et al., 2021): all 6,561 choices of eight inverted-residual layers on CIFAR-10."""

from __future__ import annotations

from pathlib import Path

from archfront.spaces._choices import Categorical
from archfront.spaces._metric import Metric
from archfront.spaces._parameter import Repeated
from archfront.spaces._search_space import SearchSpace
from archfront.spaces._table import Table, TableLookup, TableTask, column, genomes_of, read_parquet

__all__ = ["NasBenchMacro"]

LAYERS = ("identity", "mb3_k3", "mb6_k5")
"""Identity, MobileNetV2's block of expansion 3 and kernel 3, or of expansion 6 and kernel 5; in the table's order."""


class NasBenchMacro(TableLookup):
    """`error` is 1 - test accuracy, the mean of three trainings (the benchmark has no validation accuracy)."""

    search_space = SearchSpace(Repeated(Categorical("layer", LAYERS, default="mb3_k3"), 8))
    tasks = ("cifar10",)
    paper = "NAS-Bench-Macro (Su et al., 2021)"
    year = 2021

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> TableTask:
        """`data`: the tidy file or its folder. Raises DataError."""
        frame = read_parquet("nas/nasbench_macro_cifar10.parquet", data)
        where = "nasbench_macro_cifar10"
        codes = [column(frame, f"layer_{i}", where).astype(int) for i in range(8)]
        table = Table(
            genomes_of(cls.search_space, [[LAYERS[code] for code in layer] for layer in codes], where),
            {"table": {"error": 1 - column(frame, "test_acc_mean", where) / 100}},
            analytic={
                "params_m": column(frame, "params", where) / 1e6,
                "macs_m": column(frame, "flops", where) / 1e6,
            },
        )
        return TableTask(name, (Metric("error", "min", "fraction", reference=0.9),), table)
