"""A hyperparameter schedule: what self-tuning found, as data that a plain trainer can follow."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from archfront.spaces._errors import DataError
from archfront.trainers._types import Report

__all__ = ["SCALE", "VALUE", "Schedule", "ScheduleRow"]

VALUE, SCALE = "value.", "scale."
"""Prefixes of a report's attributes."""
COLUMNS = ("epoch", "name", "value", "scale")


@dataclass(frozen=True)
class ScheduleRow:
    """From the beginning of `epoch` (counted from 0) on these values hold; the scales of their perturbation beside."""

    epoch: int
    values: Mapping[str, float]
    scales: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Schedule:
    """Rows of ascending epochs, all with the same names; constant between them, and before the first."""

    rows: tuple[ScheduleRow, ...]

    def __post_init__(self) -> None:
        if not self.rows or not self.rows[0].values:
            raise DataError("a schedule needs at least one row with a value")
        last = -1
        for row in self.rows:
            if row.epoch <= last:
                raise DataError(f"a schedule's epochs must ascend: {row.epoch} comes after {last}")
            if set(row.values) != set(self.names) or not set(row.scales) <= set(self.names):
                raise DataError(f"a schedule has the same names in every row: epoch {row.epoch} differs")
            for name, value in {**row.values, **row.scales}.items():
                if not math.isfinite(value):
                    raise DataError(f"a schedule's {name!r} is {value} in epoch {row.epoch}")
            last = row.epoch

    @property
    def names(self) -> list[str]:
        """The parameters it moves."""
        return list(self.rows[0].values)

    def at(self, epoch: int) -> Mapping[str, float]:
        """The values that hold in an epoch."""
        before = [row for row in self.rows if row.epoch <= epoch]
        return (before[-1] if before else self.rows[0]).values

    @classmethod
    def from_reports(cls, reports: Iterable[Report]) -> Schedule:
        """What a self-tuning run has reported. After k epochs it had reached the values that hold in epoch k, the one
        that comes next; the very first epoch has the first row's. Raises DataError where there is none."""
        return cls(
            tuple(ScheduleRow(r.step, _under(r.attributes, VALUE), _under(r.attributes, SCALE)) for r in reports)
        )

    def to_json(self) -> str:
        """A list of {epoch, values, scales}."""
        return json.dumps([{"epoch": r.epoch, "values": dict(r.values), "scales": dict(r.scales)} for r in self.rows])

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Inverse of `to_json`. Raises DataError."""
        try:
            return cls(tuple(ScheduleRow(int(r["epoch"]), r["values"], r["scales"]) for r in json.loads(text)))
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(error) from error

    def to_csv(self) -> str:
        """One line for each epoch and name: epoch, name, value, scale (empty where there is none)."""
        buffer = io.StringIO()
        table = csv.writer(buffer, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in self.rows:
            for name, value in row.values.items():
                table.writerow([row.epoch, name, repr(value), repr(row.scales[name]) if name in row.scales else ""])
        return buffer.getvalue()

    @classmethod
    def from_csv(cls, text: str) -> Schedule:
        """Inverse of `to_csv`; rows of one epoch stand together. Raises DataError."""
        values: dict[int, dict[str, float]] = {}
        scales: dict[int, dict[str, float]] = {}
        try:
            for line in csv.DictReader(io.StringIO(text), strict=True):
                epoch, name = int(line["epoch"]), line["name"]
                values.setdefault(epoch, {})[name] = float(line["value"])
                scales.setdefault(epoch, {}).update({name: float(line["scale"])} if line["scale"] else {})
            return cls(tuple(ScheduleRow(epoch, values[epoch], scales[epoch]) for epoch in values))
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise _unreadable(error) from error


def _under(attributes: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}


def _unreadable(error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"this is no schedule: {error}", f"columns are {', '.join(COLUMNS)}")
