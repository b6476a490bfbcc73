"""The hyperparameters that a self-tuning network moves: an unbounded vector and the scale of its perturbation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces._choices import Choice
from archfront.spaces._errors import UsageError
from archfront.spaces._numbers import Integer
from archfront.spaces._parameter import Parameter, Transform

__all__ = ["EDGE", "HyperVector", "Hyperparameter", "inside", "softplus_inverse", "start_of"]

EDGE = 0.05
"""A start at the end of a bounded range has no finite inner value: it moves inwards by this share of the range, where
the paper's own starts are (0.05 of a rate)."""


@dataclass(frozen=True)
class Hyperparameter:
    """One coordinate: value = transform(inner), held in [low, high].

    "logit": low + (high - low) sigmoid; "log": low + softplus; "log_below": high - softplus, which falls as the inner
    value grows; "identity". With `options` the value is a position, and its floor counts: the range is as wide as there
    are options.
    """

    name: str
    low: float
    high: float
    start: float
    transform: Transform = "logit"
    sigma0: float = 0.5
    options: tuple[float, ...] | None = None
    per_batch: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UsageError(f"{self.name}: nothing to tune between {self.low} and {self.high}", "leave it fixed")
        if not self.sigma0 > 0:
            raise UsageError(f"{self.name}: sigma0={self.sigma0} must be above 0")

    @classmethod
    def of(cls, parameter: Parameter, value: Any, *, per_batch: bool = False, scale: float = 1.0) -> Hyperparameter:
        """The coordinate of a declared parameter that starts at `value`. Raises UsageError."""
        if parameter.self_tuned is None:
            raise UsageError(f"{parameter.name!r} is not declared as self-tuned", "declare SelfTuned(...)")
        if (problem := parameter.problem(value)) is not None:
            raise UsageError(f"{parameter.name} cannot start at {value!r}", problem[1])
        declared = parameter.self_tuned
        options = _options(parameter)
        low, high = (0.0, float(len(options))) if options else (float(parameter.smallest()), float(parameter.largest()))
        if options is None and getattr(parameter, "zero", False):
            low = 0.0
        start = float(_position(parameter, value)) + 0.5 if options else float(value)  # the middle of an option's part
        sigma0 = declared.sigma0 * scale
        return cls(parameter.name, low, high, start, declared.transform, sigma0, options, per_batch)

    @property
    def inner_start(self) -> float:
        """The inner value of the start, which is moved inwards where it stands at an end."""
        start = inside(self.start, self.low, self.high, self.transform)
        if self.transform == "logit":
            share = min(max((start - self.low) / (self.high - self.low), 1e-6), 1 - 1e-6)
            return math.log(share / (1 - share))
        if self.transform == "log":
            return softplus_inverse(start - self.low)
        return softplus_inverse(self.high - start) if self.transform == "log_below" else start


def inside(value: float, low: float, high: float, transform: Transform = "logit") -> float:
    """`value`, or the nearest start that the transform reaches."""
    margin = EDGE * (high - low)
    if transform in ("logit", "log") and value <= low:
        return low + margin
    return high - margin if transform in ("logit", "log_below") and value >= high else value


def start_of(parameter: Parameter) -> Any:
    """The default of a self-tuned parameter, brought inside where the transform does not reach it."""
    if parameter.self_tuned is None or isinstance(parameter, Choice | Integer) or parameter.size == 1:
        return parameter.default
    low = 0.0 if getattr(parameter, "zero", False) else float(parameter.smallest())
    return inside(float(parameter.default), low, float(parameter.largest()), parameter.self_tuned.transform)


def softplus_inverse(value: float) -> float:
    """log(exp(v) - 1) for v > 0, without overflow."""
    return value + math.log(-math.expm1(-value))


class HyperVector(nn.Module):
    """lambda and s (n,); sigma = softplus(s). Rows H (B, n) are lambda, perturbed for each of B examples."""

    def __init__(self, members: Sequence[Hyperparameter]) -> None:
        super().__init__()
        if not members:
            raise UsageError("there is no hyperparameter to tune")
        self.members = tuple(members)
        self.lam = nn.Parameter(torch.tensor([m.inner_start for m in members]))
        self.s = nn.Parameter(torch.tensor([softplus_inverse(m.sigma0) for m in members]))
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.tensor([m.low for m in members]), persistent=False)
        self.register_buffer("high", torch.tensor([m.high for m in members]), persistent=False)

    @property
    def names(self) -> list[str]:
        """Names in the order of the columns."""
        return [member.name for member in self.members]

    @property
    def sigma(self) -> Float[Tensor, " hypers"]:
        """The standard deviation of the perturbation, in inner units."""
        return functional.softplus(self.s)

    def perturb(self, rows: int, generator: torch.Generator) -> Float[Tensor, "rows hypers"]:
        """H = lambda + sigma xi, xi ~ N(0, I); gradients reach lambda and s."""
        xi = torch.randn(rows, len(self.members), generator=generator)
        return self.perturbed(xi.to(self.lam.device))

    def perturbed(self, xi: Float[Tensor, "rows hypers"]) -> Float[Tensor, "rows hypers"]:
        """H of these draws. Hyperparameters that cannot vary within a batch take the first row's everywhere."""
        shared = [m.per_batch for m in self.members]
        if any(shared):
            xi = torch.where(torch.tensor(shared, device=xi.device), xi[:1].expand_as(xi), xi)
        return self.lam + self.sigma * xi

    def entropy(self) -> Float[Tensor, ""]:
        """sum_j log(sigma_j sqrt(2 pi e))."""
        return (self.sigma.log() + 0.5 * math.log(2 * math.pi * math.e)).sum()

    @torch.no_grad()
    def values(self, H: Float[Tensor, "rows hypers"]) -> Float[Tensor, "rows hypers"]:
        """The numbers that H stands for, in the users' units; no gradient."""
        value = self._continuous(H)
        for column, member in enumerate(self.members):
            if member.options is not None:
                position = value[:, column].floor().clamp(0, len(member.options) - 1).long()
                value[:, column] = torch.tensor(member.options, device=value.device)[position]
        return value

    def _continuous(self, H: Tensor) -> Tensor:
        value = torch.empty_like(H)
        for column, member in enumerate(self.members):
            inner = H[:, column]
            value[:, column] = _TRANSFORMS[member.transform](inner, member.low, member.high)
        return torch.minimum(torch.maximum(value, self.low), self.high)  # what has no end of its own is held

    def value_of(self) -> dict[str, float]:
        """The current value of each hyperparameter."""
        return dict(zip(self.names, self.values(self.lam.detach()[None])[0].tolist(), strict=True))

    @torch.no_grad()
    def scale_of(self) -> dict[str, float]:
        """Half the distance between the values at lambda + sigma and at lambda - sigma, before any floor."""
        up, down = self._continuous((self.lam + self.sigma)[None]), self._continuous((self.lam - self.sigma)[None])
        return dict(zip(self.names, (0.5 * (up - down).abs())[0].tolist(), strict=True))


def _options(parameter: Parameter) -> tuple[float, ...] | None:
    """The values of a discrete parameter as numbers."""
    if not isinstance(parameter, Choice | Integer):
        return None
    values = parameter.decode(parameter.enumerate())
    for value in values:
        if isinstance(value, str) or value is None:
            raise UsageError(f"{parameter.name}: option {value!r} is not a number: no module has such a strength")
    return tuple(float(value) for value in values)


def _position(parameter: Parameter, value: Any) -> int:
    return int(parameter.to_ints(parameter.encode([value]))[0])


_TRANSFORMS: Mapping[Transform, Callable[[Tensor, float, float], Tensor]] = {
    "logit": lambda inner, low, high: low + (high - low) * inner.sigmoid(),
    "log": lambda inner, low, high: low + functional.softplus(inner),
    "log_below": lambda inner, low, high: high - functional.softplus(inner),  # the first paper's code, not Delta-STN's
    "identity": lambda inner, low, high: inner,
}
