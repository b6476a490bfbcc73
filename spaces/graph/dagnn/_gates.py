"""How a node combines its hop vectors P (nodes, K + 1, classes): learned gates, fixed weights, the last hop."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces._errors import UsageError

__all__ = ["GATES", "LEARNED", "FixedGate", "LastHop", "LearnedGate", "make_gate"]

LEARNED = ("sigmoid", "softmax")
GATES = (*LEARNED, "mean", "last", "ppr")
"""The paper's gate first; "last" makes the network SGC on an MLP, "ppr" APPNP."""


def gated_sum(S: Tensor, P: Tensor) -> Tensor:
    """sum_k S_ik P_ik: weights (nodes, K + 1, 1) and hop vectors -> (nodes, classes)."""
    return torch.bmm(S.mT, P).squeeze(1)


class LearnedGate(nn.Module):
    """S = sigmoid(P s + b), then sum_k S_k P_k; s and b are shared by hops and nodes.

    `softmax` normalises the same scores over the hops there are. With `embedded` each hop adds a learned vector to
    what the gate reads, not to what it sums; it starts at zero, that is at the paper's gate (our choice, no paper has
    one).
    """

    hops: nn.Parameter | None

    def __init__(self, kind: str, K: int, classes: int, *, embedded: bool) -> None:
        super().__init__()
        self.kind = kind
        self.projection = nn.Linear(classes, 1)
        self.register_parameter("hops", nn.Parameter(torch.zeros(K + 1, classes)) if embedded else None)

    def forward(self, P: Float[Tensor, "nodes hops classes"]) -> Float[Tensor, "nodes classes"]:
        scores: Tensor = self.projection(P if self.hops is None else P + self.hops)
        S = scores.sigmoid() if self.kind == "sigmoid" else scores.softmax(dim=1)
        return gated_sum(S, P)


class FixedGate(nn.Module):
    """sum_k w_k P_k with constant weights (K + 1,)."""

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, P: Float[Tensor, "nodes hops classes"]) -> Float[Tensor, "nodes classes"]:
        return gated_sum(self.weights.view(1, -1, 1).expand(P.shape[0], -1, 1), P)


class LastHop(nn.Module):
    """P_K alone."""

    def forward(self, P: Float[Tensor, "nodes hops classes"]) -> Float[Tensor, "nodes classes"]:
        return P[:, -1]


def make_gate(kind: str, K: int, classes: int, *, embedded: bool = False, alpha: float = 0.1) -> nn.Module:
    """The gate called `kind`; `alpha` is the teleport probability of "ppr". Raises UsageError for an unknown kind."""
    if kind in LEARNED:
        return LearnedGate(kind, K, classes, embedded=embedded)
    if kind == "mean":
        return FixedGate(torch.full((K + 1,), 1 / (K + 1)))
    if kind == "ppr":
        return FixedGate(alpha * (1 - alpha) ** torch.arange(K + 1, dtype=torch.float32))
    if kind == "last":
        return LastHop()
    raise UsageError(f"unknown gate {kind!r}", f"known: {', '.join(GATES)}")
