"""Activations, and their averages over z ~ N(0, K): quadrature that is split where an activation has kinks.

Section 5 of The Principles of Deep Learning Theory (Roberts, Yaida, Hanin, 2022). Gauss-Hermite nodes are wrong here:
across a kink they converge like 1/n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import acos, pi, sqrt

import numpy as np
from scipy.special import erf, expit, log_expit, ndtr

from archfront.spaces._parameter import Floats

__all__ = [
    "ACTIVATIONS",
    "LARGEST",
    "ORDERS",
    "SMALLEST",
    "Activation",
    "Averages",
    "averages",
    "hermite",
    "leaky_relu",
    "pair_average",
]

NODES = 200
"""Gauss-Legendre nodes per piece."""
REACH = 11.0
"""Standard deviations that are integrated over: the rest weighs less than 1e-27."""
BENDS = (0.0, 1.0, 4.0, 16.0)
"""Also the pieces end at plus and minus these z: where K is large, an activation's own scale is a narrow one."""
ORDERS = 8
"""Highest Hermite polynomial that is kept: for a ReLU the next ones are below 1e-3 of the sum."""
SMALLEST, LARGEST = 1e-70, 1e70
"""K is held between them: fourth powers must be representable, and chi at K = 0 is its limit."""
Function = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Activation:
    """sigma: `function` and `derivative` act on arrays (n,) of float64.

    `kinks`: where a derivative jumps. `slopes`: (a+, a-) of a scale-invariant one, a+ z above 0 and a- z below.
    `taylor`: the first three derivatives at 0 where they exist. sin is integrated well up to K of about 100.
    """

    name: str
    function: Function
    derivative: Function
    kinks: tuple[float, ...] = ()
    slopes: tuple[float, float] | None = None
    taylor: tuple[float, float, float] | None = None

    @cached_property
    def bends(self) -> Floats:
        """Ascending z at which pieces end."""
        return np.unique([*self.kinks, *BENDS, *(-bend for bend in BENDS)])

    @property
    def a2(self) -> float:
        """A2 = (a+^2 + a-^2)/2 of a scale-invariant activation."""
        return self._moment(2)

    @property
    def a4(self) -> float:
        """A4 = (a+^4 + a-^4)/2 of a scale-invariant activation."""
        return self._moment(4)

    def _moment(self, power: int) -> float:
        if self.slopes is None:
            raise ValueError(f"{self.name} is not scale invariant")
        return (self.slopes[0] ** power + self.slopes[1] ** power) / 2


@dataclass(frozen=True)
class Averages:
    """Over z ~ N(0, K): `second` g = <sigma^2>, its derivative `slope` g' = <z sigma sigma'>/K, `gradient` <sigma'^2>,
    `fourth` <sigma^4>, `mixed` <z^2 sigma^2>."""

    second: float
    slope: float
    gradient: float
    fourth: float
    mixed: float

    @property
    def spread(self) -> float:
        """<sigma^4> - <sigma^2>^2: what one more layer adds to the four-point vertex."""
        return max(0.0, self.fourth - self.second**2)


def averages(activation: Activation, K: float) -> Averages:
    """For K > 0; in closed form where the activation is scale invariant."""
    K = min(max(K, SMALLEST), LARGEST)
    if activation.slopes is not None:
        a2, a4 = activation.a2, activation.a4
        return Averages(a2 * K, a2, a2, 3 * a4 * K**2, 3 * a2 * K**2)
    t, weight = _pieces(np.array([activation.bends / sqrt(K)]))
    z, weight = sqrt(K) * t[0], weight[0]
    sigma, slope = activation.function(z), activation.derivative(z)
    square = sigma**2
    return Averages(
        second=float(weight @ square),
        slope=float(weight @ (z * sigma * slope)) / K,
        gradient=float(weight @ slope**2),
        fourth=float(weight @ square**2),
        mixed=float(weight @ (z**2 * square)),
    )


def hermite(activation: Activation, K: float) -> Floats:
    """(ORDERS + 1,): <sigma^2 e_b> of the orthonormal Hermite polynomials e_b(z / sqrt(K)), b from 0."""
    K = min(max(K, SMALLEST), LARGEST)
    t, weight = _pieces(np.array([activation.bends / sqrt(K)]))
    polynomials = [np.ones_like(t[0]), t[0]]
    for b in range(1, ORDERS):
        polynomials.append((t[0] * polynomials[b] - sqrt(b) * polynomials[b - 1]) / sqrt(b + 1))
    return np.asarray(np.array(polynomials) @ (weight[0] * activation.function(sqrt(K) * t[0]) ** 2))


def pair_average(activation: Activation, K_aa: float, K_ab: float, K_bb: float) -> float:
    """<sigma(z_a) sigma(z_b)> over a Gaussian pair with variances K_aa, K_bb > 0 and covariance K_ab.

    In closed form for scale-invariant activations (for ReLU the arc-cosine kernel), else z_b is integrated given z_a.
    """
    correlation = min(1.0, max(-1.0, K_ab / sqrt(K_aa * K_bb)))
    if activation.slopes is not None:
        above, below = activation.slopes
        angle = acos(correlation)
        relu = sqrt(K_aa * K_bb) / (2 * pi) * (sqrt(1 - correlation**2) + (pi - angle) * correlation)
        return above * below * K_ab + (above - below) ** 2 * relu  # sigma(z) = a- z + (a+ - a-) relu(z)
    mean, deviation = correlation * sqrt(K_bb), sqrt(K_bb * (1 - correlation**2))
    ends = [activation.bends / sqrt(K_aa)]
    if mean:
        ends.append(activation.bends / mean)  # where z_b, given z_a, is centred on a bend
    outer, outer_weight = _pieces(np.array([np.sort(np.concatenate(ends))]))
    t, t_weight = outer[0], outer_weight[0]
    if deviation < 1e-9 * sqrt(K_bb):
        given = activation.function(mean * t)
    else:
        u, u_weight = _pieces((activation.bends - mean * t[:, None]) / deviation)
        given = (u_weight * activation.function(mean * t[:, None] + deviation * u)).sum(axis=1)
    return float(t_weight @ (activation.function(sqrt(K_aa) * t) * given))


def _pieces(ends: Floats) -> tuple[Floats, Floats]:
    """Nodes and weights (rows, nodes) of a standard normal, for ascending inner ends (rows, ends) of the pieces.

    Pieces that are empty in every row are left out.
    """
    edge = np.full((len(ends), 1), REACH)
    ends = np.concatenate([-edge, np.clip(ends, -REACH, REACH), edge], axis=1)
    half = np.diff(ends) / 2
    kept = half.max(axis=0) > 0
    half, middle = half[:, kept, None], ((ends[:, 1:] + ends[:, :-1]) / 2)[:, kept, None]
    t = middle + half * _NODE
    weight = half * _WEIGHT * np.exp(-(t**2) / 2) / sqrt(2 * pi)
    return t.reshape(len(ends), -1), weight.reshape(len(ends), -1)


_NODE, _WEIGHT = np.polynomial.legendre.leggauss(NODES)


def leaky_relu(slope: float) -> Activation:
    """z above 0, `slope` times z below."""
    return Activation(
        "leaky_relu",
        lambda z: np.where(z > 0, z, slope * z),
        lambda z: np.where(z > 0, 1.0, slope),
        kinks=(0.0,),
        slopes=(1.0, slope),
    )


def _normal(z: Floats) -> Floats:
    return np.exp(-(z**2) / 2) / sqrt(2 * pi)


def _elu(z: Floats) -> Floats:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def _elu_slope(z: Floats) -> Floats:
    return np.where(z > 0, 1.0, np.exp(np.minimum(z, 0)))


def _silu_slope(z: Floats) -> Floats:
    slope: Floats = expit(z) * (1 + z * expit(-z))
    return slope


def _gate(z: Floats) -> Floats:
    """tanh(softplus(z)), the gate of Mish."""
    gate: Floats = np.tanh(-log_expit(-z))
    return gate


def _hard_swish_slope(z: Floats) -> Floats:
    return np.where(z < -3, 0.0, np.where(z > 3, 1.0, (2 * z + 3) / 6))


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_ROOT = sqrt(2 / pi)

ACTIVATIONS: Mapping[str, Activation] = {
    one.name: one
    for one in (
        Activation("linear", lambda z: z + 0.0, np.ones_like, slopes=(1.0, 1.0), taylor=(1.0, 0.0, 0.0)),
        Activation(
            "relu",
            lambda z: np.maximum(z, 0.0),
            lambda z: np.where(z > 0, 1.0, 0.0),
            kinks=(0.0,),
            slopes=(1.0, 0.0),
        ),
        leaky_relu(0.01),
        Activation("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2, taylor=(1.0, 0.0, -2.0)),
        Activation("sin", np.sin, np.cos, taylor=(1.0, 0.0, -1.0)),
        Activation("erf", erf, lambda z: 2 / sqrt(pi) * np.exp(-(z**2)), taylor=(2 / sqrt(pi), 0.0, -4 / sqrt(pi))),
        Activation(
            "hardtanh",
            lambda z: np.clip(z, -1.0, 1.0),
            lambda z: np.where(np.abs(z) < 1, 1.0, 0.0),
            kinks=(-1.0, 1.0),
            taylor=(1.0, 0.0, 0.0),
        ),
        Activation("elu", _elu, _elu_slope, kinks=(0.0,)),
        Activation("softsign", lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2, kinks=(0.0,)),
        Activation(
            "selu",
            lambda z: _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * _elu(z)),
            lambda z: _SELU_SCALE * np.where(z > 0, 1.0, _SELU_ALPHA * _elu_slope(z)),
            kinks=(0.0,),
        ),
        Activation("gelu", lambda z: z * ndtr(z), lambda z: ndtr(z) + z * _normal(z), taylor=(0.5, _ROOT, 0.0)),
        Activation("silu", lambda z: z * expit(z), _silu_slope, taylor=(0.5, 0.5, 0.0)),
        Activation(
            "mish",
            lambda z: z * _gate(z),
            lambda z: _gate(z) + z * (1 - _gate(z) ** 2) * expit(z),
            taylor=(0.6, 0.64, -0.096),
        ),
        Activation(
            "hard_swish",
            lambda z: z * np.clip(z + 3, 0, 6) / 6,
            _hard_swish_slope,
            kinks=(-3.0, 3.0),
            taylor=(0.5, 1 / 3, 0.0),
        ),
        Activation("sigmoid", expit, lambda z: expit(z) * expit(-z), taylor=(0.25, 0.0, -0.125)),
        Activation("softplus", lambda z: -log_expit(-z), expit, taylor=(0.5, 0.25, 0.0)),
    )
}
"""By the names of torch's functions. `elu` is that of alpha 1, `leaky_relu` that of slope 0.01 (see `leaky_relu`)."""
