"""The best unseen configuration of an acquisition: reals by gradient, everything else by steps in the space itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from archfront.search._botorch_space import Embedding
from archfront.search._types import Configuration
from archfront.spaces._parameter import Floats

__all__ = ["Climber"]

LISTED = 1_000
"""Up to this size of the space every unseen configuration is scored: no search, no local maximum."""

RAW = 128
"""Random and mutated configurations that are scored to find the starts."""

ITERATIONS = 50
"""Of L-BFGS-B, over all starts together."""

ROUNDS = 10
"""Of steps in the discrete decisions, each followed by a climb of the reals."""

STEPS = 24
"""Neighbours and mutants of each start that one round tries."""

GREED = 2.0
"""How much a standard deviation of the acquisition counts in the choice of starts (BoTorch's eta)."""


class Climber:
    """Maximises an acquisition (k, columns) -> (k,) over a space. Draws from `rng` only."""

    def __init__(
        self, embedding: Embedding, rng: np.random.Generator, seen: Callable[[str], bool], restarts: int
    ) -> None:
        self.embedding, self.space, self.rng, self.seen = embedding, embedding.space, rng, seen
        self.restarts = restarts
        self._listed = self._unseen_of_all() if self.space.size <= LISTED else None

    def _unseen_of_all(self) -> list[Configuration]:
        everything = self.space.enumerate()
        keys = self.space.keys_of(everything)
        return [config for config, key in zip(everything, keys, strict=True) if not self.seen(key)]

    def best(
        self, acquisition: Callable[[Tensor], Tensor], parents: Sequence[Configuration], taken: set[str]
    ) -> Configuration | None:
        """The unseen configuration, whose key is not `taken` either, of the largest acquisition found; None without.

        `parents` are configurations in whose surroundings it also looks.
        """
        if self._listed is not None:
            codes = self.space.encode(self._listed)
            return self._first_unseen(codes, self._score(acquisition, codes), taken)
        raw = self._raw(parents)
        scores = self._score(acquisition, raw)
        starts = self._starts(scores)
        codes, values = raw[starts], scores[starts]
        for _ in range(ROUNDS):
            codes, values = self._climb(acquisition, codes, values)
            moved = self._step(acquisition, codes, values)
            if not moved:
                break
        return self._first_unseen(np.concatenate([codes, raw]), np.concatenate([values, scores]), taken)

    def _raw(self, parents: Sequence[Configuration]) -> Floats:
        """Half random, half mutants of the parents."""
        drawn = self.space.sample(self.rng, RAW if not parents else RAW // 2)
        chosen = [parents[i] for i in self.rng.integers(len(parents), size=RAW // 2)] if parents else []
        return self.space.encode([*drawn, *(self.space.mutate_all(chosen, self.rng) if chosen else [])])

    def _starts(self, scores: Floats) -> NDArray[np.int64]:
        """The best and others at random, the better the likelier (Boltzmann, as BoTorch's `initialize_q_batch`)."""
        spread = scores.std() or 1.0
        tossed = GREED * (scores - scores.mean()) / spread + self.rng.gumbel(size=len(scores))
        tossed[scores.argmax()] = np.inf
        return np.argsort(-tossed, kind="stable")[: self.restarts]

    def _score(self, acquisition: Callable[[Tensor], Tensor], codes: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(acquisition(torch.from_numpy(self.embedding.columns(codes))).numpy())

    def _climb(self, acquisition: Callable[[Tensor], Tensor], codes: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Move the free reals of all starts uphill together; a start that does not gain stays."""
        free = self.embedding.free(codes)
        if not free.any():
            return codes, values
        columns = torch.from_numpy(self.embedding.columns(codes))
        start = columns[:, self.embedding.real_columns].numpy().copy()
        where = torch.from_numpy(free)
        inside = torch.from_numpy(np.isin(np.arange(columns.shape[1]), self.embedding.real_columns))

        def loss(flat: Floats) -> tuple[float, Floats]:
            units = start.copy()
            units[free] = flat
            moved = torch.from_numpy(units).requires_grad_()
            x = columns.clone()
            x[:, inside] = moved
            total = -acquisition(x).sum()
            (gradient,) = torch.autograd.grad(total, moved)
            return total.item(), gradient[where].numpy()

        found = minimize(
            loss, start[free], method="L-BFGS-B", jac=True, bounds=[(0.0, 1.0)] * int(free.sum()),
            options={"maxiter": ITERATIONS},
        )  # fmt: skip
        units = start.copy()
        units[free] = np.clip(found.x, 0, 1)
        climbed = self.embedding.with_reals(codes, units)
        scores = self._score(acquisition, climbed)
        better = scores > values
        return np.where(better[:, None], climbed, codes), np.where(better, scores, values)

    def _step(self, acquisition: Callable[[Tensor], Tensor], codes: Floats, values: Floats) -> bool:
        """Move each start (in place) to the best of some neighbours and mutants, if it is better."""
        if not self.embedding.discrete:
            return False
        tried, owners = [], []
        for row, config in enumerate(self.space.decode(codes)):
            near = self.space.neighbours(config, self.rng)[: STEPS * 3 // 4]
            near += self.space.mutate_all([config] * (STEPS // 4), self.rng)
            tried += near
            owners += [row] * len(near)
        reached = self.space.encode(tried)
        scores = self._score(acquisition, reached)
        moved = False
        for row in range(len(codes)):
            mine = np.flatnonzero(np.array(owners) == row)
            best = mine[scores[mine].argmax()]
            if scores[best] > values[row]:
                codes[row], values[row] = reached[best], scores[best]
                moved = True
        return moved

    def _first_unseen(self, codes: Floats, values: Floats, taken: set[str]) -> Configuration | None:
        order = np.argsort(-values, kind="stable")
        for at in range(0, len(order), 16):
            configs = self.space.decode(codes[order[at : at + 16]])
            for config, key in zip(configs, self.space.keys_of(configs), strict=True):
                if key not in taken and not self.seen(key):
                    return config
        return None
