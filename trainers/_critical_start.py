"""Critical initial values, and the learning rates that go with them, for any trainer that builds a network.

The Principles of Deep Learning Theory (Roberts, Yaida, Hanin, 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from archfront.spaces._choices import Categorical
from archfront.spaces._critical_advice import critical_variances, tuned_rates
from archfront.spaces._critical_network import RandomNetwork, read_network
from archfront.spaces._critical_point import standard_deviations
from archfront.spaces._errors import UsageError
from archfront.spaces._task import Split

__all__ = ["INIT", "LR_SCALING", "initialise", "rate_scales", "read", "start"]

CRITICAL = "critical"
INIT = Categorical("init", ("default", CRITICAL), role="hyperparameter")
"""`critical` draws every weight of a linear or convolutional layer from N(0, C_W / fan_in) and every bias from
N(0, C_b), whatever the space had set."""
LR_SCALING = Categorical("lr_scaling", ("none", CRITICAL), role="hyperparameter")
"""`critical` gives each layer's weights lr lambda_W / fan_in and its biases lr lambda_b: an lr of order 1 is usual."""
ROWS = 256
"""Of the training split, evenly spaced, for the mean |x|^2/n_0 of the inputs."""


def start(
    net: nn.Module, settings: Mapping[str, Any], train: Callable[[], Split], seed: int
) -> dict[nn.Parameter, float] | None:
    """Initialise a freshly built `net` on the CPU as the settings `init` and `lr_scaling` (may be absent) say, after
    one forward pass on the prepared training split. Returns what the learning rate of each parameter is multiplied by,
    None for no scaling.

    Raises UsageError that names the setting, the layer, and why.
    """
    asked = [f"trainer.{p.name}={CRITICAL}" for p in (INIT, LR_SCALING) if settings.get(p.name) == CRITICAL]
    if not asked:
        return None
    try:
        network = read(net, train())
        if settings[INIT.name] == CRITICAL:
            initialise(net, network, seed)
        return rate_scales(net, network, settings) if settings.get(LR_SCALING.name) == CRITICAL else None
    except UsageError as error:
        raise UsageError(f"{' and '.join(asked)}: {error.message}", error.hint) from error


def read(net: nn.Module, train: Split) -> RandomNetwork:
    """`net` on the CPU as the theory's random network on a prepared training split.

    Raises UsageError that names the layer, and why, where the theory does not apply or would leave a parameter out.
    """
    inputs = train.inputs
    if train.rows is None:
        chosen = torch.linspace(0, len(train) - 1, min(ROWS, len(train))).round().long()
        inputs = tuple(x[chosen.to(x.device)] for x in inputs)
    network = read_network(net, tuple(x.cpu() for x in inputs))
    reached = {f"{layer.name}.{kind}".lstrip(".") for layer in network.layers for kind in ("weight", "bias")}
    owners: dict[int, str] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        if name not in reached:
            raise UsageError(f"parameter {name!r} is no weight or bias of a layer that runs", "its place is not known")
        if (other := owners.setdefault(id(parameter), name)) != name:
            raise UsageError(f"{other!r} and {name!r} are one tensor", "the theory has independent weights, untie them")
    return network


@torch.no_grad()
def initialise(net: nn.Module, network: RandomNetwork, seed: int) -> None:
    """New values for all weights and biases of `net`, which `network` was read of; `seed` decides them alone.

    Raises UsageError that names the layer where there are no critical variances.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer, (C_b, C_W) in zip(network.layers, critical_variances(network), strict=True):
        module: Any = net.get_submodule(layer.name)
        if C_b and not layer.bias:
            raise UsageError(f"layer {layer.name!r} has no bias", f"the critical variance of its biases is {C_b:.3g}")
        bias_std, weight_std = standard_deviations(C_b, C_W, layer.fan_in)
        _draw(module.weight, weight_std, generator)
        if layer.bias:
            _draw(module.bias, bias_std, generator)


def rate_scales(net: nn.Module, network: RandomNetwork, settings: Mapping[str, Any]) -> dict[nn.Parameter, float]:
    """What the learning rate of each parameter is multiplied by. Raises UsageError for other optimisers than gradient
    descent, with or without momentum, and for a network to which the theory gives no rates."""
    if settings["optimizer"] != "sgd":
        raise UsageError(
            f"the theory has no rates for trainer.optimizer={settings['optimizer']}", "set trainer.optimizer=sgd"
        )
    scales = {}
    for layer, (bias_rate, weight_rate) in zip(network.layers, tuned_rates(network), strict=True):
        module: Any = net.get_submodule(layer.name)
        scales[module.weight] = weight_rate
        if layer.bias:
            scales[module.bias] = bias_rate
    return scales


def _draw(values: Tensor, std: float, generator: torch.Generator) -> None:
    values.copy_(std * torch.randn(values.shape, generator=generator))
