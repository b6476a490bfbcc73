"""Networks that the theory of criticality reads."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def inputs_of(*shape: int) -> tuple[Tensor, ...]:
    return (torch.randn(12, *shape, generator=torch.Generator().manual_seed(0)),)


MODULES: dict[str, nn.Module | Callable[[Tensor], Tensor]] = {
    "linear": nn.Identity(),
    "relu": nn.ReLU(inplace=True),
    "leaky_relu": nn.LeakyReLU(),
    "tanh": nn.Tanh(),
    "sin": torch.sin,
    "erf": torch.erf,
    "hardtanh": nn.Hardtanh(),
    "elu": nn.ELU(),
    "softsign": nn.Softsign(),
    "selu": nn.SELU(),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "hard_swish": nn.Hardswish(),
    "sigmoid": nn.Sigmoid(),
    "softplus": nn.Softplus(),
}


class Chain(nn.Module):
    """Three layers, a function between them."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(9, 9) for _ in range(3))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = self.layers
        x = first(x)
        for layer in rest:
            x = layer(self.function(x))
        return x


class Residual(nn.Module):
    """z + W2 tanh(W1 z), twice, between two layers; or z' = gamma z + W tanh(z)."""

    def __init__(self, gamma: float = 1.0) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(9, 9), nn.Linear(9, 4)
        self.inner = nn.ModuleList(nn.Linear(9, 9) for _ in range(4))
        self.gamma = gamma

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        for one, two in zip(self.inner[::2], self.inner[1::2], strict=True):
            z = self.gamma * z + two(one(z).tanh())
        return self.last(z)


class Activated(nn.Module):
    """z' = gamma z + W f(z), the book's form, between two layers; f before the last one too."""

    def __init__(self, gamma: float, function: Callable[[Tensor], Tensor], width: int = 9, blocks: int = 4) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(9, width), nn.Linear(width, 4)
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.gamma, self.function = gamma, function

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.first(x)
        for layer in self.inner:
            z = self.gamma * z + layer(self.function(z))
        logits: Tensor = self.last(self.function(z))
        return logits


def initialised(name: str, depth: int, width: int, C_b: float, C_W: float) -> nn.Module:
    """Of torch modules: depth hidden layers and a head of 10; mean squares are exactly as asked."""
    net = seeded(
        lambda: nn.Sequential(
            *(part for i in range(depth) for part in (nn.Linear(width if i else 6, width), MODULES[name])),
            nn.Linear(width, 10),
        )
    )
    g = torch.Generator().manual_seed(1)
    for layer in net:
        if isinstance(layer, nn.Linear):
            for values, square in ((layer.weight, C_W / layer.in_features), (layer.bias, C_b)):
                nn.init.normal_(values, generator=g)
                values.data *= sqrt(square) / float(values.detach().square().mean().sqrt())
    return net
