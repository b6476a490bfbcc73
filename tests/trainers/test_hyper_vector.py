"""The vector of hyperparameters: transforms, perturbations, entropy, as the papers write them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._errors import UsageError
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import SelfTuned
from archfront.trainers._hyper_vector import EDGE, Hyperparameter, HyperVector, softplus_inverse, start_of

LOGIT, LOG, IDENTITY = SelfTuned("x", "logit", 0.5), SelfTuned("x", "log", 1.0), SelfTuned("x", "identity", 2.0)
BELOW = SelfTuned("x", "log_below", 1.0)


def vector(*members: Hyperparameter) -> HyperVector:
    return HyperVector(members)


@given(st.floats(0.001, 0.899))
def test_a_bounded_value_is_a_scaled_sigmoid(value: float) -> None:
    hypers = vector(Hyperparameter.of(Real("p", 0.0, 0.9, self_tuned=LOGIT), value))
    assert float(hypers.lam.detach()) == pytest.approx(math.log(value / 0.9 / (1 - value / 0.9)), abs=1e-5)
    assert hypers.value_of()["p"] == pytest.approx(value, rel=1e-5)


@given(st.floats(1e-4, 500.0))
def test_a_positive_value_is_a_softplus_also_where_exp_overflows(value: float) -> None:
    hypers = vector(Hyperparameter.of(Real("alpha", 1e-8, 1000.0, log=True, zero=True, self_tuned=LOG), value))
    if value < 80:
        assert float(hypers.lam.detach()) == pytest.approx(math.log(math.exp(value) - 1), rel=1e-4, abs=1e-5)
    assert hypers.value_of()["alpha"] == pytest.approx(value, rel=1e-4)


@given(st.floats(-500.0, 1.9))
def test_a_value_below_an_end_is_that_end_less_a_softplus(value: float) -> None:
    hypers = vector(Hyperparameter.of(Real("offset", -1000.0, 2.0, self_tuned=BELOW), value))
    if value > -78:
        assert float(hypers.lam.detach()) == pytest.approx(math.log(math.exp(2 - value) - 1), rel=1e-4, abs=1e-5)
    assert hypers.value_of()["offset"] == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert hypers.scale_of()["offset"] > 0, "a distance, though the value falls as the inner one grows"


def test_the_ends_of_a_transform_from_below() -> None:
    offset = Real("offset", -10.0, 2.0, default=2.0, self_tuned=BELOW)
    assert start_of(offset) == pytest.approx(2.0 - 12 * EDGE)
    hypers = vector(Hyperparameter.of(offset, 2.0))
    assert hypers.value_of()["offset"] == pytest.approx(1.4)
    assert vector(Hyperparameter.of(offset, -10.0)).value_of()["offset"] == pytest.approx(-10.0), "reached: kept"
    assert hypers.values(torch.tensor([[-50.0], [50.0]])).flatten().tolist() == [2.0, -10.0]


@given(st.floats(-5, 5))
def test_an_unbounded_value_is_itself(value: float) -> None:
    hypers = vector(Hyperparameter.of(Real("x", -5, 5, self_tuned=IDENTITY), value))
    assert hypers.value_of()["x"] == pytest.approx(value, abs=1e-6)
    assert float(hypers.sigma.detach()) == pytest.approx(2.0, rel=1e-6)


@given(st.integers(0, 24))
def test_integers_reach_both_ends(value: int) -> None:
    hypers = vector(Hyperparameter.of(Integer("length", 0, 24, self_tuned=LOGIT), value))
    assert hypers.value_of()["length"] == value
    ends = hypers.values(torch.tensor([[-50.0], [50.0]]))
    assert ends.flatten().tolist() == [0.0, 24.0]
    share = torch.tensor([[math.log(s / (1 - s))] for s in (0.5 / 25, 1.5 / 25, 23.5 / 25, 24.5 / 25)])
    assert hypers.values(share).flatten().tolist() == [0, 1, 23, 24]


def test_steps_and_options_are_positions() -> None:
    stepped = vector(Hyperparameter.of(Integer("k", 2, 8, step=3, self_tuned=LOGIT), 5))
    assert stepped.value_of() == {"k": 5.0}
    chosen = vector(Hyperparameter.of(Ordinal("k", (0.5, 2.0, 7.0), self_tuned=LOGIT), 7.0))
    assert chosen.value_of() == {"k": 7.0}
    assert chosen.values(torch.tensor([[-9.0], [0.0]])).flatten().tolist() == [0.5, 2.0]
    with pytest.raises(UsageError, match="option 'a' is not a number"):
        Hyperparameter.of(Categorical("k", ("a", "b"), self_tuned=LOGIT), "a")


def test_a_start_at_the_end_of_a_range_moves_inwards() -> None:
    dropout = Real("dropout", 0.0, 0.9, default=0.0, self_tuned=LOGIT)
    assert start_of(dropout) == EDGE * 0.9
    assert vector(Hyperparameter.of(dropout, 0.0)).value_of()["dropout"] == pytest.approx(0.045)
    assert vector(Hyperparameter.of(dropout, 0.9)).value_of()["dropout"] == pytest.approx(0.855)
    assert vector(Hyperparameter.of(dropout, 0.001)).value_of()["dropout"] == pytest.approx(0.001, rel=1e-4)
    decay = Real("decay", 1e-6, 1.0, default=0.0, log=True, zero=True, self_tuned=LOG)
    assert vector(Hyperparameter.of(decay, 0.0)).value_of()["decay"] == pytest.approx(0.05)
    with pytest.raises(UsageError, match=r"dropout cannot start at 1\.5"):
        Hyperparameter.of(dropout, 1.5)


def test_what_cannot_be_tuned_is_refused() -> None:
    with pytest.raises(UsageError, match="p: nothing to tune between"):
        Hyperparameter.of(Real("p", 0.5, 0.5, self_tuned=LOGIT), 0.5)
    with pytest.raises(UsageError, match="'p' is not declared as self-tuned"):
        Hyperparameter.of(Real("p", 0.0, 0.5), 0.1)
    with pytest.raises(UsageError, match="no hyperparameter"):
        HyperVector([])


def test_perturbation_and_entropy_are_the_papers() -> None:
    hypers = vector(
        Hyperparameter("a", 0, 1, 0.3, sigma0=0.5),
        Hyperparameter("b", 0, 1, 0.6, sigma0=1.5, per_batch=True),
    )
    xi = torch.tensor([[1.0, -1.0], [0.5, 2.0], [-2.0, 0.0]])
    H = hypers.perturbed(xi)
    lam = hypers.lam.detach()
    assert torch.allclose(H[:, 0], lam[0] + 0.5 * xi[:, 0])
    assert torch.allclose(H[:, 1], (lam[1] - 1.5).expand(3)), "shared by the batch: the first row's"
    wanted = sum(math.log(sigma * math.sqrt(2 * math.pi * math.e)) for sigma in (0.5, 1.5))
    assert float(hypers.entropy().detach()) == pytest.approx(wanted, rel=1e-6)
    H.sum().backward()
    assert hypers.lam.grad is not None
    assert hypers.lam.grad.tolist() == [3.0, 3.0]
    assert not hypers.values(H).requires_grad


def test_the_same_generator_the_same_rows() -> None:
    hypers = vector(Hyperparameter("a", 0, 1, 0.3))
    one, two = (hypers.perturb(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (5, 1)
    assert len(set(one.flatten().tolist())) == 5, "each example has its own"
    other = vector(Hyperparameter("a", 0, 1, 0.9, sigma0=2.0))
    other.load_state_dict(hypers.state_dict())
    assert torch.equal(other.perturb(5, torch.Generator().manual_seed(3)), one)


@given(st.floats(1e-6, 1e4))
def test_softplus_inverse(value: float) -> None:
    assert float(torch.nn.functional.softplus(torch.tensor(softplus_inverse(value)).double())) == pytest.approx(
        value, rel=1e-5
    )
