"""What can be searched: typed search spaces, papers as model spaces, supernets by slicing, tasks."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archfront.spaces._registry import Registry

if TYPE_CHECKING:
    from archfront.spaces._choices import Categorical, Ordinal
    from archfront.spaces._condition import AtLeast, Equals, In, IndexBelow
    from archfront.spaces._costs import analytic_costs
    from archfront.spaces._lookup import LookedUp, LookupSpace, LookupTask
    from archfront.spaces._metric import METRICS, Metric
    from archfront.spaces._model_space import ModelSpace
    from archfront.spaces._numbers import Integer, Real
    from archfront.spaces._parameter import Repeated, SelfTuned
    from archfront.spaces._penalties import ActivationPenalty, TemporalPenalty
    from archfront.spaces._search_space import Configuration, Problem, SearchSpace
    from archfront.spaces._sequence_dropout import DropConnect, WordDropout
    from archfront.spaces._supernet import Supernet
    from archfront.spaces._table_space import TableSpace
    from archfront.spaces._task import Signature, Split, Task, TensorSpec
    from archfront.spaces._tasks import Classification, ImageToImage, NodeClassification

_HOMES = {
    "_condition": ("AtLeast", "Equals", "In", "IndexBelow"),
    "_costs": ("analytic_costs",),
    "_lookup": ("LookedUp", "LookupSpace", "LookupTask"),
    "_metric": ("METRICS", "Metric"),
    "_model_space": ("ModelSpace",),
    "_choices": ("Categorical", "Ordinal"),
    "_numbers": ("Integer", "Real"),
    "_parameter": ("Repeated", "SelfTuned"),
    "_penalties": ("ActivationPenalty", "TemporalPenalty"),
    "_search_space": ("Configuration", "Problem", "SearchSpace"),
    "_sequence_dropout": ("DropConnect", "WordDropout"),
    "_supernet": ("Supernet",),
    "_table_space": ("TableSpace",),
    "_task": ("Signature", "Split", "Task", "TensorSpec"),
    "_tasks": ("Classification", "ImageToImage", "NodeClassification"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "METRICS",
    "ActivationPenalty",
    "AtLeast",
    "Categorical",
    "Classification",
    "Configuration",
    "DropConnect",
    "Equals",
    "ImageToImage",
    "In",
    "IndexBelow",
    "Integer",
    "LookedUp",
    "LookupSpace",
    "LookupTask",
    "Metric",
    "ModelSpace",
    "NodeClassification",
    "Ordinal",
    "Problem",
    "Real",
    "Repeated",
    "SearchSpace",
    "SelfTuned",
    "Signature",
    "Split",
    "Supernet",
    "TableSpace",
    "Task",
    "TemporalPenalty",
    "TensorSpec",
    "WordDropout",
    "analytic_costs",
    "load",
    "names",
    "registry",
]

registry: Registry[ModelSpace] = Registry(
    "archfront.spaces", "archfront.spaces._model_space:ModelSpace", "space", depth=2
)


def names() -> list[str]:
    """Every registered space, sorted; imports none of them."""
    return registry.names()


def load(
    name: str,
    *,
    task: str | None = None,
    data: str | Path | None = None,
    variant: str | None = None,
    seed: int = 0,
) -> ModelSpace:
    """The space `name` ("pflayer", "pflayer/resnet50", "my_lab.spaces:Mine") bound to a task.

    `task` defaults to the space's first, `data` to the task's own data. Raises UnknownNameError with the closest name,
    DataError for a file that does not fit.
    """
    name, _, in_name = name.partition("/")
    path = Path(data) if data is not None else None
    return registry.load(name).bind(task=task, variant=variant or in_name or None, data=path, seed=seed)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'archfront.spaces' has no attribute {name!r}")
    return getattr(importlib.import_module(f"archfront.spaces.{_HOME[name]}"), name)
