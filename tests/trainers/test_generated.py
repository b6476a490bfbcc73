"""A hypernetwork as the best response: any layer, what collapses, which parameters are whose."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from archfront.spaces import Real
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import SelfTuned
from archfront.trainers._generated import GeneratedNet, generated


class Tied(nn.Module):
    """An embedding, an LSTM, attention, a norm, and a decoder tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.recurrent = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.2)
        self.decoder = nn.Linear(8, 11)
        self.decoder.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        x, _ = self.recurrent(self.embedding(words))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        output: Tensor = self.decoder(self.dropout(self.norm(x[:, -1])))
        return output


RATE = Real("rate", 0.0, 0.9, default=0.2, self_tuned=SelfTuned("dropout", "logit", 0.5))
WORDS = torch.randint(11, (6, 5), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> GeneratedNet:
    torch.manual_seed(0)
    return generated(Tied(), [RATE], {"rate": 0.2})


def test_it_starts_near_the_plain_network() -> None:
    torch.manual_seed(0)
    plain = Tied()
    before = {name: p.detach().clone() for name, p in plain.named_parameters()}
    net = generated(plain, [RATE], {"rate": 0.2})
    for name, theta0 in before.items():
        assert torch.equal(net.generator.free(name), theta0)
    made = net._made(net.hypers.lam[None])
    moved = torch.cat([(made[name] - theta0).flatten() for name, theta0 in before.items()])
    assert 0 < float(moved.detach().std()) < 0.5


def test_the_collapsed_network_is_the_live_one(net: GeneratedNet) -> None:
    with torch.no_grad():
        net.hypers.lam += 0.7
    net.rest()
    net.eval()
    plain = net.collapse()
    assert isinstance(plain, Tied)
    assert torch.allclose(plain(WORDS), net(WORDS), atol=1e-5)
    assert plain.decoder.weight is plain.embedding.weight
    assert type(plain.dropout) is nn.Dropout
    assert plain.dropout.p == pytest.approx(net.hypers.value_of()["rate"])
    torch.manual_seed(0)
    fresh = Tied()
    fresh.load_state_dict(plain.state_dict())
    assert torch.equal(fresh.eval()(WORDS), plain(WORDS))
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in fresh.parameters())


def test_every_parameter_has_one_owner_and_learns(net: GeneratedNet) -> None:
    general, response = net.general_parameters, net.response_parameters
    everyone = {id(p) for p in net.parameters()} - {id(p) for p in net.hypers.parameters()}
    assert {id(p) for p in general} | {id(p) for p in response} == everyone
    assert not {id(p) for p in general} & {id(p) for p in response}
    net.train()
    net.see(net.hypers.perturb(1, torch.Generator().manual_seed(0)).detach())
    net(WORDS).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in [*general, *response])


def test_the_gradient_of_the_hyperparameters_is_that_of_finite_differences(net: GeneratedNet) -> None:
    net = net.double().eval()

    def loss() -> Tensor:
        net.see(net.hypers.lam[None])
        return net(WORDS).square().sum()

    (slope,) = torch.autograd.grad(loss(), net.hypers.lam)
    ends = []
    for step in (1e-4, -1e-4):
        with torch.no_grad():
            net.hypers.lam += step
            ends.append(float(loss()))
            net.hypers.lam -= step
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-3)
    assert float(slope) != 0


def test_it_can_be_copied_after_a_pass(net: GeneratedNet) -> None:
    net.rest()
    net(WORDS)
    assert torch.equal(copy.deepcopy(net).eval()(WORDS), net.eval()(WORDS))


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(UsageError, match="no weight that could respond"):
        generated(
            nn.Sequential(nn.Dropout(0.1)), [Real("r", 0.0, 0.9, default=0.1, self_tuned=SelfTuned("0"))], {"r": 0.1}
        )
