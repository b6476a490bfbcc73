"""What pulls a diffusion towards better configurations: gradients of a fitted predictor, scalarised at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from archfront.predictors._predictor import Predictor
from archfront.predictors._relaxation import Relaxation
from archfront.predictors._sde import Sde
from archfront.spaces._errors import UsageError
from archfront.spaces._registry import registered_name

__all__ = ["Bound", "Desire", "Guidance", "opinions_of"]

Opinions = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t, t, estimate of x_0) to what each network of a predictor says, (networks, batch)."""


@dataclass(frozen=True)
class Desire:
    """An objective: what networks say of it, its sign (1: to be minimised), the standard deviation of its labels."""

    opinions: Opinions
    sign: float
    spread: float


@dataclass(frozen=True)
class Bound:
    """A constraint sign * value <= limit, with the standard deviation of a new measurement."""

    opinions: Opinions
    sign: float
    limit: float
    spread: float


def opinions_of(predictor: Predictor, metric: str, relaxation: Relaxation) -> Opinions:
    """By a noise-aware predictor of the noised matrix; by another differentiable one of the features of the estimated
    clean matrix, its entries cut to 0..1. Raises UsageError for a predictor that has no gradient."""
    if predictor.capabilities.noise_aware:
        return OfNoisy(predictor.noisy(metric))
    if not predictor.capabilities.differentiable:
        raise UsageError(
            f"guide={registered_name(type(predictor))!r} has no gradient to follow", "choose noise_aware, mlp or ridge"
        )
    linear, offset = (torch.from_numpy(array) for array in relaxation.features)
    return OfClean(predictor.differentiable(metric), linear, offset)


@dataclass(frozen=True)
class OfNoisy:
    """By what was noised. A class, as what travels to another process is found there by name."""

    noisy: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor, t: Tensor, clean: Tensor) -> Tensor:
        """What each network says."""
        return self.noisy(x, t)


@dataclass(frozen=True)
class OfClean:
    """By the features of what is estimated without noise."""

    mean: Callable[[Tensor], Tensor]
    linear: Tensor
    offset: Tensor

    def __call__(self, x: Tensor, t: Tensor, clean: Tensor) -> Tensor:
        """What the only network says."""
        share = ((clean + 1) / 2).clamp(0, 1).double().flatten(1)
        return self.mean(share @ self.linear + self.offset)[None].float()


@dataclass(frozen=True)
class Guidance:
    """scale * gradient by x_t of - sum_m weight_m sign_m f_m / spread_m + sum_c log Phi((limit_c - f_c) / s_c).

    `weights` (batch, objectives) are each sample's own, so that one batch covers a front. `voice`: "mean" follows the
    mean of the networks, "ucb" adds half their standard deviation in favour, "its" follows one network per sample
    (`chosen` (batch,)), an independent Thompson sample.
    """

    desires: Sequence[Desire]
    bounds: Sequence[Bound]
    weights: Float[Tensor, "batch objectives"]
    chosen: Tensor
    scale: float
    voice: str = "mean"

    def __call__(
        self, x: Float[Tensor, "batch rows columns"], t: Float[Tensor, " batch"], score: Tensor, sde: Sde
    ) -> Float[Tensor, "batch rows columns"]:
        """The gradient for x_t; `score` is the network's own, by which x_0 is estimated (Tweedie's formula)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            scale, std = sde.scale(t)[:, None, None], sde.std(t)[:, None, None]
            clean = (x + std**2 * score) / scale
            total = torch.zeros(len(x))
            for i, desire in enumerate(self.desires):
                said = self._said(-desire.sign * desire.opinions(x, t, clean) / desire.spread)
                total = total + self.weights[:, i] * said
            for bound in self.bounds:
                margin = (bound.limit - bound.sign * bound.opinions(x, t, clean).mean(dim=0)) / bound.spread
                total = total + torch.special.log_ndtr(margin)
            (slope,) = torch.autograd.grad(total.sum(), x)
        return self.scale * slope

    def _said(self, gains: Tensor) -> Tensor:
        """Of gains (networks, batch), one each (batch,)."""
        if self.voice == "its":
            return gains[self.chosen % len(gains), torch.arange(gains.shape[1])]
        mean = gains.mean(dim=0)
        return mean + 0.5 * gains.std(dim=0) if self.voice == "ucb" and len(gains) > 1 else mean
