"""Parameters with a range: integers and reals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._choices import Ordinal
from archfront.spaces._parameter import Floats, Parameter, walk

__all__ = ["Integer", "Real"]

ZERO_SHARE = 0.2
"""Share of the samples of a "log or zero" parameter that are zero (our choice: no paper states one)."""


@dataclass(frozen=True)
class Integer(Parameter):
    """An integer in [low, high] on a grid of `step` that starts at low; `log` draws and scales by the logarithm."""

    kind = "integer"
    low: int
    high: int
    step: int = field(default=1, kw_only=True)
    log: bool = field(default=False, kw_only=True)

    def _check(self) -> None:
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if isinstance(value, bool) or value != int(value):
                raise ValueError(f"{self.name}: {name}={value!r} must be an integer")
            object.__setattr__(self, name, int(value))
        if self.step < 1 or self.low > self.high:
            raise ValueError(f"{self.name}: low={self.low} must be <= high={self.high}, step={self.step} >= 1")
        object.__setattr__(self, "high", self.low + (self.high - self.low) // self.step * self.step)
        if self.log and self.low < 1:
            raise ValueError(f"{self.name}: low={self.low} must be at least 1 on a log scale")

    def _central(self) -> int:
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return int(self._grid(np.array([middle]))[0])

    def _grid(self, codes: Floats) -> Floats:
        steps = np.rint((codes - self.low) / self.step)
        return np.asarray(np.clip(self.low + steps * self.step, self.low, self.high))

    @property
    def size(self) -> float:
        return (self.high - self.low) // self.step + 1

    @property
    def cardinality(self) -> int:
        return int(self.size)

    def problem(self, value: Any) -> tuple[str, str] | None:
        if problem := _number_problem(value, self.low, self.high):
            return problem
        if value != int(value):
            return "step", f"{value!r} is not a whole number"
        if (int(value) - self.low) % self.step:
            return "step", f"{value!r} is not {self.low} plus a multiple of {self.step}"
        return None

    def normalise(self, value: Any) -> int:
        return int(value)

    def encode(self, values: Sequence[Any]) -> Floats:
        return np.array(values, dtype=np.float64)

    def decode(self, codes: Floats) -> list[Any]:
        decoded: list[Any] = codes.astype(np.int64).tolist()
        return decoded

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        if not self.log:
            return np.asarray(self.low + self.step * rng.integers(int(self.size), size=n).astype(np.float64))
        drawn = np.exp(rng.uniform(math.log(self.low), math.log(self.high + self.step), size=n))
        steps = np.floor((drawn - self.low) / self.step)
        return np.asarray(np.clip(self.low + steps * self.step, self.low, self.high))

    def perturb(self, codes: Floats, rng: np.random.Generator) -> Floats:
        if not self.log:
            return self.from_ints(
                walk(self.to_ints(codes).astype(np.float64), rng, int(self.size) - 1).astype(np.int64)
            )
        moved = self._grid(np.exp(np.log(codes) + rng.normal(0, 0.2 * math.log(self.high / self.low), len(codes))))
        up = (codes < self.high) & ((rng.random(len(codes)) < 0.5) | (codes <= self.low))
        return np.where(moved == codes, codes + np.where(up, self.step, -self.step), moved)

    def steps(self, code: float, rng: np.random.Generator) -> Floats:
        return np.array([c for c in (code - self.step, code + self.step) if self.low <= c <= self.high])

    def to_ints(self, codes: Floats) -> NDArray[np.int64]:
        return np.rint((codes - self.low) / self.step).astype(np.int64)

    def from_ints(self, ints: NDArray[np.int64]) -> Floats:
        return np.clip(self.low + ints * self.step, self.low, self.high).astype(np.float64)

    @property
    def feature_names(self) -> list[str]:
        return [self.name]

    def features(self, codes: Floats) -> Floats:
        return _unit(codes, self.low, self.high, self.log)[:, None]

    def narrowed(self, low: Any, high: Any) -> Parameter:
        for value in (low, high):
            if (problem := self.problem(value)) is not None:
                raise ValueError(f"{self.name}: {problem[1]}")
        return replace(self, low=low, high=high, default=min(max(self.default, low), high))

    def without(self, removed: Sequence[Any]) -> Parameter:
        gone = {int(value) for value in removed}
        kept = tuple(v for v in range(self.low, self.high + 1, self.step) if v not in gone)
        if not kept:
            raise ValueError(f"{self.name}: nothing is left")
        shared = {f.name: getattr(self, f.name) for f in fields(Parameter)}
        default = self.default if self.default in kept else min(kept, key=lambda v: abs(v - self.default))
        return Ordinal(**{**shared, "options": kept, "default": default})

    def largest(self) -> Any:
        return self.high

    def smallest(self) -> Any:
        return self.low


@dataclass(frozen=True)
class Real(Parameter):
    """A number in [low, high]. `log` draws and scales by the logarithm; `zero` adds 0 ("log or 0").

    `bins` declares how many integers stand for it in `to_ints` (one more for 0); without it such codes are refused.
    """

    kind = "real"
    low: float
    high: float
    log: bool = field(default=False, kw_only=True)
    zero: bool = field(default=False, kw_only=True)
    bins: int | None = field(default=None, kw_only=True)

    def _check(self) -> None:
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"{self.name}: low={self.low} must be <= high={self.high}, both finite")
        if (self.log or self.zero) and not self.low > 0:
            raise ValueError(f"{self.name}: low={self.low} must be above 0 with log or zero")
        if self.bins is not None and self.bins < 1:
            raise ValueError(f"{self.name}: bins={self.bins} must be at least 1")

    def _central(self) -> float:
        return math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2

    @property
    def size(self) -> float:
        return math.inf if self.low < self.high else 1 + self.zero

    @property
    def cardinality(self) -> int:
        if self.low == self.high:
            return 1 + self.zero
        if self.bins is None:
            raise ValueError(f"{self.name} is a continuum without bins: declare Real({self.name!r}, ..., bins=N)")
        return self.bins + self.zero

    def problem(self, value: Any) -> tuple[str, str] | None:
        found = _number_problem(value, self.low, self.high)
        if found is not None and found[0] == "range" and self.zero:
            return None if value == 0 else (found[0], f"{found[1]} and not 0")
        return found

    def normalise(self, value: Any) -> float:
        return float(value)

    def encode(self, values: Sequence[Any]) -> Floats:
        return np.array(values, dtype=np.float64)

    def decode(self, codes: Floats) -> list[Any]:
        decoded: list[Any] = codes.tolist()
        return decoded

    def _value(self, unit: Floats) -> Floats:
        if self.log:
            value = np.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + unit * (self.high - self.low)
        return np.clip(value, self.low, self.high)

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        value = self._value(rng.random(n))
        return np.where(rng.random(n) < ZERO_SHARE, 0.0, value) if self.zero else value

    def perturb(self, codes: Floats, rng: np.random.Generator) -> Floats:
        zero = codes == 0 if self.zero else np.zeros(len(codes), bool)
        start = np.where(zero, self.high, codes)
        unit = _unit(start, self.low, self.high, self.log) + rng.normal(0, 0.2, len(codes))
        unit = np.abs(unit) % 2  # reflected at both ends
        moved = self._value(np.where(unit > 1, 2 - unit, unit))
        if not self.zero:
            return moved
        single = self.low == self.high
        to_zero = ~zero & ((rng.random(len(codes)) < ZERO_SHARE) | single)
        return np.where(to_zero, 0.0, np.where(zero, self._nonzero(rng, len(codes)), moved))

    def _nonzero(self, rng: np.random.Generator, n: int) -> Floats:
        """Codes of n draws that are not the extra zero."""
        return self._value(rng.random(n))

    def steps(self, code: float, rng: np.random.Generator) -> Floats:
        if self.size == 1:
            return np.array([])
        return np.unique(self.perturb(np.array([code, code]), rng))

    def to_ints(self, codes: Floats) -> NDArray[np.int64]:
        bins = self.cardinality - self.zero
        at = np.minimum(_unit(np.maximum(codes, self.low), self.low, self.high, self.log) * bins, bins - 1)
        ints = np.floor(at + 1e-9).astype(np.int64)  # a bin's own edge stays in it after a round trip
        return np.where(codes == 0, 0, ints + 1) if self.zero else ints

    def from_ints(self, ints: NDArray[np.int64]) -> Floats:
        bins = self.cardinality - self.zero
        at = np.clip(ints - self.zero, 0, bins - 1)
        value = self._value((at + 0.5) / bins)
        return np.where(ints == 0, 0.0, value) if self.zero else value

    @property
    def feature_names(self) -> list[str]:
        return [self.name, f"{self.name}=0"] if self.zero else [self.name]

    def features(self, codes: Floats) -> Floats:
        if not self.zero:
            return _unit(codes, self.low, self.high, self.log)[:, None]
        zero = codes == 0
        unit = _unit(np.where(zero, self.low, codes), self.low, self.high, self.log)
        return np.stack([np.where(zero, 0.0, unit), zero.astype(np.float64)], axis=1)

    def narrowed(self, low: Any, high: Any) -> Parameter:
        for value in (low, high):
            if (problem := self.problem(value)) is not None:
                raise ValueError(f"{self.name}: {problem[1]}")
        if self.zero and low == high == 0:
            return replace(self, low=0.0, high=0.0, log=False, zero=False, bins=None, default=0.0)
        zero = self.zero and low == 0
        low = self.low if zero else low
        default = self.default if (zero and self.default == 0) else min(max(self.default, low), high)
        return replace(self, low=low, high=high, zero=zero, default=default)

    def without(self, removed: Sequence[Any]) -> Parameter:
        if self.zero and [float(value) for value in removed] == [0.0]:
            return replace(self, zero=False, default=self.default or self.low)
        raise ValueError(f"{self.name} is a continuum: narrow it, values cannot be removed")

    def largest(self) -> Any:
        return self.high

    def smallest(self) -> Any:
        return self.low


def _number_problem(value: Any, low: float, high: float) -> tuple[str, str] | None:
    if isinstance(value, bool | np.bool_ | str) or not isinstance(value, int | float | np.number):
        return "type", f"{value!r} is not a number"
    if not low <= value <= high:  # NaN lands here
        return "range", f"{value!r} is not in [{low}, {high}]"
    return None


def _unit(codes: Floats, low: float, high: float, log: bool) -> Floats:
    """Codes scaled to 0..1 (0.5 where the range is a point)."""
    if low == high:
        return np.full(len(codes), 0.5)
    if log:
        return np.asarray((np.log(codes) - math.log(low)) / (math.log(high) - math.log(low)))
    return np.asarray((codes - low) / (high - low))
