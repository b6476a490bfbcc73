"""Train the shared weights of all sub-networks at once: sandwich rule and in-place distillation (Yu & Huang, 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces import _supernet
from archfront.spaces._errors import TrainingError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.trainers._batches import batches
from archfront.trainers._optimise import OPTIMISER_PARAMETERS, learning_rate, make_optimiser, set_learning_rate
from archfront.trainers._slice import calibrated_subnet, evaluate_slice, sliced_space
from archfront.trainers._trainer import Trainer, derived_seed
from archfront.trainers._types import Budget, Report

__all__ = ["SupernetTrainer"]


class SupernetTrainer(Trainer):
    """Each step sums the gradients of the largest, the smallest and `random_subnets` random sub-networks.

    The largest learns from the labels; the others from its outputs (`distillation` 1), from the labels (0), or a
    mixture. The parameters that are not elastic are held at the values of `config`. Reports carry the metrics of the
    largest sub-network, those of the smallest under the attributes "smallest.*".
    """

    parameters = SearchSpace(
        *OPTIMISER_PARAMETERS,
        Integer("random_subnets", 0, 8, default=2, role="hyperparameter"),
        Real("distillation", 0.0, 1.0, default=1.0, bins=4, role="hyperparameter"),
    )

    def __init__(
        self, space: ModelSpace, config: Configuration, *, budget: Budget, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(space, config, budget=budget, seed=seed, device=device)
        fixed = {name: value for name, value in self.config.items() if name not in space.elastic}
        self.bank = _supernet.Supernet(space, fixed=fixed, seed=derived_seed(seed, "init")).to(device)
        self.sliced = sliced_space(space, fixed)
        self.largest = self._extreme("largest")
        self.smallest = self._extreme("smallest")
        self._optimiser = make_optimiser(self.bank.parameters(), self.settings)

    @classmethod
    def supports(cls, space: ModelSpace) -> str | None:
        return None if space.elastic else f"{space.name!r} has no elastic parameter: there is nothing to share"

    def _extreme(self, which: str) -> Configuration:
        values = {p.name: getattr(p, which)() for p in self.sliced}
        return self.sliced.canonicalise(values)

    def run(self) -> Iterator[Report]:
        while self.epoch < self.budget.epochs:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(self.seed, "epoch", self.epoch))
                loss = self._train_epoch()
            self.epoch += 1
            smallest = self._score(self.smallest)
            attributes = {"train_loss": loss, **{f"smallest.{name}": value for name, value in smallest.items()}}
            yield Report(self.epoch, self._score(self.largest), attributes)

    def _train_epoch(self) -> float:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "batches", self.epoch))
        rng = np.random.default_rng(derived_seed(self.seed, "subnets", self.epoch))
        train, size = self.task.split("train"), self.settings["batch_size"]
        number = 1 if train.rows is not None else math.ceil(len(train) / size)
        total, steps = 0.0, 0
        for step, (inputs, target) in enumerate(batches(self.task, train, size, generator)):
            self.pause()
            rate = learning_rate(self.settings, self.epoch + step / number, self.budget.epochs)
            set_learning_rate(self._optimiser, rate)
            self._optimiser.zero_grad(set_to_none=True)
            total += self._sandwich(inputs, target, train.rows, rng)
            if self.settings["gradient_clip"]:
                nn.utils.clip_grad_norm_(self.bank.parameters(), self.settings["gradient_clip"])
            self._optimiser.step()
            steps += 1
        if not math.isfinite(total):
            raise TrainingError(f"the supernet's loss is {total} in epoch {self.epoch + 1}", "lower trainer.lr")
        return total / steps

    def _sandwich(
        self, inputs: tuple[Tensor, ...], target: Tensor, rows: Tensor | None, rng: np.random.Generator
    ) -> float:
        """Gradients of one step; returns the loss of the largest sub-network."""
        output = self._forward(self.largest, inputs, rows)
        wanted = target if rows is None else target[rows]
        loss = self.task.loss(output, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        teacher = output.detach()
        for config in [self.smallest, *self.sliced.sample(rng, self.settings["random_subnets"])]:
            student = self._forward(config, inputs, rows)
            share = self.settings["distillation"]
            mixed = share * _distance(student, teacher, self.space.signature.kind)
            if share < 1:
                mixed = mixed + (1 - share) * self.task.loss(student, wanted)
            mixed.backward()
        return float(loss.detach())

    def _forward(self, config: Configuration, inputs: tuple[Tensor, ...], rows: Tensor | None) -> Tensor:
        """Outputs of a sub-network in train mode for a raw batch; an elastic resolution is prepared here."""
        prepared = self.space.prepare(config, inputs)
        output: Tensor = self.bank.subnet(config, reuse=True).train()(*prepared)
        return output if rows is None else output[rows]

    def _score(self, config: Configuration) -> dict[str, float]:
        return evaluate_slice(self.bank, config)

    def export(self) -> nn.Module:
        return calibrated_subnet(self.bank, self.largest)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "bank": self.bank.state_dict(), "optimiser": self._optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.bank.load_state_dict(state["bank"])
        self._optimiser.load_state_dict(state["optimiser"])


def _distance(student: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """In-place distillation: cross-entropy with the teacher's probabilities; squared error for images."""
    if "classification" in kind:
        return functional.cross_entropy(student, teacher.softmax(dim=1))
    return functional.mse_loss(student, teacher)
