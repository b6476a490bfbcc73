"""Spatial operations of a residual block: trainable convolutions, and the parameter-free layers that replace them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces._errors import UnknownNameError
from archfront.spaces.vision._choice import Chosen

__all__ = [
    "DOWN_OPS",
    "FULL_CONVOLUTIONS",
    "POST_POOL_NORMS",
    "SPATIAL_OPS",
    "ConvNorm",
    "DropPath",
    "Shift",
    "spatial_operation",
]

SPATIAL_OPS = ("conv3", "dw3", "dw5", "max3", "max5", "avg3", "shift", "identity")
DOWN_OPS = ("conv3s2", "max3s2", "avg2+conv3")
POST_POOL_NORMS = ("none", "BN", "BN+ReLU")
FULL_CONVOLUTIONS = ("conv3", "conv3s2", "avg2+conv3")
"""Operations that mix channels and may therefore change their number."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm, ReLU unless `act` is False."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1, act: bool = True
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        parts["norm"] = nn.BatchNorm2d(outputs)
        if act:
            parts["act"] = nn.ReLU(inplace=True)
        super().__init__(parts)


class Shift(nn.Module):
    """Channel c moves one pixel down, up, right, left or nowhere, by c mod 5; zeros come in. No parameter, no MAC.

    By c mod 5 rather than in five blocks: the first channels of a wide network then move as those of a narrow one do.
    """

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        out = torch.zeros_like(x)
        out[:, 0::5, 1:, :] = x[:, 0::5, :-1, :]
        out[:, 1::5, :-1, :] = x[:, 1::5, 1:, :]
        out[:, 2::5, :, 1:] = x[:, 2::5, :, :-1]
        out[:, 3::5, :, :-1] = x[:, 3::5, :, 1:]
        out[:, 4::5] = x[:, 4::5]
        return out


class DropPath(nn.Module):
    """Stochastic depth: while training, the branch (batch, ...) of a row is dropped with `rate`, the others scaled."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


def spatial_operation(kind: str, inputs: int, outputs: int, post_pool_norm: str) -> Chosen:
    """The operation `kind` of SPATIAL_OPS (stride 1) or DOWN_OPS (stride 2) under its own name.

    Only FULL_CONVOLUTIONS give `outputs` channels; the others keep `inputs`. Trainable ones end in batch norm and
    ReLU; after a pool there is neither, unless `post_pool_norm` says so.
    """
    if kind not in _OPERATIONS:
        raise UnknownNameError.of("spatial operation", kind, _OPERATIONS)
    return Chosen(kind.replace("+", "_"), _OPERATIONS[kind](inputs, outputs, post_pool_norm))


def _pooled(pool: nn.Module, channels: int, post_pool_norm: str) -> nn.Module:
    parts: OrderedDict[str, nn.Module] = OrderedDict(pool=pool)
    if post_pool_norm != "none":
        parts["norm"] = nn.BatchNorm2d(channels)
    if post_pool_norm == "BN+ReLU":
        parts["act"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)


def _halved_then_convolved(inputs: int, outputs: int) -> nn.Module:
    """ceil_mode: maps of an odd size come out as large as those of the strided shortcut."""
    pool = nn.AvgPool2d(2, 2, ceil_mode=True)
    return nn.Sequential(OrderedDict(pool=pool, body=ConvNorm(inputs, outputs, 3)))


_OPERATIONS: Mapping[str, Callable[[int, int, str], nn.Module]] = {
    "conv3": lambda inputs, outputs, _: ConvNorm(inputs, outputs, 3),
    "conv3s2": lambda inputs, outputs, _: ConvNorm(inputs, outputs, 3, stride=2),
    "avg2+conv3": lambda inputs, outputs, _: _halved_then_convolved(inputs, outputs),
    "dw3": lambda inputs, _, __: ConvNorm(inputs, inputs, 3, groups=inputs),
    "dw5": lambda inputs, _, __: ConvNorm(inputs, inputs, 5, groups=inputs),
    "max3": lambda inputs, _, norm: _pooled(nn.MaxPool2d(3, 1, 1), inputs, norm),
    "max3s2": lambda inputs, _, norm: _pooled(nn.MaxPool2d(3, 2, 1), inputs, norm),
    "max5": lambda inputs, _, norm: _pooled(nn.MaxPool2d(5, 1, 2), inputs, norm),
    "avg3": lambda inputs, _, norm: _pooled(nn.AvgPool2d(3, 1, 1), inputs, norm),
    "shift": lambda _, __, ___: Shift(),
    "identity": lambda _, __, ___: nn.Identity(),
}
"""Kind -> module of (input channels, output channels, norm after a pool)."""
