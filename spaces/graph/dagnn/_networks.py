"""The two networks of the space: transform once and then propagate (DAGNN), or both in every layer (GCN)."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from archfront.spaces.graph._features import DropLinear, FeatureLinear
from archfront.spaces.graph._propagate import propagate

__all__ = ["DecoupledNet", "EntangledNet", "Maps", "map_widths"]


def map_widths(inputs: int, hidden: int, outputs: int, depth: int) -> list[tuple[int, int]]:
    """(in, out) of `depth` affine maps in a row."""
    widths = [inputs, *[hidden] * (depth - 1), outputs]
    return list(itertools.pairwise(widths))


class Maps(nn.Module):
    """`depth` affine maps with dropout before each: first, blocks.0.., last; a single one is called direct.

    No name moves with depth, and a single map never shares a tensor with the first of several.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DropLinear(hidden, hidden, dropout) for _ in range(depth - 2))
        if depth == 1:
            self.direct = FeatureLinear(inputs, outputs, dropout)
        else:
            self.first = FeatureLinear(inputs, hidden, dropout)
            self.last = DropLinear(hidden, outputs, dropout)

    def in_order(self) -> list[DropLinear]:
        """The maps as they are applied."""
        if hasattr(self, "direct"):
            return [self.direct]
        return [self.first, *[block for block in self.blocks if isinstance(block, DropLinear)], self.last]


class DecoupledNet(nn.Module):
    """(x (n, d), edge_index (2, E), edge_weight (E,)) -> logits (n, c).

    Z = MLP(X), H^(0) = Z, H^(k) = A H^(k-1) for k = 1..K, then the gate over all K + 1 hop vectors.
    """

    def __init__(self, mlp: Maps, K: int, gate: nn.Module) -> None:
        super().__init__()
        self.mlp, self.K, self.gate = mlp, K, gate

    def forward(
        self,
        x: Float[Tensor, "nodes features"],
        edge_index: Int[Tensor, "2 edges"],
        edge_weight: Float[Tensor, " edges"],
    ) -> Float[Tensor, "nodes classes"]:
        *hidden, last = self.mlp.in_order()
        for layer in hidden:
            x = layer(x).relu()
        hops = [last(x)]
        for _ in range(self.K):
            hops.append(propagate(hops[-1], edge_index, edge_weight))
        logits: Tensor = self.gate(torch.stack(hops, dim=1))
        return logits


class EntangledNet(nn.Module):
    """K graph convolutions A (drop(H) W) + b, ReLU between: the network whose depth the paper argues against.

    With K = 0 it is one affine map without any graph.
    """

    def __init__(self, gcn: Maps, K: int) -> None:
        super().__init__()
        self.gcn, self.K = gcn, K

    def forward(
        self,
        x: Float[Tensor, "nodes features"],
        edge_index: Int[Tensor, "2 edges"],
        edge_weight: Float[Tensor, " edges"],
    ) -> Float[Tensor, "nodes classes"]:
        *hidden, last = self.gcn.in_order()
        for layer in hidden:
            x = (propagate(layer.product(x), edge_index, edge_weight) + layer.bias).relu()
        x = last.product(x)
        return (propagate(x, edge_index, edge_weight) if self.K else x) + last.bias
