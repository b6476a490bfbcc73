"""What a study lets its strategy and predictors know beside told evaluations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archfront.predictors._workshop import InProcess, Workshop
from archfront.spaces._metric import METRICS
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Task

__all__ = ["Context", "exact_of"]

Exact = Callable[[str, Sequence[Configuration]], Any]


def _nothing(metric: str, configs: Sequence[Configuration]) -> None:
    return None


def exact_of(costs: Callable[[Configuration], Mapping[str, float]]) -> Exact:
    """`exact` by the analytic costs of a configuration; None for other metrics, and where a table lacks the metric."""

    def exact(metric: str, configs: Sequence[Configuration]) -> Any:
        if metric not in METRICS or METRICS[metric].source != "analytic":
            return None
        known = [costs(config) for config in configs]
        return np.array([cost[metric] for cost in known]) if all(metric in cost for cost in known) else None

    return exact


@dataclass(frozen=True)
class Context:
    """`exact(metric, configs)` returns analytic or looked-up values (n,), or None where they must be measured;
    `workshop` does heavy work, which a study on Ray keeps out of its own process.

    Contract kits and studies of a user's own function pass an empty one.
    """

    model_space: ModelSpace | None = None
    task: Task | None = None
    exact: Exact = _nothing
    workshop: Workshop = field(default_factory=InProcess)

    @property
    def idle(self) -> Callable[[Configuration], Collection[str]] | None:
        """The model space's `idle` for configurations of the study, or None where it tells nothing."""
        space = self.model_space
        if space is None or type(space).idle is ModelSpace.idle:
            return None
        names = space.search_space.names
        return lambda config: space.idle({name: config[name] for name in names})
