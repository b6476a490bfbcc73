"""Which strategy `auto` stands for: by the space's size and parameters, the number of objectives, and the budget."""

from __future__ import annotations

from collections.abc import Sequence

from archfront.search._types import Objective, SearchBudget
from archfront.spaces._search_space import SearchSpace

__all__ = ["AUTO", "choose"]

AUTO = "auto"
MODELLED = 1_000
"""Trials up to which a model of all that was told pays for its time."""
FEWEST = 12
"""Trials below which there is nothing to learn from."""


def choose(
    space: SearchSpace, objectives: Sequence[Objective], budget: SearchBudget, *, stops: bool = False
) -> tuple[str, str]:
    """(strategy, why). What this rests on: docs/results/search_nasbench201.md for choices, float_lcbench.md for
    numbers, where `bayesian` costs eight times as much and finds less; it finds more on smooth functions of numbers
    (bayesian_against_botorch.md); moasha_strategies_lcbench.md where trials may be stopped early (`stops`)."""
    trials = budget.trials
    if trials is not None and trials < FEWEST:
        return "random", f"{trials} trials are too few to learn from"
    if trials is not None and trials >= space.size:
        return "random", f"{trials} trials cover all {space.size:g} configurations"
    if stops:
        return "random", "most trials are stopped early and teach a model nothing: many different ones get there sooner"
    if trials is None or trials > MODELLED:
        many = "without a limit of trials" if trials is None else f"for {trials} trials"
        return "nsga2", f"{many} models of all that was told cost more than they save"
    return (
        "ehvi",
        f"{len(objectives)} objectives over {len(space.varied)} parameters: in {trials} trials a model pays for itself",
    )
