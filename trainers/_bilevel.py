"""Differentiable choice of operations: weights and mixing parameters learn in turn, each on its half of the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Split, Task
from archfront.trainers._batches import batches
from archfront.trainers._trainer import derived_seed

__all__ = ["Mixable", "choose_operations"]


@runtime_checkable
class Mixable(Protocol):
    """A model space whose candidate operations can be summed."""

    def task(self) -> Task:
        """The bound task."""

    def prepared(self, config: Configuration, split: Split) -> Split:
        """A split as the network sees it."""

    def mixed(self, config: Configuration, temperature: float = 1.0) -> nn.Module:
        """A network whose parameters named `alpha` weigh the candidates of each block."""

    def discretised(self, net: nn.Module, config: Configuration) -> Configuration:
        """The configuration with every block's best candidate."""


def choose_operations(
    space: Mixable,
    config: Configuration,
    *,
    epochs: int,
    seed: int = 0,
    lr: float = 0.05,
    alpha_lr: float = 3e-2,
    batch_size: int = 32,
    watch: Callable[[int, float, Configuration], None] = lambda epoch, loss, chosen: None,
) -> Configuration:
    """First-order DARTS (Liu et al., 2019, alg. 1 with xi = 0): per step one update of the mixing parameters on a batch
    of the held-out half of the training split (Adam), then one of the weights on a batch of the other half (SGD with
    momentum, cosine). `watch` hears of each epoch: (epoch, mean held-out loss, the choice so far). The result is the
    configuration of the largest weights; it is trained and measured like any other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "init"))
        net = space.mixed(config)
        torch.manual_seed(derived_seed(seed, "train"))
        alphas = [p for name, p in net.named_parameters() if name.rpartition(".")[2] == "alpha"]
        weights = [p for name, p in net.named_parameters() if name.rpartition(".")[2] != "alpha"]
        inner = torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=3e-4)
        outer = torch.optim.Adam(alphas, lr=alpha_lr, betas=(0.5, 0.999), weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(inner, epochs)
        task = space.task()
        train, held_out = _halves(space.prepared(config, task.split("train")), seed)
        for epoch in range(epochs):
            generator = torch.Generator().manual_seed(derived_seed(seed, "batches", epoch))
            net.train()
            losses = []
            both = (batches(task, half, batch_size, generator) for half in (train, held_out))
            pairs = zip(*both, strict=False)  # an odd row makes one half a batch longer
            for (inputs, target), (held_inputs, held_target) in pairs:
                outer.zero_grad()
                loss = task.loss(net(*held_inputs), held_target)
                loss.backward()  # type: ignore[no-untyped-call]
                outer.step()
                losses.append(float(loss.detach()))
                inner.zero_grad()
                task.loss(net(*inputs), target).backward()  # type: ignore[no-untyped-call]
                inner.step()
            schedule.step()
            watch(epoch + 1, sum(losses) / len(losses), space.discretised(net, config))
        return space.discretised(net, config)


def _halves(split: Split, seed: int) -> tuple[Split, Split]:
    order = torch.randperm(len(split.target), generator=torch.Generator().manual_seed(derived_seed(seed, "halves")))
    middle = len(order) // 2
    one, other = (
        Split(tuple(t[rows] for t in split.inputs), split.target[rows]) for rows in (order[:middle], order[middle:])
    )
    return one, other
