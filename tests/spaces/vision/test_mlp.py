"""The plain perceptron: initialisation, noise, a user's own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from archfront import spaces
from archfront.spaces import ModelSpace, Supernet


@pytest.fixture
def space() -> ModelSpace:
    return spaces.load("mlp")


def test_the_bank_is_one_network(space: ModelSpace) -> None:
    (largest,) = space.cover()
    assert (largest["depth"], largest["width"]) == (30, 512)
    bank = Supernet(space)
    assert sum(p.numel() for p in bank.parameters()) == sum(p.numel() for p in space.build(largest).parameters())


def test_scaled_initialisation_has_the_variances_asked_for(space: ModelSpace) -> None:
    torch.manual_seed(0)
    config = {**space.search_space.default, "initialisation": "scaled", "log2_C_W": 1.5, "log2_C_b": -4.0, "width": 512}
    linears = [m for m in space.build(config).modules() if isinstance(m, nn.Linear)]
    for linear in linears:
        assert float(linear.weight.detach().var() * linear.in_features) == pytest.approx(2**1.5, rel=0.05)
    biases = torch.cat([linear.bias for linear in linears]).detach()
    assert float(biases.var()) == pytest.approx(2**-4, rel=0.1)


def test_noise_and_dropout_act_in_training_only(space: ModelSpace) -> None:
    net = space.build({**space.search_space.default, "input_noise": 0.5, "dropout[0]": 0.5})
    x = torch.rand(3, 1, 8, 8)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


def test_self_tuned_parameters_name_modules_of_the_network(space: ModelSpace) -> None:
    names = [name for name, _ in space.build(space.search_space.default).named_modules()]
    tuned = {p.self_tuned.applies_to for p in space.search_space if p.self_tuned}
    assert tuned == {"noise", "blocks.*.dropout"}
    assert {"noise", "blocks.2.dropout"} <= set(names)


def test_a_users_images_bind_another_signature(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.zeros((30, 5, 4, 3), np.uint8), y=np.arange(30) % 3)
    space = spaces.load("mlp", data=path)
    net = space.build(space.search_space.default)
    assert net(*space.prepared_example(space.search_space.default)).shape == (2, 3)
    assert space.search_space.identity == spaces.load("mlp").search_space.identity
