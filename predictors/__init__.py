"""What is guessed instead of measured."""

from __future__ import annotations

from typing import Any

from archfront.spaces._registry import Registry

__all__ = ["Context", "names", "registry"]

registry: Registry[Any] = Registry("archfront.predictors", "archfront.predictors._predictor:Predictor", "predictor")


def names() -> list[str]:
    """Every registered predictor, sorted."""
    return registry.names()


def __getattr__(name: str) -> Any:
    if name != "Context":
        raise AttributeError(f"module 'archfront.predictors' has no attribute {name!r}")
    from archfront.predictors._context import Context

    return Context
