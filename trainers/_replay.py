"""Following a hyperparameter schedule: the modules' own attributes are set before each epoch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archfront.spaces._errors import UsageError
from archfront.spaces._model_space import ModelSpace
from archfront.trainers._augment import AUGMENTATION_PARAMETERS, augment, fitted
from archfront.trainers._schedule import Schedule
from archfront.trainers._strength import Strength, reached

__all__ = ["Replay"]

PREFIX = "trainer."
_AUGMENTATIONS = {PREFIX + p.name: p for p in AUGMENTATION_PARAMETERS}


class Replay:
    """A schedule bound to a network. Raises UsageError for a name that reaches nothing."""

    def __init__(self, schedule: Schedule, model: nn.Module, space: ModelSpace) -> None:
        self.schedule = schedule
        self._strengths: dict[str, list[Strength]] = {}
        self._now: dict[str, Tensor] = {}
        for name in schedule.names:
            if name in _AUGMENTATIONS:
                fitted(_AUGMENTATIONS[name], space.signature)
            elif name not in space.search_space:
                raise UsageError(
                    f"the schedule's {name!r} reaches nothing", f"{space.name!r} has no parameter of this name"
                )
            else:
                self._strengths[name] = reached(model, space.search_space[name])

    def begin(self, epoch: int) -> None:
        """Set what holds in this epoch."""
        values = self.schedule.at(epoch)
        for name, strengths in self._strengths.items():
            for strength in strengths:
                strength.set(float(values[name]))
        self._now = {
            name.removeprefix(PREFIX): torch.tensor([values[name]]) for name in values if name in _AUGMENTATIONS
        }

    def augmented(self, inputs: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """A batch, its images augmented as the schedule says."""
        if not self._now:
            return inputs
        first, *others = inputs
        return augment(first, {name: strength.to(first) for name, strength in self._now.items()}, generator), *others
