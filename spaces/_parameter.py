"""The four kinds of parameter and the repeated group.

Populations are handled as columns of float64 *codes*: the index of the option for choices, the value itself for
numbers. Everything here is vectorised over such a column.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._condition import Condition, IndexBelow, Scalar, condition_from_dict, condition_to_dict

__all__ = ["Categorical", "Integer", "Ordinal", "Parameter", "Real", "Repeated", "Role", "SelfTuned"]

Floats = NDArray[np.float64]
Role = Literal["architecture", "hyperparameter", "measurement"]
ZERO_SHARE = 0.2
"""Share of the samples of a "log or zero" parameter that are zero (our choice: no paper states one)."""


class _Missing(enum.Enum):
    MISSING = 0


@dataclass(frozen=True)
class SelfTuned:
    """How a self-tuning trainer may move a parameter during a run.

    `applies_to`: a module-name pattern or the name of an augmentation; `transform`: from the unbounded inner value to
    the parameter ("logit" bounded, "log" positive, "identity"); `sigma0`: initial scale of the perturbation.
    """

    applies_to: str
    transform: Literal["logit", "log", "identity"] = "logit"
    sigma0: float = 0.5


@dataclass(frozen=True)
class Parameter(ABC):
    """One typed decision. `when` is a conjunction; `group` and `index` are set for members of a repeated group."""

    kind: ClassVar[str]
    name: str
    default: Any = field(default=_Missing.MISSING, kw_only=True)
    role: Role = field(default="architecture", kw_only=True)
    unit: str = field(default="", kw_only=True)
    elastic: bool = field(default=False, kw_only=True)
    self_tuned: SelfTuned | None = field(default=None, kw_only=True)
    when: tuple[Condition, ...] = field(default=(), kw_only=True)
    group: str | None = field(default=None, kw_only=True)
    index: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a parameter needs a name")
        if self.role not in get_args(Role):
            raise ValueError(f"{self.name}: role={self.role!r} must be one of {', '.join(get_args(Role))}")
        object.__setattr__(self, "when", (self.when,) if isinstance(self.when, Condition) else tuple(self.when))
        self._check()
        default = self._central() if self.default is _Missing.MISSING else self.default
        if (problem := self.problem(default)) is not None:
            raise ValueError(f"{self.name}: default={default!r} is not legal: {problem[1]}")
        object.__setattr__(self, "default", self.normalise(default))

    @abstractmethod
    def _check(self) -> None:
        """Raise ValueError when the domain makes no sense; bring its fields to normal form."""

    @abstractmethod
    def _central(self) -> Any:
        """The default where none was given."""

    @property
    @abstractmethod
    def size(self) -> float:
        """Number of values, math.inf for a continuum."""

    @abstractmethod
    def problem(self, value: Any) -> tuple[str, str] | None:
        """(code, message) when `value` is not legal. Codes: type, range, step, choice."""

    @abstractmethod
    def normalise(self, value: Any) -> Scalar:
        """A legal value as the Python scalar that is stored: no numpy, int for integers, float for reals."""

    @abstractmethod
    def encode(self, values: Sequence[Any]) -> Floats:
        """Codes (n,) of legal values."""

    @abstractmethod
    def decode(self, codes: Floats) -> list[Any]:
        """Inverse of `encode`: n Python scalars."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """Codes of n uniform draws (log-uniform where `log`)."""

    @abstractmethod
    def perturb(self, codes: Floats, rng: np.random.Generator) -> Floats:
        """A different value near each of `codes` (any other option for categoricals). Needs size > 1."""

    @abstractmethod
    def steps(self, code: float, rng: np.random.Generator) -> Floats:
        """Codes of the values one step away from `code`: all other options, or the adjacent numbers."""

    @abstractmethod
    def to_ints(self, codes: Floats) -> NDArray[np.int64]:
        """Position of each value in the list of values (bins for reals)."""

    @abstractmethod
    def from_ints(self, ints: NDArray[np.int64]) -> Floats:
        """Inverse of `to_ints` (bin centres for reals)."""

    @property
    @abstractmethod
    def cardinality(self) -> int:
        """Number of integers `to_ints` uses. ValueError for a real without bins."""

    @property
    @abstractmethod
    def feature_names(self) -> list[str]:
        """Names of the columns of `features`."""

    @abstractmethod
    def features(self, codes: Floats) -> Floats:
        """Columns (n, k) in 0..1 for predictors."""

    @abstractmethod
    def narrowed(self, low: Any, high: Any) -> Parameter:
        """The same parameter between two legal values. ValueError when nothing is left."""

    @abstractmethod
    def without(self, removed: Sequence[Any]) -> Parameter:
        """The same parameter without these values. ValueError when nothing is left or it is a continuum."""

    @abstractmethod
    def largest(self) -> Any:
        """The value that makes the largest network: the last of an order; the default where there is no order."""

    @abstractmethod
    def smallest(self) -> Any:
        """The value that makes the smallest network."""

    def fixed(self, value: Any) -> Parameter:
        """The same parameter with one value left."""
        return self.narrowed(value, value)

    def enumerate(self) -> Floats:
        """Codes of all values, in order. ValueError for a continuum."""
        if not math.isfinite(self.size):
            raise ValueError(f"{self.name} is a continuum: its values cannot be listed")
        return self.from_ints(np.arange(int(self.size)))

    def at(self, index: int, when: tuple[Condition, ...], default: Any) -> Parameter:
        """Member `index` of a group of copies of this parameter."""
        conditions = tuple(c.at(index) if isinstance(c, IndexBelow) else c for c in (*self.when, *when))
        return replace(
            self, name=f"{self.name}[{index}]", when=conditions, default=default, group=self.name, index=index
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        data: dict[str, Any] = {"kind": self.kind}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "when":
                value = [condition_to_dict(c) for c in value]
            elif isinstance(value, SelfTuned):
                value = vars(value)
            data[entry.name] = list(value) if isinstance(value, tuple) else value
        return data

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Parameter:
        """Inverse of `to_dict`."""
        values = dict(data)
        cls = _KINDS[values.pop("kind")]
        values["when"] = tuple(condition_from_dict(c) for c in values["when"])
        if values["self_tuned"] is not None:
            values["self_tuned"] = SelfTuned(**values["self_tuned"])
        parameter: Parameter = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        return parameter


@dataclass(frozen=True)
class _Choice(Parameter):
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
class Categorical(_Choice):
    """One of a finite list of JSON scalars; no order may be assumed."""

    kind = "categorical"

    def steps(self, code: float, rng: np.random.Generator) -> Floats:
        return np.array([i for i in range(len(self.options)) if i != code], np.float64)

    def largest(self) -> Any:
        return self.default

    def smallest(self) -> Any:
        return self.default


@dataclass(frozen=True)
class Ordinal(_Choice):
    """One of a finite ascending list of numbers."""

    kind = "ordinal"

    def _check(self) -> None:
        super()._check()
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in self.options):
            raise ValueError(f"{self.name}: options {self.options} must be numbers")
        if list(self.options) != sorted(self.options):  # type: ignore[type-var]
            raise ValueError(f"{self.name}: options {self.options} must ascend")

    def perturb(self, codes: Floats, rng: np.random.Generator) -> Floats:
        return _walk(codes, rng, len(self.options) - 1)

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
        return _number_problem(value, self.low, self.high) or (
            None
            if value == int(value) and (int(value) - self.low) % self.step == 0
            else ("step", f"{value!r} is not one of {self.low}, {self.low + self.step}, ..., {self.high}")
        )

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
                _walk(self.to_ints(codes).astype(np.float64), rng, int(self.size) - 1).astype(np.int64)
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


_KINDS: dict[str, Any] = {cls.kind: cls for cls in (Categorical, Ordinal, Integer, Real)}


@dataclass(frozen=True)
class Repeated:
    """`count` copies of a parameter, named name[0] .. name[count-1]; `defaults` gives each its own default.

    IndexBelow("depth") in `when` makes member i active where i < depth.
    """

    parameter: Parameter
    count: int
    when: tuple[Condition, ...] | Condition = ()
    defaults: tuple[Any, ...] | None = None

    def expand(self) -> list[Parameter]:
        """The members."""
        if self.count < 1:
            raise ValueError(f"{self.parameter.name}: count={self.count} must be at least 1")
        if self.defaults is not None and len(self.defaults) != self.count:
            raise ValueError(f"{self.parameter.name}: {len(self.defaults)} defaults for {self.count} members")
        when = (self.when,) if isinstance(self.when, Condition) else tuple(self.when)
        defaults = self.defaults or (self.parameter.default,) * self.count
        return [self.parameter.at(i, when, defaults[i]) for i in range(self.count)]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


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


def _walk(positions: Floats, rng: np.random.Generator, last: int) -> Floats:
    """Another position in 0..last: mostly a neighbour, seldom far (geometric steps), each end reflected inwards."""
    distance = np.minimum(rng.geometric(0.5, len(positions)), last).astype(np.float64)
    up = rng.random(len(positions)) < 0.5
    moved = positions + np.where(up, distance, -distance)
    other = positions - np.where(up, distance, -distance)
    inside = (moved >= 0) & (moved <= last)
    moved = np.clip(np.where(inside, moved, other), 0, last)
    stuck = moved == positions
    return np.where(stuck, np.where(positions < last, positions + 1, positions - 1), moved)
