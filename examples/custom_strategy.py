"""A strategy of your own in ten lines: mutate the best configuration so far.

Run it from this folder:

    archfront search mlp --strategy custom_strategy:Greedy --trials 20 --epochs 3

`archfront.search.testing.StrategyContract` holds it to the same laws as the shipped ones; see tests/examples.
"""

from __future__ import annotations

from archfront.search import Configuration, Strategy

__all__ = ["Greedy"]


class Greedy(Strategy):
    """Mutate the best one so far."""

    def propose(self, n: int) -> list[Configuration]:
        if not self.told:
            return self.space.sample(self.rng, n)
        return [self.space.mutate(self.best(1)[0].config, self.rng) for _ in range(n)]
