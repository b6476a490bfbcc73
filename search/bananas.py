"""BANANAS (White et al., 2021): an ensemble of networks, independent Thompson samples, mutations of the best."""

from __future__ import annotations

from typing import Any

from archfront.search._guided import Guess, Guided
from archfront.search._strategy import Capabilities, Suggestion
from archfront.spaces._errors import UsageError

__all__ = ["Bananas"]


class Bananas(Guided):
    """Candidates are mutations of the best told configurations; each gets one draw from its own predicted normal
    (independent Thompson sampling, section 4 of the paper), and the best draws are evaluated.

    The encoding is the space's features (the paper's path encoding is one of cells); several objectives are ranked by
    non-dominated sorting and crowding of the draws.
    """

    capabilities = Capabilities(batch_preferred=10, determinism="exact", predicts=True)
    test_parameters = {"initial": 5, "batch_size": 4, "candidates": 20, "predictor": "ridge"}

    def __init__(
        self,
        *base: Any,
        predictor: str = "deep_ensemble",
        initial: int = 20,
        batch_size: int = 10,
        candidates: int = 100,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        self.guided_by(predictor, initial=initial, size=batch_size)
        if candidates < batch_size:
            raise UsageError(f"candidates={candidates} must be at least batch_size={batch_size}")
        self.initial, self.batch_size, self.candidates = initial, batch_size, candidates

    def batch(self, guess: Guess) -> list[Suggestion]:
        best = self.parents(self.batch_size)
        pool: list[Any] = []
        for _ in range(10):  # more rounds where most mutations are known
            pool = self.unseen([*pool, *self.space.mutate_all(best * (self.candidates // len(best) + 1), self.rng)])
            if len(pool) >= self.candidates:
                break
        if not pool:
            return []
        pool = pool[: self.candidates]
        losses, spread, violations = guess.of(pool)
        draws = losses + spread * self.rng.standard_normal(losses.shape)
        return [
            guess.suggestion(pool[i], "thompson-sample") for i in self.ranked(pool, draws, violations, self.batch_size)
        ]
