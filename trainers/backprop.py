"""Plain training by gradient descent, with the recipes of the papers as parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from archfront.spaces._choices import Categorical
from archfront.spaces._errors import TrainingError, UsageError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.trainers._batches import batches, cut_and_mix
from archfront.trainers._critical_start import INIT, LR_SCALING, start
from archfront.trainers._layout import channels_last
from archfront.trainers._optimise import OPTIMISER_PARAMETERS, learning_rate, make_optimiser, set_learning_rate
from archfront.trainers._penalties import penalised
from archfront.trainers._replay import Replay
from archfront.trainers._schedule import Schedule
from archfront.trainers._trainer import PREFIX, Trainer, derived_seed, outputs_of
from archfront.trainers._types import Budget, Report

__all__ = ["Backprop"]


class Backprop(Trainer):
    """Epochs over shuffled batches; validation after each.

    `select` best keeps the weights of the epoch with the lowest validation loss (strictly lower), and the last report
    repeats that epoch's metrics. `early_stopping` w > 0 ends the training, after half of the planned epochs, once the
    validation loss exceeds the mean of the w before it (DAGNN's rule).

    `init` and `lr_scaling` critical start and train each layer at the criticality of its activations. Networks that the
    theory cannot read (norms, pooling, unknown activations), and optimisers other than sgd for `lr_scaling`, are
    refused when the trainer is made; weights that are given replace the initial ones. The rates are meant for critical
    initial values, and are not tied to `init`: a space may have such values of its own.
    """

    parameters = SearchSpace(
        *OPTIMISER_PARAMETERS,
        INIT,
        LR_SCALING,
        Real("label_smoothing", 0.0, 0.9, default=0.0, bins=9, role="hyperparameter"),
        Real("cutmix", 0.0, 1.0, default=0.0, bins=4, role="hyperparameter"),
        Categorical("select", ("last", "best"), role="hyperparameter"),
        Integer("early_stopping", 0, 10_000, default=0, unit="epochs", role="hyperparameter"),
    )

    def __init__(
        self, space: ModelSpace, config: Configuration, *, budget: Budget, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(space, config, budget=budget, seed=seed, device=device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, "init"))
            self.model = space.build(self.config)
            scales = start(self.model, self.settings, lambda: self.data("train"), derived_seed(seed, "critical"))
        self.model.to(device)
        self._optimiser = make_optimiser(self.model.parameters(), self.settings, scales)
        self._replay: Replay | None = None
        self._losses: list[float] = []
        self._best: dict[str, Any] | None = None

    @classmethod
    def refusal(cls, space: ModelSpace, config: Configuration) -> UsageError | None:
        """Of networks that cannot start at criticality, where that is wanted."""
        asked = any(config.get(f"{PREFIX}{p.name}", p.default) != p.default for p in (INIT, LR_SCALING))
        return cls._refused_when_made(space, config) if asked else None

    def follow(self, schedule: Schedule) -> None:
        self._replay = Replay(schedule, self.model, self.space)

    def start_from(self, net: nn.Module) -> None:
        self.model.load_state_dict(net.state_dict())

    def run(self) -> Iterator[Report]:
        while self.epoch < self.budget.epochs and not self._stops_early():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(self.seed, "epoch", self.epoch))
                train_loss = self._train_epoch()
            self.epoch += 1
            metrics, val_loss = self._validate()
            self._losses.append(val_loss)
            attributes = {"train_loss": train_loss, "val_loss": val_loss, "lr": self._rate(self.epoch - 1)}
            yield Report(self.epoch, self._selected(metrics, val_loss), attributes)

    def _train_epoch(self) -> float:
        """Mean training loss of one epoch. Raises TrainingError when it is not finite."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "batches", self.epoch))
        train, size = self.data("train"), self.settings["batch_size"]
        number = 1 if train.rows is not None else math.ceil(len(train) / size)
        self.model.train()
        if self._replay is not None:
            self._replay.begin(self.epoch)
        total = 0.0
        steps = 0
        for step, (inputs, target) in enumerate(batches(self.task, train, size, generator)):
            self.pause()
            set_learning_rate(self._optimiser, self._rate(self.epoch + step / number))
            self._optimiser.zero_grad(set_to_none=True)
            loss = self._loss(inputs, target, train.rows, generator)
            loss.backward()  # type: ignore[no-untyped-call]
            if self.settings["gradient_clip"]:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["gradient_clip"])
            self._optimiser.step()
            total += float(loss.detach())
            steps += 1
        if not math.isfinite(total):
            raise TrainingError(
                f"the training loss is {total} in epoch {self.epoch + 1}", f"lower trainer.lr={self.settings['lr']:g}"
            )
        return total / steps

    def _loss(
        self, inputs: tuple[Tensor, ...], target: Tensor, rows: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        smoothing = self.settings["label_smoothing"]
        if self._replay is not None:
            inputs = self._replay.augmented(inputs, generator)
        inputs = channels_last(inputs)
        if self.settings["cutmix"] and float(torch.rand(1, generator=generator)) < self.settings["cutmix"]:
            mixed, donors, share = cut_and_mix(inputs[0], generator)
            output, penalty = penalised(self.model, (mixed, *inputs[1:]))
            own = self.task.loss(output, target, smoothing=smoothing)
            return share * own + (1 - share) * self.task.loss(output, target[donors], smoothing=smoothing) + penalty
        output, penalty = penalised(self.model, inputs)
        if rows is not None:
            output, target = output[rows], target[rows]
        return self.task.loss(output, target, smoothing=smoothing) + penalty

    def _rate(self, progress: float) -> float:
        return learning_rate(self.settings, progress, self.budget.epochs)

    def _validate(self) -> tuple[dict[str, float], float]:
        split = self.data("val")
        output, target = split.chosen(outputs_of(self.model, split, self.device))
        return self.task.score(output, target), float(self.task.loss(output, target))

    def _selected(self, metrics: dict[str, float], val_loss: float) -> dict[str, float]:
        """The metrics to report; with `select` best the last report is the best epoch's, and so are the weights."""
        if self.settings["select"] == "last":
            return metrics
        if self._best is None or val_loss < self._best["val_loss"]:
            weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
            self._best = {"val_loss": val_loss, "metrics": metrics, "weights": weights}
        best: dict[str, float] = self._best["metrics"]
        return best if self.epoch == self.budget.epochs or self._stops_early() else metrics

    def _stops_early(self) -> bool:
        window = self.settings["early_stopping"]
        if not window or 2 * self.epoch <= self.budget.epochs or len(self._losses) <= window:
            return False
        *before, last = self._losses[-window - 1 :]
        return bool(last > sum(before) / window)

    def export(self) -> nn.Module:
        net = copy.deepcopy(self.model).cpu().eval()
        if self._best is not None:
            net.load_state_dict(self._best["weights"])
        return net

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "losses": list(self._losses),
            "best": self._best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._losses, self._best = list(state["losses"]), state["best"]
