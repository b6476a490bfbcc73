"""Protocols: hashes of what makes quality values comparable (rule 3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from archfront.spaces._lookup import LookupSpace
from archfront.spaces._model_space import ModelSpace
from archfront.trainers._slice import bank_hash, load_bank

if TYPE_CHECKING:
    from archfront.cluster._request import Request

__all__ = ["protocol_of", "protocol_of_function"]


def protocol_of(request: Request, space: ModelSpace, trainer: str, epochs: int) -> str:
    """Hash of what makes quality values comparable (rule 3). A bank that this study trains is known by the recipe
    that makes it, which is there before the bank is; a bank from a file by its content."""
    if isinstance(space, LookupSpace):
        return _hash({"table": space.protocol_of(epochs)})
    if request.supernet is None:
        begun = {} if request.start_weights is None else {"start": request.start_weights[0]}
        if request.schedule is not None:
            begun["schedule"] = hashlib.sha256(request.schedule.encode()).hexdigest()
        return _hash({"trainer": trainer, "epochs": epochs, "data_fraction": request.data_fraction, **begun})
    part = {} if request.validation_fraction == 1 else {"validation_fraction": request.validation_fraction}
    if request.supernet == "train":
        settings = {name: list(value) for name, value in sorted(request.settings.items())}
        recipe = {"trainer": trainer, "epochs": epochs, "settings": settings, "seed": request.train_seed}
        return _hash({"sliced": recipe, "calibration": 512, "data_fraction": request.data_fraction, **part})
    bank = load_bank(space, request.supernet)
    return _hash({"sliced": bank_hash(bank), "calibration": 512, **part})


def protocol_of_function(function: str | Callable[..., Any] | None, epochs: int) -> str:
    """That of a user's own function, which is known by its name."""
    return _hash({"function": _function_name(function), "epochs": epochs})


def _function_name(function: str | Callable[..., Any] | None) -> str:
    if function is None or isinstance(function, str):
        return function or ""
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__name__)}"


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
