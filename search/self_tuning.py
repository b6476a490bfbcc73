"""Self-Tuning Networks (MacKay et al., 2019) from the list of strategies: the trainer moves hyperparameters inside each
run, this proposes what remains around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from archfront.search._strategy import Strategy, Suggestion

__all__ = ["SelfTuning"]


class SelfTuning(Strategy):
    """The space's default configuration, then random ones, all trained by trainer self_tuning: parameters that it moves
    itself are no dimensions of the search, their values in a configuration are where a run starts.

    One trial is a whole tuning run. Any other strategy goes round it as well: --strategy linas --trainer self_tuning.
    """

    trainer: ClassVar[str | None] = "self_tuning"

    def propose(self, n: int) -> Sequence[Suggestion]:
        default = self.space.default
        if not self.seen(self.space.keys_of([default])[0]):
            return [Suggestion(default, "default")]
        return [Suggestion(config, "random") for config in self.space.sample(self.rng, n)]
