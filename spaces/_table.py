"""A table: one row per configuration, found by its genome."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._data import find
from archfront.spaces._errors import DataError
from archfront.spaces._lookup import NO_SIGNATURE, LookedUp, LookupSpace, LookupTask
from archfront.spaces._metric import Metric
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Signature

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "TableLookup", "TableTask", "column", "genomes_of", "no_value", "read_parquet"]

Column = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """Columns over rows; row i is the configuration with the genome `genomes[i]` (`SearchSpace.to_ints`).

    `quality` and `test` by protocol and metric, `analytic` by metric, `device` by device and metric; NaN is no value.
    `invalid` marks rows that a device (or "", every device) cannot run, for the reason `why`.
    """

    genomes: NDArray[np.int64]
    quality: Mapping[str, Mapping[str, Column]]
    test: Mapping[str, Mapping[str, Column]] = field(default_factory=dict)
    analytic: Mapping[str, Column] = field(default_factory=dict)
    device: Mapping[str, Mapping[str, Column]] = field(default_factory=dict)
    invalid: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    why: str = "not a value"

    def __len__(self) -> int:
        return len(self.genomes)

    @cached_property
    def _row(self) -> dict[bytes, int]:
        return {genome.tobytes(): i for i, genome in enumerate(np.ascontiguousarray(self.genomes, np.int64))}

    def row(self, genome: NDArray[np.int64]) -> int | None:
        """Where a genome stands, None where it does not."""
        return self._row.get(np.ascontiguousarray(genome, np.int64).tobytes())

    @cached_property
    def content(self) -> str:
        """sha256 (16 digits) of every genome and value."""
        digest = hashlib.sha256(np.ascontiguousarray(self.genomes, np.int64).tobytes())
        for name, values in sorted(_flat(self).items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values, np.float64).tobytes())
        return digest.hexdigest()[:16]

    def looked_up(self, row: int, protocol: str) -> LookedUp:
        """The values of a row."""
        return LookedUp(
            {metric: float(values[row]) for metric, values in self.quality[protocol].items()},
            {metric: float(values[row]) for metric, values in self.test.get(protocol, {}).items()},
            {metric: float(values[row]) for metric, values in self.analytic.items()},
            {(m, d): float(values[row]) for d, metrics in self.device.items() for m, values in metrics.items()},
            {device: self.why for device, marked in self.invalid.items() if marked[row]},
        )


def _flat(table: Table) -> dict[str, NDArray[Any]]:
    flat: dict[str, NDArray[Any]] = {f"analytic {m}": v for m, v in table.analytic.items()}
    for part in ("quality", "test", "device"):
        flat |= {f"{part} {outer} {m}": v for outer, inner in getattr(table, part).items() for m, v in inner.items()}
    return flat


class TableTask(LookupTask):
    """A task whose values stand in `table`."""

    def __init__(
        self, name: str, metrics: tuple[Metric, ...], table: Table, signature: Signature = NO_SIGNATURE
    ) -> None:
        super().__init__(name, metrics, table.content, signature)
        self.table = table


class TableLookup(LookupSpace):
    """A space whose task is a TableTask. Complete when every configuration of the space has a row."""

    complete = True

    @property
    def table(self) -> Table:
        """The bound task's table."""
        task = self.task()
        assert isinstance(task, TableTask)
        return task.table

    def row(self, config: Configuration) -> int | None:
        """The row of a configuration, None where the table has none."""
        return self.table.row(self.search_space.to_ints([config])[0])

    def look_up(self, config: Configuration, task: str, protocol: str) -> LookedUp:
        """The row's values; a configuration without a row is invalid everywhere."""
        row = self.row(config)
        if row is None:
            return LookedUp({}, invalid={"": "the table has no such configuration"})
        return self.table.looked_up(row, protocol)

    @property
    def devices(self) -> Mapping[str, tuple[str, ...]]:
        """The table's devices."""
        return {device: tuple(metrics) for device, metrics in self.table.device.items()}

    def device_content(self, device: str) -> str:
        """A hash of the device's columns."""
        return hashlib.sha256(b"".join(v.tobytes() for v in self.table.device[device].values())).hexdigest()[:16]

    @property
    def analytic(self) -> tuple[str, ...]:
        """The table's analytic columns."""
        return tuple(self.table.analytic)

    @property
    def refusal(self) -> str | None:
        """A sample of a space is no ground to search: most proposals would have no value."""
        if self.complete:
            return None
        return (
            f"space {self.name!r} is a sample of {len(self.table):,} of {self.search_space.size:.3g} configurations: "
            "it serves predictors and warm starts, most proposals of a search would have no value"
        )

    def configurations(self) -> list[Configuration]:
        """The configuration of every row, in the table's order."""
        return self.search_space.from_ints(self.table.genomes)


def read_parquet(path: str, data: Path | None = None, *, how: str = "") -> pd.DataFrame:
    """The tidy file `path` under the data folder, or a file of the same name in the folder `data` (or `data` itself).

    Raises DataError that names the file, where it was looked for, and how to get it.
    """
    import pandas as pd

    if data is None:
        try:
            file = find(path)
        except DataError as error:
            raise DataError(error.message, f"{error.hint}{'; ' if how else ''}{how}") from error
    else:
        file = data / Path(path).name if data.is_dir() else data
        if not file.exists():
            raise DataError(f"no file {Path(path).name!r} in {str(data)!r}", how)
    try:
        return pd.read_parquet(file)
    except Exception as error:  # pyarrow has no common base for what a damaged file raises
        raise DataError(f"{str(file)!r} cannot be read as a table: {error}", how or "get the file again") from error


def no_value(columns: Mapping[str, Column]) -> NDArray[np.bool_]:
    """Rows that lack a value in any of these columns."""
    return np.asarray(~np.isfinite(np.stack(list(columns.values()))).all(axis=0))


def column(frame: pd.DataFrame, name: str, where: str) -> Column:
    """A column as numbers. Raises DataError that lists what there is."""
    if name not in frame:
        known = ", ".join(map(str, list(frame)[:12]))
        raise DataError(f"{where} has no column {name!r}", f"it has {known}{', ...' if len(list(frame)) > 12 else ''}")
    try:
        return np.asarray(frame[name], np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name!r} of {where} is not numeric: {error}") from error


def genomes_of(space: SearchSpace, columns: Sequence[Iterable[Any]], where: str) -> NDArray[np.int64]:
    """Genomes from one column of values per parameter. Raises DataError that names the row with an unknown value."""
    plain = [[v.item() if isinstance(v, np.generic) else v for v in values] for values in columns]
    refused = []
    for parameter, values in zip(space, plain, strict=True):
        known = {one: parameter.problem(one[1]) for one in {(type(value), value) for value in values}}
        row = next((i for i, value in enumerate(values) if known[type(value), value] is not None), None)
        if row is not None:
            refused.append((row, parameter, values[row]))
    if refused:
        row, parameter, value = min(refused, key=lambda one: one[0])
        problem = parameter.problem(value)
        assert problem is not None
        raise DataError(f"row {row} of {where}: {parameter.name}: {problem[1]}")
    codes = np.stack([p.encode(values) for p, values in zip(space, plain, strict=True)], axis=1)
    codes = space.settled(codes)
    return np.stack([p.to_ints(codes[:, i]) for i, p in enumerate(space)], axis=1)
