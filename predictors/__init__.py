"""What is guessed instead of measured: predictors behind one fit/predict interface."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from archfront.spaces._registry import Registry

if TYPE_CHECKING:
    from archfront.predictors._context import Context
    from archfront.predictors._datasets import DataSet, KnownDataSets, Source
    from archfront.predictors._errors import TooFewPointsError
    from archfront.predictors._prediction import FitReport, Fitted, Model, Prediction, PredictorCapabilities
    from archfront.predictors._predictor import Predictor
    from archfront.predictors._scores import Scores, scores_of

_HOME = {
    "Context": "_context",
    "DataSet": "_datasets",
    "FitReport": "_prediction",
    "Fitted": "_prediction",
    "KnownDataSets": "_datasets",
    "Model": "_prediction",
    "Prediction": "_prediction",
    "Predictor": "_predictor",
    "PredictorCapabilities": "_prediction",
    "Scores": "_scores",
    "Source": "_datasets",
    "TooFewPointsError": "_errors",
    "scores_of": "_scores",
}

__all__ = [
    "Context",
    "DataSet",
    "FitReport",
    "Fitted",
    "KnownDataSets",
    "Model",
    "Prediction",
    "Predictor",
    "PredictorCapabilities",
    "Scores",
    "Source",
    "TooFewPointsError",
    "load",
    "names",
    "registry",
    "scores_of",
]

registry: Registry[Predictor] = Registry(
    "archfront.predictors", "archfront.predictors._predictor:Predictor", "predictor"
)


def names() -> list[str]:
    """Every registered predictor, sorted."""
    return registry.names()


def load(name: str) -> type[Predictor]:
    """The predictor class `name` or "module:Class". Raises UnknownNameError with the closest name."""
    return registry.load(name)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'archfront.predictors' has no attribute {name!r}")
    return getattr(importlib.import_module(f"archfront.predictors.{_HOME[name]}"), name)
