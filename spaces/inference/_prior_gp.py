"""Priors that are Gaussian processes: with fixed hyperparameters, with drawn ones, and HEBO+ (Müller et al., 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from archfront.spaces.inference._prior import Prior, gaussian_draw, noisy, uniform, warped

__all__ = ["FixedGp", "HeboPlus", "MixedGp", "squared_distances"]


@dataclass(frozen=True)
class FixedGp(Prior):
    """x ~ U[0, 1]^F, k = outputscale exp(-|x - x'|^2 / (2 lengthscale^2)), plus noise of variance `noise`."""

    lengthscale: float = 0.6
    outputscale: float = 1.0
    noise: float = 1e-2

    def raw(self, batch: int, points: int, generator: torch.Generator) -> tuple[Tensor, Int[Tensor, " batch"], Tensor]:
        x = uniform(generator, batch, points, self.features)
        covariance = self.covariance(x, x) + self.noise * torch.eye(points, device=x.device)
        return x, torch.full((batch,), self.features, device=x.device), gaussian_draw(covariance, generator)

    def covariance(
        self, one: Float[Tensor, "*batch n features"], other: Float[Tensor, "*batch m features"]
    ) -> Float[Tensor, "*batch n m"]:
        """Without noise."""
        return self.outputscale * torch.exp(-0.5 * squared_distances(one, other) / self.lengthscale**2)


@dataclass(frozen=True)
class MixedGp(Prior):
    """The same kernel with hyperparameters that each data set draws: lengthscale ~ Gamma(3, 6) and outputscale ~
    Gamma(2, 0.15), scaled to mean 1 (GPyTorch's usual hyper-priors), noise ~ LogNormal(-4.63, 0.5).

    Its exact posterior is a mixture over hyperparameters, which only a Markov chain gives.
    """

    def raw(self, batch: int, points: int, generator: torch.Generator) -> tuple[Tensor, Int[Tensor, " batch"], Tensor]:
        x = uniform(generator, batch, points, self.features)
        lengthscale = _gamma(3.0, 6.0, generator, batch, 1, 1)
        outputscale = _gamma(2.0, 2.0, generator, batch, 1, 1)
        covariance = outputscale * torch.exp(-0.5 * squared_distances(x, x) / lengthscale**2)
        noise = (-4.63 + 0.5 * noisy(generator, batch, 1)).exp()
        covariance = covariance + torch.diag_embed(noise.expand(-1, points))
        return x, torch.full((batch,), self.features, device=x.device), gaussian_draw(covariance, generator)


@dataclass(frozen=True)
class HeboPlus(Prior):
    """Zero mean, Matérn-3/2 with lengthscales ~ Gamma(1.2107, 1.5212), one per feature, outputscale ~ Gamma(0.8452,
    0.3994), noise ~ LogNormal(-4.63, 0.5), each feature unused with probability 0.3; 1..`most` features, uniformly.

    Hyperparameters and the number of features are drawn for each data set; the paper, with the same distributions, lets
    a quarter of a batch share the first and a batch the second. `warp`: inputs are warped (Kumaraswamy).
    """

    features: int = 18
    most: int = 18
    unused: float = 0.3
    warp: bool = False

    def raw(self, batch: int, points: int, generator: torch.Generator) -> tuple[Tensor, Int[Tensor, " batch"], Tensor]:
        device = generator.device
        x = uniform(generator, batch, points, self.features)
        most = min(self.most, self.features)
        used = torch.randint(1, most + 1, (batch,), generator=generator, device=device)
        lengthscale = _gamma(1.2107, 1.5212, generator, batch, self.features)
        counts = torch.arange(self.features, device=device) < used[:, None]
        counts &= uniform(generator, batch, self.features) >= self.unused
        scaled = (warped(x, generator) if self.warp else x) * (counts / lengthscale.clamp(min=1e-3))[:, None]
        r = math.sqrt(3) * squared_distances(scaled, scaled).clamp(min=1e-12).sqrt()
        covariance = _gamma(0.8452, 0.3994, generator, batch, 1)[..., None] * (1 + r) * torch.exp(-r)
        noise = (-4.63 + 0.5 * noisy(generator, batch, 1)).exp()
        covariance = covariance + torch.diag_embed(noise.expand(-1, points))
        return x, used, gaussian_draw(covariance, generator)


def squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """|x - x'|^2 (..., n, m) of points (..., n, features) and (..., m, features)."""
    norms = one.square().sum(-1)[..., :, None] + other.square().sum(-1)[..., None, :]
    return (norms - 2 * one @ other.mT).clamp(min=0)


def _gamma(concentration: float, rate: float, generator: torch.Generator, *shape: int) -> Tensor:
    alpha = torch.full(shape, concentration, device=generator.device)
    return torch._standard_gamma(alpha, generator=generator) / rate
