"""Residual MLPs whose skip runs at any width: the networks of hourglass_mlp, and their fixed random projections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces._errors import ConfigurationError
from archfront.spaces.vision._choice import Chosen

__all__ = ["ACTIVATIONS", "NORMS", "PROJECTIONS", "FixedProjection", "ResidualMlp", "Sizes", "fixed_matrix"]

ACTIVATIONS = {"GELU": nn.GELU, "ReLU": nn.ReLU, "SiLU": nn.SiLU}
NORMS = {"LN": 2, "RMS": 1, "none": 0}
"""Kind of norm -> trainable numbers per coordinate."""
PROJECTIONS = ("fixed_gauss", "fixed_orth", "fixed_sign", "trained")
PROJECTION_SEED = 0
EPSILON = 1e-5


@dataclass(frozen=True)
class Sizes:
    """d_x inputs, d_z the width of the skip, d_h of the updates, d_y outputs, L blocks."""

    d_x: int
    d_z: int
    d_h: int
    d_y: int
    blocks: int
    hourglass: bool = True

    def __post_init__(self) -> None:
        narrow = self.d_h < self.d_z
        if narrow != self.hourglass or (not self.hourglass and self.d_z != self.d_x):
            shape = "hourglass (d_h < d_z)" if self.hourglass else "conventional block (d_h > d_x = d_z)"
            raise ConfigurationError(f"d_x={self.d_x}, d_z={self.d_z}, d_h={self.d_h} is no {shape}", "change d_h")

    @property
    def has_head(self) -> bool:
        """The conventional network keeps an output matrix (and a norm before it) only where d_y differs from d_x."""
        return self.hourglass or self.d_y != self.d_x

    def parameters(self, *, w_in: str, norm: str, bias: bool) -> int:
        """Trainable numbers: L (2 d_z d_h + n d_z) + d_y d_z + n d_z, n = 2 with LayerNorm; more with biases and a
        trained W_in. A fixed W_in is none."""
        affine, head = NORMS[norm] * self.d_z, int(self.has_head)
        total = self.blocks * (2 * self.d_z * self.d_h + affine) + head * (self.d_y * self.d_z + affine)
        if bias:
            total += self.blocks * (self.d_h + self.d_z) + head * self.d_y
        return total + (self.d_z * self.d_x if self.hourglass and w_in == "trained" else 0)

    def macs(self) -> int:
        """Per image: d_x d_z + 2 L d_z d_h + d_z d_y, without what the conventional network leaves out."""
        ends = self.hourglass * self.d_x + self.has_head * self.d_y
        return self.d_z * (ends + 2 * self.blocks * self.d_h)


def fixed_matrix(kind: str, rows: int, columns: int, seed: int = PROJECTION_SEED) -> Tensor:
    """W_in (rows, columns) of a fixed kind, a function of its arguments.

    fixed_gauss: N(0, 1 / columns); fixed_sign: +-1 / sqrt(columns); both are drawn row by row, so that fewer rows are a
    prefix of more. fixed_orth: orthonormal columns (QR of a Gaussian matrix), |z_0| = |x|; needs rows >= columns.
    """
    drawn = np.random.default_rng(seed).standard_normal((rows, columns))
    if kind == "fixed_gauss":
        drawn /= np.sqrt(columns)
    elif kind == "fixed_sign":
        drawn = np.where(drawn < 0, -1.0, 1.0) / np.sqrt(columns)
    elif kind == "fixed_orth":
        q, r = np.linalg.qr(drawn)
        drawn = q * np.sign(np.diag(r))  # unique, whatever the library's convention
    else:
        raise ConfigurationError(f"w_in={kind!r} is not fixed", f"fixed are {', '.join(PROJECTIONS[:-1])}")
    return torch.from_numpy(drawn).float()


class FixedProjection(nn.Module):
    """z = W_in x with a matrix that is never trained: a buffer.

    Where a narrower matrix is a prefix of a wider one it is rebuilt and not stored; an orthonormal one is stored, and a
    supernet's sub-network takes the prefix of the widest one as it is (orthonormal only at full width).
    """

    weight: Tensor

    def __init__(self, kind: str, d_x: int, d_z: int) -> None:
        super().__init__()
        self.register_buffer("weight", fixed_matrix(kind, d_z, d_x), persistent=kind == "fixed_orth")

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        return functional.linear(x, self.weight)


class UpdateBlock(nn.Module):
    """z + W_2 act(W_1 Norm(z)), z (batch, d_z)."""

    def __init__(self, sizes: Sizes, norm: str, act: str, *, bias: bool, dropout: float) -> None:
        super().__init__()
        self.norm = _norm(norm, sizes.d_z)
        self.w1 = nn.Linear(sizes.d_z, sizes.d_h, bias=bias)
        self.act = ACTIVATIONS[act]()
        self.dropout = nn.Dropout(dropout)
        self.w2 = nn.Linear(sizes.d_h, sizes.d_z, bias=bias)
        nn.init.normal_(self.w2.weight, std=0.02 / (2 * sizes.blocks) ** 0.5)  # deep stacks diverge otherwise

    def forward(self, z: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        update: Tensor = self.w2(self.dropout(self.act(self.w1(self.norm(z)))))
        return z + update


class ResidualMlp(nn.Module):
    """Image (batch, C, h, w) -> flat image (batch, d_y): z_0 = W_in x, L updates, y = W_out Norm(z_L).

    `w_in` None leaves z_0 = x. Without a head y = z_L: a norm would take the image's scale away (our choice).
    """

    def __init__(
        self, sizes: Sizes, *, w_in: str | None, norm: str, act: str, bias: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.w_in = nn.Identity() if w_in is None else Chosen(w_in, _projection(w_in, sizes))
        self.blocks = nn.ModuleList(
            UpdateBlock(sizes, norm, act, bias=bias, dropout=dropout) for _ in range(sizes.blocks)
        )
        self.norm = _norm(norm, sizes.d_z) if sizes.has_head else nn.Identity()
        self.w_out = nn.Linear(sizes.d_z, sizes.d_y, bias=bias) if sizes.has_head else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch outputs"]:
        z = self.w_in(x.flatten(1))
        for block in self.blocks:
            z = block(z)
        y: Tensor = self.w_out(self.norm(z))
        return y


def _projection(kind: str, sizes: Sizes) -> nn.Module:
    if kind != "trained":
        return FixedProjection(kind, sizes.d_x, sizes.d_z)
    trained = nn.Linear(sizes.d_x, sizes.d_z, bias=False)
    nn.init.normal_(trained.weight, std=sizes.d_x**-0.5)  # starts as a fixed one would
    return trained


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return Chosen(kind, nn.LayerNorm(width, EPSILON) if kind == "LN" else nn.RMSNorm(width, EPSILON))
