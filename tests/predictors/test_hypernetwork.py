"""Weights of sub-networks from their configurations, and what the predictor refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archfront import predictors, spaces
from archfront.predictors import Context, Predictor
from archfront.predictors.hypernetwork import Generator, Hypernetwork
from archfront.predictors.testing import ADDITIVE, PredictorContract
from archfront.spaces import Integer, ModelSpace, SearchSpace, TableSpace
from archfront.spaces._errors import TrainingError, UsageError
from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Signature, Task, TensorSpec
from archfront.spaces._toy import ToyImages

TOY = ToyImages.bind()
CONFIGS = TOY.search_space.sample(np.random.default_rng(0), 6)


class TestHypernetwork(PredictorContract):
    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return Hypernetwork

    @pytest.fixture
    def context(self) -> Context:
        return Context(TOY, TOY.task())

    @pytest.fixture
    def space(self) -> SearchSpace:
        return TOY.search_space


def on(space: ModelSpace, **parameters: Any) -> Hypernetwork:
    return Hypernetwork(space.search_space, Context(space, space.task()), **{"steps": 3, "batch": 16, **parameters})


def test_it_is_registered() -> None:
    assert predictors.load("hypernetwork") is Hypernetwork
    assert on(TOY).metrics == ["error", "nll"]


def test_without_training_the_delta_is_small_and_theta0_is_the_bank() -> None:
    made = Generator(TOY, TOY.task(), 0, head="low-rank", rank=4)
    for config in CONFIGS:
        net, sliced = made.network(config), dict(made.bank.extract(config).named_parameters())
        assert [name for name, _ in net.named_parameters()] == list(sliced)
        for name, tensor in net.named_parameters():
            assert tensor.shape == sliced[name].shape
            assert not torch.equal(tensor, sliced[name])
            assert (tensor - sliced[name]).abs().mean() < 2 * made.hyper.shape.gain / sliced[name].numel() ** 0.5


class Ruled(ToyImages):
    """The same slices, by a rule."""

    def slice_rule(
        self, name: str, tensor: Tensor, shape: tuple[int, ...], config: Any, bank_only: Any
    ) -> Tensor | None:
        return tensor[tuple(slice(n) for n in shape)] if name == "head.weight" else None


def test_a_rule_for_slices_is_kept() -> None:
    one, other = on(TOY), on(Ruled.bind())
    assert one.predict(CONFIGS)["nll"].mean == pytest.approx(other.predict(CONFIGS)["nll"].mean, rel=1e-4)


@pytest.mark.parametrize("head", ["low-rank", "chunked", "full"])
def test_it_learns(head: str) -> None:
    """After a short training the generated networks know the stripes, small and large ones."""
    before = on(TOY, steps=0, head=head).predict(CONFIGS)["nll"].mean
    predictor = on(TOY, steps=120, batch=48, lr=1e-2, head=head)
    after = predictor.predict(CONFIGS)
    assert (after["nll"].mean < before).all()
    assert after["error"].mean.mean() < 0.45  # of guessing: 0.67


def test_configurations_differ_by_more_than_their_slices() -> None:
    """Dropout is no slice: the hypernetwork alone sees it."""
    made = on(TOY, steps=20, lr=1e-2).generator_of_weights
    low, high = ({**TOY.search_space.default, "dropout": rate} for rate in (0.0, 0.5))
    one, other = (dict(made.network(config).named_parameters())["head.weight"] for config in (low, high))
    assert not torch.equal(one, other)


def test_the_seed_decides_in_any_order_and_a_state_is_rebuilt_from_it() -> None:
    state = torch.get_rng_state()
    one = on(TOY, seed=3)
    with torch.inference_mode():
        found = one.predict(CONFIGS)["nll"].mean
    assert torch.equal(torch.get_rng_state(), state)
    again = on(TOY, seed=3)
    again.load_state_dict(one.state_dict())
    assert np.array_equal(again.predict(CONFIGS[::-1])["nll"].mean[::-1], found)
    assert not np.array_equal(on(TOY, seed=4).predict(CONFIGS)["nll"].mean, found)


def test_trainers_parameters_are_not_the_networks() -> None:
    wider = TOY.search_space.extended([Integer("trainer.epochs", 1, 3)])
    predictor = Hypernetwork(wider, Context(TOY), steps=1, batch=16)
    found = predictor.predict([{**wider.default, "trainer.epochs": n} for n in (1, 3)])["nll"].mean
    assert found[0] == found[1]


def test_graphs() -> None:
    """One batch is the whole graph."""
    space = spaces.load("dagnn", task="karate")
    predictor = on(space, steps=2)
    configs = space.search_space.sample(np.random.default_rng(0), 3)
    assert np.isfinite(predictor.predict(configs)[predictor.metrics[0]].mean).all()


class Rigid(ModelSpace):
    """Nothing is elastic."""

    registered_as = "tests.predictors.test_hypernetwork:Rigid"
    search_space = SearchSpace(Integer("width", 2, 4))

    def build(self, config: Configuration) -> nn.Module:
        return nn.Linear(5, 3)

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        raise NotImplementedError


def test_what_it_supports() -> None:
    assert Hypernetwork.supports(Context(TOY)) is None
    assert "has none" in str(Hypernetwork.supports(Context()))
    with pytest.raises(UsageError, match="has none"):
        Hypernetwork(ADDITIVE)
    import pandas as pd

    table = TableSpace(pd.DataFrame({"op": ["a", "b"], "err": [0.1, 0.2]}), ["op"], {"error": "err"})
    assert "is a table" in str(Hypernetwork.supports(Context(table)))
    signature = Signature("image_classification", (TensorSpec((1, 4, 4)),), 3)
    assert "no data" in str(Hypernetwork.supports(Context(ToyImages.of_signature(signature))))
    assert "no elastic parameter" in str(Hypernetwork.supports(Context(Rigid.of_signature(signature))))


@pytest.mark.parametrize("change", [{"steps": -1}, {"batch": 0}, {"lr": 0.0}, {"rank": 0}, {"head": "half"}])
def test_requests_that_cannot_be_met(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        on(TOY, **change)


def test_labels_are_refused_and_a_divergence_is_named() -> None:
    with pytest.raises(UsageError, match="learns no labels"):
        on(TOY).fit([TOY.search_space.default] * 3, {"error": [1.0, 2.0, 3.0]})
    with pytest.raises(TrainingError, match="lower lr"):
        on(TOY, lr=1e30, steps=20).predict(CONFIGS[:1])
