"""How alike the nodes of a graph have become: the paper's measure of over-smoothing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from archfront.spaces._errors import UsageError

__all__ = ["smoothness"]

CHUNK = 1024


@torch.no_grad()
def smoothness(x: Tensor) -> float:
    """SMV_G of node vectors x (n, width), n >= 2: the mean over i != j of 1/2 |x_i/|x_i| - x_j/|x_j||, in 0..1.

    0: all point the same way (over-smoothed). A zero vector stays zero (our choice).
    """
    if x.dim() != 2 or len(x) < 2:
        raise UsageError(f"node vectors of shape {tuple(x.shape)}", "expected (n, width) with n at least 2")
    unit = functional.normalize(x.double(), dim=1)
    exact = "donot_use_mm_for_euclid_dist"  # the quick way loses the small distances
    total = 0.0
    for start in range(0, len(unit), CHUNK):
        total += float(torch.cdist(unit[start : start + CHUNK], unit, compute_mode=exact).sum())
    return 0.5 * total / (len(x) * (len(x) - 1))
