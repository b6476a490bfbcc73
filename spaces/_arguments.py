"""What a plug-in lets its users set: the keyword-only arguments of its `__init__`, checked by their annotations."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from archfront.spaces._errors import UnknownNameError, UsageError

__all__ = ["Argument", "arguments_of", "check_arguments"]

_SCALARS: Mapping[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("a text", (str,)),
    type(None): ("null", (type(None),)),
}
"""Annotation to its words and the types of its values. Richer annotations are the plug-in's own matter."""


@dataclass(frozen=True)
class Argument:
    """A default (inspect.Parameter.empty: there is none) and an annotation."""

    default: Any
    annotation: Any

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty

    @property
    def _options(self) -> tuple[Any, ...]:
        union = typing.get_origin(self.annotation) in (typing.Union, types.UnionType)
        return typing.get_args(self.annotation) if union else (self.annotation,)

    def takes(self, value: Any) -> bool:
        """Whether a value is of the annotated type."""
        return any(_is(value, option) for option in self._options)

    def __str__(self) -> str:
        return " or ".join(_words(option) for option in self._options)


def arguments_of(cls: type, root: type) -> dict[str, Argument]:
    """By name, those of `cls` and of its bases up to `root`, which is left out."""
    found: dict[str, Argument] = {}
    for base in reversed(cls.__mro__):
        if base is root or "__init__" not in vars(base) or not issubclass(base, root):
            continue
        written = vars(base)["__init__"]
        annotations = _annotations(written)
        for parameter in inspect.signature(written).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                found[parameter.name] = Argument(parameter.default, annotations.get(parameter.name, Any))
    return found


def check_arguments(what: str, known: Mapping[str, Argument], given: Mapping[str, Any]) -> None:
    """Raise UnknownNameError for an argument that `what` does not take; UsageError for a missing one and for a value
    of another type."""
    for name, value in given.items():
        if name not in known:
            raise UnknownNameError.of(f"parameter of {what}", name, known)
        if not known[name].takes(value):
            raise UsageError(f"{what}: {name}={value!r} is not {known[name]}")
    for name, argument in known.items():
        if argument.required and name not in given:
            raise UsageError(f"{what} needs its parameter {name!r}, {argument}", f"NAME({name}=VALUE)")


def _annotations(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError:  # a name that is imported for type checkers only: then nothing is checked
        return {}


def _is(value: Any, annotation: Any) -> bool:
    if typing.get_origin(annotation) is Literal:
        return value in typing.get_args(annotation)
    if annotation not in _SCALARS:
        return True
    return isinstance(value, _SCALARS[annotation][1]) and (annotation is bool or not isinstance(value, bool))


def _words(annotation: Any) -> str:
    if typing.get_origin(annotation) is Literal:
        return " or ".join(map(repr, typing.get_args(annotation)))
    return _SCALARS[annotation][0] if annotation in _SCALARS else str(annotation)
