"""How a configuration becomes a trained model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from archfront.spaces._registry import Registry

if TYPE_CHECKING:
    from archfront.trainers._bilevel import choose_operations
    from archfront.trainers._schedule import Schedule
    from archfront.trainers._slice import evaluate_slice, load_bank, save_bank
    from archfront.trainers._trainer import Trainer
    from archfront.trainers._types import Budget, Report
    from archfront.trainers._union import searched_space

_HOME = {
    "Budget": "_types",
    "Report": "_types",
    "Schedule": "_schedule",
    "Trainer": "_trainer",
    "choose_operations": "_bilevel",
    "evaluate_slice": "_slice",
    "load_bank": "_slice",
    "save_bank": "_slice",
    "searched_space": "_union",
}

__all__ = [
    "Budget",
    "Report",
    "Schedule",
    "Trainer",
    "choose_operations",
    "evaluate_slice",
    "load",
    "load_bank",
    "names",
    "registry",
    "save_bank",
    "searched_space",
]

registry: Registry[Trainer] = Registry("archfront.trainers", "archfront.trainers._trainer:Trainer", "trainer")


def names() -> list[str]:
    """Every registered trainer, sorted."""
    return registry.names()


def load(name: str) -> type[Trainer]:
    """The trainer class `name` or "module:Class". Raises UnknownNameError with the closest name."""
    return registry.load(name)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'archfront.trainers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"archfront.trainers.{_HOME[name]}"), name)
