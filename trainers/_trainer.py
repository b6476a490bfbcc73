"""One trainer: a model space, a configuration and a budget in, reports and weights out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from archfront.spaces._errors import UsageError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._registry import registered_name
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Split, SplitName
from archfront.trainers._layout import channels_last
from archfront.trainers._schedule import Schedule
from archfront.trainers._types import Budget, Report

__all__ = ["PREFIX", "Trainer", "derived_seed", "outputs_of"]

PREFIX = "trainer."
"""A trainer's own parameters carry this prefix in configurations."""

CPU_BATCH, GPU_BATCH = 64, 512
"""Rows that are scored at once."""


class Trainer(ABC):
    """Construct, then iterate `run()`: one report per epoch; stop by leaving the loop.

    `config` is a configuration of the union space: the model space's parameters and `trainer.*` (absent ones take
    their defaults). Everything random in an epoch derives from (seed, epoch), never from the global generators, so a
    state taken between two reports continues bit for bit on the CPU with the same number of threads.

    Call `self.pause()` between batches: whoever runs the trainer may hold it there, while the host measures.
    """

    parameters: ClassVar[SearchSpace]
    """The trainer's own parameters, without the prefix."""
    self_tunes: ClassVar[bool] = False
    """Whether it moves the space's self-tuned parameters itself: the search around it then has no such dimensions."""

    def __init__(
        self, space: ModelSpace, config: Configuration, *, budget: Budget, seed: int = 0, device: str = "cpu"
    ) -> None:
        self.space, self.budget, self.seed, self.device = space, budget, seed, device
        own = {name.removeprefix(PREFIX): value for name, value in config.items() if name.startswith(PREFIX)}
        self.settings = self.parameters.canonicalise({**self.parameters.default, **own})
        self.config = space.search_space.canonicalise(
            {name: value for name, value in config.items() if name in space.search_space}
        )
        self.task = space.task()
        self.epoch = 0
        self.pause: Callable[[], None] = lambda: None
        self._prepared: dict[str, Split] = {}

    @classmethod
    def supports(cls, space: ModelSpace) -> str | None:
        """Why this trainer cannot train the space's models, or None. Checked before anything is launched."""
        return None

    @classmethod
    def refusal(cls, space: ModelSpace, config: Configuration) -> UsageError | None:
        """What speaks against training this configuration, where that takes a look at the network itself; asked for a
        study's default configuration before anything is launched. Nothing by default."""
        return None

    @classmethod
    def _refused_when_made(cls, space: ModelSpace, config: Configuration) -> UsageError | None:
        """What the constructor says."""
        try:
            cls(space, config, budget=Budget(1))
        except UsageError as error:
            return error
        return None

    @property
    def name(self) -> str:
        """The registered name."""
        return registered_name(type(self))

    @abstractmethod
    def run(self) -> Iterator[Report]:
        """Train from `self.epoch` to the budget; after each report the state may be saved. Raises TrainingError."""

    def start_from(self, net: nn.Module) -> None:
        """Begin with the weights of a network of the same configuration. Raises UsageError where that is not known."""
        raise UsageError(f"trainer {self.name!r} cannot begin with given weights", "use backprop")

    def follow(self, schedule: Schedule) -> None:
        """Take these values at the beginning of each epoch. Part of construction: call it before `run` and before
        `load_state_dict`; no state holds it. Raises UsageError for a name that reaches nothing."""
        raise UsageError(f"trainer {self.name!r} cannot follow a schedule", "use backprop")

    @abstractmethod
    def export(self) -> nn.Module:
        """The trained network as an ordinary module in eval mode that owns its tensors."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything `load_state_dict` needs to continue bit for bit: tensors, scalars, containers."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of the same space, configuration, budget and seed."""

    def evaluate(self, split: SplitName) -> dict[str, float]:
        """The task's metrics of `export()` on a split. No side effects on weights, statistics or generators."""
        data = self.data(split)
        output, target = data.chosen(outputs_of(self.export(), data, self.device))
        return self.task.score(output, target)

    def raw(self, name: SplitName) -> Split:
        """A split as the task has it, on the trainer's device; of "train" the budget's share."""
        split = self.task.split(name)
        if name == "train" and self.budget.data_fraction < 1:
            split = fraction_of(split, self.budget.data_fraction, derived_seed(self.seed, "fraction"))
        return _moved(split, self.device)

    def data(self, name: SplitName) -> Split:
        """A split with `prepare` applied, on the trainer's device; prepared once."""
        if name not in self._prepared:
            self._prepared[name] = _moved(self.space.prepared(self.config, self.raw(name)), self.device)
        return self._prepared[name]


def derived_seed(*parts: int | str) -> int:
    """A seed for one purpose: the same parts give the same one in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


@torch.no_grad()
def outputs_of(net: nn.Module, split: Split, device: str = "cpu", *, batch: int | None = None) -> Tensor:
    """Outputs of a network for every row of a prepared split, in eval mode; the mode is restored. On a processor
    `batch` is small by default: activations that are mapped anew for each call cost more than the calls do."""
    batch = batch or (CPU_BATCH if device == "cpu" else GPU_BATCH)
    training = net.training
    net.eval().to(device)
    if split.rows is not None:
        output: Tensor = net(*split.inputs)
    else:
        size = len(split.target)
        parts = [net(*channels_last(tuple(t[i : i + batch] for t in split.inputs))) for i in range(0, size, batch)]
        output = torch.cat(parts)
    net.train(training)
    return output


def _moved(split: Split, device: str) -> Split:
    rows = None if split.rows is None else split.rows.to(device)
    return Split(tuple(t.to(device) for t in split.inputs), split.target.to(device), rows)


def fraction_of(split: Split, fraction: float, seed: int) -> Split:
    """A random part of the rows, at least one."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    kept = order[: max(1, round(fraction * len(split)))]
    if split.rows is not None:
        return Split(split.inputs, split.target, split.rows[kept])
    return Split(tuple(t[kept] for t in split.inputs), split.target[kept])
