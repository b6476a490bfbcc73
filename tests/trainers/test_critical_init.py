"""Networks that start and train at criticality, against the theory's numbers; and networks that are refused."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces._critical_advice import Advice, advice_of
from archfront.spaces._errors import UsageError
from archfront.spaces._search_space import SearchSpace
from archfront.spaces._task import Split
from archfront.spaces._toy import ToyImages
from archfront.trainers import Budget, Trainer, searched_space
from archfront.trainers._critical_start import initialise, read, start
from archfront.trainers._optimise import make_optimiser, set_learning_rate
from archfront.trainers._union import parse_setting
from archfront.trainers.backprop import Backprop
from archfront.trainers.self_tuning import SelfTuning
from archfront.trainers.testing import TrainerContract

MLP = spaces.load("mlp")
CRITICAL = {"trainer.init": "critical"}
TUNED = {"trainer_optimizer": "sgd", "trainer_lr": 0.5, "trainer_batch_size": 32, "trainer_lr_scaling": "critical"}


def named(values: Mapping[str, Any]) -> dict[str, Any]:
    """As a configuration names them."""
    return {name.replace("trainer_", "trainer."): value for name, value in values.items()}


def trained(space: ModelSpace = MLP, *, epochs: int = 1, seed: int = 0, **values: Any) -> Backprop:
    """Values of the space by their names, of the trainer with `trainer_`."""
    return Backprop(space, {**space.search_space.default, **named(values)}, budget=Budget(epochs), seed=seed)


def advice_for(trainer: Backprop) -> Advice:
    """By the inputs that the trainer looks at."""
    x = trainer.data("train").inputs[0]
    return advice_of(trainer.model, (x[torch.linspace(0, len(x) - 1, 256).round().long()],))


class TestCriticalBackprop(TrainerContract):
    """Both at once, over a network without norms: resume is bit-exact among others."""

    @pytest.fixture
    def trainer_class(self) -> type[Trainer]:
        return Backprop

    @pytest.fixture
    def space(self) -> ModelSpace:
        return MLP

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {**CRITICAL, **named(TUNED), "depth": 4, "width": 16, "activation": "tanh", "dropout[0]": 0.1}


class TestCriticalSelfTuning(TrainerContract):
    @pytest.fixture
    def trainer_class(self) -> type[Trainer]:
        return SelfTuning

    @pytest.fixture
    def space(self) -> ModelSpace:
        return MLP

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {**CRITICAL, "depth": 2, "width": 16, "trainer.warmup_epochs": 1, "trainer.batch_size": 128}


# -- initial values


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "silu"])
def test_variances_of_every_layer(activation: str) -> None:
    """Mean squares of n normal numbers are within 5 standard errors, sqrt(2/n) of the variance each."""
    trainer = trained(depth=20, width=100, activation=activation, trainer_init="critical")
    layers = advice_for(trainer).layers
    assert len(layers) == 21
    for layer in layers:
        module: Any = trainer.model.get_submodule(layer.name)
        for values, std in ((module.weight, layer.weight_std), (module.bias, layer.bias_std)):
            square = float(values.detach().double().square().mean())
            assert square == pytest.approx(std**2, rel=5 * sqrt(2 / values.numel()), abs=0)


def kernels(trainer: Backprop) -> list[float]:
    """Mean squares of all layers' outputs on the validation split."""
    found: list[float] = []
    layers = [m for m in trainer.model.modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_hook(lambda _, __, z: found.append(float(z.square().mean()))) for m in layers]
    trainer.model.eval()
    with torch.no_grad():
        trainer.model(*trainer.data("val").inputs)
    for handle in handles:
        handle.remove()
    return found


def test_signals_pass_thirty_layers() -> None:
    """The kernel of critical tanh falls like 1/(2 l), faster by 2^l at half of C_W; that of a ReLU stays."""
    deep: dict[str, Any] = {"depth": 30, "width": 200, "activation": "tanh"}
    detuned = {"initialisation": "scaled", "log2_C_b": -12.0}
    critical = kernels(trained(**deep, trainer_init="critical"))
    faded = kernels(trained(**deep, **detuned, log2_C_W=-1.0))
    assert critical[29] == pytest.approx(1 / 60, rel=0.5)
    assert faded[29] < 0.1 * critical[29]
    deep["activation"] = "relu"
    level = kernels(trained(**deep, trainer_init="critical"))
    grown = kernels(trained(**deep, **detuned, log2_C_W=3.0))
    assert 0.1 < level[29] / level[0] < 10
    assert grown[29] / grown[0] > 4.0**25


def test_the_seed_decides_and_generators_are_left_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (trained(depth=3, trainer_init="critical", seed=seed).model.state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    space_scaled = trained(depth=3, trainer_init="critical", initialisation="scaled").model.state_dict()
    assert all(torch.equal(one[name], space_scaled[name]) for name in one), "whatever the space had set"


@pytest.mark.parametrize("cls", [Backprop, SelfTuning])
def test_defaults_change_no_key(cls: type[Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    space = searched_space(MLP, cls)
    drawn = space.sample(np.random.default_rng(0), 5)
    new = {"trainer.init", "trainer.lr_scaling"}
    chosen = searched_space(MLP, cls, dict([parse_setting("trainer.init=critical")]))
    assert chosen.default["trainer.init"] == "critical"
    assert chosen.key(chosen.default) != space.key(space.default)
    monkeypatch.setattr(cls, "parameters", SearchSpace(*(p for p in cls.parameters if f"trainer.{p.name}" not in new)))
    before = searched_space(MLP, cls)
    assert before.sample(np.random.default_rng(0), 5) == [
        {name: value for name, value in config.items() if name not in new} for config in drawn
    ]
    assert [before.key({name: c[name] for name in before.names}) for c in drawn] == [space.key(c) for c in drawn]


def test_both_are_searched() -> None:
    settings = dict(map(parse_setting, ("trainer.init=default..critical", "trainer.lr_scaling=none..critical")))
    drawn = searched_space(MLP, Backprop, settings).sample(np.random.default_rng(0), 40)
    assert {(c["trainer.init"], c["trainer.lr_scaling"]) for c in drawn} == {
        (init, scaling) for init in ("default", "critical") for scaling in ("none", "critical")
    }


# -- refusals


def test_norms_are_refused() -> None:
    with pytest.raises(UsageError, match=r"trainer.init=critical: layer 'blocks.0.norm' is a BatchNorm2d"):
        trained(ToyImages.bind(), trainer_init="critical")
    hourglass = spaces.load("hourglass_mlp")
    with pytest.raises(UsageError, match=r"layer 'hourglass.blocks.0.norm.LN' is a LayerNorm"):
        trained(hourglass, trainer_init="critical")
    with pytest.raises(UsageError, match=r"skip around 'hourglass.blocks.0.w1', 'hourglass.blocks.0.w2' has gamma 1"):
        trained(hourglass, norm="none", act="ReLU", w_in="trained", trainer_init="critical")


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_rates_are_those_of_gradient_descent(optimizer: str) -> None:
    with pytest.raises(UsageError, match=rf"trainer.lr_scaling=critical: .* trainer.optimizer={optimizer}"):
        trained(trainer_lr_scaling="critical", trainer_optimizer=optimizer)


class Net(nn.Module):
    """A hidden layer, and what else is said."""

    def __init__(self, *, activation: nn.Module, bias: bool = True, tied: bool = False, idle: bool = False) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6, bias=bias), nn.Linear(6, 6, bias=bias)
        self.head = nn.Linear(6, 3)
        self.activation = activation
        if tied:
            self.two.weight = self.one.weight
        if idle:
            self.idle = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.activation(self.two(self.activation(self.one(x)))))
        return logits


SPLIT = Split((torch.randn(12, 6, generator=torch.Generator().manual_seed(0)),), torch.zeros(12).long())


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Net(activation=nn.ReLU(), tied=True), "'one.weight' and 'two.weight' are one tensor"),
        (Net(activation=nn.ReLU(), idle=True), "parameter 'idle.weight' is no weight or bias of a layer that runs"),
        (Net(activation=nn.GELU(), bias=False), "layer 'one' has no bias"),
        (Net(activation=nn.Sigmoid()), "before layer 'two': activation 'sigmoid' has no critical point"),
        (Net(activation=nn.Softmax(dim=1)), "what is between 'one' and 'two' is no known activation"),
        (Net(activation=nn.PReLU()), "layer 'activation' is a PReLU"),
    ],
)
def test_nothing_is_left_silently(net: nn.Module, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        start(net, {"init": "critical"}, lambda: SPLIT, 0)


def test_convolutions_and_layers_without_biases() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 200, 3, groups=2, bias=False),
        nn.Tanh(),
        nn.Conv2d(200, 30, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(120, 5),
    )
    x = torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    initialise(net, read(net, Split((x,), torch.zeros(8).long())), 0)
    for at, fan_in in ((0, 18), (2, 1800), (5, 120)):
        weight = net[at].weight.detach()  # type: ignore[union-attr, operator]
        assert float(weight.square().mean()) * fan_in == pytest.approx(1, rel=5 * sqrt(2 / weight.numel()))
    assert not net[2].bias.any()  # type: ignore[union-attr, operator]


# -- learning rates


@pytest.mark.parametrize(
    ("activation", "biases", "weights"),
    [
        ("relu", [1 / 4] * 4, [1 / 4] * 4),  # lambda = t / L
        ("gelu", [1 / 4] * 4, [1 / 4] * 4),
        ("tanh", [1, 1 / 2, 1 / 3, 1 / 4], [1] * 4),  # lambda_b = t / l, lambda_W = t
    ],
)
def test_groups_have_the_rates_of_the_formula(activation: str, biases: list[float], weights: list[float]) -> None:
    trainer = trained(
        epochs=10,
        depth=3,
        width=16,
        activation=activation,
        **TUNED,
        trainer_warmup_epochs=2,
    )
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    layers = ["blocks.0.linear", "blocks.1.linear", "blocks.2.linear", "head"]
    scales = {
        **{f"{name}.bias": scale for name, scale in zip(layers, biases, strict=True)},
        **{f"{name}.weight": s / fan_in for name, s, fan_in in zip(layers, weights, (64, 16, 16, 16), strict=True)},
    }

    def rates() -> dict[str, float]:
        groups = trainer._optimiser.param_groups
        return {names[id(group["params"][0])]: group["lr"] for group in groups}

    assert rates() == pytest.approx({name: 0.5 * scale for name, scale in scales.items()})
    last = [report.attributes["lr"] for report in trainer.run()][-1]
    set_learning_rate(trainer._optimiser, last)
    assert 0 < last < 0.5
    assert rates() == pytest.approx({name: last * scale for name, scale in scales.items()})


def test_rates_without_scales_are_one_group() -> None:
    settings = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    layer = nn.Linear(2, 2)
    optimiser = make_optimiser(layer.parameters(), settings)
    set_learning_rate(optimiser, 0.05)
    assert [group["lr"] for group in optimiser.param_groups] == [0.05]
    layer.bias.requires_grad_(False)
    scaled = make_optimiser(layer.parameters(), settings, {layer.weight: 0.5, layer.bias: 2.0})
    assert [group["lr"] for group in scaled.param_groups] == [0.05]


# -- training


def test_thirty_layers_of_tanh_learn() -> None:
    """Seed 0, width 64, 3 epochs of digits: errors .897 (torch's own values) and .297 (critical)."""
    deep: dict[str, Any] = {"depth": 30, "width": 64, "activation": "tanh", "epochs": 3}
    plain, critical = (list(trained(**deep, trainer_init=init).run())[-1] for init in ("default", "critical"))
    assert plain.metrics["error"] > 0.8
    assert critical.metrics["error"] < 0.6


# -- self-tuning


def test_self_tuning_starts_from_the_same_values() -> None:
    """Around them the response of `mode` delta starts at zero."""
    config = {**MLP.search_space.default, **CRITICAL, "trainer.mode": "delta"}
    start_values = SelfTuning(MLP, config, budget=Budget(1)).net.collapse().state_dict()
    expected = trained(trainer_init="critical").model.state_dict()
    assert all(torch.equal(start_values[name], expected[name]) for name in expected)
    toy = ToyImages.bind()
    with pytest.raises(UsageError, match=r"trainer.init=critical: layer 'blocks.0.norm' is a BatchNorm2d"):
        SelfTuning(toy, {**toy.search_space.default, **CRITICAL}, budget=Budget(1))
