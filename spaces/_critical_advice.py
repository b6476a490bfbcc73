"""What each layer of a network should start and be trained with at criticality (Roberts, Yaida, Hanin, 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archfront.spaces._critical_gaussian import SMALLEST
from archfront.spaces._critical_point import (
    Critical,
    critical_point,
    learning_rates,
    standard_deviations,
    suggested_width,
)
from archfront.spaces._errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archfront.spaces._critical_network import Dense, RandomNetwork

__all__ = ["Advice", "LayerAdvice", "advice", "advice_of", "critical_variances", "tuned_rates"]


@dataclass(frozen=True)
class LayerAdvice:
    """Variances and standard deviations to initialise a layer with, and what to multiply a learning rate by."""

    name: str
    C_b: float
    C_W: float
    bias_std: float
    weight_std: float
    bias_rate: float
    weight_rate: float


@dataclass(frozen=True)
class Advice:
    """For a chain of layers with one activation: the critical (C_b, C_W), `width` at which depth/width is the optimal
    r*, and what each layer should get (the first one its own C_W, so that a half-stable kernel starts at its K*)."""

    activation: str
    C_b: float
    C_W: float
    width: int
    layers: tuple[LayerAdvice, ...]


def advice_of(net: nn.Module, inputs: tuple[Tensor, ...]) -> Advice:
    """Advice for a chain of layers whose activations are the same one. Raises UsageError for skips, for several
    activations, and for one without a critical point."""
    from archfront.spaces._critical_network import read_network

    return advice(read_network(net, inputs))


def advice(network: RandomNetwork) -> Advice:
    """`advice_of` a network that was read."""
    name, critical = _shared(network)
    layers = tuple(
        LayerAdvice(layer.name, C_b, C_W, *standard_deviations(C_b, C_W, layer.fan_in), bias_rate, weight_rate)
        for layer, (C_b, C_W), (bias_rate, weight_rate) in zip(
            network.layers, critical_variances(network), tuned_rates(network), strict=True
        )
    )
    width = suggested_width(len(layers) - 1, critical.nu, network.layers[-1].outputs)
    return Advice(name, critical.C_b, critical.C_W, width, layers)


def critical_variances(network: RandomNetwork) -> list[tuple[float, float]]:
    """(C_b, C_W) of every layer, first one first.

    Of a chain: its activation's critical point; where that is half-stable, C_W of the first layer takes the data to K*.
    With skips z' = gamma z + W sigma(z), of scale-invariant activations: C_b = 0, C_W A2 = 1 - gamma^2; in a block of
    several layers the last one alone has that factor (ours: the product of all C_W A2 is then 1 - gamma^2). Raises
    UsageError that names the layer for others.
    """
    if network.skips:
        return _with_skips(network)
    _, critical = _shared(network)
    found = [(critical.C_b, critical.C_W)] * len(network.layers)
    if critical.kind == "half_stable":
        found[0] = critical.C_b, (critical.K - critical.C_b) / max(network.input_square, SMALLEST)
    return found


def tuned_rates(network: RandomNetwork) -> list[tuple[float, float]]:
    """(of biases, of weights) per layer: what gradient descent multiplies its learning rate by, lambda_b^l and
    lambda_W^l / fan_in, so that every layer contributes equally to a tangent kernel of order 1, at criticality.

    Raises UsageError that names the layer for skips, several activations, and one without a critical point.
    """
    _, critical = _shared(network)
    lambda_b, lambda_W = learning_rates(critical, len(network.layers))
    return [(float(b), float(W) / layer.fan_in) for b, W, layer in zip(lambda_b, lambda_W, network.layers, strict=True)]


def _shared(network: RandomNetwork) -> tuple[str, Critical]:
    """The activation of a chain, and its critical point."""
    for end, (start, _) in network.skips.items():
        raise UsageError(
            f"around {_named(network.layers[start:end])}: a network with skips has no critical variances and rates "
            "that its layers share",
            "see P of its features",
        )
    first: dict[str, Dense] = {}
    for layer in network.layers[1:]:
        first.setdefault(layer.activation.name, layer)
    if len(first) != 1:
        before = f", first before {_named(list(first.values()))}" if first else ""
        raise UsageError(
            f"its activations are {', '.join(first) or 'none'}{before}", "advice is for one, in all layers"
        )
    ((name, layer),) = first.items()
    critical = critical_point(layer.activation)
    if critical is None:
        raise UsageError(
            f"before layer {layer.name!r}: activation {name!r} has no critical point",
            "e.g. relu, tanh, gelu and silu have one",
        )
    return name, critical


def _with_skips(network: RandomNetwork) -> list[tuple[float, float]]:
    layers = iter(network.layers)
    found = []
    for block in network.blocks():
        around = [next(layers) for _ in block.layers]
        if block.gamma**2 >= 1:
            raise UsageError(
                f"the skip around {_named(around)} has gamma {block.gamma:g}",
                "C_W A2 = 1 - gamma^2 leaves no variance: gamma below 1 has critical variances",
            )
        for layer in around:
            activation = layer.activation
            critical = critical_point(activation)
            if critical is None or critical.kind != "scale_invariant":
                raise UsageError(
                    f"before layer {layer.name!r}: activation {activation.name!r} in a network with skips has no "
                    "critical variances",
                    "scale-invariant ones have, e.g. relu",
                )
            kept = 1 - block.gamma**2 if layer is around[-1] else 1.0
            found.append((0.0, kept * critical.C_W))
    return found


def _named(layers: Sequence[Dense]) -> str:
    return ", ".join(repr(layer.name) for layer in layers)
