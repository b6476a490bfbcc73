"""When a parameter is active: predicates on an earlier parameter, as data. Several together are a conjunction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AtLeast", "Condition", "Equals", "In", "IndexBelow", "condition_from_dict", "condition_to_dict"]

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Condition:
    """Holds or not for the value of `parent`. A condition on an inactive parent never holds."""

    parent: str

    def holds(self, value: Any) -> bool:
        """Whether the predicate is true of the parent's value."""
        raise TypeError(f"{type(self).__name__} does not say when it holds: override holds()")

    def holds_all(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """`holds` for a column of a numeric parent's values."""
        return np.fromiter((self.holds(value) for value in values), bool, len(values))

    @property
    def compared(self) -> tuple[Scalar, ...]:
        """The values that the parent's is compared with."""
        return ()


@dataclass(frozen=True)
class Equals(Condition):
    """The parent has this value."""

    value: Scalar

    def __str__(self) -> str:
        return f"{self.parent} = {self.value}"

    def holds(self, value: Any) -> bool:
        return bool(value == self.value)

    def holds_all(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(values == self.value)

    @property
    def compared(self) -> tuple[Scalar, ...]:
        return (self.value,)


@dataclass(frozen=True)
class In(Condition):
    """The parent has one of these values."""

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))

    def __str__(self) -> str:
        return f"{self.parent} in {', '.join(map(str, self.values))}"

    def holds(self, value: Any) -> bool:
        return value in self.values

    @property
    def compared(self) -> tuple[Scalar, ...]:
        return self.values


@dataclass(frozen=True)
class AtLeast(Condition):
    """The parent (a number) is this large or larger."""

    value: float

    def __str__(self) -> str:
        return f"{self.parent} >= {self.value}"

    def holds(self, value: Any) -> bool:
        return bool(value >= self.value)

    def holds_all(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(values >= self.value)

    @property
    def compared(self) -> tuple[Scalar, ...]:
        return (self.value,)


@dataclass(frozen=True)
class IndexBelow(Condition):
    """Member `index` of a repeated group exists: index < parent. `Repeated` fills in the index."""

    index: int | None = None

    def __str__(self) -> str:
        return f"{self.parent} > {self.index}"

    def holds(self, value: Any) -> bool:
        if self.index is None:
            raise ValueError(f"IndexBelow({self.parent!r}) has no index: use it in Repeated(..., when=...)")
        return bool(self.index < value)

    def holds_all(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        if self.index is None:
            raise ValueError(f"IndexBelow({self.parent!r}) has no index: use it in Repeated(..., when=...)")
        return np.asarray(self.index < values)

    def at(self, index: int) -> IndexBelow:
        """The same condition for one member, unless it already names one."""
        return self if self.index is not None else replace(self, index=index)


_CLASSES: dict[str, Any] = {cls.__name__: cls for cls in (Equals, In, AtLeast, IndexBelow)}


def condition_to_dict(condition: Condition) -> dict[str, Any]:
    """JSON form: the predicate's name and its fields."""
    return {"predicate": type(condition).__name__, **vars(condition)}


def condition_from_dict(data: Mapping[str, Any]) -> Condition:
    """Inverse of `condition_to_dict`, also after a trip through JSON."""
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    condition: Condition = _CLASSES[fields.pop("predicate")](**fields)
    return condition
