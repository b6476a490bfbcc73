"""Message passing on edge lists: self loops, the three normalisations, one hop."""

from __future__ import annotations

import torch
from torch import Tensor

from archfront.spaces._errors import UsageError

__all__ = ["OPERATORS", "normalised_edges", "propagate", "with_remaining_self_loops"]

OPERATORS = ("symmetric", "row", "column")
"""D^-1/2 A D^-1/2, D^-1 A (every node takes a mean), A D^-1 (every node gives away what it has)."""


def with_remaining_self_loops(
    edge_index: Tensor, edge_weight: Tensor, nodes: int, weight: float
) -> tuple[Tensor, Tensor]:
    """A self loop of `weight` for each node that has none ("add remaining"); weight 0 adds none.

    edge_index (2, E) int64, row 0 the source and row 1 the target; edge_weight (E,).
    """
    if weight == 0:
        return edge_index, edge_weight
    bare = torch.ones(nodes, dtype=torch.bool)
    bare[edge_index[0, edge_index[0] == edge_index[1]]] = False
    missing = bare.nonzero().squeeze(1)
    return (
        torch.cat([edge_index, missing.expand(2, -1)], dim=1),
        torch.cat([edge_weight, edge_weight.new_full((len(missing),), weight)]),
    )


def normalised_edges(
    edge_index: Tensor, edge_weight: Tensor | None, nodes: int, *, operator: str, self_loop_weight: float
) -> tuple[Tensor, Tensor]:
    """(edge_index, edge_weight) of the operator with self loops; a node of degree 0 gets inverse degree 0.

    The degree is the weight that arrives at a node, and for `column` the weight that leaves it: the same on an
    undirected graph. Raises UsageError for an unknown operator.
    """
    if edge_weight is None:
        edge_weight = torch.ones(edge_index.shape[1])
    edge_index, weight = with_remaining_self_loops(edge_index, edge_weight, nodes, self_loop_weight)
    source, target = edge_index
    arriving = torch.zeros(nodes, dtype=weight.dtype).scatter_add(0, target, weight)
    if operator == "symmetric":
        root = _inverse(arriving.sqrt())
        return edge_index, root[source] * weight * root[target]
    if operator == "row":
        return edge_index, weight * _inverse(arriving)[target]
    if operator == "column":
        leaving = torch.zeros(nodes, dtype=weight.dtype).scatter_add(0, source, weight)
        return edge_index, weight * _inverse(leaving)[source]
    raise UsageError(f"unknown operator {operator!r}", f"known: {', '.join(OPERATORS)}")


def propagate(h: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
    """One hop: row i of the result is the sum of weight(j, i) h_j over the edges j -> i. h (nodes, width)."""
    source, target = edge_index[0], edge_index[1]
    messages = h.index_select(0, source) * edge_weight.unsqueeze(1)
    return torch.zeros_like(h).scatter_add(0, target.unsqueeze(1).expand_as(messages), messages)


def _inverse(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, degree.reciprocal(), torch.zeros_like(degree))
