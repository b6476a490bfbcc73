"""Self-Tuning Networks (MacKay et al., ICLR 2019) and Delta-STN (Bae & Grosse, NeurIPS 2020): hyperparameters are
learned during one training, by gradient descent on the validation loss through weights that respond to them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from archfront.spaces._errors import TrainingError, UsageError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._parameter import Parameter
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Split
from archfront.trainers._augment import AUGMENTATION_PARAMETERS, augment, fitted
from archfront.trainers._batches import Batch, batches, nth_batch
from archfront.trainers._convert import ResponseNet, convert
from archfront.trainers._critical_start import start
from archfront.trainers._falling_rate import FallingRate
from archfront.trainers._first_order import first_order
from archfront.trainers._generated import generated
from archfront.trainers._layout import channels_last
from archfront.trainers._optimise import make_optimiser, set_learning_rate
from archfront.trainers._penalties import penalised
from archfront.trainers._recalibrate import recalibrate
from archfront.trainers._schedule import SCALE, VALUE
from archfront.trainers._self_tuning_settings import SELF_TUNING_PARAMETERS
from archfront.trainers._trainer import PREFIX, Trainer, derived_seed, outputs_of
from archfront.trainers._types import Budget, Report

__all__ = ["SelfTuning"]


class SelfTuning(Trainer):
    """One training that moves every self-tuned parameter: those that the space declares and the configuration makes
    active, and the augmentations that start above 0. Their values in the configuration are where they start.

    Penalties of activations in the network add to the loss of weights and hyperparameters, to no metric and to no
    reported validation loss.

    `mode` stn: algorithm 1 of the first paper; delta: the centred response with its two updates per batch, which are
    dearer, and want a hyper_lr of 0.01 (RMSprop's first steps are long); hypernetwork: algorithm 1 with every weight
    made by a magnitude-invariant hypernetwork, which any layer can follow. After `warmup_epochs`, each `train_steps`
    updates of the weights on training batches, with hyperparameters perturbed per example, are followed by
    `valid_steps` updates of the hyperparameters on validation batches. A whole graph is one batch, perturbed as a
    whole, and so is every batch of a hypernetwork.

    The validation split is thereby used for training: report the test split, the third one, which nothing here sees.
    Reports have the metrics of the plain network that the response collapses into, and as attributes `value.NAME` and
    `scale.NAME` (half the distance between the values one sigma above and below), both in the users' units.

    The rates are ours, chosen on small tasks where a run has a thousand updates of the hyperparameters and not tens of
    thousands (docs/results/self_tuning.md). The papers': lr 0.01 (stn) and 0.03 (delta), hyper_lr 3e-3 (Adam) and 1e-2
    (RMSprop), scale_lr 3e-3, batches of 128, train_steps 2 and 5, decay 0.1 on plateaus and 0.2 at steps.
    """

    self_tunes: ClassVar[bool] = True
    parameters = SearchSpace(*SELF_TUNING_PARAMETERS)

    def __init__(
        self, space: ModelSpace, config: Configuration, *, budget: Budget, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(space, config, budget=budget, seed=seed, device=device)
        self._centred = self.settings["mode"] == "delta"
        augmented = self._augmented()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, "init"))
            model = space.build(self.config)
            start(model, self.settings, lambda: self.data("train"), derived_seed(seed, "critical"))
            self.net = self._taken_over(model, augmented).to(device)
        self._columns = {p.name.removeprefix(PREFIX): self.net.hypers.names.index(p.name) for p in augmented}
        self._weights = {
            "general": make_optimiser(self.net.general_parameters, self.settings),
            "response": make_optimiser(self.net.response_parameters, self.settings),
        }
        hypers = self.net.hypers
        kind = torch.optim.RMSprop if self._centred else torch.optim.Adam
        groups = [{"params": [hypers.lam], "lr": self.settings["hyper_lr"]}]
        if self.settings["tune_scale"]:
            groups.append({"params": [hypers.s], "lr": self.settings["scale_lr"]})
        self._hyper = kind(groups)
        self._rate = FallingRate(self.settings, budget.epochs)
        self._since = 0  # weight updates in this cycle
        self._drawn = 0  # validation batches so far
        self._best: dict[str, Any] | None = None

    def _taken_over(self, model: nn.Module, augmented: list[Parameter]) -> ResponseNet:
        parameters = [*self._declared(), *augmented]
        config = {**self.config, **{PREFIX + name: value for name, value in self.settings.items()}}
        scale, elsewhere = self.settings["sigma0"], [p.name for p in augmented]
        if self.settings["mode"] == "hypernetwork":
            return generated(model, parameters, config, scale=scale, elsewhere=elsewhere)
        return convert(
            model,
            parameters,
            config,
            centred=self._centred,
            per_batch=not self.space.signature.batched,
            scale=scale,
            elsewhere=elsewhere,
        )

    @classmethod
    def supports(cls, space: ModelSpace) -> str | None:
        if any(p.self_tuned for p in space.search_space):
            return None
        return f"{space.name!r} declares no self-tuned parameter: there is nothing to tune during a training"

    @classmethod
    def refusal(cls, space: ModelSpace, config: Configuration) -> UsageError | None:
        """Of networks with a layer that cannot respond, and of parameters that reach nothing."""
        return cls._refused_when_made(space, config)

    def _declared(self) -> list[Parameter]:
        """The space's self-tuned parameters that decide anything here and have more than one value."""
        active = set(self.space.search_space.active_names(self.config))
        return [p for p in self.space.search_space if p.self_tuned and p.name in active and p.size > 1]

    def _augmented(self) -> list[Parameter]:
        """The augmentations that are on, under their names in configurations. Raises UsageError."""
        on = [p for p in AUGMENTATION_PARAMETERS if self.settings[p.name] > 0]
        if not self.settings["cutout_length"]:
            on = [p for p in on if p.name != "cutout_holes"]
        elif not self.settings["cutout_holes"]:
            raise UsageError("trainer.cutout_length reaches nothing", "set trainer.cutout_holes above 0")
        return [replace(fitted(p, self.space.signature), name=PREFIX + p.name, when=()) for p in on]

    # -- epochs

    def run(self) -> Iterator[Report]:
        while self.epoch < self.budget.epochs and not self._rate.is_over():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(self.seed, "epoch", self.epoch))
                train_loss = self._train_epoch()
            rate, self.epoch = self._rate.at(self.epoch), self.epoch + 1
            metrics, val_loss = self._validate()
            self._rate.hear(val_loss)
            hypers = self.net.hypers
            attributes = {"train_loss": train_loss, "val_loss": val_loss, "lr": rate}
            attributes |= {VALUE + name: value for name, value in hypers.value_of().items()}
            attributes |= {SCALE + name: value for name, value in hypers.scale_of().items()}
            yield Report(self.epoch, self._selected(metrics, val_loss), attributes)

    def _train_epoch(self) -> float:
        """Mean training loss of one epoch. Raises TrainingError when it is not finite."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "batches", self.epoch))
        train = self.data("train")
        for optimiser in self._weights.values():
            set_learning_rate(optimiser, self._rate.at(self.epoch))
        losses = []
        for batch in batches(self.task, train, self.settings["batch_size"], generator):
            self.pause()
            step = self._delta_step if self._centred else self._joint_step
            losses.append(step(batch, train.rows, generator))
            if self.epoch >= self.settings["warmup_epochs"]:
                self._cycle(generator)
        if not math.isfinite(sum(losses)):
            raise TrainingError(
                f"the training loss is {sum(losses)} in epoch {self.epoch + 1}",
                f"lower trainer.lr={self.settings['lr']:g}, or set trainer.gradient_clip",
            )
        if not self._centred:  # its statistics are of perturbed examples
            self.net.rest()
            recalibrate(self.net, train, seed=derived_seed(self.seed, "recalibrate", self.epoch))
        return sum(losses) / len(losses)

    def _cycle(self, generator: torch.Generator) -> None:
        """After every `train_steps` updates of the weights come `valid_steps` updates of the hyperparameters."""
        self._since += 1
        if self._since == self.settings["train_steps"]:
            self._since = 0
            for _ in range(self.settings["valid_steps"]):
                self._hyper_step(self._validation_batch(), generator)

    # -- updates

    def _joint_step(self, batch: Batch, rows: Tensor | None, generator: torch.Generator) -> float:
        """Algorithm 1, step 1: all weights, each example with hyperparameters of its own; its loss."""
        self.net.train()
        H = self._perturbed(batch, generator).detach()
        self.net.see(H)
        inputs = self._inputs(batch, H, generator)
        for optimiser in self._weights.values():
            optimiser.zero_grad(set_to_none=True)
        output, penalty = penalised(self.net, inputs)
        loss = self._loss(output, batch[1], rows) + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        self._update(*self._weights)
        return float(loss.detach())

    def _delta_step(self, batch: Batch, rows: Tensor | None, generator: torch.Generator) -> float:
        """The general weights at the current hyperparameters, then the response to first order around them."""
        self.net.train()
        general = self._weights["general"]
        general.zero_grad(set_to_none=True)
        self.net.rest()
        inputs = self._inputs(batch, self.net.hypers.lam.detach()[None], generator)
        output, penalty = penalised(self.net, inputs)
        loss = self._loss(output, batch[1], rows) + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        self._update("general")
        H = self._perturbed(batch, generator).detach()
        self.net.see(H)
        inputs = self._inputs(batch, H, generator)
        delta = H - self.net.hypers.lam.detach()
        output, penalty = first_order(self.net, inputs, delta, linearisation=self.settings["linearisation"])
        second = self._loss(output, batch[1], rows) + penalty
        response = self.net.response_parameters
        gradients = torch.autograd.grad(second, response, allow_unused=True)
        for parameter, gradient in zip(response, gradients, strict=True):
            parameter.grad = gradient
        self._update("response")
        return float(loss.detach())

    def _hyper_step(self, batch: Batch, generator: torch.Generator) -> None:
        """Step 2: L_V - tau Ent(sigma) in eval mode moves lambda and sigma; no weight has a gradient."""
        self.net.eval()
        hypers, moved = self.net.hypers, [p for group in self._hyper.param_groups for p in group["params"]]
        H = self._perturbed(batch, generator) if self.settings["tune_scale"] else hypers.lam[None]
        self.net.see(H)
        output, penalty = penalised(self.net, channels_last(batch[0]))
        loss = self._loss(output, batch[1], self.data("val").rows) + penalty
        if self.settings["tune_scale"]:
            loss = loss - self.settings["entropy_weight"] * hypers.entropy()
        for parameter, gradient in zip(moved, torch.autograd.grad(loss, moved), strict=True):
            parameter.grad = gradient
        self._hyper.step()
        self.net.rest()

    def _perturbed(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.net.hypers.perturb(1 if self.net.one_row else len(batch[1]), generator)

    def _inputs(self, batch: Batch, H: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """A training batch, its images augmented at the strengths of H's rows."""
        first, *others = batch[0]
        if self._columns:
            values = self.net.hypers.values(H)
            first = augment(first, {name: values[:, i] for name, i in self._columns.items()}, generator)
        return channels_last((first, *others))

    def _loss(self, output: Tensor, target: Tensor, rows: Tensor | None) -> Tensor:
        return self.task.loss(output, target) if rows is None else self.task.loss(output[rows], target[rows])

    def _update(self, *names: str) -> None:
        optimisers = [self._weights[name] for name in names]
        if self.settings["gradient_clip"]:
            moved = [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(moved, self.settings["gradient_clip"])
        for optimiser in optimisers:
            optimiser.step()

    def _validation_batch(self) -> Batch:
        """The next one."""
        self._drawn += 1
        return nth_batch(
            self.data("val"),
            self.settings["batch_size"],
            self._drawn - 1,
            lambda turn: derived_seed(self.seed, "validation", turn),
        )

    # -- the best epoch

    def _validate(self) -> tuple[dict[str, float], float]:
        split: Split = self.data("val")
        output, target = split.chosen(outputs_of(self.net.collapse(), split, self.device))
        return self.task.score(output, target), float(self.task.loss(output, target))

    def _selected(self, metrics: dict[str, float], val_loss: float) -> dict[str, float]:
        """The metrics to report; with `select` best the last report is the best epoch's, and so are the weights."""
        if self.settings["select"] == "last":
            return metrics
        if self._best is None or val_loss < self._best["val_loss"]:
            self._best = {"val_loss": val_loss, "metrics": metrics, "weights": self.net.collapse().state_dict()}
        best: dict[str, float] = self._best["metrics"]
        return best if self.epoch == self.budget.epochs or self._rate.is_over() else metrics

    def export(self) -> nn.Module:
        net = self.net.collapse().cpu()
        if self._best is not None:
            net.load_state_dict(self._best["weights"])
        return net

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "net": self.net.state_dict(),
            "weights": {name: optimiser.state_dict() for name, optimiser in self._weights.items()},
            "hyper": self._hyper.state_dict(),
            "lr": self._rate.lr,
            "since": self._since,
            "drawn": self._drawn,
            "losses": list(self._rate.losses),
            "best": self._best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self._rate.lr, self._rate.losses = state["epoch"], state["lr"], list(state["losses"])
        self._since, self._drawn = state["since"], state["drawn"]
        self.net.load_state_dict(state["net"])
        for name, optimiser in self._weights.items():
            optimiser.load_state_dict(state["weights"][name])
        self._hyper.load_state_dict(state["hyper"])
        self._best = state["best"]
