"""The criticality predictor on networks that it can read, and its refusals of those that it cannot."""

from __future__ import annotations

from math import inf, log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archfront import predictors, spaces
from archfront.predictors import Context, Predictor
from archfront.predictors.criticality import Criticality, features_of, score_of
from archfront.predictors.testing import ADDITIVE, PredictorContract
from archfront.spaces import Categorical, Integer, ModelSpace, SearchSpace, TableSpace
from archfront.spaces._critical_flow import Block, Layer, flow
from archfront.spaces._critical_gaussian import ACTIVATIONS
from archfront.spaces._critical_point import critical_point, optimal_aspect_ratio
from archfront.spaces._errors import DataError, UsageError
from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Signature, Task, TensorSpec
from archfront.spaces._toy import ToyImages
from tests.spaces.critical_nets import initialised, inputs_of

MLP = spaces.load("mlp")


class TestCriticality(PredictorContract):
    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return Criticality

    @pytest.fixture
    def context(self) -> Context:
        return Context(MLP, MLP.task())

    @pytest.fixture
    def space(self) -> SearchSpace:
        return MLP.search_space


def on(space: ModelSpace, **parameters: Any) -> Criticality:
    return Criticality(space.search_space, Context(space, space.task()), **parameters)


# -- features and score


@pytest.mark.parametrize(("name", "C_b", "C_W"), [("relu", 0.1, 1.4), ("gelu", 0.17, 2.0)])
def test_features_are_those_of_the_recursions(name: str, C_b: float, C_W: float) -> None:
    depth, width, x = 4, 256, inputs_of(6)
    found = features_of(initialised(name, depth, width, C_b, C_W), x)
    first = Layer(ACTIVATIONS["linear"], C_b, C_W, inf, lambda_W=6.0)
    rest = Layer(ACTIVATIONS[name], C_b, C_W, width, lambda_W=width)
    states = flow(float(x[0].square().mean()), [Block((first,)), *[Block((rest,))] * depth])
    critical = critical_point(ACTIVATIONS[name])
    assert critical is not None
    assert found["P"] == pytest.approx(np.log(states.chi_perp[1:]).sum(), abs=1e-4)
    assert found["Q"] == pytest.approx(np.log(states.chi_par[1:]).sum(), abs=1e-4)
    assert found["k"] == pytest.approx(log(states.kernel[-1] / critical.K), abs=1e-4)
    assert found["x2"] == pytest.approx(states.x2[-1], rel=1e-4)
    assert found["rho"] == pytest.approx(depth / width / optimal_aspect_ratio(critical.nu, 10))
    assert found["H"] == pytest.approx(log(states.tangent[-1]), abs=1e-4)
    assert found["worst_share"] == pytest.approx(states.shares.max(), abs=1e-4)
    assert score_of(found) == -abs(found["P"]) - found["x2"]


def test_pytorchs_default_of_thirty_layers() -> None:
    deep = {**MLP.search_space.default, "depth": 30}
    found = on(MLP).features(deep)
    assert found["P"] == pytest.approx(-53.75, abs=0.15)  # measured variances, not the nominal ones
    assert found["Q"] == pytest.approx(found["P"])
    assert on(MLP).predict([deep])["criticality"].mean[0] == score_of(found)


def test_a_layer_that_starts_at_zero_has_a_finite_score() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8, bias=False), nn.Tanh(), nn.Linear(8, 3, bias=False))
    nn.init.zeros_(net[2].weight)
    found = features_of(net, inputs_of(6))
    assert np.isfinite(list(found.values())).all()
    assert score_of(found) < -100


def test_a_large_x2_counts_no_further() -> None:
    assert score_of({"P": 1.5, "x2": 1e9}) == -21.5


def test_critical_networks_score_best() -> None:
    x = inputs_of(6)
    scores = [score_of(features_of(initialised("relu", 12, 64, 0.0, C_W), x)) for C_W in (0.5, 1.0, 2.0, 4.0)]
    assert max(scores) == scores[2]
    wide, narrow = (score_of(features_of(initialised("relu", 12, width, 0.0, 2.0), x)) for width in (64, 8))
    assert wide > narrow


# -- advice


def test_advice_in_numbers() -> None:
    advice = on(MLP).advice({**MLP.search_space.default, "depth": 8, "width": 64})
    assert (advice.C_b, advice.C_W, advice.width) == (0, 2, 500)
    assert [layer.name for layer in advice.layers] == [*(f"blocks.{i}.linear" for i in range(8)), "head"]
    assert advice.layers[1].weight_std == pytest.approx(sqrt(2 / 64))
    assert advice.layers[1].weight_rate == pytest.approx(1 / 9 / 64)
    assert advice.layers[1].bias_rate == pytest.approx(1 / 9)


def test_features_without_a_critical_point() -> None:
    mixed = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    assert features_of(mixed, inputs_of(6))["rho"] > 0
    sigmoids = features_of(nn.Sequential(nn.Linear(6, 6), nn.Sigmoid(), nn.Linear(6, 6)), inputs_of(6))
    assert sigmoids["rho"] == pytest.approx(sigmoids["x2"] / (4 / (20 + 3 * 6)))


# -- the predictor


def test_it_is_registered() -> None:
    assert predictors.load("criticality") is Criticality
    assert on(MLP).metrics == ["criticality"]


def test_what_it_supports() -> None:
    assert Criticality.supports(Context(MLP)) is None
    assert "has none" in str(Criticality.supports(Context()))
    with pytest.raises(UsageError, match="has none"):
        Criticality(ADDITIVE)
    import pandas as pd

    table = TableSpace(pd.DataFrame({"op": ["a", "b"], "err": [0.1, 0.2]}), ["op"], {"error": "err"})
    assert "table of values" in str(Criticality.supports(Context(table)))
    reason = Criticality.supports(Context(ToyImages.bind()))
    assert "layer 'blocks.0.norm' is a BatchNorm2d" in str(reason)


def test_hourglass_without_norms() -> None:
    space = spaces.load("hourglass_mlp")
    assert "'hourglass.blocks.0.norm.LN' is a LayerNorm" in str(Criticality.supports(Context(space)))
    bare = space.narrowed(space.search_space.fix({"norm": "none"}))
    assert Criticality.supports(Context(bare)) is None
    predictor = on(bare)
    configs = bare.search_space.sample(np.random.default_rng(0), 3)
    assert np.isfinite(predictor.predict(configs)["criticality"].mean).all()
    config = {**bare.search_space.default, "L": 3, "w_in": "trained", "act": "ReLU"}
    found = predictor.features(config)
    # W1 is torch's own, W2 has std .02/sqrt(2 L): each block multiplies by 1 + C_W1 C_W2 / 2, the head by 1/3
    d_h = space.sizes(config).d_h  # type: ignore[attr-defined]
    expected = 3 * np.log1p(0.02**2 / 6 * d_h / 3 / 2) + log(1 / 3)
    assert found["P"] == pytest.approx(expected, abs=0.05)


class Either(ModelSpace):
    """A norm is one of the options, and not the default."""

    registered_as = "tests.predictors.test_criticality:Either"
    search_space = SearchSpace(Categorical("norm", (False, True)), Integer("width", 2, 4))

    def build(self, config: Configuration) -> nn.Module:
        width = config["width"]
        norm = nn.LayerNorm(width) if config["norm"] else nn.Identity()
        return nn.Sequential(nn.Linear(5, width), norm, nn.ReLU(), nn.Linear(width, 3))

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        raise DataError("none")


def test_options_are_looked_at_too() -> None:
    space = Either.of_signature(Signature("classification", (TensorSpec((5,)),), 3))
    assert "layer '1' is a LayerNorm" in str(Criticality.supports(Context(space)))
    bare = space.narrowed(space.search_space.fix({"norm": False}))
    predictor = Criticality(space.search_space, Context(bare))  # without data: random inputs
    assert predictor.predict([space.search_space.default])["criticality"].mean.shape == (1,)
    with pytest.raises(UsageError, match="layer '1' is a LayerNorm"):
        predictor.predict([{"norm": True, "width": 3}])


def test_the_seed_decides_and_generators_are_left_alone() -> None:
    configs = MLP.search_space.sample(np.random.default_rng(0), 3)
    before = torch.get_rng_state()
    with torch.inference_mode():
        once = on(MLP).predict(configs)["criticality"].mean
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(once, on(MLP).predict(configs[::-1])["criticality"].mean[::-1])
    assert not np.array_equal(once, on(MLP, seed=1).predict(configs)["criticality"].mean)


def test_trainers_parameters_are_not_the_networks() -> None:
    wider = MLP.search_space.extended([Integer("trainer.epochs", 1, 3)])
    predictor = Criticality(wider, Context(MLP))
    config = wider.default
    assert predictor.predict([config, {**config, "trainer.epochs": 3}])["criticality"].mean.std() == 0


def test_requests_that_cannot_be_met() -> None:
    with pytest.raises(UsageError, match="rows=0"):
        on(MLP, rows=0)
    with pytest.raises(UsageError, match="learns nothing"):
        on(MLP).fit([MLP.search_space.default] * 3, {"error": [1.0, 2.0, 3.0]})


def test_inputs_are_the_tasks() -> None:
    """K^1 = C_b + C_W |x|^2/n_0: digits have pixels in 0..1, not of unit variance."""
    train = MLP.task().split("train").inputs[0]
    config = {**MLP.search_space.default, "depth": 1, "width": 512}
    found = on(MLP, rows=len(train)).features(config)
    K = 1 / (3 * 64) + float(train.square().mean()) / 3
    assert found["k"] == pytest.approx(log(1 / (3 * 512) + K / 6), abs=0.15)
