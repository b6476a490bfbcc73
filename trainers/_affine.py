"""Images turned, sheared, zoomed and moved at once, each by an affine map of its own (Bae & Grosse, 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

__all__ = ["AFFINE", "transformed"]

AFFINE = ("rotate", "shear", "zoom", "translate")
"""Degrees, degrees, and shares of the image's size."""

Images = Float[Tensor, "batch channels height width"]


def transformed(x: Images, strengths: Mapping[str, Tensor], draw: Callable[[], Tensor]) -> Images:
    """Angles, zoom and shifts are uniform within +-strength; what comes from outside of the image is 0, and between
    pixels is bilinear. Strengths hold a number for each image or one for all; `draw` gives a uniform number in [0, 1)
    for each image."""
    named = {name: strengths[name].flatten() for name in AFFINE if name in strengths}
    if not named:
        return x
    zeros = x.new_zeros(len(x))

    def either_way(name: str) -> Tensor:
        return zeros if name not in named else named[name].to(x) * (2 * draw().flatten() - 1)

    turn, slant = (either_way(name) * math.pi / 180 for name in ("rotate", "shear"))
    zoom, right, down = either_way("zoom"), either_way("translate"), either_way("translate")
    warped = warp(x, turn, slant, 1 + zoom, right, down)
    still = torch.stack([turn, slant, zoom, right, down]).eq(0).all(dim=0)
    return torch.where(still.view(-1, 1, 1, 1), x, warped)  # interpolation at the pixels themselves rounds


def warp(x: Images, turn: Tensor, slant: Tensor, zoom: Tensor, right: Tensor, down: Tensor) -> Images:
    """Each image magnified by `zoom`, sheared along its rows by `slant`, turned counter-clockwise by `turn` (radians),
    and moved by these shares of its size. All (batch,)."""
    height, width = x.shape[-2:]
    cos, sin, tan = turn.cos(), turn.sin(), slant.tan()
    # where the pixel at (column, row) comes from, rows counted downwards: first turned back, then sheared, then shrunk
    from_column = torch.stack([cos - tan * sin, -(sin + tan * cos)], dim=1)
    from_row = torch.stack([sin, cos], dim=1)
    inverse = torch.stack([from_column, from_row], dim=1) / zoom.view(-1, 1, 1)
    size = x.new_tensor([width, height])
    scaled = inverse * size / size.view(2, 1)  # grids count in halves of the image's size
    shift = -2 * torch.einsum("bij,bj->bi", scaled, torch.stack([right, down], dim=1))
    grid = functional.affine_grid(torch.cat([scaled, shift[:, :, None]], dim=2), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
