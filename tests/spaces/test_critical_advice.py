"""Critical variances and tuned rates of networks that the reader reads, and of which there are none."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces._critical_advice import advice_of, critical_variances, tuned_rates
from archfront.spaces._critical_flow import Flow
from archfront.spaces._critical_gaussian import ACTIVATIONS
from archfront.spaces._critical_network import RandomNetwork, read_network
from archfront.spaces._critical_point import critical_point, learning_rates
from archfront.spaces._errors import UsageError
from tests.spaces.critical_nets import MODULES, Activated, Chain, Residual, initialised, inputs_of


def redrawn(net: nn.Module, stds: Sequence[tuple[str, float, float]], x: tuple[Tensor, ...]) -> Flow:
    """Through `net` with other standard deviations (of biases, of weights) by name of layer."""
    g = torch.Generator().manual_seed(2)
    for name, bias_std, weight_std in stds:
        layer: Any = net.get_submodule(name)
        nn.init.normal_(layer.weight, std=weight_std, generator=g)
        nn.init.normal_(layer.bias, std=bias_std, generator=g)
    return read_network(net, x).flow()


def test_advice_makes_a_network_critical() -> None:
    for name in ("relu", "tanh", "gelu"):
        net = initialised(name, 8, 300, 0.3, 1.0)
        advice = advice_of(net, inputs_of(6))
        assert advice.activation == name
        states = redrawn(net, [(layer.name, layer.bias_std, layer.weight_std) for layer in advice.layers], inputs_of(6))
        lost = np.log(1 - 1 / (1 + np.arange(1, 9))).sum() if name == "tanh" else 0  # chi_perp = 1 - 1/l
        assert np.log(states.chi_perp[1:]).sum() == pytest.approx(lost, abs=0.7)
        if name == "gelu":
            assert states.kernel[-1] == pytest.approx(3.561552813, rel=0.2)


def test_advice_that_there_is_not() -> None:
    mixed = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    with pytest.raises(UsageError, match="activations are relu, tanh, first before '2', '4'"):
        advice_of(mixed, inputs_of(6))
    with pytest.raises(UsageError, match="activations are none"):
        advice_of(nn.Sequential(nn.Linear(6, 6)), inputs_of(6))
    with pytest.raises(UsageError, match="before layer '2': activation 'sigmoid' has no critical point"):
        advice_of(nn.Sequential(nn.Linear(6, 6), nn.Sigmoid(), nn.Linear(6, 6)), inputs_of(6))
    with pytest.raises(UsageError, match=r"around 'inner.0', 'inner.1': .* skips has no critical variances"):
        advice_of(Residual(), inputs_of(9))


@pytest.mark.parametrize("name", [name for name, one in ACTIVATIONS.items() if critical_point(one) is not None])
def test_every_critical_activation(name: str) -> None:
    network = read_network(Chain(MODULES[name]), inputs_of(9))
    critical = critical_point(ACTIVATIONS[name])
    assert critical is not None
    first, *rest = critical_variances(network)
    assert rest == [(critical.C_b, critical.C_W)] * 2
    if critical.kind == "half_stable":
        assert first[0] + first[1] * network.input_square == pytest.approx(critical.K)
    else:
        assert first == rest[0]
    lambda_b, lambda_W = learning_rates(critical, 3)
    assert tuned_rates(network) == [(b, pytest.approx(W / 9)) for b, W in zip(lambda_b, lambda_W, strict=True)]


# -- skips


class Branches(Residual):
    """Two layers with a ReLU between them in each branch."""

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.first(x)
        for one, two in zip(self.inner[::2], self.inner[1::2], strict=True):
            z = self.gamma * z + two(torch.relu(one(z)))
        return self.last(z)


def read(net: nn.Module) -> RandomNetwork:
    return read_network(net, inputs_of(9))


def test_scale_invariant_skips() -> None:
    """C_W A2 = 1 - gamma^2."""
    C_W = 2 * (1 - 0.36)
    assert critical_variances(read(Activated(0.6, torch.relu))) == [
        (0, pytest.approx(value)) for value in (1, *[C_W] * 4, 2)
    ]
    leaky = critical_variances(read(Activated(0.6, lambda z: functional.leaky_relu(z, 0.2))))
    assert leaky[1] == (0, pytest.approx(0.64 * 2 / 1.04))
    one, two = 1.0, 2 * (1 - 0.49)
    assert critical_variances(read(Branches(0.7))) == [
        (0, pytest.approx(value)) for value in (1, one, two, one, two, 1)
    ]


def test_skips_at_criticality_keep_the_kernel() -> None:
    net = Activated(0.6, torch.relu, width=300, blocks=12)
    network = read(net)
    stds = [
        (layer.name, 0.0, sqrt(C_W / layer.fan_in))
        for layer, (_, C_W) in zip(network.layers, critical_variances(network), strict=True)
    ]
    states = redrawn(net, stds, inputs_of(9))
    assert states.kernel[1:] == pytest.approx(np.full(14, states.kernel[1]), rel=0.15)
    assert states.chi_perp[1:] == pytest.approx(np.ones(13), abs=0.03)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Activated(1.0, torch.relu), "skip around 'inner.0' has gamma 1"),
        (Residual(0.5), "before layer 'inner.1': activation 'tanh' in a network with skips"),
    ],
)
def test_skips_without_critical_variances(net: nn.Module, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        critical_variances(read(net))


def test_no_rates_with_skips() -> None:
    with pytest.raises(UsageError, match=r"around 'inner.0': a network with skips"):
        tuned_rates(read(Activated(0.6, torch.relu)))
