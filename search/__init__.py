"""What to try next: strategies behind one ask/tell interface."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from archfront.spaces._registry import Registry

if TYPE_CHECKING:
    from archfront.search._popdb import Reduction, reduce
    from archfront.search._strategy import Capabilities, Strategy, Suggestion
    from archfront.search._types import (
        Asked,
        Configuration,
        Constraint,
        Evaluation,
        Objective,
        Proposal,
        SearchBudget,
        Value,
    )

_POPDB = ("Reduction", "reduce")
_STRATEGY = ("Capabilities", "Strategy", "Suggestion")
_TYPES = ("Asked", "Configuration", "Constraint", "Evaluation", "Objective", "Proposal", "SearchBudget", "Value")

__all__ = [
    "Asked",
    "Capabilities",
    "Configuration",
    "Constraint",
    "Evaluation",
    "Objective",
    "Proposal",
    "Reduction",
    "SearchBudget",
    "Strategy",
    "Suggestion",
    "Value",
    "load",
    "names",
    "reduce",
    "registry",
]

registry: Registry[Strategy] = Registry("archfront.search", "archfront.search._strategy:Strategy", "strategy")


def names() -> list[str]:
    """Every registered strategy, sorted."""
    return registry.names()


def load(name: str) -> type[Strategy]:
    """The strategy class `name` or "module:Class". Raises UnknownNameError with the closest name."""
    return registry.load(name)


def __getattr__(name: str) -> Any:
    if name in _POPDB:
        return getattr(importlib.import_module("archfront.search._popdb"), name)
    if name in _STRATEGY:
        return getattr(importlib.import_module("archfront.search._strategy"), name)
    if name in _TYPES:
        return getattr(importlib.import_module("archfront.search._types"), name)
    raise AttributeError(f"module 'archfront.search' has no attribute {name!r}")
