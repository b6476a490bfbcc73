"""Noising processes of score-based diffusion (Song et al., 2021): variance exploding, preserving, sub-preserving."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from archfront.spaces._errors import UnknownNameError, UsageError

__all__ = ["SDES", "Sde", "SubVp", "VarianceExploding", "VariancePreserving", "sde_of"]

Times = Float[Tensor, "*times"]


@dataclass(frozen=True)
class Sde(ABC):
    """dx = f(x, t) dt + g(t) dw for t in [smallest, 1]. All methods take times of any shape."""

    smallest: ClassVar[float]

    @abstractmethod
    def rate(self, t: Times) -> Times:
        """f(x, t) = -rate(t) x."""

    @abstractmethod
    def diffusion(self, t: Times) -> Times:
        """g(t)."""

    @abstractmethod
    def scale(self, t: Times) -> Times:
        """The marginal of x_t given x_0 has mean scale(t) x_0 ..."""

    @abstractmethod
    def std(self, t: Times) -> Times:
        """... and this standard deviation in every entry."""

    @property
    @abstractmethod
    def prior_std(self) -> float:
        """Standard deviation of x_1, from which sampling starts."""

    @abstractmethod
    def condition(self, t: Times) -> Times:
        """What networks are told of t."""

    @abstractmethod
    def discrete(self, t: Times, steps: int) -> tuple[Times, Times]:
        """(a, G) of the forward step x_(i+1) = (1 - a) x_i + G z, one of `steps`: what the reverse-diffusion predictor
        undoes."""

    def correction(self, t: Times, steps: int) -> Times:
        """alpha_t, by which a Langevin step is shortened."""
        return torch.ones_like(t)

    def noised(
        self, x: Float[Tensor, "*times rows columns"], t: Times, z: Float[Tensor, "*times rows columns"]
    ) -> Float[Tensor, "*times rows columns"]:
        """x_t for x_0 = x and standard normal z."""
        return self.scale(t)[..., None, None] * x + self.std(t)[..., None, None] * z


@dataclass(frozen=True)
class VarianceExploding(Sde):
    """f = 0, sigma_t = sigma_min (sigma_max / sigma_min)^t, g = sigma_t sqrt(2 ln(sigma_max / sigma_min))."""

    sigma_min: float = 0.1
    sigma_max: float = 5.0
    smallest: ClassVar[float] = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise UsageError(f"sigma_min={self.sigma_min} must be above 0 and below sigma_max={self.sigma_max}")

    def rate(self, t: Times) -> Times:
        return torch.zeros_like(t)

    def diffusion(self, t: Times) -> Times:
        return self.std(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))

    def scale(self, t: Times) -> Times:
        return torch.ones_like(t)

    def std(self, t: Times) -> Times:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    def condition(self, t: Times) -> Times:
        return self.std(t)

    def discrete(self, t: Times, steps: int) -> tuple[Times, Times]:
        before = torch.where(t > 1 / steps, self.std(t - 1 / steps), torch.zeros_like(t))
        return torch.zeros_like(t), (self.std(t) ** 2 - before**2).sqrt()


@dataclass(frozen=True)
class VariancePreserving(Sde):
    """f = -beta_t x / 2, g = sqrt(beta_t), beta_t = beta_min + t (beta_max - beta_min)."""

    beta_min: float = 0.1
    beta_max: float = 5.0
    smallest: ClassVar[float] = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max:
            raise UsageError(f"beta_min={self.beta_min} must be above 0 and below beta_max={self.beta_max}")

    def beta(self, t: Times) -> Times:
        """beta_t."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def rate(self, t: Times) -> Times:
        return self.beta(t) / 2

    def diffusion(self, t: Times) -> Times:
        return self.beta(t).sqrt()

    def exponent(self, t: Times) -> Times:
        """c of the marginal mean e^c x_0."""
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def scale(self, t: Times) -> Times:
        return self.exponent(t).exp()

    def std(self, t: Times) -> Times:
        return (1 - (2 * self.exponent(t)).exp()).sqrt()

    @property
    def prior_std(self) -> float:
        return 1.0

    def condition(self, t: Times) -> Times:
        return 999 * t

    def discrete(self, t: Times, steps: int) -> tuple[Times, Times]:
        beta = self.beta(t) / steps
        return 1 - (1 - beta).sqrt(), beta.sqrt()

    def correction(self, t: Times, steps: int) -> Times:
        return 1 - self.beta(t) / steps


@dataclass(frozen=True)
class SubVp(VariancePreserving):
    """As variance preserving, with a smaller variance: std = 1 - e^(2c)."""

    def diffusion(self, t: Times) -> Times:
        return (self.beta(t) * (1 - (4 * self.exponent(t)).exp())).sqrt()

    def std(self, t: Times) -> Times:
        return 1 - (2 * self.exponent(t)).exp()

    def discrete(self, t: Times, steps: int) -> tuple[Times, Times]:
        return self.rate(t) / steps, self.diffusion(t) / math.sqrt(steps)


SDES: Mapping[str, type[Sde]] = {"ve": VarianceExploding, "vp": VariancePreserving, "subvp": SubVp}


def sde_of(name: str, *, sigma_min: float = 0.1, sigma_max: float = 5.0) -> Sde:
    """The process called ve (with these ends), vp or subvp. Raises UnknownNameError, UsageError."""
    if name not in SDES:
        raise UnknownNameError.of("sde", name, SDES)
    return VarianceExploding(sigma_min, sigma_max) if name == "ve" else SDES[name]()
