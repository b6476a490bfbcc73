"""Parameters with a list of options: categorical and ordinal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._condition import Scalar
from archfront.spaces._parameter import Floats, Parameter, walk

__all__ = ["Categorical", "Choice", "Ordinal"]


@dataclass(frozen=True)
class Choice(Parameter):
    """A finite list; codes are positions."""

    options: tuple[Scalar, ...]

    def _check(self) -> None:
        options = tuple(_plain(option) for option in self.options)
        object.__setattr__(self, "options", options)
        if not options:
            raise ValueError(f"{self.name}: needs at least one option")
        for option in options:
            if not isinstance(option, str | int | float | bool | None):
                raise ValueError(f"{self.name}: option {option!r} is not a JSON scalar")
        if len(set(options)) != len(options):  # also refuses 1 beside True: one key each is needed
            raise ValueError(f"{self.name}: options {options} are not distinct")
        object.__setattr__(self, "_position", {option: i for i, option in enumerate(options)})

    def _central(self) -> Scalar:
        return self.options[0]

    @property
    def size(self) -> float:
        return len(self.options)

    @property
    def cardinality(self) -> int:
        return len(self.options)

    def position(self, value: Any) -> int | None:
        """Where `value` stands among the options, None where it does not."""
        try:
            found: int | None = vars(self)["_position"].get(value)
        except TypeError:
            return None
        if found is not None and isinstance(self.options[found], bool) != isinstance(value, bool | np.bool_):
            return None  # 1 is not True
        return found

    def problem(self, value: Any) -> tuple[str, str] | None:
        if self.position(value) is None:
            return "choice", f"{value!r} is not one of {', '.join(map(repr, self.options))}"
        return None

    def normalise(self, value: Any) -> Scalar:
        return self.options[self._at(value)]

    def _at(self, value: Any) -> int:
        position = self.position(value)
        if position is None:
            raise ValueError(f"{self.name}: {value!r} is not one of {', '.join(map(repr, self.options))}")
        return position

    def encode(self, values: Sequence[Any]) -> Floats:
        position = vars(self)["_position"]
        return np.fromiter((position[value] for value in values), np.float64, len(values))

    def decode(self, codes: Floats) -> list[Any]:
        options = self.options
        return [options[i] for i in codes.astype(np.int64).tolist()]

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        return rng.integers(len(self.options), size=n).astype(np.float64)

    def perturb(self, codes: Floats, rng: np.random.Generator) -> Floats:
        others = rng.integers(len(self.options) - 1, size=len(codes)).astype(np.float64)
        return np.asarray(others + (others >= codes))

    def to_ints(self, codes: Floats) -> NDArray[np.int64]:
        return codes.astype(np.int64)

    def from_ints(self, ints: NDArray[np.int64]) -> Floats:
        return np.asarray(np.clip(ints, 0, len(self.options) - 1), np.float64)

    @property
    def feature_names(self) -> list[str]:
        return [f"{self.name}={option}" for option in self.options]

    def features(self, codes: Floats) -> Floats:
        return np.asarray(codes[:, None] == np.arange(len(self.options)), np.float64)

    def narrowed(self, low: Any, high: Any) -> Parameter:
        first, last = self._at(low), self._at(high)
        return self._of(self.options[first : last + 1])

    def without(self, removed: Sequence[Any]) -> Parameter:
        gone = {self._at(value) for value in removed}
        return self._of(tuple(option for i, option in enumerate(self.options) if i not in gone))

    def _of(self, options: tuple[Scalar, ...]) -> Parameter:
        default = self.default if self.default in options else (options[-1] if options else None)
        return replace(self, options=options, default=default)


@dataclass(frozen=True)
class Categorical(Choice):
    """One of a finite list of JSON scalars; no order may be assumed."""

    kind = "categorical"

    def steps(self, code: float, rng: np.random.Generator) -> Floats:
        return np.array([i for i in range(len(self.options)) if i != code], np.float64)

    def largest(self) -> Any:
        return self.default

    def smallest(self) -> Any:
        return self.default


@dataclass(frozen=True)
class Ordinal(Choice):
    """One of a finite ascending list of numbers."""

    kind = "ordinal"

    def _check(self) -> None:
        super()._check()
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in self.options):
            raise ValueError(f"{self.name}: options {self.options} must be numbers")
        if list(self.options) != sorted(self.options):  # type: ignore[type-var]
            raise ValueError(f"{self.name}: options {self.options} must ascend")

    def perturb(self, codes: Floats, rng: np.random.Generator) -> Floats:
        return walk(codes, rng, len(self.options) - 1)

    def steps(self, code: float, rng: np.random.Generator) -> Floats:
        return np.array([c for c in (code - 1, code + 1) if 0 <= c < len(self.options)])

    @property
    def feature_names(self) -> list[str]:
        return [*super().feature_names, f"{self.name}:rank"]

    def features(self, codes: Floats) -> Floats:
        rank = codes / max(1, len(self.options) - 1)
        return np.concatenate([super().features(codes), rank[:, None]], axis=1)

    def largest(self) -> Any:
        return self.options[-1]

    def smallest(self) -> Any:
        return self.options[0]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
