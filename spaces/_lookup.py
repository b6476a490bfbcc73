"""Spaces that are looked up instead of trained: a table, or a function fitted to one, knows every value."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from archfront.spaces._errors import DataError, UsageError
from archfront.spaces._metric import Metric
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Signature, Split, Task

__all__ = ["NO_SIGNATURE", "LookedUp", "LookupSpace", "LookupTask"]

NO_SIGNATURE = Signature("lookup", (), 1)
"""Of a table whose networks nobody builds."""


@dataclass(frozen=True)
class LookedUp:
    """What is known of one configuration under one protocol.

    `quality` by metric (on the validation split where the table has one), `test` by metric without its prefix,
    `analytic` by metric, `device` by (metric, device). `invalid` says why a device (or, under "", the whole table) has
    no value for it: such an evaluation counts as a trial and enters no front.
    """

    quality: Mapping[str, float]
    test: Mapping[str, float] = field(default_factory=dict)
    analytic: Mapping[str, float] = field(default_factory=dict)
    device: Mapping[tuple[str, str], float] = field(default_factory=dict)
    invalid: Mapping[str, str] = field(default_factory=dict)


class LookupTask(Task):
    """A task without data: `identity` is the hash of what is looked up in."""

    def __init__(
        self, name: str, metrics: tuple[Metric, ...], content: str, signature: Signature = NO_SIGNATURE
    ) -> None:
        super().__init__(name, signature, metrics, self._no_data)
        self._content = content

    @cached_property
    def identity(self) -> str:
        """The task's name with the hash of the table's content."""
        return f"{self.name}-{self._content}"

    def _no_data(self) -> Mapping[str, Split]:
        raise DataError(f"task {self.name!r} has no data: its values are looked up")

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Networks of a looked-up task are never trained. Cross-entropy, which zero-cost proxies differentiate."""
        return nn.functional.cross_entropy(output, target, label_smoothing=smoothing)

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """Raises DataError."""
        raise DataError(f"task {self.name!r} is looked up, not scored")


class LookupSpace(ModelSpace):
    """Write `look_up`, `protocols` and `make_task` (a LookupTask); `build` only where networks can be built too."""

    protocols: ClassVar[Mapping[int, str]] = MappingProxyType({1: "table"})
    """Epochs (--epochs) to the column of the quality values; the largest is the default."""
    stepwise: ClassVar[bool] = False
    """Whether fewer epochs are earlier points of the same training, so that a scheduler may stop it."""

    @abstractmethod
    def look_up(self, config: Configuration, task: str, protocol: str) -> LookedUp:
        """The values of a complete legal configuration. `protocol` is one of `protocols`' columns."""

    @property
    def devices(self) -> Mapping[str, tuple[str, ...]]:
        """The devices of the table, and the metrics each has; the first is the default."""
        return {}

    def device_content(self, device: str) -> str:
        """What a device of the table is known by: a hash of its values."""
        return self.task().identity

    @property
    def analytic(self) -> tuple[str, ...]:
        """The analytic metrics that the table has."""
        return ()

    @property
    def refusal(self) -> str | None:
        """Why this space cannot be searched, or None."""
        return None

    @property
    def loadable(self) -> bool:
        """Whether `spaces.load` finds it again by its name."""
        return True

    def build(self, config: Configuration) -> nn.Module:
        """Raises TypeError: most tables have values only."""
        raise TypeError(f"space {self.name!r} is a table of values: it has no networks to build")

    @property
    def builds(self) -> bool:
        """Whether it has networks beside its values."""
        return type(self).build is not LookupSpace.build

    @classmethod
    def epochs_of(cls, variant: str) -> int:
        """The most that the table has."""
        return max(cls.protocols)

    def protocol_of(self, epochs: int) -> str:
        """The column for `--epochs`. Raises UsageError for a number the table does not have."""
        if epochs not in self.protocols:
            raise UsageError(
                f"space {self.name!r} has no values at --epochs {epochs}", f"it has {_some(self.protocols)}"
            )
        return self.protocols[epochs]

    def curve(self, config: Configuration, task: str, epochs: int) -> Iterable[tuple[int, LookedUp]]:
        """(epoch, values) up to `epochs`: every point of a stepwise table, the last one of another."""
        steps: Sequence[int] = [e for e in sorted(self.protocols) if e <= epochs] if self.stepwise else [epochs]
        for step in steps:
            yield step, self.look_up(config, task, self.protocol_of(step))


def _some(numbers: Iterable[Any]) -> str:
    shown = sorted(numbers)
    return ", ".join(map(str, shown)) if len(shown) <= 6 else f"{shown[0]}, {shown[1]}, ..., {shown[-1]}"
