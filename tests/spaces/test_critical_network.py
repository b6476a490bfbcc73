"""What the reader makes of a network, and its refusals of those that it cannot read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces._critical_gaussian import ACTIVATIONS
from archfront.spaces._critical_network import read_network
from archfront.spaces._errors import UsageError
from tests.spaces.critical_nets import MODULES, Activated, Chain, Residual, inputs_of, seeded


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_recognised_by_what_it_computes(name: str) -> None:
    assert set(MODULES) == set(ACTIVATIONS)
    found = read_network(Chain(MODULES[name]), inputs_of(9))
    assert [layer.activation.name for layer in found.layers] == ["linear", name, name]
    assert not found.skips


def test_functions_of_activations() -> None:
    tanh = read_network(Chain(lambda x: functional.gelu(x, approximate="tanh")), inputs_of(9))
    assert tanh.layers[1].activation.name == "gelu"
    leaky = read_network(Chain(lambda x: functional.leaky_relu(2 * x, 0.2)), inputs_of(9))
    assert leaky.layers[1].activation.slopes == (2.0, 0.4)
    for function in (functional.relu6, functional.hardsigmoid, lambda x: functional.elu(x, 0.5), torch.square):
        with pytest.raises(UsageError, match=r"between 'layers.0' and 'layers.1' is no known activation"):
            read_network(Chain(function), inputs_of(9))


def test_layers_are_measured() -> None:
    net = seeded(
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(96, 5, bias=False))
    )
    x = inputs_of(4, 6, 6)
    found = read_network(net, x)
    conv, head = found.layers
    assert (conv.name, conv.fan_in, conv.outputs, head.fan_in, head.outputs) == ("0", 18, 6, 96, 5)
    assert pytest.approx(18 * float(net[0].weight.detach().square().mean())) == conv.C_W
    assert conv.C_b == pytest.approx(float(net[0].bias.detach().square().mean()))
    assert (head.C_b, head.bias) == (0, False)
    assert found.input_square == pytest.approx(float(x[0].square().mean()))


def test_skips_are_recognised() -> None:
    found = read_network(Residual(0.7), inputs_of(9))
    assert found.skips == {3: (1, pytest.approx(0.7)), 5: (3, pytest.approx(0.7))}
    assert [len(block.layers) for block in found.blocks()] == [1, 2, 2, 1]
    assert [layer.activation.name for layer in found.layers] == ["linear", "linear", "tanh", "linear", "tanh", "linear"]


@pytest.mark.parametrize("gamma", [0.6, -0.5, 1.0])
@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_skips_before_a_scale_invariant_activation(gamma: float, name: str) -> None:
    found = read_network(Activated(gamma, getattr(functional, name)), inputs_of(9))
    assert found.skips == {i: (i - 1, pytest.approx(gamma)) for i in range(2, 6)}
    assert [layer.activation.name for layer in found.layers] == ["linear", *[name] * 5]


def test_skips_before_other_activations() -> None:
    assert len(read_network(Activated(1.0, torch.tanh), inputs_of(9)).skips) == 4
    with pytest.raises(UsageError, match=r"between 'inner.0' and 'inner.1' is no known activation, flattening or skip"):
        read_network(Activated(0.5, torch.tanh), inputs_of(9))


class Nested(Residual):
    """A skip around both blocks."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        y = z + self.inner[1](self.inner[0](z).tanh())
        return self.last(z + self.inner[3](self.inner[2](y).tanh()))


class Twice(Residual):
    """One layer two times."""

    def forward(self, x: Tensor) -> Tensor:
        return self.first(self.first(x).tanh())


class Pair(Residual):
    """Two outputs."""

    def forward(self, x: Tensor) -> Any:
        return self.first(x), self.first.weight


class Normalised(Residual):
    """A norm as a function."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.layer_norm(self.first(x), (9,)))


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Nested(), "cross or nest"),
        (Twice(), "'first' runs twice"),
        (Pair(), "returns a tuple"),
        (Normalised(), "between 'first' and 'last'"),
        (nn.Sequential(nn.Linear(9, 9), nn.BatchNorm1d(9)), "layer '1' is a BatchNorm1d"),
        (nn.Sequential(nn.Linear(9, 9), nn.RMSNorm(9)), "layer '1' is a RMSNorm"),
        (nn.Sequential(nn.Linear(9, 9), nn.PReLU()), "'1' is a PReLU with parameters"),
        (nn.Sequential(nn.Linear(9, 9), nn.Softmax(dim=1)), "between '0' and 'the output'"),
        (nn.Identity(), "no linear or convolutional layer"),
    ],
)
def test_refusals(net: nn.Module, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_network(net, inputs_of(9)).flow()


def test_reading_leaves_the_network_alone() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    output = net(*inputs_of(6))
    read_network(net, inputs_of(6)).flow()
    assert net.training
    assert net[0].weight.dtype == torch.float32
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(net(*inputs_of(6)), output)
