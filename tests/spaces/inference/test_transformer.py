"""The set transformer: who reads whom, and that the path without a mask between queries is the masked one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from archfront.spaces.inference import _transformer
from archfront.spaces.inference._bar_distribution import merged
from archfront.spaces.inference._transformer import PfnNetwork, PfnShape

BORDERS = torch.linspace(-3, 3, 25)
POST, PRE = PfnShape(5, 32, 3, 4, 64, 24), PfnShape(5, 32, 3, 4, 64, 24, pre_norm=True)
ALONE = replace(POST, attends_itself=False)
SHAPES = pytest.mark.parametrize("shape", [POST, PRE, ALONE], ids=["post", "pre", "not-itself"])


def network(shape: PfnShape, *, trained: bool = True) -> PfnNetwork:
    """As it starts, or with output projections that are not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = PfnNetwork(shape, BORDERS).eval().requires_grad_(False)
        if trained:
            for name, parameter in net.named_parameters():
                if "attention.out" in name or "linear2" in name:
                    parameter.normal_(0, 0.3)
    return net


def data(batch: int = 3, points: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(batch, points, 5, generator=generator)
    y = torch.randn(batch, points, generator=generator)
    known = torch.arange(points) < torch.tensor([4, 7, 1])[:batch, None]
    return x, y, known


@SHAPES
def test_hidden_labels_are_not_read(shape: PfnShape) -> None:
    net = network(shape)
    x, y, known = data()
    assert torch.equal(net(x, y, known), net(x, torch.where(known, y, 77.0), known))
    assert not torch.equal(net(x, y, known), net(x, y + 1, known))


@SHAPES
def test_the_order_of_the_context_does_not_matter(shape: PfnShape) -> None:
    net = network(shape)
    x, y, known = data()
    order = torch.tensor([3, 1, 0, 2, *range(4, 11)])
    one, other = net(x[:1], y[:1], known[:1]), net(x[:1, order], y[:1, order], known[:1, order])
    assert (one[:, order] - other).abs().max() < 1e-5


@SHAPES
def test_further_queries_change_no_answer(shape: PfnShape) -> None:
    net = network(shape)
    x, y, known = data()
    fewer = net(x[:, :9], y[:, :9], known[:, :9])
    assert (net(x, y, known)[:, :9] - fewer).abs().max() < 1e-5


@SHAPES
@pytest.mark.parametrize("chunk", [1024, 3])
def test_the_efficient_path_is_the_masked_one(shape: PfnShape, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transformer, "CHUNK", chunk)
    net = network(shape)
    x, y, known = data()
    wanted = net(x, y, known)
    for row, size in enumerate((4, 7, 1)):
        memory = net.context(x[row : row + 1, :size], y[row : row + 1, :size])
        answers = net.answers(memory, x[row : row + 1, size:])
        assert (answers - wanted[row : row + 1, size:]).abs().max() < 1e-5
    together = net.answers(net.context(x[:, :7], y[:, :7], known[:, :7]), x[:, 7:])
    assert (together - wanted[:, 7:]).abs().max() < 1e-5


@SHAPES
def test_no_context_is_the_prior(shape: PfnShape) -> None:
    net = network(shape)
    x, y, _ = data()
    nothing = torch.zeros_like(y, dtype=torch.bool)
    masked = net(x, y, nothing)
    assert masked.isfinite().all()
    efficient = net.answers(net.context(x[:, :0], y[:, :0]), x)
    assert (masked - efficient).abs().max() < 1e-5
    hidden = net.answers(net.context(x[:, :2], y[:, :2], nothing[:, :2]), x)
    assert (masked - hidden).abs().max() < 1e-5


@SHAPES
def test_it_starts_without_looking_at_others(shape: PfnShape) -> None:
    net = network(shape, trained=False)
    x, y, known = data()
    answers = net(x, y, known)
    x[0, :4], y[0, :4] = 3.0, -2.0
    assert torch.equal(net(x, y, known)[0, 4:], answers[0, 4:])


def test_a_coarse_head_is_a_function_of_the_fine_one() -> None:
    fine, coarse = network(POST), network(replace(POST, buckets=6))
    x, y, known = data()
    one, other = fine(x, y, known)[..., :-2], coarse(x, y, known)[..., :-2]
    assert (merged(one, 4).exp() - merged(other, 4).exp()).abs().max() < 1e-6
    assert torch.allclose(other[..., :4], other[..., :1].expand(-1, -1, 4), atol=1e-5), "equal widths, equal shares"
    with pytest.raises(ValueError, match="must divide"):
        network(replace(POST, buckets=7))


def test_bounded_ends_have_no_scale() -> None:
    x, y, known = data()
    assert (network(replace(POST, tails=False))(x, y, known)[..., -2:] == 0).all()
    assert (network(POST)(x, y, known)[..., -2:] > 0).all()
