"""Optimisers and learning-rate schedules from a trainer's settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from archfront.spaces._choices import Categorical
from archfront.spaces._condition import Equals
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Parameter

__all__ = ["OPTIMISER_PARAMETERS", "learning_rate", "make_optimiser", "set_learning_rate"]

OPTIMISER_PARAMETERS: tuple[Parameter, ...] = (
    Categorical("optimizer", ("adamw", "adam", "sgd"), role="hyperparameter"),
    Real("lr", 1e-6, 10.0, default=1e-3, log=True, bins=48, role="hyperparameter"),
    Real("momentum", 0.0, 0.999, default=0.9, bins=10, role="hyperparameter", when=(Equals("optimizer", "sgd"),)),
    Real("weight_decay", 1e-8, 1.0, default=0.01, log=True, zero=True, bins=24, role="hyperparameter"),
    Integer("batch_size", 1, 8192, default=128, log=True, role="hyperparameter"),
    Categorical("schedule", ("cosine", "constant", "step"), role="hyperparameter"),
    Real("warmup_epochs", 0.0, 100.0, default=0.0, bins=10, unit="epochs", role="hyperparameter"),
    Real("gradient_clip", 1e-3, 1e3, default=0.0, log=True, zero=True, bins=12, role="hyperparameter"),
)
"""`step` divides the learning rate by ten after each third of the planned epochs; gradient_clip 0 is none."""
SCALE = "lr_scale"
"""Of a parameter group: what its learning rate is multiplied by, 1 where absent."""


def make_optimiser(
    parameters: Iterable[nn.Parameter], settings: Mapping[str, Any], scales: Mapping[nn.Parameter, float] | None = None
) -> torch.optim.Optimizer:
    """The optimiser over the parameters that want a gradient. Weight decay acts on all of them. With `scales` each is a
    group of its own, whose learning rate is multiplied by its scale."""
    lr, decay = settings["lr"], settings["weight_decay"]
    trained: Any = [p for p in parameters if p.requires_grad]
    if scales is not None:
        trained = [{"params": [p], "lr": lr * scales[p], SCALE: scales[p]} for p in trained]
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(trained, lr=lr, momentum=settings["momentum"], weight_decay=decay)
    kind = torch.optim.AdamW if settings["optimizer"] == "adamw" else torch.optim.Adam
    return kind(trained, lr=lr, weight_decay=decay)


def learning_rate(settings: Mapping[str, Any], progress: float, epochs: float) -> float:
    """The rate after `progress` of `epochs` (both in epochs, progress may be fractional): linear warm-up, then the
    schedule over what remains."""
    peak: float = settings["lr"]
    warmup = min(settings["warmup_epochs"], epochs)
    if progress < warmup:
        return peak * progress / warmup if progress > 0 else peak * 1e-3
    if settings["schedule"] == "constant":
        return peak
    if settings["schedule"] == "step":
        return float(peak * 0.1 ** min(2, int(3 * progress / epochs)))
    share = (progress - warmup) / max(1e-12, epochs - warmup)
    return 0.5 * peak * (1 + math.cos(math.pi * min(1.0, share)))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this rate, times its scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get(SCALE, 1.0)
