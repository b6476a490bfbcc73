"""A search space as columns of a unit cube for a Gaussian process, and back."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._numbers import Real
from archfront.spaces._parameter import Floats, Parameter
from archfront.spaces._search_space import SearchSpace

__all__ = ["Embedding"]

CENTRE = 0.5
"""Where an inactive number stands: its distance to an active one then depends least on the latter's value."""


class Embedding:
    """Columns of codes (n, parameters) of canonical configurations; `groups` names each column's parameter.

    Numbers and ranks of ordinals are one column, scaled to 0..1 (by the logarithm where `log`). Categoricals are
    one-hot columns of height 1/sqrt(2), so that two different options are at distance 1: with a common lengthscale
    the kernel is one of the weighted Hamming distance. "Log or zero" adds a flag. A conditional parameter adds an
    indicator; while it is inactive its number stands in the centre and its one-hot is zero. So two configurations in
    which it is inactive are at distance 0 in it, and an active and an inactive one at distance 1 to 1.25 (squared)
    whatever the active value: a kernel over all configurations, positive definite because it is one of this cube.
    Parameters that are never decided have no column.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.varied = [space.names.index(name) for name in space.varied]
        blocks = [self._block(i, space.parameters[i]) for i in self.varied]
        self.groups: NDArray[np.int64] = np.repeat(np.arange(len(blocks)), blocks)
        first = np.cumsum([0, *blocks])[:-1]
        self._first = dict(zip(self.varied, first.tolist(), strict=True))
        self.reals = [i for i in self.varied if _continuous(space.parameters[i])]
        self.real_columns: NDArray[np.int64] = np.array([self._first[i] for i in self.reals], np.int64)
        self.discrete = any(not _continuous(p) or (isinstance(p, Real) and p.zero) for p in self._varied_parameters())

    def _varied_parameters(self) -> list[Parameter]:
        return [self.space.parameters[i] for i in self.varied]

    def _block(self, i: int, p: Parameter) -> int:
        return len(self._values(i, p.encode([p.default]))[0]) + bool(p.when)

    def _values(self, i: int, codes: Floats) -> Floats:
        """Columns of active values."""
        p = self.space.parameters[i]
        features = p.features(codes)
        if isinstance(p, Categorical):
            return features / math.sqrt(2)
        if isinstance(p, Ordinal):
            return features[:, -1:]  # the rank alone
        if isinstance(p, Real) and p.zero:
            features[:, 0] = np.where(features[:, 1] > 0, CENTRE, features[:, 0])
        return features

    def columns(self, codes: Floats) -> Floats:
        """(n, columns) of canonical codes."""
        active = self.space.active(codes)
        blocks = [np.empty((len(codes), 0))]
        for i in self.varied:
            p, on = self.space.parameters[i], active[:, i : i + 1]
            neutral = 0.0 if isinstance(p, Categorical) else np.array([CENTRE, 0.0])[: self._width(i)]
            blocks.append(np.where(on, self._values(i, codes[:, i]), neutral))
            if p.when:
                blocks.append(on.astype(np.float64))
        return np.concatenate(blocks, axis=1)

    def _width(self, i: int) -> int:
        p = self.space.parameters[i]
        return 2 if isinstance(p, Real) and p.zero else 1

    def free(self, codes: Floats) -> NDArray[np.bool_]:
        """Which reals may be moved (n, reals): active and not at the extra zero."""
        on = self.space.active(codes)[:, self.reals]
        zero = np.array([isinstance(p := self.space.parameters[i], Real) and p.zero for i in self.reals], bool)
        return np.asarray(on & ~(zero & (codes[:, self.reals] == 0)))

    def with_reals(self, codes: Floats, units: Floats) -> Floats:
        """Codes whose free reals stand at `units` (n, reals) in 0..1 of their range."""
        changed = codes.copy()
        free = self.free(codes)
        for k, i in enumerate(self.reals):
            p = self.space.parameters[i]
            if isinstance(p, Real):
                changed[:, i] = np.where(free[:, k], _value(p, units[:, k]), codes[:, i])
        return changed


def _continuous(p: Parameter) -> bool:
    return isinstance(p, Real) and p.low < p.high


def _value(p: Real, unit: Floats) -> Floats:
    if p.log:
        value = np.exp(math.log(p.low) + unit * (math.log(p.high) - math.log(p.low)))
    else:
        value = p.low + unit * (p.high - p.low)
    return np.clip(value, p.low, p.high)
