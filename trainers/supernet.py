"""Train the shared weights of all sub-networks at once: by the sandwich rule (Yu & Huang, 2019), or by progressive
shrinking (Cai et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces import _supernet
from archfront.spaces._choices import Categorical
from archfront.spaces._errors import TrainingError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Split
from archfront.trainers._batches import batches
from archfront.trainers._layout import channels_last
from archfront.trainers._optimise import OPTIMISER_PARAMETERS, learning_rate, make_optimiser, set_learning_rate
from archfront.trainers._penalties import penalised
from archfront.trainers._shrinking import phases_of
from archfront.trainers._slice import calibrated_subnet, evaluate_slice, sliced_space
from archfront.trainers._trainer import Trainer, derived_seed
from archfront.trainers._types import Budget, Report

__all__ = ["SupernetTrainer"]

PROGRESSIVE = "progressive"


class SupernetTrainer(Trainer):
    """Each step sums the gradients of several sub-networks; `rule` says of which.

    `sandwich`: the largest, the smallest and `random_subnets` random ones. The largest learns from the labels; the
    others from its outputs (`distillation` 1), from the labels (0), or a mixture.

    `progressive`: for the first `largest_share` of the steps the largest alone. It then is the teacher of
    `random_subnets` random sub-networks a step, drawn from more and more of the space (in the order of the space's
    `shrinking`, for equally many steps each), with `later_lr` of the learning rate; before channels are left out for
    the first time, the more important ones are sorted to the front.

    The parameters that are not elastic are held at the values of `config`. Reports carry the metrics of the largest
    sub-network, those of the smallest under the attributes "smallest.*".
    """

    parameters = SearchSpace(
        *OPTIMISER_PARAMETERS,
        Categorical("rule", ("sandwich", PROGRESSIVE), role="hyperparameter"),
        Integer("random_subnets", 0, 8, default=2, role="hyperparameter"),
        Real("distillation", 0.0, 1.0, default=1.0, bins=4, role="hyperparameter"),
        Real("largest_share", 0.05, 0.95, default=0.4, bins=9, role="hyperparameter"),
        Real("later_lr", 0.01, 1.0, default=0.3, log=True, bins=8, role="hyperparameter"),
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
        self.phases = phases_of(self.sliced, space.shrinking)
        self.phase = 0
        self._teacher: nn.Module | None = None
        self._optimiser = make_optimiser(self.bank.parameters(), self.settings)

    @classmethod
    def supports(cls, space: ModelSpace) -> str | None:
        return None if space.elastic else f"{space.name!r} has no elastic parameter: there is nothing to share"

    @property
    def progressive(self) -> bool:
        """Whether sub-networks become smaller as training goes on."""
        return bool(self.settings["rule"] == PROGRESSIVE)

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
        train, size = self.raw("train"), self.settings["batch_size"]
        number = 1 if train.rows is not None else math.ceil(len(train) / size)
        total, steps = 0.0, 0
        for step, (inputs, target) in enumerate(batches(self.task, train, size, generator)):
            self.pause()
            if self.progressive:
                rate = self._entered(self.epoch + (step + 0.5) / number)
            else:
                rate = learning_rate(self.settings, self.epoch + step / number, self.budget.epochs)
            set_learning_rate(self._optimiser, rate)
            self._optimiser.zero_grad(set_to_none=True)
            part = self._shrunk if self.progressive else self._sandwich
            total += part(inputs, Split(inputs, target, train.rows), rng)
            if self.settings["gradient_clip"]:
                nn.utils.clip_grad_norm_(self.bank.parameters(), self.settings["gradient_clip"])
            self._optimiser.step()
            steps += 1
        if not math.isfinite(total):
            raise TrainingError(f"the supernet's loss is {total} in epoch {self.epoch + 1}", "lower trainer.lr")
        return total / steps

    # -- the sandwich rule

    def _sandwich(self, inputs: tuple[Tensor, ...], batch: Split, rng: np.random.Generator) -> float:
        """Gradients of one step; returns the loss of the largest sub-network."""
        whole, penalty = self._forward(self.largest, inputs)
        output, wanted = batch.chosen(whole)
        loss = self.task.loss(output, wanted) + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        for config in [self.smallest, *self.sliced.sample(rng, self.settings["random_subnets"])]:
            self._learn(config, inputs, batch, output.detach())
        return float(loss.detach())

    def _learn(self, config: Configuration, inputs: tuple[Tensor, ...], batch: Split, teacher: Tensor) -> float:
        """Gradients of one sub-network, which learns from a teacher's outputs and from the labels; its loss."""
        output, penalty = self._forward(config, inputs)
        student, wanted = batch.chosen(output)
        share = self.settings["distillation"]
        mixed = share * _distance(student, teacher, self.space.signature.kind) + penalty
        if share < 1:
            mixed = mixed + (1 - share) * self.task.loss(student, wanted)
        mixed.backward()
        return float(mixed.detach())

    def _forward(self, config: Configuration, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | float]:
        """Outputs of a sub-network in train mode for a raw batch, and its penalties; an elastic resolution is prepared
        here."""
        prepared = channels_last(self.space.prepare(config, inputs))
        return penalised(self.bank.subnet(config, reuse=True).train(), prepared)

    # -- progressive shrinking

    def _entered(self, progress: float) -> float:
        """The learning rate of the step in the middle of which `progress` epochs are over, its phase prepared."""
        first = self.settings["largest_share"] * self.budget.epochs
        each = (self.budget.epochs - first) / max(1, len(self.phases) - 1)
        due = 0 if progress < first else min(1 + int((progress - first) / each), len(self.phases) - 1)
        while self.phase < due:
            self._begin(self.phase + 1)
        if not self.phase:
            return learning_rate(self.settings, progress, first)
        later = learning_rate(self.settings, progress - first - (self.phase - 1) * each, each)
        return float(self.settings["later_lr"] * later)

    def _begin(self, phase: int) -> None:
        """What the first phase has trained is the teacher; the optimiser's memory is of other sub-networks."""
        if phase == 1:
            self._teacher = self.bank.extract(self.largest).requires_grad_(False).to(self.device)
        opened = self.phases[phase].opened
        if all(before.opened != opened for before in self.phases[:phase]):
            for channels in self.space.channels():
                if channels.group == opened:
                    self.bank.sort(channels)
        self.phase = phase
        self._optimiser = make_optimiser(self.bank.parameters(), self.settings)

    def _shrunk(self, inputs: tuple[Tensor, ...], batch: Split, rng: np.random.Generator) -> float:
        """Gradients of one step; returns the mean loss of its sub-networks."""
        space = self.phases[self.phase].space
        if self._teacher is None:
            (config,) = space.sample(rng, 1)
            whole, penalty = self._forward(config, inputs)
            output, wanted = batch.chosen(whole)
            loss = self.task.loss(output, wanted) + penalty
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())
        losses = []
        for config in space.sample(rng, max(1, self.settings["random_subnets"])):
            with torch.no_grad():
                seen = channels_last(self.space.prepare(self._teachers(config), inputs))
                taught, _ = batch.chosen(self._teacher.train()(*seen))
            losses.append(self._learn(config, inputs, batch, taught))
        return sum(losses) / len(losses)

    def _teachers(self, config: Configuration) -> Configuration:
        """The largest configuration, with the student's values where all are open from the beginning (resolution)."""
        always = {p.name: config[p.name] for p in self.phases[0].space if p.size > 1 and p.name in config}
        return {**self.largest, **always}

    # --

    def _score(self, config: Configuration) -> dict[str, float]:
        return evaluate_slice(self.bank, config)

    def export(self) -> nn.Module:
        return calibrated_subnet(self.bank, self.largest)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "phase": self.phase,
            "bank": self.bank.state_dict(),
            "teacher": None if self._teacher is None else self._teacher.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.phase = state["epoch"], state["phase"]
        self.bank.load_state_dict(state["bank"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._teacher = None
        if state["teacher"] is not None:
            self._teacher = self.bank.extract(self.largest).requires_grad_(False).to(self.device)
            self._teacher.load_state_dict(state["teacher"])


def _distance(student: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """Distillation: cross-entropy with the teacher's probabilities, classes last; squared error for images."""
    if "classification" in kind:
        return functional.cross_entropy(student.flatten(0, -2), teacher.flatten(0, -2).softmax(dim=1))
    return functional.mse_loss(student, teacher)
