"""The searched space: a model space and its trainer in one, with the recipe's ranges and the user's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archfront.spaces._condition import Condition
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._model_space import ModelSpace, Recipe
from archfront.spaces._parameter import Parameter
from archfront.spaces._registry import registered_name
from archfront.spaces._search_space import SearchSpace
from archfront.trainers._hyper_vector import start_of
from archfront.trainers._trainer import PREFIX, Trainer

__all__ = ["Setting", "applied", "default_trainer", "parse_setting", "searched_space", "union"]

Setting = tuple[Any, ...]
"""(value,) fixes a parameter, (low, high) narrows it."""


def default_trainer(space: ModelSpace) -> str:
    """The first trainer of the space's recipe."""
    return next(iter(space.recipe), "backprop")


def searched_space(
    space: ModelSpace, trainer: type[Trainer], settings: Mapping[str, Setting] | None = None
) -> SearchSpace:
    """The union space. Of the trainer's parameters only those to which the recipe gives a domain, or a setting gives a
    range, are searched; the others stand fixed at the recipe's value, else at the trainer's default. Where the trainer
    moves self-tuned parameters itself, these are fixed at their default, from which it starts (the nearest start inside
    the range where that stands at an end), unless a setting speaks of them.

    Keys leave out trainer values that equal the trainer's default. Raises UnknownNameError, UsageError.
    """
    return union(space.search_space, space.recipe, trainer, settings)


def union(
    search_space: SearchSpace,
    recipe_by_trainer: Recipe,
    trainer: type[Trainer],
    settings: Mapping[str, Setting] | None = None,
) -> SearchSpace:
    """`searched_space` of a model space that is not bound."""
    settings = dict(settings or {})
    if trainer.self_tunes:
        search_space = search_space.fix(_starts(search_space, settings))
    recipe = dict(recipe_by_trainer.get(registered_name(trainer), {}))
    own = {p.name: p for p in trainer.parameters}
    for name in recipe:
        if name not in own:
            raise UnknownNameError.of(f"parameter of trainer {registered_name(trainer)!r}", name, own)
    members = []
    for name, parameter in own.items():
        setting = settings.pop(PREFIX + name, None)
        members.append(_prefixed(_chosen(parameter, recipe.get(name, parameter.default), setting)))
    unkeyed = {PREFIX + p.name: p.default for p in trainer.parameters}
    return applied(search_space.extended(members, unkeyed), settings)


def applied(space: SearchSpace, settings: Mapping[str, Setting]) -> SearchSpace:
    """`space` with every setting: (value,) fixes, (low, high) narrows. Raises UnknownNameError, UsageError."""
    for name, setting in settings.items():
        space = space.fix({name: setting[0]}) if len(setting) == 1 else space.narrow({name: (setting[0], setting[1])})
    return space


def parse_setting(text: str) -> tuple[str, Setting]:
    """Read NAME=VALUE or NAME=LOW..HIGH; values are JSON scalars where they parse as such, text otherwise."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise UsageError(f"setting {text!r} is not NAME=VALUE or NAME=LOW..HIGH")
    low, dots, high = value.partition("..")
    return name.strip(), (_scalar(low), _scalar(high)) if dots else (_scalar(value),)


def _starts(space: SearchSpace, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Where self-tuned parameters of which no setting speaks begin."""
    return {
        p.name: start_of(p)
        for p in space
        if p.self_tuned and p.name not in settings and (p.group or "") not in settings
    }


def _scalar(text: str) -> Any:
    lowered = {"True": "true", "False": "false", "None": "null"}.get(text.strip(), text.strip())
    try:
        value = json.loads(lowered)
    except ValueError:
        try:
            return float(lowered)  # 1e-3 and .5
        except ValueError:
            return text.strip()
    return value if not isinstance(value, list | dict) else text.strip()


def _chosen(parameter: Parameter, recipe: Any, setting: Setting | None) -> Parameter:
    """The parameter as this study sees it: the user's setting, else the recipe's domain or value."""
    try:
        if setting is not None:
            return parameter.fixed(setting[0]) if len(setting) == 1 else parameter.narrowed(*setting)
        if isinstance(recipe, Parameter):
            return replace(recipe, name=parameter.name, role="hyperparameter", when=(*parameter.when, *recipe.when))
        return parameter.fixed(recipe)
    except ValueError as error:
        raise UsageError(f"cannot set {PREFIX}{parameter.name}", str(error)) from error


def _prefixed(parameter: Parameter) -> Parameter:
    def moved(condition: Condition) -> Condition:
        return replace(condition, parent=PREFIX + condition.parent)

    return replace(parameter, name=PREFIX + parameter.name, when=tuple(moved(c) for c in parameter.when))
