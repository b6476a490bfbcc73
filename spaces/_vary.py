"""Mutation, crossover and neighbours of canonical codes (n, parameters). Nothing is rejected: every result is legal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from archfront.spaces._search_space import SearchSpace

__all__ = ["crossover", "mutate", "neighbours"]


def mutate(space: SearchSpace, codes: Floats, rng: np.random.Generator, rate: float | None) -> Floats:
    """Change each active decision with probability `rate`, and at least one where one can change.

    Parameters that become active are drawn afresh: their stored default would bias the search.
    """
    active = space.active(codes)
    mutable = active & np.array([p.size > 1 for p in space.parameters])
    number = mutable.sum(axis=1)
    chance = np.full(len(codes), rate) if rate is not None else 1.0 / np.maximum(number, 1)
    flips = mutable & (rng.random(codes.shape) < chance[:, None])
    forced = np.where(mutable, rng.random(codes.shape), -1.0).argmax(axis=1)
    idle = (number > 0) & ~flips.any(axis=1)
    flips[idle, forced[idle]] = True
    changed = codes.copy()
    for i, parameter in enumerate(space.parameters):
        rows = np.flatnonzero(flips[:, i])
        if len(rows):
            changed[rows, i] = parameter.perturb(codes[rows, i], rng)
    return _woken(space, changed, active, rng)


def crossover(space: SearchSpace, ones: Floats, others: Floats, rng: np.random.Generator) -> Floats:
    """Uniform crossover: each decision comes from a parent in which it is active."""
    active_one, active_other = space.active(ones), space.active(others)
    first = (rng.random(ones.shape) < 0.5) & active_one | ~active_other
    return _woken(space, np.where(first, ones, others), active_one | active_other, rng)


def neighbours(space: SearchSpace, code: Floats, rng: np.random.Generator) -> Floats:
    """All configurations (k, parameters) that differ from `code` in one active decision."""
    active = space.active(code[None, :])[0]
    rows = []
    for i in np.flatnonzero(active):
        for value in space.parameters[i].steps(code[i], rng):
            row = code.copy()
            row[i] = value
            rows.append(row)
    changed = np.array(rows).reshape(-1, len(code))
    return _woken(space, changed, np.broadcast_to(active, changed.shape), rng)


def _woken(space: SearchSpace, codes: Floats, had_value: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """Canonical codes in which parameters that were inactive and now are not have been drawn at random."""
    for i, parameter in enumerate(space.parameters):
        if not parameter.when:
            continue
        rows = np.flatnonzero(space.active(codes)[:, i] & ~had_value[:, i])
        if len(rows):
            codes[rows, i] = parameter.draw(rng, len(rows))
    return space.settled(codes)
