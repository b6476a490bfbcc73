"""WeakNAS (Wu et al., 2021): a sequence of weak predictors, each fitted to all so far, narrows down where to sample."""

from __future__ import annotations

from typing import Any

from archfront.search._guided import Guess, Guided
from archfront.search._strategy import Capabilities, Suggestion
from archfront.spaces._errors import UsageError

__all__ = ["WeakNas"]

POOL = 10_000


class WeakNas(Guided):
    """A batch is drawn at random from the `top` best predicted of a pool: the whole space where it is small, else
    random configurations and mutations of the best.

    The paper ranks by one predicted objective; several are ranked by non-dominated sorting and crowding. `top` falls
    to a half with every batch, as the paper's sample space shrinks, but not below two batches.
    """

    capabilities = Capabilities(batch_preferred=10, determinism="exact", predicts=True)
    test_parameters = {"initial": 5, "batch_size": 4, "top": 16, "predictor": "forest"}

    def __init__(
        self,
        *base: Any,
        predictor: str = "forest",
        initial: int = 50,
        batch_size: int = 10,
        top: int = 1_000,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        self.guided_by(predictor, initial=initial, size=batch_size)
        if top < batch_size:
            raise UsageError(f"top={top} must be at least batch_size={batch_size}")
        self.initial, self.batch_size, self.top = initial, batch_size, top

    def batch(self, guess: Guess) -> list[Suggestion]:
        if self.space.size <= POOL:
            pool = self.unseen(self.space.enumerate())
        else:
            best = self.parents(100)
            varied = self.space.mutate_all(best * (POOL // (2 * len(best))), self.rng) if best else []
            pool = self.unseen([*self.space.sample(self.rng, POOL // 2), *varied])
        if not pool:
            return []
        losses, _, violations = guess.of(pool)
        top = max(2 * self.batch_size, self.top >> self._batches)
        best_rows = self.ranked(pool, losses, violations, top)
        chosen = self.rng.permutation(len(best_rows))[: self.batch_size]
        return [guess.suggestion(pool[best_rows[i]], "weak-predictor") for i in sorted(chosen.tolist())]
