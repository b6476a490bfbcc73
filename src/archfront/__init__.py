"""Search a paper's space, keep the Pareto front of every device, take the best sub-network home."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archfront import cluster, predictors, search, spaces, trainers
    from archfront.cluster.export import load
    from archfront.cluster.front import Front
    from archfront.cluster.store import Store
    from archfront.cluster.study import Study
    from archfront.search import Constraint, Evaluation, Objective, Strategy
    from archfront.spaces import ModelSpace, SearchSpace, Supernet, Task
    from archfront.spaces._errors import ArchfrontError

_HOME = {
    "ArchfrontError": "spaces._errors",
    "Constraint": "search._types",
    "Evaluation": "search._types",
    "Front": "cluster.front",
    "ModelSpace": "spaces._model_space",
    "Objective": "search._types",
    "SearchSpace": "spaces._search_space",
    "Store": "cluster.store",
    "Strategy": "search._strategy",
    "Study": "cluster.study",
    "Supernet": "spaces._supernet",
    "Task": "spaces._task",
    "load": "cluster.export",
}
_FOLDERS = ("cluster", "predictors", "search", "spaces", "trainers")

__all__ = [
    "ArchfrontError",
    "Constraint",
    "Evaluation",
    "Front",
    "ModelSpace",
    "Objective",
    "SearchSpace",
    "Store",
    "Strategy",
    "Study",
    "Supernet",
    "Task",
    "cluster",
    "load",
    "predictors",
    "search",
    "spaces",
    "trainers",
]


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return importlib.import_module(f"archfront.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"archfront.{_HOME[name]}"), name)
    raise AttributeError(f"module 'archfront' has no attribute {name!r}")
