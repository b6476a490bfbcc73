"""Which strategy `auto` stands for: by the space's size and parameters, the number of objectives, and the budget."""

from __future__ import annotations

from collections.abc import Sequence

from archfront.search._types import Objective, SearchBudget
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._search_space import SearchSpace

__all__ = ["AUTO", "choose"]

AUTO = "auto"
MODELLED = 1_000
"""Trials up to which a model of all that was told pays for its time."""
FEWEST = 12
"""Trials below which there is nothing to learn from."""


def choose(space: SearchSpace, objectives: Sequence[Objective], budget: SearchBudget) -> tuple[str, str]:
    """(strategy, why). See docs/results/search_nasbench201.md for what this rests on."""
    free = [p for p in space if p.size > 1]
    trials = budget.trials
    if trials is not None and trials < FEWEST:
        return "random", f"{trials} trials are too few to learn from"
    if trials is not None and trials >= space.size:
        return "random", f"{trials} trials cover all {space.size:g} configurations"
    if trials is None or trials > MODELLED:
        many = "without a limit of trials" if trials is None else f"for {trials} trials"
        return "nsga2", f"{many} models of all that was told cost more than they save"
    numbers = [p for p in free if isinstance(p, Real | Integer)]
    if numbers and len(numbers) == len(free) and not any(p.when for p in free):
        return "bayesian", f"all {len(free)} parameters are numbers: the acquisition function has gradients"
    return "ehvi", f"{len(objectives)} objectives over {len(free)} parameters, choices among them, in {trials} trials"
