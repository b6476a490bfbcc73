"""Reads a module as the theory's random network: linear layers, what stands between them, their initial variances."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, pi, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from archfront.spaces._critical_flow import Block, Flow, Layer, flow
from archfront.spaces._critical_gaussian import ACTIVATIONS, Activation
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

__all__ = ["Dense", "RandomNetwork", "read_network"]

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
)
DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NOISE_STDS = (2.0, 16.0)
"""Layers' outputs are replaced by noise, row after row of these sizes: it must show the middle of every activation and
reach its ends, to tell ReLU6 from ReLU."""
COMPARED = 8
"""Rows on which it is decided what stands between two layers."""
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Dense:
    """A linear or convolutional layer as it was initialised, and the activation of its input.

    `C_W` is the weights' mean square times `fan_in` (c_in k^2 / groups), `C_b` the mean square of the biases: not the
    variances about their means, for a shared mean is part of E z^2.
    """

    name: str
    activation: Activation
    C_b: float
    C_W: float
    fan_in: int
    outputs: int
    bias: bool


@dataclass(frozen=True)
class RandomNetwork:
    """`input_square`: mean |x|^2/n_0 at the first layer. `skips`: i -> (j, gamma) where state i, the input of layer i
    before its activation, is the output of layer i - 1 and gamma times state j. State len(layers) is the output."""

    layers: tuple[Dense, ...]
    input_square: float
    skips: dict[int, tuple[int, float]]

    def blocks(self) -> list[Block]:
        """For `flow` from the data on; learning rates are those of a trainer with one for all: lambda_b = 1, lambda_W =
        fan_in. Raises UsageError for skips within skips."""
        found: list[Block] = []
        at = len(self.layers)
        while at:
            start, gamma = self.skips.get(at, (at - 1, 0.0))
            if any(between in self.skips for between in range(start + 1, at)):
                raise UsageError(
                    f"skips cross or nest at layer {self.layers[start].name!r}",
                    "one skip after the other is understood",
                )
            found.append(Block(tuple(self._layer(i) for i in range(start, at)), gamma))
            at = start
        return found[::-1]

    def flow(self) -> Flow:
        """From the data to the output."""
        return flow(self.input_square, self.blocks())

    def _layer(self, i: int) -> Layer:
        dense = self.layers[i]
        fan_in = float(dense.fan_in) if i else inf  # the data are no random draw
        return Layer(dense.activation, dense.C_b, dense.C_W, fan_in, float(dense.bias), float(dense.fan_in))


def read_network(net: nn.Module, inputs: tuple[Tensor, ...]) -> RandomNetwork:
    """A copy of `net` runs once in eval mode on `inputs` (rows, ...); every layer's output is replaced by noise.

    So activations and skips are recognised by what they compute, whether modules or functions. Raises UsageError that
    names the layer where the theory does not apply, or the reader does not understand.
    """
    net = copy.deepcopy(net).double().eval()
    seen = _Seen(_dense_layers(net))
    with torch.no_grad():
        output = seen.run(net, tuple(x.double() if x.is_floating_point() else x for x in inputs))
    if not seen.names:
        raise UsageError("no linear or convolutional layer runs", "there is nothing to tell")
    layers: list[Dense] = []
    skips: dict[int, tuple[int, float]] = {}
    states = [seen.inputs[0]]
    for i, name in enumerate([*seen.names, "the output"]):
        activation = ACTIVATIONS["linear"]
        if i:
            target = seen.inputs[i] if i < len(seen.names) else _rows(output)
            link = _link(seen.outputs[i - 1], target, states)
            if link is None:
                raise UsageError(
                    f"what is between {seen.names[i - 1]!r} and {name!r} is no known activation, flattening or skip",
                    "a chain of linear or convolutional layers is understood",
                )
            activation, start, gamma, state = link
            states.append(state)
            if start is not None:
                skips[i] = start, gamma
        if i < len(seen.names):
            layers.append(_dense(name, seen.modules[name], activation))
    return RandomNetwork(tuple(layers), seen.input_square, skips)


class _Seen:
    """What happened in a run: layers in their order, their first rows of inputs and of noise (rows, numbers)."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules, self.names = modules, list[str]()
        self.inputs, self.outputs = list[Floats](), list[Floats]()
        self.input_square = 0.0
        self._noise = torch.Generator().manual_seed(0)

    def run(self, net: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        """The network's output for noisy layers."""
        handles = [module.register_forward_hook(self._hook(name)) for name, module in self.modules.items()]
        try:
            return net(*inputs)
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Any:
        def replace(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if name in self.names:
                raise UsageError(f"layer {name!r} runs twice", "the theory has independent weights in every layer")
            if not self.names:
                self.input_square = float(args[0].square().mean())
            self.names.append(name)
            noise = torch.randn(output.shape, generator=self._noise, dtype=output.dtype)
            for first, std in enumerate(NOISE_STDS):
                noise[first :: len(NOISE_STDS)] *= std
            self.inputs.append(_rows(args[0]))
            self.outputs.append(_rows(noise))
            return noise

        return replace


def _rows(values: Any) -> Floats:
    if not isinstance(values, Tensor) or values.ndim == 0:
        raise UsageError(f"the network returns a {type(values).__name__}", "one tensor with a row per sample is read")
    return np.asarray(values[:COMPARED].flatten(1).double().clone().numpy())


def _dense_layers(net: nn.Module) -> dict[str, nn.Module]:
    """By name. Raises UsageError for norms and for parameters of other modules."""
    found: dict[str, nn.Module] = {}
    for name, module in net.named_modules():
        kind = type(module).__name__
        if isinstance(module, NORMS):
            raise UsageError(
                f"layer {name!r} is a {kind}", "a norm sets the kernel, the theory's recursions do not hold"
            )
        if isinstance(module, DENSE):
            found[name] = module
        elif next(module.parameters(recurse=False), None) is not None:
            raise UsageError(f"layer {name!r} is a {kind} with parameters", "linear and convolutional ones are read")
    return found


def _dense(name: str, module: Any, activation: Activation) -> Dense:
    fan_in = module.weight[0].numel()
    bias = module.bias is not None
    return Dense(
        name,
        activation,
        C_b=float(module.bias.detach().square().mean()) if bias else 0.0,
        C_W=float(module.weight.detach().square().mean()) * fan_in,
        fan_in=fan_in,
        outputs=len(module.weight),
        bias=bias,
    )


def _link(
    source: Floats, target: Floats, states: Sequence[Floats]
) -> tuple[Activation, int | None, float, Floats] | None:
    """(activation, state that a skip starts from, its gamma, the state) such that target = activation(source + gamma
    state), or None. Gamma other than 1 is seen where the activation is the identity above 0."""
    if source.shape != target.shape:
        return None
    if (activation := _recognised(source, target)) is not None:
        return activation, None, 0.0, source
    for start, skipped in enumerate(states):
        if skipped.shape != source.shape:
            continue
        for factor in (1.0, *(_factor(source[part], skipped[part], target[part]) for part in (..., target > 0))):
            state = source + factor * skipped
            if (activation := _recognised(state, target)) is not None:
                return activation, start, factor, state
    return None


def _factor(source: Floats, skipped: Floats, target: Floats) -> float:
    """The gamma of target = source + gamma skipped, by least squares."""
    return float((target - source).ravel() @ skipped.ravel()) / max(float((skipped**2).sum()), TOLERANCE)


def _recognised(z: Floats, sigma: Floats) -> Activation | None:
    """The activation that makes `sigma` of `z`, or None."""
    if (z == 0).all():
        return None
    for activation in ACTIVATIONS.values():
        if _same(activation.function(z), sigma):
            return activation
    above, below = (_slope(z[side], sigma[side]) for side in (z > 0, z < 0))
    if above is not None and below is not None and (above or below):
        return _scaled(above, below)
    # The approximation of GELU by a tanh differs from it by less than 5e-4
    if _same(z / 2 * (1 + np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))), sigma):
        return ACTIVATIONS["gelu"]
    return None


def _slope(z: Floats, sigma: Floats) -> float | None:
    slope = float(z @ sigma) / max(float(z @ z), TOLERANCE)
    return slope if _same(slope * z, sigma) else None


def _scaled(above: float, below: float) -> Activation:
    """A scale-invariant activation by its slopes, rounded so that equal ones are equal."""
    above, below = round(above, 9), round(below, 9)
    return Activation(
        f"slopes {above:g} and {below:g}",
        lambda z: np.where(z > 0, above * z, below * z),
        lambda z: np.where(z > 0, above, below),
        kinks=(0.0,),
        slopes=(above, below),
    )


def _same(one: Floats, other: Floats) -> bool:
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE))
