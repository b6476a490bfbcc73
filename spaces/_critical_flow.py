"""Recursions over the layers of a random network: kernel, susceptibilities, four-point vertex, tangent kernel.

The Principles of Deep Learning Theory (Roberts, Yaida, Hanin, 2022), sections 4, 5 and 8; unequal widths, and skips
around several layers, by the same steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod, sqrt

import numpy as np

from archfront.spaces._critical_gaussian import (
    LARGEST,
    ORDERS,
    SMALLEST,
    Activation,
    averages,
    hermite,
    pair_average,
)
from archfront.spaces._parameter import Floats

__all__ = ["Block", "Flow", "Layer", "chain", "flow", "pair_kernel"]


@dataclass(frozen=True)
class Layer:
    """z' = b + W sigma(z), b ~ N(0, C_b), W ~ N(0, C_W / fan_in); `fan_in` inf: of a layer that is infinitely wide.

    `lambda_b`, `lambda_W`: learning rates of biases, and of weights times fan_in.
    """

    activation: Activation
    C_b: float
    C_W: float
    fan_in: float = inf
    lambda_b: float = 1.0
    lambda_W: float = 1.0


@dataclass(frozen=True)
class Block:
    """z' = gamma z + layers(z); gamma 0: no skip."""

    layers: tuple[Layer, ...]
    gamma: float = 0.0


@dataclass(frozen=True)
class Flow:
    """States between blocks (blocks + 1,): `kernel` K, `vertex` v = V/n, `tangent` H.

    chi_par, chi_perp (blocks,) are those of a block. `shares` (layers,): what each layer contributes to the last H, as
    parts of 1; all 0 where nothing reaches it.
    """

    kernel: Floats
    vertex: Floats
    tangent: Floats
    chi_par: Floats
    chi_perp: Floats
    shares: Floats

    @property
    def x2(self) -> Floats:
        """x2 = V / (n K^2) of every state: a third of a preactivation's excess kurtosis."""
        return np.asarray(self.vertex / self.kernel**2)


@dataclass
class _Step:
    """What a block makes of K, v, `memory` (see `_through`) and H."""

    K: float
    v: float
    memory: Floats
    chi_par: float
    chi_perp: float
    contributions: list[float]


def chain(layer: Layer, depth: int) -> list[Block]:
    """`depth` equal layers without skips."""
    return [Block((layer,))] * depth


def flow(K: float, blocks: Sequence[Block]) -> Flow:
    """The recursions from a state of variance `K` on that has V = 0 and H = 0.

    Data are such a state, with K = |x|^2/n_0: the first block is then a linear layer of `fan_in` inf, for the data are
    no random draw.
    """
    kernel, vertex, tangent = [_held(K)], [0.0], [0.0]
    steps, memory = list[_Step](), np.zeros(ORDERS + 1)
    for block in blocks:
        step = _through(block, kernel[-1], vertex[-1], memory)
        steps.append(step)
        memory = step.memory
        kernel.append(step.K)
        vertex.append(step.v)
        tangent.append(step.chi_perp * tangent[-1] + sum(step.contributions))
    later, parts = 1.0, []
    for step in reversed(steps):
        parts += [later * part for part in reversed(step.contributions)]
        later *= step.chi_perp
    contributions = np.array(parts[::-1])
    total = contributions.sum()
    return Flow(
        np.array(kernel),
        np.array(vertex),
        np.array(tangent),
        np.array([step.chi_par for step in steps]),
        np.array([step.chi_perp for step in steps]),
        contributions / total if total > 0 else contributions,
    )


def _through(block: Block, K: float, v: float, memory: Floats) -> _Step:
    """One block; S is the variance of its layers' output given z, and z' = gamma z + sqrt(S) noise.

    Cov(z_i'^2, z_j'^2) = gamma^4 v + 2 gamma^2 Cov(z_i^2, S) + Var(S). A skip keeps z_i, on which S depends, so that
    `memory`[b] = Cov(e_b(z_i), z_j^2) of the Hermite polynomials e_b is of order 1/n too, b = 1, 3, 4, ..., and enters
    both covariances (b = 2 is v). The recursion of `memory` is ours: Monte Carlo estimates need it (tests/spaces).
    """
    inner, gamma2 = K, block.gamma**2
    pars, perps, added = list[float](), list[float](), list[float]()
    variance = cov_z2 = 0.0  # Var(S), Cov(z_i^2, S) of the layers so far
    cov_e = np.zeros_like(memory)  # Cov(e_b(z_i), S)
    for i, layer in enumerate(block.layers):
        mean = averages(layer.activation, inner)
        par = layer.C_W * mean.slope
        own = layer.C_W**2 * mean.spread / layer.fan_in
        if i == 0:
            skewed = (
                layer.C_W * _without_vertex(layer.activation, K)
                if block.gamma or memory.any()
                else np.zeros_like(memory)
            )
            crossed = float(skewed @ memory)
            variance = par**2 * v + own + 2 * par * crossed
            cov_z2 = par * v + crossed + layer.C_W * (mean.mixed - K * mean.second) / layer.fan_in
            cov_e = par * memory + skewed / layer.fan_in
        else:
            variance, cov_z2, cov_e = par**2 * variance + own, par * cov_z2, par * cov_e
        pars.append(par)
        perps.append(layer.C_W * mean.gradient)
        added.append(layer.lambda_b + layer.lambda_W * mean.second)
        inner = _held(layer.C_b + layer.C_W * mean.second)
    kernel = _held(inner + gamma2 * K)
    return _Step(
        K=kernel,
        v=gamma2**2 * v + 2 * gamma2 * cov_z2 + variance,
        memory=(block.gamma * sqrt(K / kernel)) ** np.arange(len(memory)) * (gamma2 * memory + cov_e),
        chi_par=gamma2 + prod(pars),
        chi_perp=gamma2 + prod(perps),
        contributions=[part * prod(perps[i + 1 :]) for i, part in enumerate(added)],
    )


def _without_vertex(activation: Activation, K: float) -> Floats:
    """<sigma^2 e_b>, 0 for b = 0 (a mean) and 2 (the vertex has it)."""
    found = hermite(activation, K)
    found[[0, 2]] = 0
    return found


def pair_kernel(K_aa: float, K_ab: float, K_bb: float, layers: Sequence[Layer]) -> Floats:
    """(layers + 1, 3): K_aa, K_ab, K_bb of two inputs at z^1, z^2, ..., without skips."""
    rows = [(K_aa, K_ab, K_bb)]
    for layer in layers:
        a, ab, b = rows[-1]
        means = (
            averages(layer.activation, a).second,
            pair_average(layer.activation, a, ab, b),
            averages(layer.activation, b).second,
        )
        rows.append(tuple(layer.C_b + layer.C_W * mean for mean in means))  # type: ignore[arg-type]
    return np.array(rows)


def _held(K: float) -> float:
    return min(max(K, SMALLEST), LARGEST)
