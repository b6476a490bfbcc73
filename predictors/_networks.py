"""Several small networks trained side by side on one table of features: one batched product per layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._folds import folds
from archfront.predictors._prediction import Model
from archfront.predictors._predictor import Predictor
from archfront.predictors._scores import COVERED
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FLOOR", "Training", "calibrated", "forward", "layers_of", "mean_of", "shares_of", "train"]

FLOOR = 1e-3
"""Smallest standard deviation a network may claim, labels being standardised."""


@dataclass(frozen=True)
class Training:
    """How networks learn: `steps` of AdamW on batches of `batch` rows, `lr` falling to 0 by a cosine."""

    steps: int
    lr: float
    decay: float
    batch: int = 32

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise UsageError(f"steps={self.steps} and batch={self.batch} must be at least 1")
        if not (self.lr > 0 and self.decay >= 0):
            raise UsageError(f"lr={self.lr} must be above 0, decay={self.decay} not below")


def train(
    predictor: Predictor,
    x: Floats,
    y: Floats,
    weights: Floats | None,
    *,
    sizes: Sequence[int],
    shares: Sequence[NDArray[np.int64]],
    training: Training,
) -> Model:
    """One ReLU network per share (row numbers it learns from) of the layer widths `sizes` (inputs first), as a model
    that `layers_of` reads.

    One output: the mean, by squared error. Two: mean and variance, by the Gaussian likelihood weighted with the
    variance's root (Seitzer et al., 2022, beta = 1/2). Each network has its own start and its own order of the rows.
    """
    import torch

    rng = predictor.generator()
    level, spread = float(y.mean()), float(y.std()) or 1.0
    rows = torch.from_numpy(x).float()
    labels = torch.from_numpy((y - level) / spread).float()
    heavy = torch.ones(len(y)) if weights is None else torch.from_numpy(weights / weights.mean()).float()
    layers = [torch.from_numpy(a).float().requires_grad_() for a in _start(rng, sizes, len(shares))]
    optimiser = torch.optim.AdamW(layers, lr=training.lr, weight_decay=training.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    for chosen in _batches(rng, shares, training):
        at = torch.from_numpy(chosen)
        loss = (_loss(forward(layers, rows[at]), labels[at]) * heavy[at]).mean(dim=1).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return {"layers": [layer.detach().numpy() for layer in layers], "level": level, "spread": spread}


def forward(layers: Sequence[Tensor], x: Tensor) -> Tensor:
    """Outputs (networks, n, outputs) for x (n, features), or (networks, n, features)."""
    for i in range(0, len(layers), 2):
        x = (x.relu() if i else x) @ layers[i] + layers[i + 1]
    return x


def layers_of(model: Model) -> list[Tensor]:
    """A stored model's weights and biases, alternating, in float64."""
    import torch

    return [torch.from_numpy(layer).double() for layer in model["layers"]]


def mean_of(model: Model) -> Callable[[Tensor], Tensor]:
    """The mean over the networks of their first output, in the metric's unit: features (n, f) to (n,)."""
    layers = layers_of(model)
    return lambda features: model["level"] + model["spread"] * forward(layers, features)[..., 0].mean(dim=0)


def shares_of(n: int, networks: int) -> list[NDArray[np.int64]]:
    """Rows of each network of an ensemble: all but one of five folds in turn."""
    return [train for _, (train, _) in zip(range(networks), cycle(folds(n)), strict=False)]


def calibrated(
    means: Floats, stds: Floats, y: Floats, shares: Sequence[NDArray[np.int64]]
) -> tuple[float, Floats | None]:
    """From what networks say of all rows, (networks, n): the factor on `stds` with which 90 % of the rows a network has
    not seen lie within its central 90 % interval; and means (n,) by those networks only, None where a row has none."""
    unseen = np.ones(means.shape, bool)
    for network, share in enumerate(shares):
        unseen[network, share] = False
    off = np.quantile((np.abs(y - means) / stds)[unseen], COVERED)
    judges = unseen.sum(axis=0)
    guess = (means * unseen).sum(axis=0) / np.maximum(judges, 1)
    return float(off) / NormalDist().inv_cdf((1 + COVERED) / 2), guess if judges.all() else None


def _start(rng: np.random.Generator, sizes: Sequence[int], networks: int) -> list[Floats]:
    """Weights of variance 2 / inputs (He et al., 2015), biases of 0."""
    layers = []
    for inputs, outputs in pairwise(sizes):
        layers.append(rng.normal(0, np.sqrt(2 / inputs), (networks, inputs, outputs)))
        layers.append(np.zeros((networks, 1, outputs)))
    return layers


def _batches(
    rng: np.random.Generator, shares: Sequence[NDArray[np.int64]], training: Training
) -> Iterator[NDArray[np.int64]]:
    """`steps` arrays (networks, batch) of row numbers: each network walks through its own permutations."""
    n = max(len(share) for share in shares)
    rows = np.stack([np.resize(share, n) for share in shares])  # a shorter share repeats its first rows
    size = min(n, training.batch)
    starts = range(0, n - size + 1, size)
    for step in range(training.steps):
        if step % len(starts) == 0:
            rows = rng.permuted(rows, axis=1)
        start = starts[step % len(starts)]
        yield rows[:, start : start + size]


def _loss(output: Tensor, labels: Tensor) -> Tensor:
    """Losses (networks, n)."""
    import torch.nn.functional as F

    error = (output[..., 0] - labels).square()
    if output.shape[-1] == 1:
        return error
    variance = F.softplus(output[..., 1]) + FLOOR**2
    return variance.detach().sqrt() * (error / variance + variance.log()) / 2
