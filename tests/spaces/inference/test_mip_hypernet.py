"""Hypernetworks as a space: the contract, its tasks, and what the paper says of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from archfront import spaces
from archfront.spaces import ModelSpace, Supernet, analytic_costs
from archfront.spaces._errors import DataError
from archfront.spaces.inference._mip_network import MainNetwork, main_network
from archfront.spaces.inference._mip_tasks import DISTRIBUTIONS, IMAGE_GRID, DigitsFamily, scaled, sine
from archfront.spaces.inference.mip_hypernet import scores_by_gamma
from archfront.spaces.testing import ModelSpaceContract
from archfront.trainers import Budget, load


class TestMipHypernet(ModelSpaceContract):
    @pytest.fixture(params=["sine_family", "digits_dropout", "scale_digits_beta"])
    def space(self, request: pytest.FixtureRequest) -> ModelSpace:
        return spaces.load("mip_hypernet", task=request.param)


SINE = spaces.load("mip_hypernet")


def built(space: ModelSpace, **changes: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return space.build(space.search_space.canonicalise({**space.search_space.default, **changes}))


# -- tasks


def test_the_sine_family() -> None:
    task = SINE.task()
    val = task.split("val")
    gamma, x = val.inputs
    assert torch.allclose(val.target, torch.sin(2 * torch.pi * (x + gamma[:, None])) + gamma[:, None] * x)
    assert float(gamma.min()) == 0
    assert float(gamma.max()) == 1
    train = task.split("train")
    (drawn, points), target = task.corrupt(train.inputs, train.target, torch.Generator().manual_seed(1))
    assert torch.equal(points, train.inputs[1])
    assert not torch.equal(drawn, train.inputs[0])
    assert torch.equal(target, sine(points, drawn))
    perfect = task.score(val.target, val.target)
    assert perfect == {"mse": 0, "mse_worst": 0}
    flat = task.reference("mse")
    assert flat is not None
    assert flat < (task.reference("mse_worst") or 0)
    with pytest.raises(DataError, match="reads no"):
        spaces.load("mip_hypernet", data=Path(__file__))


def test_distributions_of_gamma() -> None:
    u = torch.linspace(0, 1, 100_001)
    drawn = {name: quantile(u) for name, quantile in DISTRIBUTIONS.items()}
    for gamma in drawn.values():
        assert gamma.min() >= 0
        assert gamma.max() <= 1
        assert (gamma.diff() >= 0).all()
    assert float(drawn["_log_uniform"].median()) == pytest.approx(0.1, rel=1e-3)
    assert float(drawn["_beta"].var()) == pytest.approx(0.05, rel=1e-3)  # Beta(2, 2)
    assert float(drawn["_beta"].mean()) == pytest.approx(0.5)


def test_digits_shrink_about_the_centre() -> None:
    x = torch.rand(2, 1, 8, 8)
    assert torch.allclose(scaled(x, torch.ones(2, 1)), x, atol=1e-6)
    half = scaled(x, torch.zeros(2, 1))
    assert not half[..., :2, :].any()
    assert torch.allclose(half[..., 2:6, 2:6], nn.functional.avg_pool2d(x, 2), atol=1e-6)


@pytest.mark.parametrize("name", ["digits_dropout", "scale_digits"])
def test_digits_come_with_every_gamma(name: str) -> None:
    task = spaces.load("mip_hypernet", task=name).task()
    assert isinstance(task, DigitsFamily)
    gamma, x = task.split("val").inputs
    assert torch.equal(gamma.unique(), torch.tensor(IMAGE_GRID))  # type: ignore[no-untyped-call]
    plain = task.images.split("val").inputs[0]
    assert torch.equal(x[:360], plain) == task.dropout, "of size 1/2, unless gamma is a rate"
    assert torch.allclose(x[-360:], plain, atol=1e-6)
    train = task.split("train")
    (drawn, seen), target = task.corrupt(train.inputs, train.target, torch.Generator().manual_seed(0))
    assert len(drawn.unique()) > 900  # type: ignore[no-untyped-call]
    assert torch.equal(target, train.target)
    assert torch.equal(seen, train.inputs[1]) == task.dropout


# -- networks


def test_dropout_at_the_rate_of_gamma() -> None:
    space = spaces.load("mip_hypernet", task="digits_dropout")
    net = built(space)
    x = space.task().split("val").inputs[1][:1].repeat(200, 1, 1, 1)
    low, high = torch.full((200, 1), 0.1), torch.ones(200, 1)
    with torch.no_grad():
        net.eval()
        assert torch.equal(net(low, x), net(low, x))
        spread = {g: float(net.train()(gamma, x).std(0).mean()) for g, gamma in (("low", low), ("high", high))}
        assert float(net(torch.zeros(200, 1), x).std(0).max()) < 1e-5
    assert spread["high"] > 2 * spread["low"] > 0


@pytest.mark.parametrize(("predicted", "own"), [("all", 0), ("body", 2), ("last", 4), ("norms", 6)])
def test_which_layers_are_generated(predicted: str, own: int) -> None:
    net = built(SINE, predicted=predicted)
    kept = [name for name, _ in net.named_parameters() if name.startswith("main.")]
    assert len(kept) == own
    assert any(name.startswith("main.last") for name in kept) == (predicted in ("body", "norms"))
    generated = {name for name, _ in net.named_parameters() if name.startswith("hyper.head")}
    assert len(generated) == {"all": 6, "body": 4, "last": 2, "norms": 4}[predicted]


def test_hypernetwork_dominates_the_parameters() -> None:
    """omega: 2 * 16 + 16, 16 * 128 + 128, 128 P; theta0: P, of the 1-32-32-1 main network."""
    weights = 64 + 32 * 33 + 33
    expected = 3 * 16 + 17 * 128 + 129 * weights
    assert analytic_costs(SINE, SINE.search_space.default)["params_m"] * 1e6 == pytest.approx(expected)


def test_a_narrow_main_network_takes_a_prefix_of_theta() -> None:
    bank = Supernet(SINE)
    config = SINE.search_space.default
    whole, narrow = bank.extract(config), bank.extract({**config, "main_width": 0.5})
    g = torch.rand(3, 1)
    with torch.no_grad():
        theta, part = whole.hyper.generated(g), narrow.hyper.generated(g)  # type: ignore[operator, union-attr]
    for name, tensor in part.items():
        corner = theta[name][tuple(slice(n) for n in tensor.shape)]
        assert torch.allclose(tensor, corner, atol=1e-6), name


def test_a_frozen_theta0_is_no_parameter() -> None:
    net = built(SINE, theta0="frozen")
    assert any(name.startswith("hyper.base.frozen") for name, _ in net.named_buffers())
    assert not any("base" in name for name, _ in net.named_parameters())
    main = main_network((64, 1), (32, 32), 1, norms=False)
    assert isinstance(main, MainNetwork)
    net.hyper.take(dict(main.named_parameters()))  # type: ignore[operator, union-attr]
    assert torch.equal(net.hyper.free("last.weight"), main.last.weight)  # type: ignore[operator, union-attr]


def test_the_reasons_against_exports_hold() -> None:
    from torch.export import Dim

    net = built(SINE).eval()
    batch = Dim("batch", min=1, max=64)
    inputs = tuple(t.clamp(0, 1) for t in SINE.signature.random_input(3))
    assert set(SINE.exports) == {"torch-export", "onnx"}
    with pytest.raises(Exception, match="specialized it to be a constant"):
        torch.export.export(net, inputs, dynamic_shapes=({0: batch}, {0: batch}))


# -- training


def trained(epochs: int, seed: int = 0, **changes: Any) -> dict[str, float]:
    cls = load("backprop")
    from archfront.trainers._union import searched_space

    whole = {**searched_space(SINE, cls).default, **changes}
    trainer = cls(SINE, whole, budget=Budget(epochs), seed=seed)
    *_, last = trainer.run()
    by_gamma = scores_by_gamma(trainer.export(), SINE.task())
    assert len(by_gamma) == 64
    assert max(found["mse"] for found in by_gamma.values()) == pytest.approx(last.metrics["mse_worst"], rel=1e-4)
    return dict(last.metrics)


def test_direction_with_momentum() -> None:
    """SGD with momentum: the magnitude-invariant network is ahead at the same number of steps, for every seed."""
    sgd = {"trainer.optimizer": "sgd", "trainer.lr": 0.003}
    ours = [trained(4, seed, **sgd)["mse"] for seed in range(2)]
    default = [trained(4, seed, encoding="none", residual=False, **sgd)["mse"] for seed in range(2)]
    assert max(ours) < 0.5 * min(default)
