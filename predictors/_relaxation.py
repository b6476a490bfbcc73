"""Configurations as matrices that can be noised: a row per decision, a column per option (DiffusionNAG's adapter)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._context import Context
from archfront.spaces import _encodings
from archfront.spaces._choices import Choice
from archfront.spaces._errors import UsageError
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Floats, Parameter
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._wiring import Wiring, descendants

__all__ = ["BINS", "Relaxation"]

BINS = 24
"""Integers with more values than this are drawn into as many bins, evenly on their own scale."""


@dataclass(frozen=True)
class Relaxation:
    """Matrices V (rows, columns) of a search space; decode(encode(config)) = config for canonical configurations whose
    numbers are centres of their bins.

    A row that decides a parameter has one 1, or none while the parameter is inactive; those that are never decided have
    no row; a constant (input, output) always has its own 1. Entries that are not `free` never change. Raises UsageError
    naming a real parameter that declares no bins.
    """

    space: SearchSpace
    wiring: Wiring

    @classmethod
    def of(cls, space: SearchSpace, context: Context | None = None, *, bins: int | None = None) -> Relaxation:
        """By the model space's wiring where the study searches exactly its parameters, else all rows connected. `bins`
        are given to real parameters that declare none."""
        if bins is not None:
            space = space.binned(bins)
        own = None if context is None else context.model_space
        wiring = own.wiring() if own is not None and own.search_space.names == space.names else None
        if wiring is None:
            rows = space.varied or [space.names[0]]
            everything = np.ones((len(rows), len(rows)), bool)
            wiring = Wiring(rows, everything, np.arange(len(rows)))
        for name in wiring.rows:
            if name in space and isinstance(p := space[name], Real) and p.bins is None and p.size > 1:
                raise UsageError(
                    f"{name} is a continuum without bins: a generator of one-hot rows cannot encode it",
                    f"declare Real({name!r}, ..., bins=16), or fix it: --set {name}={p.default:g}",
                )
        return cls(space, wiring)

    # -- what it is

    @cached_property
    def codes(self) -> list[Floats]:
        """Codes of the options of each row; none for a constant."""
        return [centres(self.space[name]) if name in self.space else np.empty(0) for name in self.wiring.rows]

    @cached_property
    def constants(self) -> list[int]:
        """The rows that decide nothing."""
        return [i for i, name in enumerate(self.wiring.rows) if name not in self.space]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.wiring.rows), len(self.constants) + max(len(codes) for codes in self.codes)

    @cached_property
    def free(self) -> NDArray[np.bool_]:
        """Entries (rows, columns) that are decided; all others are the same in every configuration."""
        free = np.zeros(self.shape, bool)
        for i, codes in enumerate(self.codes):
            free[i, len(self.constants) : len(self.constants) + len(codes)] = True
        return free

    @cached_property
    def fixed(self) -> Floats:
        """A matrix (rows, columns) of 0 and 1 with what is not free."""
        fixed = np.zeros(self.shape)
        fixed[self.constants, np.arange(len(self.constants))] = 1
        return fixed

    @cached_property
    def attention(self) -> NDArray[np.bool_]:
        """Which rows (rows, rows) a row looks at: those that it reaches."""
        return descendants(self.wiring.flow)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Index of each row's positional encoding."""
        return self.wiring.positions

    @cached_property
    def id(self) -> str:
        """Content hash: what is decided, when it is active, how it hangs together."""
        rows = [
            [self.space[name].to_dict(), codes.tolist()] if name in self.space else name
            for name, codes in zip(self.wiring.rows, self.codes, strict=True)
        ]
        content = [rows, self.wiring.flow.astype(int).tolist(), self.positions.tolist()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    # -- configurations to matrices and back

    def encode(self, configs: Sequence[Configuration]) -> Floats:
        """Matrices (n, rows, columns) of 0 and 1; numbers go to the nearest centre."""
        codes = self.space.encode(configs)
        active = self.space.active(codes)
        matrices = np.repeat(self.fixed[None], len(configs), axis=0)
        for i, column in self._columns:
            option = nearest(self.space.parameters[column], self.codes[i], codes[:, column])
            matrices[np.arange(len(configs)), i, len(self.constants) + option] = active[:, column]
        return matrices

    def decode(self, matrices: Floats, rng: np.random.Generator | None = None) -> list[Configuration | None]:
        """Configurations of matrices (n, rows, columns) that are at least .5 where they have a 1; None where a row has
        another number of them than it must have. With `rng` numbers lie anywhere in their bin."""
        chosen = matrices >= 0.5
        counts = (chosen & self.free).sum(axis=2)
        codes = self._chosen(chosen, rng)
        active = self.space.active(codes)
        valid = ((chosen == (self.fixed > 0)) | self.free).all(axis=(1, 2))
        for i, column in self._columns:
            valid &= counts[:, i] == active[:, column]
        configs = self.space.decode(self.space.settled(codes))
        return [config if ok else None for config, ok in zip(configs, valid, strict=True)]

    def repaired(self, matrices: Floats, rng: np.random.Generator | None = None) -> list[Configuration]:
        """A configuration for every matrix (n, rows, columns): the largest entry of each active row."""
        largest = np.where(self.free, matrices, -np.inf).argmax(axis=2)
        chosen = np.arange(self.shape[1]) == largest[:, :, None]
        return self.space.decode(self.space.settled(self._chosen(chosen, rng)))

    def _chosen(self, chosen: NDArray[np.bool_], rng: np.random.Generator | None) -> Floats:
        """Codes (n, parameters) by the first option chosen in each row; defaults where there is none."""
        codes = np.repeat(self.space.encode([self.space.default]), len(chosen), axis=0)
        for i, column in self._columns:
            options = chosen[:, i, len(self.constants) :][:, : len(self.codes[i])]
            option = options.argmax(axis=1)
            value = self.codes[i][option]
            if rng is not None:
                value = jittered(self.space.parameters[column], self.codes[i], option, rng)
            codes[:, column] = np.where(options.any(axis=1), value, codes[:, column])
        return codes

    @cached_property
    def _columns(self) -> list[tuple[int, int]]:
        """(row, the parameter's number)."""
        names = self.space.names
        return [(i, names.index(name)) for i, name in enumerate(self.wiring.rows) if name in self.space]

    # -- features

    @cached_property
    def features(self) -> tuple[Floats, Floats]:
        """A linear map (rows * columns, features) and offset (features,): matrix of 0 and 1 to `to_features`."""
        names = self.space.names
        widths = [len(_encodings.feature_names(p)) for p in self.space]
        starts = np.concatenate([[0], np.cumsum(widths)])
        linear = np.zeros((*self.shape, int(starts[-1])))
        for i, column in self._columns:
            p, at = self.space.parameters[column], int(starts[column])
            options = slice(len(self.constants), len(self.constants) + len(self.codes[i]))
            own = len(p.feature_names)
            linear[i, options, at : at + own] = p.features(self.codes[i])
            if p.when:
                linear[i, options, at + own] = 1
        offset = np.zeros(int(starts[-1]))
        decided = {names[column] for _, column in self._columns}
        row = self.space.to_features([self.space.default])[0]
        for column, name in enumerate(names):
            if name not in decided:
                offset[starts[column] : starts[column + 1]] = row[starts[column] : starts[column + 1]]
        return linear.reshape(-1, int(starts[-1])), offset


def centres(parameter: Parameter) -> Floats:
    """Codes of the options of a parameter: its values, or the centres of its bins."""
    if isinstance(parameter, Integer) and parameter.size > BINS:
        low, high = parameter.low, parameter.high
        spread = np.geomspace(low, high, BINS) if parameter.log else np.linspace(low, high, BINS)
        return np.unique(low + np.rint((spread - low) / parameter.step) * parameter.step)
    return parameter.from_ints(np.arange(parameter.cardinality))


def nearest(parameter: Parameter, codes: Floats, values: Floats) -> NDArray[np.int64]:
    """The option (n,) of each value (n,)."""
    if isinstance(parameter, Integer) and parameter.size > BINS:
        scale = np.log if parameter.log else np.asarray
        return np.asarray(np.abs(scale(values)[:, None] - scale(codes)).argmin(axis=1), np.int64)
    return parameter.to_ints(values)


def jittered(parameter: Parameter, codes: Floats, option: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """A uniform draw from each option's bin; the option itself for choices, for 0, and where values have no bins."""
    values = codes[option]
    share = rng.random(len(option)) - 0.5
    if isinstance(parameter, Choice) or len(codes) < 2:
        return values
    if isinstance(parameter, Integer) and parameter.size <= BINS:
        return values
    assert isinstance(parameter, Integer | Real)
    low, high = float(parameter.low), float(parameter.high)
    bins = BINS if isinstance(parameter, Integer) else len(codes) - parameter.zero
    if parameter.log:
        moved = np.exp(np.log(np.maximum(values, low)) + share * math.log(high / low) / bins)
    else:
        moved = values + share * (high - low) / bins
    moved = np.clip(moved, low, high)
    if isinstance(parameter, Integer):
        return np.asarray(low + np.rint((moved - low) / parameter.step) * parameter.step)
    return np.where(values == 0, 0.0, moved) if parameter.zero else moved
