"""The prior over architectures (ours): search spaces of choices, ranks and numbers, as `SearchSpace.to_features` writes
them, with labels that add up over the decisions and interact."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from archfront.spaces.inference._prior import Prior, gaussian_draw, noisy, standardised, uniform
from archfront.spaces.inference._prior_gp import squared_distances

__all__ = ["Architectures"]

GROUPS = 4
"""Search spaces in one draw: its data sets are shared out among them."""
LATENT = 2
"""Coordinates of an option: options that lie near to each other have similar labels."""
HIDDEN = 48
"""Width of the random perceptrons."""
PERCEPTRONS = 0.3
"""Share of the search spaces whose interactions are a perceptron's."""
TREES, LEVELS = 32, 3
"""Random trees of one draw, and their depth."""


@dataclass(frozen=True)
class Decision:
    """One parameter: a choice (one-hot), a rank (one-hot and rank) or a number; `conditional` ones have a column that
    says whether they are active, and are zero where they are not."""

    kind: str
    options: int
    conditional: bool

    @property
    def width(self) -> int:
        """Its columns."""
        own = {"choice": self.options, "rank": self.options + 1, "number": 1}[self.kind]
        return own + self.conditional


@dataclass(frozen=True)
class Architectures(Prior):
    """Labels = effects of single decisions + a Gaussian process over all of them (Matérn-3/2 over choices' latent
    coordinates, ranks and numbers; in a share `trees` of the search spaces the tree kernel: how often random trees put
    two configurations into one leaf) or a random perceptron on the columns + noise; mean 0, variance 1.

    Shares of the parts, lengthscales, how alike the options are and how near the points are to one configuration (as
    those of a search become) are drawn for each data set, the search space for a quarter of a draw.
    """

    features: int = 64
    trees: float = 0.0

    def raw(self, batch: int, points: int, generator: torch.Generator) -> tuple[Tensor, Int[Tensor, " batch"], Tensor]:
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        rng = np.random.default_rng(seed)  # for what decides shapes
        sizes = [len(part) for part in np.array_split(np.arange(batch), min(GROUPS, batch))]
        parts = [self._group(size, points, rng, generator) for size in sizes]
        x, used, y = (torch.cat(part) for part in zip(*parts, strict=True))
        return x, used, y

    def _group(
        self, batch: int, points: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        decisions = drawn_space(rng, self.features)
        value = _values(decisions, batch, points, generator)
        active = _active(decisions, value, generator)
        x = _columns(decisions, value, active)
        kind = rng.random()
        together = "perceptron" if kind < PERCEPTRONS else "trees" if kind >= 1 - self.trees else "process"
        y = _labels(decisions, value, active, x, generator, together)
        used = torch.full((batch,), x.shape[-1], device=x.device)
        return torch.nn.functional.pad(x, (0, self.features - x.shape[-1])), used, y


def drawn_space(rng: np.random.Generator, columns: int) -> list[Decision]:
    """Decisions of at most `columns` columns: half of the spaces repeat one decision, a quarter have a depth, on which
    the others depend."""
    conditional = bool(rng.random() < 0.25)
    alike = rng.random() < 0.5
    number = int(np.exp(rng.uniform(np.log(2), np.log(33))))
    kinds = rng.choice(["choice", "rank", "number"], number, p=[0.55, 0.25, 0.2])
    options = rng.integers(2, 9, number)
    if alike:
        kinds[:], options[:] = kinds[0], options[0]
    decisions = [Decision("number", 2, False)] if conditional else []
    for kind, of in zip(kinds, options, strict=True):
        decision = Decision(str(kind), int(of), conditional)
        if sum(d.width for d in decisions) + decision.width <= columns:
            decisions.append(decision)
    return decisions or [Decision("number", 2, False)]


def _values(decisions: list[Decision], batch: int, points: int, generator: torch.Generator) -> Tensor:
    """Positions of options, and numbers in 0..1 (batch, points, decisions)."""
    device = generator.device
    value = uniform(generator, batch, points, len(decisions))
    near = uniform(generator, batch, 1, 1) * (uniform(generator, batch, 1, 1) < 0.4)
    base = uniform(generator, batch, 1, len(decisions))
    value = torch.where(uniform(generator, *value.shape) < near, base, value)
    options = torch.tensor([d.options for d in decisions], device=device)
    numbers = torch.tensor([d.kind == "number" for d in decisions], device=device)
    return torch.where(numbers, value, (value * options).floor().minimum(options - 1))


def _active(decisions: list[Decision], value: Tensor, generator: torch.Generator) -> Tensor:
    """Which decisions count (batch, points, decisions): the first ones, as many as the depth says."""
    if not decisions[-1].conditional:
        return torch.ones_like(value, dtype=torch.bool)
    place = torch.linspace(0, 1, len(decisions) + 1, device=value.device)[:-1]
    return place <= value[..., :1] + 1e-6


def _columns(decisions: list[Decision], value: Tensor, active: Tensor) -> Tensor:
    """As `SearchSpace.to_features` writes them (batch, points, columns)."""
    blocks = []
    for i, decision in enumerate(decisions):
        own, on = value[..., i], active[..., i : i + 1].float()
        if decision.kind == "number":
            block = own[..., None]
        else:
            block = (own[..., None] == torch.arange(decision.options, device=own.device)).float()
            if decision.kind == "rank":
                block = torch.cat([block, own[..., None] / (decision.options - 1)], -1)
        blocks.append(block * on)
        if decision.conditional:
            blocks.append(on)
    return torch.cat(blocks, -1)


def _labels(
    decisions: list[Decision],
    value: Tensor,
    active: Tensor,
    x: Tensor,
    generator: torch.Generator,
    kind: str,
) -> Float[Tensor, "batch points"]:
    batch, points, number = value.shape
    importance = noisy(generator, batch, number).exp() * (uniform(generator, batch, number) >= 0.2)
    positions = _positions(decisions, value, active, generator)
    alone = _effects(decisions, positions, value, active, importance, generator)
    if kind == "process":
        together = _process(positions, importance, generator)
    else:
        together = (_perceptron if kind == "perceptron" else _trees)(x, generator)
    share = uniform(generator, batch, 1)
    y = share.sqrt() * standardised(together) + (1 - share).sqrt() * standardised(alone)
    noise = torch.exp(math.log(0.01) + math.log(50) * uniform(generator, batch, 1))  # 0.01 .. 0.5
    return standardised(y + noise * noisy(generator, batch, points))


def _positions(
    decisions: list[Decision], value: Tensor, active: Tensor, generator: torch.Generator
) -> Float[Tensor, "batch points decisions latent"]:
    """Where each decision's value lies; inactive is a place of its own. Repeated decisions may share their options'."""
    batch = len(value)
    shared = uniform(generator, batch, 1, 1) < 0.5
    common = noisy(generator, batch, max(d.options for d in decisions), LATENT)
    places = []
    for i, decision in enumerate(decisions):
        own = value[..., i]
        if decision.kind == "choice":
            table = torch.where(
                shared, common[:, : decision.options], noisy(generator, batch, decision.options, LATENT)
            )
            place = table.gather(1, own.long()[..., None].expand(-1, -1, LATENT))
        else:
            scale = decision.options - 1 if decision.kind == "rank" else 1
            place = torch.stack([2 * own / scale, torch.zeros_like(own)], -1)
        absent = noisy(generator, batch, 1, LATENT)
        places.append(torch.where(active[..., i : i + 1], place, absent))
    return torch.stack(places, 2)


def _effects(
    decisions: list[Decision],
    positions: Tensor,
    value: Tensor,
    active: Tensor,
    importance: Tensor,
    generator: torch.Generator,
) -> Float[Tensor, "batch points"]:
    """A sum of functions of one decision each: of a choice free values, of ranks and numbers a slope and a wave."""
    batch, _, number = value.shape
    total = torch.zeros_like(value[..., 0])
    for i, decision in enumerate(decisions):
        if decision.kind == "choice":
            table = noisy(generator, batch, decision.options)
            effect = table.gather(1, value[..., i].long())
        else:
            at = positions[:, :, i, 0]
            slope, height, speed, phase = noisy(generator, 4, batch, 1)
            effect = slope * at + 0.7 * height * torch.cos(2 * speed * at + 3 * phase)
        effect = torch.where(active[..., i], effect, noisy(generator, batch, 1))
        total = total + importance[:, i : i + 1] * effect
    return total / number


def _process(positions: Tensor, importance: Tensor, generator: torch.Generator) -> Float[Tensor, "batch points"]:
    """A product of Matérn-3/2-like kernels: one over the scaled positions of all decisions."""
    batch, points, number, _ = positions.shape
    reach = torch.exp(noisy(generator, batch, 1, 1)) * math.sqrt(number)
    scaled = (positions * importance[:, None, :, None]).flatten(2) / reach
    r = math.sqrt(3) * squared_distances(scaled, scaled).clamp(min=1e-12).sqrt()
    return gaussian_draw((1 + r) * torch.exp(-r) + 1e-4 * torch.eye(points, device=r.device), generator)


def _perceptron(x: Tensor, generator: torch.Generator) -> Float[Tensor, "batch points"]:
    """Two random hidden layers on the columns."""
    hidden = 2 * x - 1
    for outputs in (HIDDEN, HIDDEN, 1):
        weight = noisy(generator, len(x), hidden.shape[-1], outputs) * math.sqrt(2 / hidden.shape[-1])
        hidden = torch.baddbmm(0.5 * noisy(generator, len(x), 1, outputs), hidden, weight)
        hidden = hidden if outputs == 1 else torch.relu(hidden)
    return hidden[..., 0]


def _trees(x: Tensor, generator: torch.Generator) -> Float[Tensor, "batch points"]:
    """A sum of functions that are constant on the leaves of random trees: each level asks whether a random column is
    above a random number, the same in all its nodes. Its covariance is the share of trees that share a leaf."""
    batch, points, columns = x.shape
    device = x.device
    asked = torch.randint(columns, (batch, 1, TREES * LEVELS), generator=generator, device=device)
    above = x.gather(2, asked.expand(-1, points, -1)) > uniform(generator, batch, 1, TREES * LEVELS)
    leaf = (above.view(batch, points, TREES, LEVELS) * 2 ** torch.arange(LEVELS, device=device)).sum(-1)
    heights = noisy(generator, batch, TREES, 2**LEVELS) / math.sqrt(TREES)
    height = heights[:, None].expand(-1, points, -1, -1).gather(3, leaf[..., None])
    return height[..., 0].sum(-1)
