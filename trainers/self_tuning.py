"""Self-Tuning Networks (MacKay et al., ICLR 2019) and Delta-STN (Bae & Grosse, NeurIPS 2020): hyperparameters are
learned during one training, by gradient descent on the validation loss through weights that respond to them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from archfront.spaces._choices import Categorical
from archfront.spaces._condition import Equals
from archfront.spaces._errors import TrainingError, UsageError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Parameter
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Split
from archfront.trainers._augment import AUGMENTATION_PARAMETERS, augment, fitted
from archfront.trainers._batches import Batch, batches
from archfront.trainers._convert import convert
from archfront.trainers._critical_start import INIT, start
from archfront.trainers._layout import channels_last
from archfront.trainers._linearise import frozen_statistics, linearised
from archfront.trainers._optimise import make_optimiser, set_learning_rate
from archfront.trainers._recalibrate import recalibrate
from archfront.trainers._schedule import SCALE, VALUE
from archfront.trainers._trainer import PREFIX, Trainer, derived_seed, outputs_of
from archfront.trainers._types import Budget, Report

__all__ = ["SelfTuning"]

MILESTONES = (0.3, 0.6, 0.9)
"""Shares of the planned epochs after which `schedule` step lowers the rates (60, 120 and 180 of 200 epochs)."""
SMALLEST_SHARE = 1e-3
"""Of its first value, below which a learning rate that fell on plateaus ends the training (0.01 to 1e-5)."""

_how: dict[str, Any] = {"role": "hyperparameter"}
_rate: dict[str, Any] = {"log": True, "bins": 48, **_how}


class SelfTuning(Trainer):
    """One training that moves every self-tuned parameter: those that the space declares and the configuration makes
    active, and the augmentations that start above 0. Their values in the configuration are where they start.

    `mode` stn: algorithm 1 of the first paper; delta: the centred response with its two updates per batch, which are
    dearer, and want a hyper_lr of 0.01 (RMSprop's first steps are long). After `warmup_epochs`, each `train_steps`
    updates of the weights on training batches, with hyperparameters perturbed per example, are followed by
    `valid_steps` updates of the hyperparameters on validation batches. A whole graph is one batch, perturbed as a
    whole.

    The validation split is thereby used for training: report the test split, the third one, which nothing here sees.
    Reports have the metrics of the plain network that the response collapses into, and as attributes `value.NAME` and
    `scale.NAME` (half the distance between the values one sigma above and below), both in the users' units.

    The rates are ours, chosen on small tasks where a run has a thousand updates of the hyperparameters and not tens of
    thousands (docs/results/self_tuning.md). The papers': lr 0.01 (stn) and 0.03 (delta), hyper_lr 3e-3 (Adam) and 1e-2
    (RMSprop), scale_lr 3e-3, batches of 128, train_steps 2 and 5, decay 0.1 on plateaus and 0.2 at steps.
    """

    self_tunes: ClassVar[bool] = True
    parameters = SearchSpace(
        Categorical("mode", ("stn", "delta"), **_how),
        Categorical("optimizer", ("sgd", "adam", "adamw"), **_how),
        Real("lr", 1e-5, 100.0, default=0.03, **_rate),
        Real("momentum", 0.0, 0.999, default=0.9, bins=10, when=(Equals("optimizer", "sgd"),), **_how),
        Real("weight_decay", 1e-8, 1.0, default=0.0, log=True, zero=True, bins=24, **_how),
        Integer("batch_size", 1, 8192, default=64, log=True, **_how),
        Integer("train_steps", 1, 1000, default=2, unit="updates", **_how),
        Integer("valid_steps", 1, 1000, default=1, unit="updates", **_how),
        Integer("warmup_epochs", 0, 1000, default=5, unit="epochs", **_how),
        Real("entropy_weight", 1e-8, 1.0, default=1e-3, log=True, zero=True, bins=16, **_how),
        Real("sigma0", 0.01, 10.0, default=1.0, log=True, bins=12, **_how),
        Real("hyper_lr", 1e-5, 1.0, default=0.03, **_rate),
        Real("scale_lr", 1e-5, 1.0, default=0.01, **_rate),
        Categorical("tune_scale", (True, False), **_how),
        Categorical("schedule", ("plateau", "step", "constant"), **_how),
        Integer("plateau_epochs", 1, 1000, default=60, unit="epochs", **_how),
        Real("lr_decay", 1e-3, 0.99, default=0.1, bins=10, **_how),
        Real("gradient_clip", 1e-3, 1e3, default=0.0, log=True, zero=True, bins=12, **_how),
        Categorical("select", ("last", "best"), **_how),
        Integer("early_stopping", 0, 10_000, default=0, unit="epochs", **_how),
        INIT,
        *AUGMENTATION_PARAMETERS,
    )
    """`sigma0` multiplies every parameter's own; `early_stopping` w > 0 ends after w epochs without a new lowest
    validation loss; `select` best keeps that epoch's collapsed network; `init` is that of backprop, for the weights at
    the first values."""

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
            self.net = convert(
                model,
                [*self._declared(), *augmented],
                {**self.config, **{PREFIX + name: value for name, value in self.settings.items()}},
                centred=self._centred,
                per_batch=not space.signature.batched,
                scale=self.settings["sigma0"],
                elsewhere=[p.name for p in augmented],
            ).to(device)
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
        self._lr = float(self.settings["lr"])
        self._since, self._drawn = 0, 0  # weight updates in this cycle, validation batches so far
        self._losses: list[float] = []
        self._best: dict[str, Any] | None = None

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
        while self.epoch < self.budget.epochs and not self._is_over():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(self.seed, "epoch", self.epoch))
                train_loss = self._train_epoch()
            rate, self.epoch = self._rate(), self.epoch + 1
            metrics, val_loss = self._validate()
            self._losses.append(val_loss)
            self._lower_rate()
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
            set_learning_rate(optimiser, self._rate())
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
        loss = self._loss(self.net(*inputs), batch[1], rows)
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
        loss = self._loss(self.net(*inputs), batch[1], rows)
        loss.backward()  # type: ignore[no-untyped-call]
        self._update("general")
        H = self._perturbed(batch, generator).detach()
        self.net.see(H)
        inputs = self._inputs(batch, H, generator)
        with frozen_statistics(self.net):
            output = linearised(lambda delta: self._answer(delta, inputs), H - self.net.hypers.lam.detach())
        response = self.net.response_parameters
        for parameter, gradient in zip(
            response, torch.autograd.grad(self._loss(output, batch[1], rows), response, allow_unused=True), strict=True
        ):
            parameter.grad = gradient
        self._update("response")
        return float(loss.detach())

    def _answer(self, delta: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        self.net.rows.h = delta
        output: Tensor = self.net(*inputs)
        self.net.rows.h = None
        return output

    def _hyper_step(self, batch: Batch, generator: torch.Generator) -> None:
        """Step 2: L_V - tau Ent(sigma) in eval mode moves lambda and sigma; no weight has a gradient."""
        self.net.eval()
        hypers, moved = self.net.hypers, [p for group in self._hyper.param_groups for p in group["params"]]
        H = self._perturbed(batch, generator) if self.settings["tune_scale"] else hypers.lam[None]
        self.net.see(H)
        loss = self._loss(self.net(*channels_last(batch[0])), batch[1], self.data("val").rows)
        if self.settings["tune_scale"]:
            loss = loss - self.settings["entropy_weight"] * hypers.entropy()
        for parameter, gradient in zip(moved, torch.autograd.grad(loss, moved), strict=True):
            parameter.grad = gradient
        self._hyper.step()
        self.net.rest()

    def _perturbed(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.net.hypers.perturb(len(batch[1]) if self.space.signature.batched else 1, generator)

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
        """The next one: passes over the split, each in an order of its own."""
        split, size = self.data("val"), self.settings["batch_size"]
        number = 1 if split.rows is not None else math.ceil(len(split) / size)
        turn, at = divmod(self._drawn, number)
        self._drawn += 1
        if split.rows is not None:
            return split.inputs, split.target
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "validation", turn))
        rows = torch.randperm(len(split), generator=generator)[at * size : (at + 1) * size].to(split.target.device)
        return tuple(t[rows] for t in split.inputs), split.target[rows]

    # -- rates, the best epoch

    def _rate(self) -> float:
        if self.settings["schedule"] != "step":
            return self._lr
        passed = sum(self.epoch >= share * self.budget.epochs for share in MILESTONES)
        return float(self._lr * self.settings["lr_decay"] ** passed)

    def _lower_rate(self) -> None:
        """Where the loss exceeds the best of all but the last `plateau_epochs`."""
        window = self.settings["plateau_epochs"]
        if self.settings["schedule"] != "plateau" or len(self._losses) <= window:
            return
        if self._losses[-1] > min(self._losses[:-window]):
            self._lr *= self.settings["lr_decay"]

    def _is_over(self) -> bool:
        if self._lr < SMALLEST_SHARE * self.settings["lr"]:
            return True
        patience = self.settings["early_stopping"]
        if not patience or not self._losses:
            return False
        return bool(len(self._losses) - 1 - self._losses.index(min(self._losses)) >= patience)

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
        return best if self.epoch == self.budget.epochs or self._is_over() else metrics

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
            "lr": self._lr,
            "since": self._since,
            "drawn": self._drawn,
            "losses": list(self._losses),
            "best": self._best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self._lr = state["epoch"], state["lr"]
        self._since, self._drawn = state["since"], state["drawn"]
        self.net.load_state_dict(state["net"])
        for name, optimiser in self._weights.items():
            optimiser.load_state_dict(state["weights"][name])
        self._hyper.load_state_dict(state["hyper"])
        self._losses, self._best = list(state["losses"]), state["best"]
