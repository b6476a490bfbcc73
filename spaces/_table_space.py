"""A user's own table as a space: a DataFrame whose columns are parameters, metrics and devices."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._errors import DataError, UsageError
from archfront.spaces._metric import METRICS, Metric
from archfront.spaces._parameter import Parameter
from archfront.spaces._search_space import SearchSpace
from archfront.spaces._table import Table, TableLookup, TableTask, column, genomes_of, no_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableSpace"]


class TableSpace(TableLookup):
    """One row per configuration.

        space = TableSpace(frame, ["op_1", "op_2"], {"error": "err"}, devices={"pi": {"latency_ms": "lat_pi"}})
        Study("mine", space=space, objectives=["error", "latency_ms@pi"]).run(trials=50)

    `parameters`: columns (numbers become ordinal, everything else categorical), or a SearchSpace whose parameters are
    columns. `metrics` maps the name of a quality metric, or a Metric with its direction, to its column; a list names
    columns called like their metric. `devices` maps a device to {metric: column}; `analytic` maps params_m, macs_m or
    memory_mb to a column. A row whose device value is not a finite number is invalid on that device.

    Raises DataError for columns that are not there, values a parameter does not have, and two rows of one
    configuration; UsageError for a metric whose direction nobody knows.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        parameters: Sequence[str] | SearchSpace,
        metrics: Mapping[str | Metric, str] | Sequence[str],
        *,
        devices: Mapping[str, Mapping[str, str]] | None = None,
        analytic: Mapping[str, str] | None = None,
        name: str = "table",
    ) -> None:
        where = f"table {name!r}"
        if len(frame) == 0:
            raise DataError(f"{where} has no rows")
        self._name = name
        space = parameters if isinstance(parameters, SearchSpace) else _space_of(frame, parameters, where)
        missing = [p for p in space.names if p not in frame]
        if missing:
            raise DataError(f"{where} has no column {missing[0]!r}", f"it has {', '.join(map(str, frame))}")
        genomes = genomes_of(space, [frame[p] for p in space.names], where)
        _refuse_repeated(genomes, where)
        named = metrics if isinstance(metrics, Mapping) else {metric: metric for metric in metrics}
        known = {_metric(metric): str(source) for metric, source in named.items()}
        on_devices = {
            device: {_device_metric(m, device): column(frame, c, where) for m, c in columns.items()}
            for device, columns in (devices or {}).items()
        }
        table = Table(
            genomes,
            {"table": {metric.name: column(frame, source, where) for metric, source in known.items()}},
            analytic={metric: column(frame, source, where) for metric, source in (analytic or {}).items()},
            device=on_devices,
            invalid={device: no_value(values) for device, values in on_devices.items()},
            why="the table has no value",
        )
        self.variant, self.epochs = "", 1
        self._task = TableTask(name, tuple(known), table)
        self.complete = len(genomes) == space.size
        self.search_space = space.identified(hashlib.sha256(f"table {name} {space.id}".encode()).hexdigest())

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> NoReturn:
        """A user's table comes as an object, not by name. Raises UsageError."""
        raise UsageError("a TableSpace is made from a DataFrame", "pass the object itself as the space")

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    @property
    def loadable(self) -> bool:
        """Never by name: it lives in the script that made it."""
        return False


def _space_of(frame: pd.DataFrame, names: Sequence[str], where: str) -> SearchSpace:
    parameters: list[Parameter] = []
    for name in names:
        if name not in frame:
            raise DataError(f"{where} has no column {name!r}", f"it has {', '.join(map(str, frame))}")
        values = list(dict.fromkeys(v.item() if isinstance(v, np.generic) else v for v in frame[name]))
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        parameters.append(Ordinal(name, tuple(sorted(values))) if numbers else Categorical(name, tuple(values)))
    return SearchSpace(*parameters)


def _refuse_repeated(genomes: Any, where: str) -> None:
    unique, first = np.unique(genomes, axis=0, return_index=True)
    if len(unique) < len(genomes):
        row = next(i for i in range(len(genomes)) if i not in set(first.tolist()))
        raise DataError(f"row {row} of {where} has the configuration of an earlier row", "average repeated rows first")


def _metric(given: str | Metric) -> Metric:
    if isinstance(given, Metric):
        return given
    if given not in METRICS or METRICS[given].source != "quality":
        raise UsageError(f"metric {given!r} has no known direction", f'give Metric({given!r}, "min") or ... "max")')
    return METRICS[given]


def _device_metric(name: str, device: str) -> str:
    if name not in METRICS or METRICS[name].source != "device":
        known = ", ".join(m.name for m in METRICS.values() if m.source == "device")
        raise UsageError(f"device {device!r}: {name!r} is no device metric", f"known: {known}")
    return name
