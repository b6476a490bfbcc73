"""What a study lets its strategy and predictors know beside told evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Task

__all__ = ["Context"]

Exact = Callable[[str, Sequence[Configuration]], Any]


def _nothing(metric: str, configs: Sequence[Configuration]) -> None:
    return None


@dataclass(frozen=True)
class Context:
    """`exact(metric, configs)` returns analytic or looked-up values (n,), or None where they must be measured.

    Contract kits and studies of a user's own function pass an empty one.
    """

    model_space: ModelSpace | None = None
    task: Task | None = None
    exact: Exact = _nothing
