"""Operators and hops against dense matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archfront.spaces._errors import UsageError
from archfront.spaces.graph._propagate import OPERATORS, normalised_edges, propagate, with_remaining_self_loops

EDGES = st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=20)


@settings(deadline=None, max_examples=60)
@given(EDGES, st.sampled_from(OPERATORS), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_a_hop_is_the_product_with_the_dense_operator(edges: set[tuple[int, int]], operator: str, loop: float) -> None:
    edge_index = torch.tensor(sorted(edges), dtype=torch.int64).reshape(-1, 2).T
    A = torch.zeros(7, 7)
    A[edge_index[1], edge_index[0]] = 1
    A += loop * torch.diag((A.diagonal() == 0).float())
    taken, given_away = A.sum(dim=1), A.sum(dim=0)
    left = {"symmetric": taken.rsqrt(), "row": 1 / taken, "column": torch.ones(7)}[operator].clone()
    right = {"symmetric": taken.rsqrt(), "row": torch.ones(7), "column": 1 / given_away}[operator].clone()
    left[left.isinf()], right[right.isinf()] = 0, 0
    h = torch.randn(7, 3, generator=torch.Generator().manual_seed(len(edges)))
    edge = normalised_edges(edge_index, None, 7, operator=operator, self_loop_weight=loop)
    assert torch.allclose(propagate(h, *edge), (left[:, None] * A * right) @ h, atol=1e-5)


def test_self_loops_are_added_only_where_there_is_none() -> None:
    edge_index = torch.tensor([[0, 1, 1], [1, 1, 0]])
    edges, weights = with_remaining_self_loops(edge_index, torch.tensor([1.0, 3.0, 1.0]), 3, 0.5)
    assert edges.tolist() == [[0, 1, 1, 0, 2], [1, 1, 0, 0, 2]]
    assert weights.tolist() == [1, 3, 1, 0.5, 0.5]


def test_rows_and_columns_sum_to_one() -> None:
    ring = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0], [1, 0, 2, 1, 3, 2, 0, 3]])
    star = torch.cat([ring, torch.tensor([[0, 4], [4, 0]])], dim=1)
    edges, weights = normalised_edges(star, None, 5, operator="row", self_loop_weight=1.0)
    assert torch.allclose(torch.zeros(5).index_add(0, edges[1], weights), torch.ones(5))
    edges, weights = normalised_edges(star, None, 5, operator="column", self_loop_weight=1.0)
    assert torch.allclose(torch.zeros(5).index_add(0, edges[0], weights), torch.ones(5))


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(UsageError, match=r"'sym'.*symmetric, row, column"):
        normalised_edges(torch.zeros(2, 0, dtype=torch.int64), None, 1, operator="sym", self_loop_weight=1.0)


def test_one_node_keeps_its_axes() -> None:
    edge = normalised_edges(torch.zeros(2, 0, dtype=torch.int64), None, 1, operator="symmetric", self_loop_weight=1.0)
    assert propagate(torch.ones(1, 1), *edge).tolist() == [[1.0]]
