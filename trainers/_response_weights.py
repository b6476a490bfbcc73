"""Layers that answer one row of hyperparameters for the whole batch: their weights are computed when they are read.

So every kind of linear layer and convolution can respond, whatever its forward does with its weight. For graphs, where
the examples of a batch do not go separate ways.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from archfront.trainers._response import ResponseLayer

__all__ = ["is_responding", "respond", "settle"]


def respond(layer: nn.Module, response: ResponseLayer) -> nn.Module:
    """`layer` itself, reading its weight and bias from `response`, which holds its parameters from now on."""
    layer.__class__ = _responding(type(layer), response.bias is not None)  # type: ignore[arg-type]
    for name in ("weight", "bias"):
        layer._parameters.pop(name, None)
    layer.response = response
    return layer


def is_responding(layer: nn.Module) -> bool:
    """Whether `respond` has changed this layer."""
    return hasattr(type(layer), "_plain_class")


@torch.no_grad()
def settle(layer: nn.Module, h: Tensor | None) -> nn.Module:
    """Undo `respond`: an ordinary layer with the weights that answer h (n,); None: the general ones."""
    response = layer.response
    assert isinstance(response, ResponseLayer)
    weight, bias = response.weights_at(h)
    layer.__class__ = vars(type(layer))["_plain_class"]
    del layer.response
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))
    return layer


@functools.cache
def _responding(plain: type[nn.Module], biased: bool) -> type[nn.Module]:
    members: dict[str, Any] = {"_plain_class": plain, "weight": property(lambda layer: _read(layer)[0])}
    members["bias"] = property(lambda layer: _read(layer)[1]) if biased else None
    return type(f"Responding{plain.__name__}", (plain,), members)


def _read(layer: Any) -> tuple[Tensor, Tensor | None]:
    response: ResponseLayer = layer.response
    h = response.rows.h
    return response.weights_at(None if h is None else h[0])
