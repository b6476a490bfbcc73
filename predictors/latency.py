"""Latency as a sum: of decisions, of analytic costs, or of a look-up table's blocks (ProxylessNAS, OFA, FBNet)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._prediction import Fitted, Model
from archfront.predictors._predictor import Predictor
from archfront.spaces._blocks import Block, block_key
from archfront.spaces._errors import DataError, StoreError, UnknownNameError, UsageError
from archfront.spaces._lookup import LookupSpace
from archfront.spaces._parameter import Floats, Parameter
from archfront.spaces._search_space import Configuration

__all__ = ["Latency", "LatencyTable"]

MODELS = ("additive", "analytic", "table")
COSTS = ("macs_m", "params_m", "memory_mb")
OPTIONS = 32
"""A number of so many values has a cost for each; above, its cost is linear between those of its ends."""
RIDGE = 1e-9
"""Against the largest label and per row: makes the solution unique, far below what can be measured."""
LATENCY_COLUMNS = ("lat_ms", "latency_ms", "lat_ms_mean")


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds by block. A block is named by text: its kind, then what tells it from others of its kind."""

    blocks: Mapping[str, float]

    def __post_init__(self) -> None:
        for block, ms in self.blocks.items():
            if not 0 <= ms < np.inf:
                raise ValueError(f"the latency of block {block!r} is {ms} ms")

    @classmethod
    def read(cls, file: Path) -> LatencyTable:
        """From .parquet or .csv: the column lat_ms, latency_ms or lat_ms_mean, in milliseconds; `block`; every other
        column, but those beginning with lat_, is a property of the block, left out where it is empty.

        Raises DataError.
        """
        import pandas as pd

        where = repr(str(file))
        readers: dict[str, Callable[[Path], pd.DataFrame]] = {".parquet": pd.read_parquet, ".csv": pd.read_csv}
        if file.suffix not in readers or not file.is_file():
            raise DataError(f"no latency table {where}", f"give a file that ends in {' or '.join(readers)}")
        try:
            frame = readers[file.suffix](file)
        except Exception as error:  # pyarrow has no common base for what a damaged file raises
            raise DataError(f"{where} cannot be read as a table: {error}", "get the file again") from error
        latency = next((name for name in LATENCY_COLUMNS if name in frame), None)
        if latency is None or "block" not in frame:
            raise DataError(f"{where} has no column block or none of {', '.join(LATENCY_COLUMNS)}")
        names = [str(n) for n in frame if n not in ("block", latency) and not str(n).startswith("lat_")]
        frame = frame.convert_dtypes()  # whole numbers beside empty cells are whole numbers
        blocks: dict[str, float] = {}
        for row in frame.to_dict("records"):
            key = block_key(row["block"], **{name: row[name] for name in names if not pd.isna(row[name])})
            if key in blocks:
                raise DataError(f"{where} has block {key!r} twice")
            ms = pd.to_numeric(row[latency], errors="coerce")
            if pd.isna(ms) or not 0 <= ms < np.inf:
                raise DataError(f"{where}: the latency of block {key!r} is {row[latency]!r}", "milliseconds, from 0")
            blocks[key] = float(ms)
        return cls(blocks)

    def write(self, file: Path) -> None:
        """Inverse of `read`, as .csv: a column per property."""
        import pandas as pd

        rows = []
        for key, ms in self.blocks.items():
            kind, *properties = key.split(" ")
            rows.append({"lat_ms": ms, "block": kind, **dict(p.split("=", 1) for p in properties)})
        pd.DataFrame(rows).to_csv(file, index=False)

    def of(self, keys: Sequence[str]) -> float:
        """The sum of these blocks in ms. Raises UnknownNameError for one that the table does not have."""
        for key in keys:
            if key not in self.blocks:
                raise UnknownNameError.of("block of the latency table", key, self.blocks)
        return float(sum(self.blocks[key] for key in keys))


class Latency(Predictor):
    """Non-negative least squares of measured latencies (ms, or whatever the metric's unit is) on parts that add up.

    `model` "additive": a constant and a cost for each option of each active decision that is no hyperparameter; an
    option that was never measured costs the mean of its parameter's measured ones. Where the model space tells by its
    method `idle(config) -> names` which decisions its output does not depend on, an option has a second cost that falls
    away with them: some devices compute everything, the compilers of others drop what nobody reads.

    "analytic": a constant, the MACs, the parameters and the memory, those of them that are known: the terms of a
    roofline, added. "table": a constant and the sum of the blocks in `table` (a file, or a LatencyTable) that the model
    space names by its method `blocks(config)`; `latency_ms` is then known before a fit: the plain sum.

    The constant may be negative, no other cost can. No standard deviation: a fit is a table's build.
    """

    minimum = 5

    def __init__(
        self, *base: Any, model: str = "additive", table: str | LatencyTable | None = None, **rest: Any
    ) -> None:
        super().__init__(*base, **rest)
        if model not in MODELS:
            raise UnknownNameError.of("latency model", model, MODELS)
        self.model = model
        if (model == "table") != (table is not None):
            raise UsageError(f"model={model!r} with table={table!r}", 'a file for model "table", nothing for others')
        self.table = LatencyTable.read(Path(table)) if isinstance(table, str) else table
        self._costs = tuple(self._known([self.search_space.default])) if model == "analytic" else ()
        if model == "analytic" and not self._costs:
            raise UsageError("latency model 'analytic' cannot be used here", f"nobody tells {', '.join(COSTS)}")
        if model == "table" and not self._blocks(self.search_space.default):
            raise UsageError("latency model 'table' cannot be used here", "the model space names no blocks")

    def untrained(self) -> Mapping[str, Model]:
        return {} if self.table is None else {"latency_ms": self._model(np.array([0.0, 1.0]))}

    def inputs(self, configs: Sequence[Configuration]) -> Floats:
        """(n, parts), the first of them 1."""
        parts = {"additive": self._decisions, "analytic": self._analytic, "table": self._sums}[self.model](configs)
        return np.concatenate([np.ones((len(configs), 1)), parts], axis=1)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        costs = _least_squares(inputs, y, weights)
        return Fitted(self._model(self._completed(inputs, costs) if self.model == "additive" else costs))

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, None]:
        if model["model"] != self.model:
            raise StoreError(f"the stored state is of latency model {model['model']!r}, this is {self.model!r}")
        return inputs @ model["costs"], None

    def _model(self, costs: Floats) -> Model:
        return {"model": self.model, "costs": costs}

    # -- the parts

    @property
    def _decided(self) -> list[tuple[int, Parameter]]:
        """Positions and parameters whose values a device can notice."""
        return [(i, p) for i, p in enumerate(self.search_space) if p.role != "hyperparameter"]

    def _decisions(self, configs: Sequence[Configuration]) -> Floats:
        """One column per option, 1 where it is chosen and active; again, 1 where its result is used as well."""
        codes = self.search_space.encode(configs)
        active = self.search_space.active(codes)
        every = self._options(codes, active)
        if self.context.idle is None:
            return every
        idle = [self.context.idle(config) for config in configs]
        used = np.array([[name not in names for name in self.search_space.names] for names in idle], bool)
        return np.concatenate([every, self._options(codes, active & used.reshape(active.shape))], axis=1)

    def _options(self, codes: Floats, counted: NDArray[np.bool_]) -> Floats:
        blocks = [np.empty((len(codes), 0))]
        for i, parameter in self._decided:
            if parameter.size <= OPTIONS:
                chosen = np.eye(parameter.cardinality)[parameter.to_ints(codes[:, i])]
            else:
                scaled = parameter.features(codes[:, i])
                chosen = np.concatenate([scaled, 1 - scaled], axis=1)
            blocks.append(chosen * counted[:, i : i + 1])
        return np.concatenate(blocks, axis=1)

    def _completed(self, inputs: Floats, costs: Floats) -> Floats:
        """`costs` with those of options that no row has filled in."""
        costs, at, counts = costs.copy(), 1, inputs.sum(axis=0)
        for _, parameter in self._decided * (1 if self.context.idle is None else 2):
            width = parameter.cardinality if parameter.size <= OPTIONS else 2 * len(parameter.feature_names)
            part, seen = slice(at, at + width), counts[at : at + width]
            if seen.any():
                costs[part] = np.where(seen > 0, costs[part], costs[part] @ seen / seen.sum())
            at += width
        return costs

    def _known(self, configs: Sequence[Configuration]) -> dict[str, Floats]:
        """Those of COSTS (n,) that the study's context, or else a network that is built, tells."""
        known: dict[str, Floats] = {}
        for name in COSTS:
            try:
                values = self.context.exact(name, configs)
            except KeyError:  # a table without this column
                continue
            if values is not None:
                known[name] = np.asarray(values, np.float64)
        space = self.context.model_space
        if known or space is None or (isinstance(space, LookupSpace) and not space.builds):
            return known
        from archfront.spaces._costs import analytic_costs

        counted = [analytic_costs(space, self._own(config)) for config in configs]
        return {name: np.array([costs[name] for costs in counted]) for name in COSTS}

    def _analytic(self, configs: Sequence[Configuration]) -> Floats:
        if not len(configs):
            return np.empty((0, len(self._costs)))
        known = self._known(configs)
        return np.stack([known[name] for name in self._costs], axis=1)

    def _sums(self, configs: Sequence[Configuration]) -> Floats:
        table = self.table
        assert table is not None  # `__init__` has looked
        sums = [table.of([block.key for block in self._blocks(config)]) for config in configs]
        return np.array(sums).reshape(len(configs), 1)

    def _blocks(self, config: Configuration) -> Sequence[Block]:
        space = self.context.model_space
        return () if space is None else space.blocks(self._own(config))

    def _own(self, config: Configuration) -> Configuration:
        """The model space's part of a configuration."""
        assert self.context.model_space is not None
        return {name: config[name] for name in self.context.model_space.search_space.names}


def _least_squares(x: Floats, y: Floats, weights: Floats | None) -> Floats:
    """Costs (parts,), none but the first below 0, of least weighted squares."""
    from scipy.optimize import nnls

    root = np.ones(len(y)) if weights is None else np.sqrt(weights / weights.mean())
    level, reach = float(np.abs(y).max()) or 1.0, np.maximum(np.abs(x).max(axis=0), np.finfo(np.float64).tiny)
    rows = np.concatenate([x[:, :1], -x[:, :1], x[:, 1:] / reach[1:]], axis=1) * root[:, None]
    penalty = np.sqrt(RIDGE * len(y)) * np.eye(rows.shape[1])
    target = np.concatenate([y / level * root, np.zeros(len(penalty))])
    found = nnls(np.concatenate([rows, penalty]), target)[0]
    return np.asarray(level * np.concatenate([found[:1] - found[1:2], found[2:] / reach[1:]]))
