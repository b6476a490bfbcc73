"""A paper as a searchable space: bound to a task's signature and a variant, it builds a network per configuration."""

from __future__ import annotations

import copy
import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from archfront.spaces._blocks import Block
from archfront.spaces._channels import Channels
from archfront.spaces._choices import Categorical
from archfront.spaces._errors import DataError, UnknownNameError, UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._registry import registered_name
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Signature, Split, Task
from archfront.spaces._wiring import Wiring

__all__ = ["ModelSpace", "Recipe"]

Recipe = Mapping[str, Mapping[str, Any]]
"""Trainer name -> {its parameter: a Parameter to search over, or a value}; the first trainer is the default."""

COVER_LIMIT = 4096


class ModelSpace(ABC):
    """Write `search_space` (or `variants`), `tasks`, `recipe`, `build` and `make_task`; the rest is the base's.

    A bound space knows `self.signature`, `self.variant` and `self.search_space` (of the variant, carrying the space's
    identity). `build` draws initial values from torch's global generator, which the caller seeds.
    """

    search_space: SearchSpace
    variants: ClassVar[Mapping[str, SearchSpace]] = {}
    """Several search spaces by name; the first is the default. Widths are ratios of the signature, never data sizes."""
    tasks: ClassVar[tuple[str, ...]] = ()
    recipe: Recipe = MappingProxyType({})
    epochs: int = 10
    """What --epochs is by default: what the paper's recipe trains."""
    shrinking: ClassVar[tuple[str, ...]] = ()
    """Groups of elastic parameters in the order in which progressive shrinking opens them (trainers/_shrinking.py)."""
    exports: ClassVar[Mapping[str, str]] = {}
    """Formats that do not work ("torch-export", "onnx") and why. `torch` always works."""
    paper: ClassVar[str] = ""
    year: ClassVar[int | None] = None
    registered_as: ClassVar[str | None] = None

    def __init__(self, task: Task, variant: str | None = None) -> None:
        self.variant = self.resolve_variant(variant)
        self._task = task
        own = self.space_of(self.variant)
        self.recipe, self.epochs = self.recipe_of(self.variant), self.epochs_of(self.variant)
        content = f"{self.name} {self.variant} {own.id}"
        self.search_space = own.identified(hashlib.sha256(content.encode()).hexdigest())

    # -- written by the paper's file

    @abstractmethod
    def build(self, config: Configuration) -> nn.Module:
        """The network of a complete legal configuration: registered tensors only, no lazy modules, names that do not
        move with depth (blocks.0..k)."""

    @classmethod
    @abstractmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        """The task called `name` on its default data, or on a user's file. Raises DataError."""

    def prepare(self, config: Configuration, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What depends on the configuration but is not the network (resize, normalise the graph). Identity."""
        return inputs

    def slice_rule(
        self, name: str, tensor: Tensor, shape: tuple[int, ...], config: Configuration, bank_only: Mapping[str, Tensor]
    ) -> Tensor | None:
        """How the bank's tensor becomes the sub-network's of `shape`; None for the leading corner. `bank_only` are the
        bank's own parameters by name."""
        return None

    def bank_only(self) -> Mapping[str, Tensor]:
        """Parameters that the bank has and no network: what `slice_rule` learns by, with their initial values."""
        return {}

    def channels(self) -> Iterable[Channels]:
        """What progressive shrinking sorts by importance before it trains narrower sub-networks."""
        return ()

    def blocks(self, config: Configuration) -> Sequence[Block]:
        """The modules whose times add up to the network's, in the order in which they run, for look-up tables; none
        where the space does not tell."""
        return ()

    def read_official(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The bank's tensors from a state dictionary as the paper's authors publish it. Raises DataError."""
        raise DataError(f"{self.full_name!r} reads no checkpoints but archfront's own", "train one: --supernet train")

    def to_graph(self, config: Configuration) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
        """What predictors on graphs read: node features (N, F), mask (N, N), positions (N,).

        N and F are the same for every configuration, features lie in 0..1; mask[i, j] says that node i's output goes to
        node j; positions order the nodes. By default the search space's: a node per parameter, all connected. A space
        of cells gives the cell's own graph.
        """
        return self.search_space.to_graph(config)

    def wiring(self) -> Wiring | None:
        """How the decisions hang together, for generators; None: every one may depend on every other."""
        return None

    def idle(self, config: Configuration) -> Collection[str]:
        """Names of active parameters on which the network's output does not depend in this configuration."""
        return ()

    def closed_form(self, config: Configuration) -> Mapping[str, float]:
        """Analytic costs the paper gives as formulae (params_m, macs_m); they replace the counted ones."""
        return {}

    # -- the base's

    @property
    def name(self) -> str:
        """The registered name."""
        return registered_name(type(self))

    @property
    def full_name(self) -> str:
        """NAME or NAME/VARIANT, as the user types it."""
        default = next(iter(self.variants), "")
        return self.name if self.variant == default else f"{self.name}/{self.variant}"

    @classmethod
    def resolve_variant(cls, variant: str | None) -> str:
        """`variant`, the default one for None, "" for a space without variants. Raises UnknownNameError."""
        if variant is None:
            return next(iter(cls.variants), "")
        if variant not in cls.variants and variant != "":
            raise UnknownNameError.of(f"variant of {registered_name(cls)!r}", variant, cls.variants)
        return variant

    @classmethod
    def bind(
        cls, *, task: str | None = None, variant: str | None = None, data: Path | None = None, seed: int = 0
    ) -> ModelSpace:
        """The space bound to a named task (default: the first). Raises UnknownNameError, DataError."""
        variant = cls.resolve_variant(variant)
        tasks = cls.tasks_of(variant)
        if task is None:
            task = tasks[0]
        elif task not in tasks:
            raise UnknownNameError.of(f"task of {registered_name(cls)!r}", task, tasks)
        if data is not None and not data.exists():
            raise UsageError(f"no file or folder {str(data)!r}", "give --data an .npz file or an image folder")
        return cls(cls.make_task(task, variant=variant, seed=seed, data=data), variant)

    @classmethod
    def of_signature(cls, signature: Signature, variant: str | None = None) -> ModelSpace:
        """The space bound to a signature alone: it builds, but has no data."""
        return cls(_NoData(signature), variant)

    @classmethod
    def tasks_of(cls, variant: str) -> tuple[str, ...]:
        """The tasks a variant serves, the default first."""
        return cls.tasks

    @classmethod
    def space_of(cls, variant: str) -> SearchSpace:
        """The search space of a variant, before the space's identity is given to it."""
        return cls.variants[variant] if variant else cls.search_space

    @classmethod
    def recipe_of(cls, variant: str) -> Recipe:
        """The recipe of a variant."""
        return cls.recipe

    @classmethod
    def epochs_of(cls, variant: str) -> int:
        """What --epochs is by default for a variant."""
        return cls.epochs

    def narrowed(self, search_space: SearchSpace) -> ModelSpace:
        """The same bound space over a part of its search space (of the same identity): its cover and its bank are
        then no larger than that part needs."""
        part = copy.copy(self)
        part.search_space = search_space
        return part

    def task(self) -> Task:
        """The bound task."""
        return self._task

    @property
    def signature(self) -> Signature:
        """Input shapes, number of outputs, task kind."""
        return self._task.signature

    def prepared(self, config: Configuration, split: Split) -> Split:
        """`split` with `prepare` applied to its inputs."""
        return Split(self.prepare(config, split.inputs), split.target, split.rows)

    def prepared_example(self, config: Configuration, batch: int = 2) -> tuple[Tensor, ...]:
        """Inputs as the network sees them: random ones of `batch` rows, or the whole graph."""
        inputs = self.signature.random_input(batch) if self.signature.batched else self._task.example_input
        return self.prepare(config, inputs)

    @cached_property
    def elastic(self) -> list[str]:
        """Names of the parameters that supernet training varies and slice evaluation searches."""
        return self.search_space.where(elastic=True)

    def cover(self, fixed: Mapping[str, Any] | None = None) -> list[Configuration]:
        """Configurations whose tensors, together, contain those of every other one: the largest, once per combination
        of the options of the categorical parameters (a repeated group takes one option together).

        Raises UsageError above 4,096: such a space overrides `cover`.
        """
        space = self.search_space.fix(fixed or {})
        groups: dict[str, list[Categorical]] = {}
        for p in space:
            if isinstance(p, Categorical):
                groups.setdefault(p.group or p.name, []).append(p)
        choices = [
            [(group, option) for option in dict.fromkeys(o for member in members for o in member.options)]
            for group, members in groups.items()
        ]
        number = 1
        for options in choices:
            number *= len(options)
        if number > COVER_LIMIT:
            raise UsageError(
                f"cover() of {self.name!r} has {number} members, above {COVER_LIMIT}", f"override {self.name}.cover"
            )
        largest = {p.name: p.largest() for p in space}
        found: dict[str, Configuration] = {}
        for combination in itertools.product(*choices):
            config = dict(largest)
            for group, option in combination:
                config.update({p.name: option for p in groups[group] if option in p.options})
            config = space.canonicalise(config)
            found.setdefault(space.key(config), config)
        return list(found.values())


class _NoData(Task):
    """A task of which only the signature is known."""

    def __init__(self, signature: Signature) -> None:
        super().__init__("signature", signature, (), _no_data)

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        raise DataError("a space bound to a signature alone has no loss", "load it with a task")

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        raise DataError("a space bound to a signature alone has no metrics", "load it with a task")


def _no_data() -> Mapping[str, Split]:
    raise DataError("a space bound to a signature alone has no data", "load it with a task")
