"""Main networks whose weights a hypernetwork generates, and the two as one network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces._mip import LEAK, HyperNetwork, MipShape, call_each, freed

__all__ = ["PREDICTED", "GeneratedNetwork", "MainNetwork", "main_network"]

PREDICTED = ("all", "body", "last", "norms")
"""Which tensors are generated: all; all but the last layer's (of a convolutional network: the convolutions'); the last
layer's; the scales and shifts of norms (FiLM), which only then stand after each hidden layer."""


class MainNetwork(nn.Module):
    """Hidden layers with leaky ReLU, for images the mean over pixels, a last layer. No batch norm: its statistics would
    mix different gamma. One call takes x (rows, inputs) or images (rows, C, H, W), and the rate of dropout, a scalar.
    """

    def __init__(self, layers: Sequence[nn.Module], norms: Sequence[nn.Module], last: nn.Linear) -> None:
        super().__init__()
        self.layers, self.norms, self.last = nn.ModuleList(layers), nn.ModuleList(norms), last

    def forward(self, x: Tensor, rate: Tensor | None = None) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if len(self.norms):
                x = self.norms[i](x)
            x = _dropped(functional.leaky_relu(x, LEAK), rate)
        output: Tensor = self.last(x.mean(dim=(2, 3)) if x.dim() == 4 else x)
        return output


def _dropped(x: Tensor, rate: Tensor | None) -> Tensor:
    """Dropout at a rate that is a tensor."""
    if rate is None:
        return x
    return x * (torch.rand_like(x) >= rate) / (1 - rate)


def main_network(inputs: Sequence[int], widths: Sequence[int], outputs: int, *, norms: bool) -> MainNetwork:
    """Of images (C, H, W): 3 x 3 convolutions of these widths; of rows (rows, inputs): linear layers."""
    image = len(inputs) == 3
    sizes = [inputs[0] if image else inputs[-1], *widths]
    layers = [nn.Conv2d(a, b, 3, padding=1) if image else nn.Linear(a, b) for a, b in pairwise(sizes)]
    return MainNetwork(layers, [nn.GroupNorm(1, width) for width in widths if norms], nn.Linear(sizes[-1], outputs))


def _generated_names(main: MainNetwork, predicted: str) -> list[str]:
    names = [name for name, _ in main.named_parameters()]
    parts = {"all": ("layers", "last"), "body": ("layers",), "last": ("last",), "norms": ("norms",)}
    return [name for name in names if name.partition(".")[0] in parts[predicted]]


class GeneratedNetwork(nn.Module):
    """gamma (batch, k) and a sample each of x -> the main network's outputs with the weights theta(gamma).

    `most_dropout`: the rate of dropout that gamma = 1 stands for, None for no dropout.
    """

    def __init__(
        self, main: MainNetwork, inputs: Sequence[int], shape: MipShape, predicted: str, most_dropout: float | None
    ) -> None:
        super().__init__()
        names = _generated_names(main, predicted)
        parameters = dict(main.named_parameters())
        outputs = {name: tuple(parameters[name].shape) for name in names}
        self.main = freed(main, names)
        self.hyper = HyperNetwork({"gamma": inputs}, outputs, shape)
        self.most_dropout = most_dropout

    def forward(self, gamma: Float[Tensor, "batch inputs"], x: Float[Tensor, "batch ..."]) -> Tensor:
        theta = self.hyper.generated(gamma)
        image = x.dim() == 4
        rows = x[:, None] if image else x  # a sample of the image tasks is one row
        if self.training and self.most_dropout is not None:
            output = call_each(self.main, theta, rows, self.most_dropout * gamma[:, 0])
        else:
            output = call_each(self.main, theta, rows)
        return output[:, 0] if image else output
