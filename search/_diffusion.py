"""Sampling configurations by reversing the noise, unguided or along the gradient of a predictor (DiffusionNAG)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from archfront.predictors._relaxation import Relaxation
from archfront.predictors._sde import Sde
from archfront.spaces._errors import UnknownNameError, UsageError

__all__ = ["CORRECTORS", "PREDICTORS", "Guide", "Sampler", "ScoreModel", "corrected", "sampled", "stepped"]

Matrices = Float[Tensor, "batch rows columns"]
Guide = Callable[[Tensor, Tensor, Tensor, Sde], Tensor]
"""From x_t (batch, rows, columns), t (batch,) and the network's score to the gradient of what is wanted."""


@runtime_checkable
class ScoreModel(Protocol):
    """grad log p_t(x_t) of a process, from x_t (batch, rows, columns) and t (batch,)."""

    sde: Sde

    def __call__(self, x: Tensor, t: Tensor, /) -> Tensor:
        """The score, of the shape of x."""


PREDICTORS = ("euler_maruyama", "reverse_diffusion", "none")
CORRECTORS = ("langevin", "none")


@dataclass(frozen=True)
class Sampler:
    """From t = 1 to the smallest time in `steps`, each a corrector's step (or several) and a predictor's."""

    steps: int = 100
    predictor: str = "euler_maruyama"
    corrector: str = "langevin"
    snr: float = 0.16
    corrections: int = 1

    def __post_init__(self) -> None:
        if self.predictor not in PREDICTORS:
            raise UnknownNameError.of("predictor of a sampler", self.predictor, PREDICTORS)
        if self.corrector not in CORRECTORS:
            raise UnknownNameError.of("corrector of a sampler", self.corrector, CORRECTORS)
        if self.steps < 2 or self.corrections < 1 or not self.snr > 0:
            raise UsageError(
                f"steps={self.steps} must be at least 2, corrections={self.corrections} at least 1, snr={self.snr} > 0"
            )


def stepped(
    sde: Sde, predictor: str, score: Matrices, x: Matrices, t: Tensor, steps: int, z: Matrices
) -> tuple[Matrices, Matrices]:
    """(x, mean) one step back in time. Euler-Maruyama: mean = x - (f - g^2 S) / N, x = mean + g sqrt(1 / N) z;
    reverse diffusion: mean = x - (discrete drift) + G^2 S, x = mean + G z."""
    if predictor == "reverse_diffusion":
        shrunk, size = (value[:, None, None] for value in sde.discrete(t, steps))
        mean = x + shrunk * x + size**2 * score
        return mean + size * z, mean
    rate, diffusion = sde.rate(t)[:, None, None], sde.diffusion(t)[:, None, None]
    mean = x + (rate * x + diffusion**2 * score) / steps
    return mean + diffusion * math.sqrt(1 / steps) * z, mean


def corrected(sde: Sde, score: Matrices, x: Matrices, t: Tensor, steps: int, z: Matrices, snr: float) -> Matrices:
    """One Langevin step: x + d S + sqrt(2 d) z with d = 2 (snr mean|z| / mean|S|)^2, shortened by alpha_t."""
    size = z.flatten(1).norm(dim=1).mean() / score.flatten(1).norm(dim=1).mean().clamp_min(1e-12)
    step = (2 * (snr * size) ** 2 * sde.correction(t, steps))[:, None, None]
    moved: Tensor = x + step * score + (2 * step).sqrt() * z
    return moved


def sampled(
    net: ScoreModel,
    relaxation: Relaxation,
    n: int,
    sampler: Sampler,
    generator: torch.Generator,
    guide: Guide | None = None,
) -> NDArray[np.float64]:
    """n matrices (n, rows, columns), (x + 1) / 2 of the mean of the last step: entries near 0 and 1.

    The guide's gradient is added to the score in both steps; entries that are not free keep their value throughout.
    """
    sde = net.sde
    free, fixed = torch.from_numpy(relaxation.free), torch.from_numpy(2 * relaxation.fixed - 1).float()

    def kept(x: Tensor) -> Tensor:
        return torch.where(free, x, fixed)

    def score(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            own = net(x, t)
        total = own if guide is None else own + guide(x, t, own, sde)
        return torch.where(free, total, torch.zeros(()))

    def noise() -> Tensor:
        return torch.randn((n, *relaxation.shape), generator=generator)

    x = kept(sde.prior_std * noise())
    mean = x
    for time in torch.linspace(1.0, sde.smallest, sampler.steps).tolist():
        t = torch.full((n,), time)
        for _ in range(sampler.corrections if sampler.corrector == "langevin" else 0):
            z = torch.where(free, noise(), torch.zeros(()))
            x = mean = kept(corrected(sde, score(x, t), x, t, sampler.steps, z, sampler.snr))
        if sampler.predictor != "none":
            x, mean = (
                kept(part) for part in stepped(sde, sampler.predictor, score(x, t), x, t, sampler.steps, noise())
            )
    return ((mean + 1) / 2).double().numpy()
