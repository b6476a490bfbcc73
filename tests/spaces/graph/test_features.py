"""Sparse features: the quick path of training gives what the dense one gives."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from archfront.spaces.graph import _features
from archfront.spaces.graph._features import FeatureLinear, row_normalised

N, D = 500, 400


@pytest.fixture
def words() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(N, D, generator=generator) < 0.02).float() * torch.rand(N, D, generator=generator)


def layer(dropout: float) -> FeatureLinear:
    torch.manual_seed(0)
    return FeatureLinear(D, 16, dropout)


def test_without_dropout_training_equals_eval_with_its_gradients(words: Tensor) -> None:
    net = layer(0.0)
    assert _features._sparse(words) is not None
    grads, outputs = [], []
    for mode in (True, False):
        net.zero_grad()
        outputs.append(net.train(mode)(words))
        outputs[-1].square().sum().backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    assert torch.allclose(*outputs, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*grads, strict=True))


def test_the_same_kept_entries_give_the_same_output(words: Tensor) -> None:
    net = layer(0.8).train()
    torch.manual_seed(5)
    ours = net(words)
    torch.manual_seed(5)
    kept = words.to_sparse().coalesce()
    values = functional.dropout(kept.values(), 0.8)
    mask = torch.sparse_coo_tensor(kept.indices(), values, kept.shape, check_invariants=False).to_dense()
    assert torch.allclose(ours, functional.linear(mask, net.weight, net.bias), atol=1e-6)
    assert 0.15 < float((values != 0).float().mean()) < 0.25


def test_mean_and_spread_are_those_of_the_dense_path(words: Tensor) -> None:
    net = layer(0.5).train()
    draws = {}
    with torch.no_grad():
        draws["sparse"] = torch.stack([net(words) for _ in range(150)])
        dense = words.clone()
        dense.requires_grad_()  # such inputs take the dense path
        draws["dense"] = torch.stack([net(dense) for _ in range(150)])
    exact = layer(0.5).eval()(words).detach()
    for drawn in draws.values():
        assert float((drawn.mean(dim=0) - exact).abs().mean()) < 0.01
    assert draws["sparse"].std(dim=0).mean() == pytest.approx(float(draws["dense"].std(dim=0).mean()), rel=0.03)


def test_dense_small_and_differentiable_features_take_the_dense_path(words: Tensor) -> None:
    assert _features._sparse(torch.rand(N, D)) is None
    assert _features._sparse(words[:10]) is None
    assert _features._sparse(words.clone().requires_grad_()) is None


def test_a_changed_tensor_is_looked_at_again_and_a_dead_one_forgotten(words: Tensor) -> None:
    first = _features._sparse(words)
    assert _features._sparse(words) is first
    words[0, 0] = 7.0
    again = _features._sparse(words)
    assert again is not None
    assert float(again.to_dense()[0, 0]) == 7.0
    before = len(_features._REMEMBERED)
    row_normalised(torch.rand(3, 3))
    gc.collect()
    assert len(_features._REMEMBERED) <= before


def test_rows_sum_to_one_and_zero_rows_stay() -> None:
    x = row_normalised(torch.tensor([[1.0, 3.0], [0.0, 0.0], [-1.0, 1.0]]))
    assert x.tolist() == [[0.25, 0.75], [0.0, 0.0], [-0.5, 0.5]]
