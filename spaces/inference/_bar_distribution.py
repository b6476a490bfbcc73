"""The Riemann ("bar") distribution of prior-data fitted networks (Müller et al., 2022): probabilities over buckets,
whose two end buckets may be half-normal tails."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["BarDistribution", "borders_of", "merged", "nodes_of", "spread", "tail_scales"]

HALF = 0.6744897501960817
"""The median of HalfNormal(1)."""
MEAN = math.sqrt(2 / math.pi)
"""The mean of HalfNormal(1)."""
ONE_SIGMA = 0.15865525393145707
"""The mass above one standard deviation of a normal: `rest` of an upper confidence bound with beta = 1."""


@dataclass(frozen=True)
class BarDistribution:
    """Distributions over one grid b_0 < .. < b_K: bucket k holds (b_k, b_k+1].

    Inside, the density is flat within a bucket. `scales` are those of the two tails: the first bucket then is b_1 minus
    a half-normal value of this scale, the last one b_K-1 plus one; 0 is a flat, bounded end.
    """

    log_probs: Float[Tensor, "*batch buckets"]
    borders: Float[Tensor, " edges"]
    scales: Float[Tensor, "*batch 2"]

    @classmethod
    def of_output(cls, output: Float[Tensor, "*batch outputs"], borders: Float[Tensor, " edges"]) -> BarDistribution:
        """From a network's output: log-probabilities of the buckets, then the two scales."""
        return cls(output[..., :-2], borders.to(output.dtype), output[..., -2:])

    @property
    def probs(self) -> Float[Tensor, "*batch buckets"]:
        """Probabilities of the buckets."""
        return self.log_probs.exp()

    @property
    def widths(self) -> Float[Tensor, " buckets"]:
        """b_k+1 - b_k."""
        return self.borders.diff()

    def bucket_of(self, y: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
        """The bucket of each value, the end buckets for those beyond the borders."""
        found = (
            torch.searchsorted(self.borders.contiguous(), y.contiguous()) - 1
        )  # a border belongs to the bucket on its left
        return found.clamp(0, len(self.borders) - 2)

    def nll(self, y: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Negative log density; a bounded end's density goes on for ever, so that the loss stays finite."""
        k = self.bucket_of(y)
        log_mass = self.log_probs.gather(-1, k[..., None])[..., 0]
        log_density = -self.widths.log()[k]
        low, high = self.scales.unbind(-1)
        first, last = k == 0, k == len(self.widths) - 1
        log_density = torch.where(first & (low > 0), _log_half_normal(self.borders[1] - y, low), log_density)
        log_density = torch.where(last & (high > 0), _log_half_normal(y - self.borders[-2], high), log_density)
        return -(log_mass + log_density)

    @property
    def mean(self) -> Float[Tensor, "*batch"]:
        """The expected value."""
        means, _ = self._moments()
        return (self.probs * means).sum(-1)

    @property
    def variance(self) -> Float[Tensor, "*batch"]:
        """The expected squared distance from the mean."""
        _, squares = self._moments()
        return ((self.probs * squares).sum(-1) - self.mean.square()).clamp(min=0)

    def cdf(self, y: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """P(Y <= y)."""
        below = ((y[..., None] - self.borders[:-1]) / self.widths).clamp(0, 1)
        low, high = self.scales.unbind(-1)
        first = torch.where(low > 0, 1 - _half_normal_cdf(self.borders[1] - y, low), below[..., 0])
        last = torch.where(high > 0, _half_normal_cdf(y - self.borders[-2], high), below[..., -1])
        return (self.probs * _with_ends(below, first, last)).sum(-1)

    def icdf(self, q: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The quantile of probability q in 0..1."""
        probs = self.probs
        total = probs.cumsum(-1)
        k = torch.searchsorted(total, q[..., None].contiguous())[..., 0].clamp(max=probs.shape[-1] - 1)
        mass = probs.gather(-1, k[..., None])[..., 0]
        before = total.gather(-1, k[..., None])[..., 0] - mass
        share = ((q - before) / mass.clamp(min=torch.finfo(mass.dtype).tiny)).clamp(0, 1)
        found = self.borders[k] + share * self.widths[k]
        low, high = self.scales.unbind(-1)
        first, last = (k == 0) & (low > 0), (k == probs.shape[-1] - 1) & (high > 0)
        found = torch.where(first, self.borders[1] - _half_normal_icdf(1 - share, low), found)
        return torch.where(last, self.borders[-2] + _half_normal_icdf(share, high), found)

    def improvement(self, f: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Expected improvement E max(0, Y - f)."""
        left, right = self.borders[:-1], self.borders[1:]
        best = f[..., None]
        c = torch.minimum(torch.maximum(best, left), right)
        gain = ((right.square() - c.square()) / 2 - best * (right - c)) / self.widths
        low, high = self.scales.unbind(-1)
        first = torch.where(low > 0, _gain_below(self.borders[1] - f, low), gain[..., 0])
        last = torch.where(high > 0, _gain_above(self.borders[-2] - f, high), gain[..., -1])
        return (self.probs * _with_ends(gain, first, last)).sum(-1)

    def probability_of_improvement(self, f: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """P(Y > f)."""
        return 1 - self.cdf(f)

    def upper_confidence(self, rest: float = ONE_SIGMA) -> Float[Tensor, "*batch"]:
        """The value that Y exceeds with probability `rest`."""
        return self.icdf(torch.full_like(self.log_probs[..., 0], 1 - rest))

    def _moments(self) -> tuple[Float[Tensor, "*batch buckets"], Float[Tensor, "*batch buckets"]]:
        """Mean and mean square of Y in each bucket."""
        left, right = self.borders[:-1], self.borders[1:]
        means = ((left + right) / 2).expand_as(self.log_probs)
        squares = ((left.square() + left * right + right.square()) / 3).expand_as(self.log_probs)
        low, high = self.scales.unbind(-1)
        a, c = self.borders[-2], self.borders[1]
        first = torch.where(low > 0, c - low * MEAN, means[..., 0])
        last = torch.where(high > 0, a + high * MEAN, means[..., -1])
        first_square = torch.where(low > 0, c * c - 2 * c * low * MEAN + low.square(), squares[..., 0])
        last_square = torch.where(high > 0, a * a + 2 * a * high * MEAN + high.square(), squares[..., -1])
        return _with_ends(means, first, last), _with_ends(squares, first_square, last_square)


def tail_scales(borders: Float[Tensor, "*batch edges"]) -> Float[Tensor, "*batch 2"]:
    """Scales at which half of a tail's mass lies within the width of its bucket."""
    widths = borders.diff()
    return torch.stack([widths[..., 0], widths[..., -1]], -1) / HALF


def borders_of(samples: Float[Tensor, " samples"], buckets: int) -> Float[Tensor, " edges"]:
    """Borders between `buckets` groups of (nearly) equal numbers of samples: midpoints between neighbouring groups, the
    ends at the smallest and the largest one. Raises ValueError where there are too few different samples."""
    ordered = samples.double().sort().values
    ends = torch.linspace(0, len(ordered), buckets + 1, dtype=torch.float64).round().long()[1:-1]
    inner = (ordered[ends - 1] + ordered[ends]) / 2
    borders = torch.cat([ordered[:1], inner, ordered[-1:]]).float()
    if len(ordered) < buckets or not (borders.diff() > 0).all():
        raise ValueError(f"{len(ordered)} samples do not make {buckets} buckets: they are too few or too alike")
    return borders


def merged(log_probs: Float[Tensor, "*batch buckets"], size: int) -> Float[Tensor, "*batch fewer"]:
    """Log-probabilities of the grid that keeps every `size`-th border: exact sums of `size` neighbours."""
    return _grouped(log_probs, size).logsumexp(-1)


def spread(
    log_probs: Float[Tensor, "*batch fewer"], borders: Float[Tensor, "*grids edges"], size: int
) -> Float[Tensor, "*batch buckets"]:
    """Log-probabilities on the fine grid: each coarse bucket's shared out among its `size` fine ones by their width."""
    log_share = _grouped(borders.diff(), size).log()
    log_share = log_share - log_share.logsumexp(-1, keepdim=True)
    log_fine: Tensor = (log_probs[..., None] + log_share).flatten(-2)
    return log_fine


def nodes_of(
    borders: Float[Tensor, " edges"], scales: Float[Tensor, " 2"], order: int
) -> tuple[Float[Tensor, "buckets order"], Float[Tensor, " order"]]:
    """Points and weights by which E[g(Y) | bucket k] is about sum_j w_j g(y_kj): the Gauss-Legendre rule in the mass
    inside the bucket."""

    points, weights = (torch.from_numpy(rule) for rule in np.polynomial.legendre.leggauss(order))
    mass = (points + 1) / 2
    nodes = borders.double()[:-1, None] + mass * borders.double().diff()[:, None]
    low, high = scales.double()
    if low > 0:
        nodes[0] = borders[1].double() - _half_normal_icdf(1 - mass, low)
    if high > 0:
        nodes[-1] = borders[-2].double() + _half_normal_icdf(mass, high)
    return nodes, weights / 2


def _grouped(x: Tensor, size: int) -> Tensor:
    """(..., n) to (..., n / size, size)."""
    return x.reshape(*x.shape[:-1], x.shape[-1] // size, size)


def _with_ends(
    inner: Float[Tensor, "*batch buckets"], first: Float[Tensor, "*batch"], last: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch buckets"]:
    return torch.cat([first[..., None], inner[..., 1:-1], last[..., None]], -1)


def _safe(scale: Tensor) -> Tensor:
    """1 for the scale 0 of a bounded end, whose result is thrown away: no NaN may enter the gradient."""
    return torch.where(scale > 0, scale, 1.0)


def _log_half_normal(z: Tensor, scale: Tensor) -> Tensor:
    s = _safe(scale)
    return 0.5 * math.log(2 / math.pi) - s.log() - 0.5 * (z / s).square()


def _half_normal_cdf(z: Tensor, scale: Tensor) -> Tensor:
    return torch.erf(z.clamp(min=0) / (_safe(scale) * math.sqrt(2)))


def _half_normal_icdf(q: Tensor, scale: Tensor) -> Tensor:
    largest = 1 - torch.finfo(q.dtype).eps
    return scale * math.sqrt(2) * torch.erfinv(q.clamp(0, largest))


def _partial(u: Tensor) -> Tensor:
    """2 (phi(u) + u Phi(u))."""
    phi = torch.exp(-0.5 * u.square()) / math.sqrt(2 * math.pi)
    partial: Tensor = 2 * (phi + u * torch.special.ndtr(u)).clamp(min=0)
    return partial


def _gain_above(r: Tensor, scale: Tensor) -> Tensor:
    """E max(0, r + Z) of a half-normal Z."""
    s = _safe(scale)
    return torch.where(r >= 0, r + s * MEAN, s * _partial(r.clamp(max=0) / s))


def _gain_below(r: Tensor, scale: Tensor) -> Tensor:
    """E max(0, r - Z) of a half-normal Z."""
    s, r = _safe(scale), r.clamp(min=0)
    return torch.where(r > 0, (r - s * MEAN + s * _partial(-r / s)).clamp(min=0), 0.0)
