"""Predictors against each other: how well they rank the rows of a table that they were not fitted on."""

from __future__ import annotations

import json
import math
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront import predictors as registered
from archfront import spaces
from archfront.cluster._device import named_device
from archfront.cluster._threads import one_thread
from archfront.cluster.bench._parallel import finished
from archfront.cluster.store import Store
from archfront.predictors import Context, Predictor, TooFewPointsError, scores_of
from archfront.search._types import Configuration
from archfront.spaces._arguments import check_arguments
from archfront.spaces._errors import UsageError
from archfront.spaces._registry import registered_name
from archfront.spaces._search_space import SearchSpace
from archfront.spaces._table import TableLookup

__all__ = ["Column", "Comparison", "Fit", "compare", "summary", "table_space"]

KIND = "predictors"
DEVICE_ONLY = frozenset({"latency"})
"""Predictors of what a device does: not compared on quality."""
UNLEARNED = ("mape", "rmse", "nll", "coverage")
"""Scores that suppose the guess to be in the unit of the truth, which a proxy is not."""
WARM_UP = 20
"""Rows of the first fit in a process, which loads libraries and is not timed."""
Floats = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """What is predicted: a quality metric of a table at some epochs, or a metric of one of its devices."""

    metric: str
    device: str | None = None
    epochs: int | None = None

    def __str__(self) -> str:
        return self.metric if self.device is None else f"{self.metric}@{self.device}"

    def values(self, space: TableLookup) -> Floats:
        """One per row of the table, NaN where the row is not valid."""
        table = space.table
        if self.device is not None:
            values = table.device[self.device][self.metric]
        else:
            values = table.quality[space.protocol_of(space.epochs if self.epochs is None else self.epochs)][self.metric]
        valid = np.isfinite(values)
        for device in {"", self.device or ""} & set(table.invalid):
            valid &= ~table.invalid[device]
        return np.where(valid, values, np.nan)


@dataclass(frozen=True)
class Fit:
    """One fit on `size` rows and its guesses of `test` others. The rows depend on column, seed and `test` only: every
    predictor gets the same ones, and a smaller training set is part of a larger one."""

    predictor: str
    parameters: Mapping[str, Any]
    space: str
    task: str | None
    column: Column
    size: int
    seed: int
    test: int

    @property
    def label(self) -> str:
        """As typed: NAME or NAME(k=v)."""
        own = ",".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.predictor}({own})" if own else self.predictor

    @property
    def what(self) -> str:
        """What the rows measure, as text: equal for equal rows."""
        given = {"predictor": self.label, "size": self.size, "seed": self.seed, "test": self.test}
        return json.dumps({**given, **_identity(table_space(self.space, self.task), self.column)}, sort_keys=True)

    def made(self) -> Predictor:
        """A new predictor. Raises UnknownNameError and UsageError."""
        space = table_space(self.space, self.task)
        cls = registered.load(self.predictor)
        check_arguments(f"predictor {self.predictor!r}", cls.parameters(), self.parameters)
        return cls(space.search_space, _context(space), seed=self.seed, **self.parameters)

    def rows(self) -> list[Row]:
        """One row, or one per metric of a predictor that learns nothing; times are CPU seconds."""
        space = table_space(self.space, self.task)
        truth = self.column.values(space)
        order = np.random.default_rng(self.seed).permutation(np.flatnonzero(np.isfinite(truth)))
        test, train = order[: self.test], order[self.test : self.test + self.size]
        held = space.search_space.from_ints(space.table.genomes[test])
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries, about data that they find odd
            if not self.size:
                return list(self._proxied(held, truth[test]))
            known = space.search_space.from_ints(space.table.genomes[train])
            return [self._fitted(known, truth[train], held, truth[test])]

    def _fitted(self, known: list[Configuration], y: Floats, held: list[Configuration], truth: Floats) -> Row:
        metric = self.column.metric
        if self.label not in _warm:
            self.made().fit(known[:WARM_UP], {metric: y[:WARM_UP]})
            _warm.add(self.label)
        predictor = self.made()
        started = time.process_time()
        predictor.fit(known, {metric: y})
        fitted = time.process_time()
        guess = predictor.predict(held, [metric])[metric]
        done = time.process_time()
        return self._row(metric, asdict(scores_of(guess, truth)), fitted - started, done - fitted)

    def _proxied(self, held: list[Configuration], truth: Floats) -> Iterator[Row]:
        predictor = self.made()
        for metric in predictor.metrics:
            predictor.predict(held[:1], [metric])
            started = time.process_time()
            guess = predictor.predict(held, [metric])[metric]
            done = time.process_time()
            scores = {**asdict(scores_of(guess.mean, truth)), **dict.fromkeys(UNLEARNED)}
            yield self._row(metric, scores, 0.0, done - started)

    def _row(self, metric: str, scores: Mapping[str, Any], fit_s: float, predict_s: float) -> Row:
        return {"metric": metric, **scores, "fit_seconds": round(fit_s, 4), "predict_seconds": round(predict_s, 4)}


_warm: set[str] = set()
"""Labels of predictors that this process has fitted before."""


@dataclass(frozen=True)
class Comparison:
    """What is compared: `predictors` are (name, parameters); none means every registered one that fits the space, at
    the sizes that it takes. Columns are the task's first metric and every metric of each device."""

    space: str
    task: str | None
    devices: tuple[str, ...]
    predictors: tuple[tuple[str, Mapping[str, Any]], ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    test: int = 1000
    epochs: int | None = None
    columns: tuple[Column, ...] = field(init=False)

    def __post_init__(self) -> None:
        space = table_space(self.space, self.task)
        epochs = space.epochs if self.epochs is None else self.epochs
        space.protocol_of(epochs)
        columns = [Column(space.task().metrics[0].name, None, epochs)]
        for device in self.devices:
            if device not in space.devices:
                named_device(device, also=space.devices)
                known = f"{space.name} has {', '.join(space.devices) or 'no devices'}"
                raise UsageError(f"device {device!r} measures: bench compares on the columns of tables", known)
            columns += [Column(metric, device) for metric in space.devices[device]]
        object.__setattr__(self, "columns", tuple(dict.fromkeys(columns)))

    def fits(self) -> list[Fit]:
        """Every fit, seed by seed, so that what is there when it is stopped is balanced.

        Raises UnknownNameError and UsageError for what cannot be done, TooFewPointsError for a size below a named
        predictor's minimum.
        """
        self._check_rows()
        chosen = [self._one(name, parameters) for name, parameters in self.predictors or self._default()]
        return [fit for seed in self.seeds for fits in chosen for fit in fits(seed)]

    def protocol(self) -> list[dict[str, Any]]:
        """What makes rows comparable, one per column."""
        space = table_space(self.space, self.task)
        return [{**_identity(space, column), "test": self.test} for column in self.columns]

    def _check_rows(self) -> None:
        space, needed = table_space(self.space, self.task), self.test + max(self.sizes)
        for column in self.columns:
            if (valid := int(np.isfinite(column.values(space)).sum())) < needed:
                raise UsageError(
                    f"{column}: {valid} valid rows are fewer than {max(self.sizes)} to fit on and {self.test} to test",
                    "choose smaller --sizes or a smaller --test",
                )

    def _default(self) -> list[tuple[str, Mapping[str, Any]]]:
        space = table_space(self.space, self.task)
        context = _context(space)
        classes = {name: registered.load(name) for name in registered.names()}
        able = {name: cls for name, cls in classes.items() if cls.minimum and cls.supports(context) is None}
        return [(name, {}) for name, cls in able.items() if _reads(cls, space.search_space, context)]

    def _one(self, name: str, parameters: Mapping[str, Any]) -> Callable[[int], list[Fit]]:
        """The fits of a predictor by seed, after its refusals."""
        cls, columns, sizes = registered.load(name), self.columns, self.sizes
        if not cls.minimum:  # a proxy guesses quality, and learns nothing
            columns, sizes = self.columns[:1], (0,)
        elif registered_name(cls) in DEVICE_ONLY:
            columns = self.columns[1:]
        if self.predictors and not columns:
            raise UsageError(f"predictor {name!r} predicts what a device does", "give a --device of the table")
        if self.predictors and cls.minimum > sizes[0]:
            raise TooFewPointsError(
                f"predictor {name!r} needs {cls.minimum} points, --sizes has {sizes[0]}", "leave the size out"
            )

        def fits(seed: int) -> list[Fit]:
            return [
                Fit(name, parameters, self.space, self.task, column, size, seed, self.test)
                for size in sizes
                for column in columns
                if size >= cls.minimum
            ]

        for fit in fits(self.seeds[0])[:1]:
            fit.made()
        return fits


def compare(
    store: Store,
    comparison: Comparison,
    *,
    workers: int = 0,
    address: str | None = None,
    watch: Callable[[int, int, Fit | None], None] = lambda done, of, fit: None,
) -> dict[str, Any]:
    """Do the fits that the store does not have yet, and return all: `{protocol, rows, summary}`.

    A row per predictor, column, size and seed; that of a proxy has size 0, the proxy as `metric` and the metric that
    it is ranked against as `truth`. Raises UnknownNameError and UsageError before anything runs. A finished fit is
    stored at once.
    """
    names = {fit.what: fit for fit in comparison.fits()}
    known = store.bench(KIND, names)
    missing = [fit for what, fit in names.items() if what not in known]
    watch(len(names) - len(missing), len(names), None)
    for done, (fit, rows) in enumerate(finished(Fit.rows, missing, workers, address), len(names) - len(missing) + 1):
        known[fit.what] = {"rows": rows}
        store.add_bench(KIND, {fit.what: known[fit.what]})
        watch(done, len(names), fit)
    rows = [
        {
            "predictor": fit.label,
            "space": comparison.space,
            "task": table_space(comparison.space, comparison.task).task().name,
            "truth": fit.column.metric,
            "device": fit.column.device,
            "size": fit.size,
            "seed": fit.seed,
            **row,
        }
        for what, fit in names.items()
        for row in known[what]["rows"]
    ]
    return {"protocol": comparison.protocol(), "rows": rows, "summary": summary(rows)}


def summary(rows: Sequence[Row]) -> list[Row]:
    """By predictor, metric, device and size: mean and standard error of Kendall's tau over seeds, and the means of
    RMSE, coverage (None without) and CPU seconds."""
    keys = ("predictor", "truth", "metric", "device", "size")
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return [
        {
            **dict(zip(keys, group, strict=True)),
            "kendall": statistics.fmean(row["kendall"] for row in members),
            "sem": _standard_error([row["kendall"] for row in members]),
            "seeds": len(members),
            **{name: _mean(members, name) for name in ("rmse", "coverage", "fit_seconds", "predict_seconds")},
        }
        for group, members in groups.items()
    ]


@lru_cache(maxsize=4)
def table_space(name: str, task: str | None) -> TableLookup:
    """A table, loaded once per process; samples too. Raises UnknownNameError, UsageError."""
    space = spaces.load(name, task=task)
    if not isinstance(space, TableLookup):
        raise UsageError(f"space {name!r} is no table", "predictors are compared on tables, e.g. nasbench201")
    return space


def _identity(space: TableLookup, column: Column) -> dict[str, Any]:
    return {"space": space.full_name, "task": space.task().identity, **asdict(column)}


def _context(space: TableLookup) -> Context:
    """What a study on the table would tell its predictors."""

    def exact(metric: str, configs: Sequence[Configuration]) -> Floats | None:
        rows = [space.row(config) for config in configs] if metric in space.analytic else [None]
        return None if None in rows else space.table.analytic[metric][np.array(rows, np.int64)]

    return Context(space, space.task(), exact)


def _standard_error(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows]
    return None if None in values else statistics.fmean(values)


def _reads(cls: type[Predictor], space: SearchSpace, context: Context) -> bool:
    """Whether the space is one that the predictor can be made for: some read so many columns and no more."""
    try:
        cls(space, context)
    except UsageError:
        return False
    return True
