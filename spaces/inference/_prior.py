"""What every prior over data sets shares: how features are encoded, how values of a Gaussian process are drawn."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Prior", "encoded", "gaussian_draw", "noisy", "standardised", "uniform", "warped"]

FIRST_JITTER = 1e-5
"""Share of the largest variance that is added to a covariance's diagonal, times ten until it can be factored."""


@dataclass(frozen=True)
class Prior(ABC):
    """A distribution over data sets with at most `features` columns.

    Fewer columns are padded with zeros and scaled by (features / used) ** `power`: the paper's power is 1; with 1/2 the
    norm of a row does not depend on how many are used.
    """

    features: int = 1
    power: float = 1.0

    def draw(
        self, batch: int, points: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch points features"], Float[Tensor, "batch points"]]:
        """Encoded inputs and labels of `batch` data sets, on the generator's device."""
        x, used, y = self.raw(batch, points, generator)
        return encoded(x, used, self.power), y

    @abstractmethod
    def raw(
        self, batch: int, points: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch points features"], Int[Tensor, " batch"], Float[Tensor, "batch points"]]:
        """Inputs in 0..1, how many of their columns are used (the first ones; the others are ignored), labels."""


def encoded(
    x: Float[Tensor, "*batch points features"], used: Int[Tensor, "*batch"], power: float
) -> Float[Tensor, "*batch points features"]:
    """Columns in 0..1 at mean 0 and variance 1 of a uniform one, then scaled, then zero beyond the used ones."""
    features = x.shape[-1]
    here = torch.arange(features, device=x.device) < used[..., None]
    scale = (features / used.clamp(min=1).to(x.dtype)) ** power
    return (x - 0.5) * math.sqrt(12) * (here * scale[..., None])[..., None, :]


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """U[0, 1] on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)


def noisy(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def standardised(y: Float[Tensor, "batch points"]) -> Float[Tensor, "batch points"]:
    """Each data set at mean 0 and standard deviation 1."""
    centred = y - y.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)


def warped(x: Float[Tensor, "batch points features"], generator: torch.Generator) -> Tensor:
    """Kumaraswamy's 1 - (1 - x^a)^b, a and b ~ LogNormal(0, 0.75) of each column."""
    a, b = (0.75 * noisy(generator, 2, len(x), 1, x.shape[-1])).exp()
    powered: Tensor = (1 - x.clamp(1e-6, 1 - 1e-6) ** a) ** b
    return 1 - powered


def gaussian_draw(
    covariance: Float[Tensor, "batch points points"], generator: torch.Generator
) -> Float[Tensor, "batch points"]:
    """A draw from N(0, covariance) of each data set, in single precision: the diagonal grows until it factors."""
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    largest = diagonal.amax(1, keepdim=True)
    jitter = FIRST_JITTER
    while True:
        tried = covariance + torch.diag_embed(jitter * largest.expand_as(diagonal))
        lower, failed = torch.linalg.cholesky_ex(tried)
        if jitter >= 1 or not bool((failed > 0).any()):
            break
        jitter *= 10
    noise = noisy(generator, *diagonal.shape)
    drawn: Tensor = (lower @ noise[..., None])[..., 0]
    return drawn
