"""Names to classes for one folder: scanned without importing, loaded on demand, open to plug-ins and dotted paths."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from archfront.spaces._errors import ArchfrontError, UnknownNameError, UsageError

__all__ = ["Registry", "function_at", "registered_name"]

T = TypeVar("T")
_NOT_NAMES = {"testing"}


class Registry(Generic[T]):
    """The registered classes of one folder.

    `package` is an importable package such as "archfront.search"; `kind` is the word used in errors; `depth` is
    the number of folders between the package and a registered file (2 for spaces/vision/pflayer.py).
    """

    def __init__(self, package: str, base: str, kind: str, *, depth: int = 1) -> None:
        self.package, self.kind, self.depth = package, kind, depth
        self._base = base

    def names(self) -> list[str]:
        """Every name that can be loaded, sorted: shipped files and entry points. Imports none of them."""
        return sorted({*self._files, *self._entry_points})

    def load(self, name: str) -> type[T]:
        """The class registered as `name`, or the one at the dotted path "package.module:Class".

        Raises UnknownNameError with the closest known name; UsageError where the path leads to something else.
        """
        if name in self._files:
            return self._shipped(self._files[name])
        if name in self._entry_points:
            return self._checked(self._entry_points[name].load(), name)
        if ":" in name:
            return self._dotted(name)
        raise UnknownNameError.of(self.kind, name, self.names())

    @cached_property
    def _files(self) -> dict[str, str]:
        """Registered name to module path."""
        root = Path(importlib.import_module(self.package).__file__ or "").parent
        return {path[-1]: ".".join((self.package, *path)) for path in _scan(root, self.depth)}

    @cached_property
    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        group = self.package if self.package != "archfront.search" else "archfront.strategies"
        return {point.name: point for point in importlib.metadata.entry_points(group=group)}

    def _shipped(self, module_name: str) -> type[T]:
        module = importlib.import_module(module_name)
        return self._checked(getattr(module, module.__all__[0]), module_name)

    def _dotted(self, name: str) -> type[T]:
        return self._checked(self.attribute(name), name)

    def attribute(self, name: str) -> Any:
        """What stands at "package.module:attribute". Raises UnknownNameError."""
        return _attribute(name, self.kind, self._may_be_meant, self.names())

    def _may_be_meant(self, value: Any, module: str) -> bool:
        """A class of this kind, a function the module defines, or an object of one of our classes (a SearchSpace)."""
        if isinstance(value, type):
            return issubclass(value, self._base_class()) and not inspect.isabstract(value)
        if inspect.isfunction(value):
            return _defined_in(value, module)
        return type(value).__module__.startswith("archfront.")

    def _base_class(self) -> type[T]:
        module, _, attribute = self._base.partition(":")
        found: type[T] = getattr(importlib.import_module(module), attribute)
        return found

    def _checked(self, found: Any, name: str) -> type[T]:
        base = self._base_class()
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UsageError(f"{name!r} is {found!r}", f"a {self.kind} must be a subclass of {base.__name__}")
        return found


def function_at(path: str) -> Callable[..., Any]:
    """The function, or other callable, at "package.module:function". Raises UnknownNameError, UsageError."""
    found = _attribute(path, "function", _defined_in, ())
    if not callable(found):
        raise UsageError(f"{path!r} is {found!r}", "give a function: package.module:function")
    function: Callable[..., Any] = found
    return function


def registered_name(cls: type) -> str:
    """The name under which `cls` can be loaded again: its file's name or its entry point's, else "module:Class"."""
    own = vars(cls).get("registered_as")
    if own is not None:
        return str(own)
    if cls.__module__.startswith("archfront."):
        return cls.__module__.rpartition(".")[2]
    path = f"{cls.__module__}:{cls.__qualname__}"
    return _entry_point_names().get(path, path)


@cache
def _entry_point_names() -> dict[str, str]:
    """Dotted path to name, of every class that an installed package registers with archfront."""
    groups = (f"archfront.{kind}" for kind in ("spaces", "strategies", "predictors", "trainers"))
    return {point.value: point.name for group in groups for point in importlib.metadata.entry_points(group=group)}


def _scan(folder: Path, depth: int) -> Iterator[tuple[str, ...]]:
    for entry in sorted(folder.iterdir()):
        name = entry.name.removesuffix(".py")
        if name.startswith(("_", ".")) or name in _NOT_NAMES:
            continue
        if depth > 1 and entry.is_dir():
            yield from ((name, *rest) for rest in _scan(entry, depth - 1))
        elif depth == 1 and (entry.suffix == ".py" or (entry / "__init__.py").exists()):
            yield (name,)


def _attribute(path: str, kind: str, may_be_meant: Callable[[Any, str], bool], registered: Sequence[str]) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{path!r} is no {kind}", "give package.module:name")
    try:
        module = _import_from_here(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the module exists, one of its own imports does not
        known = f"; registered: {', '.join(registered)}" if registered else ""
        raise UnknownNameError(
            f"unknown {kind} {path!r}", f"no module named {module_name!r} in {os.getcwd()} or on PYTHONPATH{known}"
        ) from error
    if not hasattr(module, attribute):
        public = [n for n, v in vars(module).items() if n[0] != "_" and may_be_meant(v, module.__name__)]
        raise UnknownNameError.of(f"{kind} in module {module_name!r}", attribute, public)
    return getattr(module, attribute)


def _defined_in(value: Any, module: str) -> bool:
    return inspect.isfunction(value) and value.__module__ == module


def _import_from_here(module_name: str) -> Any:
    """Import a user's module; the working folder counts, as it does for `python -m`."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ArchfrontError:
        raise
    except SyntaxError as error:
        raise UsageError(f"{module_name!r} does not parse", str(error)) from error
