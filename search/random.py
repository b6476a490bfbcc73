"""Uniform random search: the baseline every other strategy must beat."""

from __future__ import annotations

from collections.abc import Sequence

from archfront.search._strategy import Strategy, Suggestion

__all__ = ["Random"]


class Random(Strategy):
    """Independent draws, uniform over the active decisions."""

    def propose(self, n: int) -> Sequence[Suggestion]:
        return [Suggestion(config, "random") for config in self.space.sample(self.rng, n)]
