"""The prior of Bayesian neural networks (Müller et al., 2023): deep, sparse tanh networks with random weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from archfront.spaces.inference._prior import Prior, noisy, standardised, uniform, warped

__all__ = ["BayesianNetworks"]

LAYERS, WIDTH = (8, 16), (36, 151)
"""From the first, below the second number."""
INIT_STD, SPARSITY = (0.089, 0.193), 0.145
PRE_ACTIVATION_NOISE, OUTPUT_NOISE = (3e-4, 1.4e-3), (3.6e-4, 1.3e-3)


@dataclass(frozen=True)
class BayesianNetworks(Prior):
    """Labels of networks of 8..15 tanh layers on warped inputs, each data set's brought to mean 0 and variance 1.

    One draw's data sets share depth and width; weights and all else are each data set's own. Biases are drawn as
    weights are (the paper does not state them).
    """

    features: int = 18
    most: int = 18

    def raw(self, batch: int, points: int, generator: torch.Generator) -> tuple[Tensor, Int[Tensor, " batch"], Tensor]:
        device = generator.device
        x = uniform(generator, batch, points, self.features)
        used = torch.randint(1, min(self.most, self.features) + 1, (batch,), generator=generator, device=device)
        depth, width = (int(_between(ends, uniform(generator, 1))) for ends in (LAYERS, WIDTH))
        std, before = (_between(ends, uniform(generator, batch, 1, 1)) for ends in (INIT_STD, PRE_ACTIVATION_NOISE))
        hidden = (warped(x, generator) - 0.5) * (torch.arange(self.features, device=device) < used[:, None])[:, None]
        for layer in range(depth):
            outputs = 1 if layer == depth - 1 else width
            weight = noisy(generator, batch, hidden.shape[-1], outputs) * std
            weight *= uniform(generator, *weight.shape) >= SPARSITY
            hidden = torch.baddbmm(noisy(generator, batch, 1, outputs) * std, hidden, weight)
            if layer < depth - 1:
                hidden = torch.tanh(hidden + before * noisy(generator, *hidden.shape))
        noise = _between(OUTPUT_NOISE, uniform(generator, batch, 1)) * noisy(generator, batch, points)
        return x, used, standardised(hidden[..., 0] + noise)


def _between(ends: tuple[float, float], share: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * share
