"""Criticality: the variances of weights and biases at which signals neither grow nor fade, and what follows from them.

The Principles of Deep Learning Theory (Roberts, Yaida, Hanin, 2022), sections 5, 6.4, 9.4 and appendix A. W has
variance C_W / fan_in, b has C_b.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log, sqrt
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from archfront.spaces._critical_gaussian import ORDERS, Activation, averages, hermite
from archfront.spaces._parameter import Floats

__all__ = [
    "Critical",
    "critical_point",
    "learning_rates",
    "mutual_information",
    "optimal_aspect_ratio",
    "optimal_x2",
    "pytorch_default",
    "residual_nu",
    "series",
    "slice_gain",
    "standard_deviations",
    "suggested_width",
]

Kind = Literal["scale_invariant", "zero", "half_stable"]
GRID = np.geomspace(1e-4, 1e4, 81)
TINY = 1e-12
"""K at which the flow towards 0 is looked at where there is no Taylor series."""
ROUNDING = 1e-10
"""Relative differences below it are the quadrature's."""


@dataclass(frozen=True)
class Critical:
    """Where chi_par = chi_perp = 1 at a fixed point `K` of the kernel.

    `kind`: scale_invariant (every K is fixed; `K` is 1 then), zero (K^l falls to 0 like l^-p_0) or half_stable (K^l
    stays at `K` if it starts there or comes from one side). `nu`: x2 = nu L/n in the limit of many layers L << n.
    `p_perp`: products of chi_perp fall like l^-p_perp.
    """

    kind: Kind
    C_b: float
    C_W: float
    K: float
    nu: float
    p_0: float = 0.0
    p_perp: float = 0.0


@lru_cache(maxsize=256)
def critical_point(activation: Activation) -> Critical | None:
    """None where there is none: chi_par = chi_perp = 1 would need C_b below 0, or K = 0 repels.

    K = 0 is considered where the first derivative exists there.
    """
    if activation.slopes is not None:
        a2, a4 = activation.a2, activation.a4
        return Critical("scale_invariant", 0.0, 1 / a2, 1.0, 3 * a4 / a2**2 - 1) if a2 else None
    return _at_zero(activation) or next(_interior(activation), None)


def series(activation: Activation) -> tuple[float, float]:
    """(a1, b1) of g = s1^2 (K + a1 K^2 + ...) and chi_perp = 1 + b1 K + ..., where sigma(0) = 0 and s1 is not 0.

    chi_par = 1 + 2 a1 K. Raises ValueError where the activation has no Taylor series.
    """
    if activation.taylor is None:
        raise ValueError(f"{activation.name} has no Taylor series at 0")
    s1, s2, s3 = activation.taylor
    return s3 / s1 + 0.75 * (s2 / s1) ** 2, s3 / s1 + (s2 / s1) ** 2


def _at_zero(activation: Activation) -> Critical | None:
    """The point K* = 0: C_W = 1/s1^2, C_b = 0."""
    value = float(activation.function(np.zeros(1))[0])
    left, right = (float(s) for s in activation.derivative(np.array([-1e-12, 1e-12])))
    if value != 0 or abs(left - right) > 1e-9 or left == 0:
        return None
    C_W = 1 / right**2
    if activation.taylor is None:
        p_0, p_perp = _exponents(activation, C_W)
        attracts = p_0 > 0
    else:
        a1, b1 = series(activation)
        attracts = a1 < 0 or (a1 == 0 and C_W * averages(activation, 1.0).second < 1)
        # a1 = 0: the correction is exponentially small in 1/K (hardtanh), K falls more slowly than any power
        p_0, p_perp = (1.0, b1 / a1) if a1 else (0.0, 0.0)
    # With K = c l^-p, chi_par = 1 - (p + 1)/l; V' = chi_par^2 V + 2 K^2 is solved by V = (2/3) l K^2 for every p
    return Critical("zero", 0.0, C_W, 0.0, 2 / 3, p_0, p_perp) if attracts else None


def _exponents(activation: Activation, C_W: float) -> tuple[float, float]:
    """(p_0, p_perp) of a flow K' = K - alpha K^(1 + 1/p_0) whose power is not 2 (ELU, softsign: 3/2); p_0 0: none."""
    loss = [1 - C_W * averages(activation, K).second / K for K in (TINY, 100 * TINY)]
    if min(loss) < ROUNDING:
        return 0.0, 0.0
    p_0 = log(100) / log(loss[1] / loss[0])
    return p_0, p_0 * (1 - C_W * averages(activation, TINY).gradient) / loss[0]


def _interior(activation: Activation) -> Iterator[Critical]:
    """Roots of chi_par = chi_perp between 1e-4 and 1e4 with C_b >= 0, ascending."""

    def difference(K: float) -> float:
        mean = averages(activation, K)
        return mean.slope - mean.gradient if abs(mean.slope - mean.gradient) > ROUNDING * mean.gradient else 0.0

    values = [difference(K) for K in GRID]
    for low, high, one, other in zip(GRID, GRID[1:], values, values[1:], strict=False):
        if one * other >= 0:
            continue
        K = float(brentq(difference, low, high, xtol=1e-14, rtol=1e-14))
        mean = averages(activation, K)
        C_W = 1 / mean.gradient
        C_b = K - C_W * mean.second
        if C_b >= 0:
            yield Critical("half_stable", C_b, C_W, K, C_W**2 * mean.spread / K**2)


def residual_nu(activation: Activation, gamma_squared: float) -> float:
    """nu of z' = gamma z + W sigma(z) for a scale-invariant sigma at C_W A2 = 1 - gamma^2, gamma^2 in 0..1.

    The first term is what the first block adds, and all of it where a+ = a-; the rest is what covariances of z_i and
    z_j^2 add after many more than 1/(1 - gamma) blocks (ours, see `flow`).
    """
    rest, gamma = 1 - gamma_squared, sqrt(gamma_squared)
    first = rest * ((3 * activation.a4 / activation.a2**2 - 1) * rest + 4 * gamma_squared)
    if gamma_squared in {0, 1}:
        return first
    order = np.arange(1, ORDERS + 1)
    relative = hermite(activation, 1.0)[1:] / activation.a2
    relative[1] = 0  # the vertex itself
    return first + 2 * rest**2 * float((gamma**order / (1 - gamma**order) * relative**2).sum())


def mutual_information(x2: float, outputs: int) -> float:
    """Between two halves of the outputs, in nats, to the third order in x2."""
    return outputs**2 / 32 * x2**2 * (1 - (20 + 3 * outputs) / 6 * x2)


def optimal_x2(outputs: int) -> float:
    """x2* = 4 / (20 + 3 n_L): where `mutual_information` is largest."""
    return 4 / (20 + 3 * outputs)


def optimal_aspect_ratio(nu: float, outputs: int) -> float:
    """r* = (L/n)* = x2* / nu."""
    return optimal_x2(outputs) / nu


def suggested_width(depth: int, nu: float, outputs: int) -> int:
    """The width n at which L/n = r*, rounded up."""
    return ceil(depth / optimal_aspect_ratio(nu, outputs))


def learning_rates(critical: Critical, depth: int) -> tuple[Floats, Floats]:
    """(lambda_b, lambda_W), each (depth,), layer 1 first: every layer contributes equally to an NTK of order 1.

    Multiply a learning rate by lambda_b for biases and by lambda_W / fan_in for weights; both constants of
    proportionality are 1. lambda_W has a factor l^p_0 in place of the book's l, where K falls like l^-p_0 (ours: ELU).
    """
    layer = np.arange(1, depth + 1, dtype=np.float64)
    lambda_b = layer**-critical.p_perp * depth ** (critical.p_perp - 1)
    return lambda_b, lambda_b * layer**critical.p_0


def standard_deviations(C_b: float, C_W: float, fan_in: int) -> tuple[float, float]:
    """(of biases, of weights) as torch.nn.init.normal_ takes them; fan_in of a convolution is c_in k^2 / groups."""
    return sqrt(C_b), sqrt(C_W / fan_in)


def pytorch_default(fan_in: int) -> tuple[float, float]:
    """(C_b, C_W) of torch's own nn.Linear and nn.Conv2d: both are uniform in +-1/sqrt(fan_in)."""
    return 1 / (3 * fan_in), 1 / 3


def slice_gain(fan_in: int, active: int) -> float:
    """What the weights of a slice with `active` of `fan_in` inputs must be multiplied by to keep C_W: their variance
    is still that of the whole layer."""
    return sqrt(fan_in / active)
