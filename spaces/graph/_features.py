"""Node features: rows brought to sum 1, and a first layer that skips the zeros of bags of words while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["DropLinear", "FeatureLinear", "row_normalised"]

DENSEST = 0.05
"""Share of non-zeros up to which the sparse product is taken. On 2,708 x 1,433 features, one thread of a busy machine,
a step (dropout, product, gradient) took a fifth of the dense one's time at Cora's 1.3 %; the two were even between 5 %
(256 units) and 10 % (64 units)."""
SMALLEST = 100_000
"""Matrices with fewer numbers always take the dense product (our choice, not tuned)."""

_REMEMBERED: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def row_normalised(x: Tensor) -> Tensor:
    """Rows of x (nodes, features) divided by the sum of their absolute values; zero rows stay zero.

    Bags of words are non-negative: there this is the paper's division by the row's sum. Computed once per tensor.
    """
    normalised: Tensor = _remembered(x, "row_normalised", lambda: functional.normalize(x, p=1.0, dim=1))
    return normalised


class DropLinear(nn.Linear):
    """drop(x) W + b, in two steps, so that a graph convolution can propagate before the bias is added."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__(inputs, outputs)
        self.dropout = nn.Dropout(dropout)

    def product(self, x: Tensor) -> Tensor:
        """drop(x) W: (nodes, inputs) -> (nodes, outputs)."""
        return functional.linear(self.dropout(x), self.weight)

    def forward(self, x: Float[Tensor, "nodes inputs"]) -> Float[Tensor, "nodes outputs"]:
        return self.product(x) + self.bias


class FeatureLinear(DropLinear):
    """The layer that meets the features. Training on sparse ones drops and multiplies the non-zeros only.

    Dropping a zero changes nothing, so the outputs have the same distribution, and for the same kept entries the same
    values up to rounding. In eval mode always dense: that is what is exported, measured and counted.
    """

    def product(self, x: Tensor) -> Tensor:
        sparse = _sparse(x) if self.training else None
        if sparse is None:
            return super().product(x)
        dropped = torch.sparse_coo_tensor(
            sparse.indices(), self.dropout(sparse.values()), sparse.shape, is_coalesced=True, check_invariants=False
        )
        product: Tensor = torch.sparse.mm(dropped, self.weight.t())
        return product


def _sparse(x: Tensor) -> Tensor | None:
    """x as a coalesced sparse tensor, found once per tensor; None where the dense product is the better one."""
    if x.requires_grad or x.dim() != 2 or x.numel() < SMALLEST:
        return None
    found: Tensor | None = _remembered(x, "sparse", lambda: _as_sparse(x))
    return found


def _as_sparse(x: Tensor) -> Tensor | None:
    return x.to_sparse().coalesce() if int(x.count_nonzero()) <= DENSEST * x.numel() else None


def _remembered(x: Tensor, what: str, make: Callable[[], Any]) -> Any:
    """make(), remembered for as long as this very tensor lives unchanged."""
    if x.is_inference():  # has no version to tell a change by
        return make()
    if x not in _REMEMBERED:
        _REMEMBERED[x] = {}
    known: dict[tuple[str, int], Any] = _REMEMBERED[x]
    if (what, x._version) not in known:
        known[what, x._version] = make()
    return known[what, x._version]
