"""Reading foreign pickles (CIFAR, Planetoid, NATS-Bench) without running anything: one restricted unpickler."""

from __future__ import annotations

import collections
import copyreg
import importlib
import pickle
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from archfront.spaces._errors import DataError

__all__ = ["unpickle"]

_SCALARS = ("int", "float", "complex", "bool", "str", "bytes", "bytearray")
_CONTAINERS = ("list", "tuple", "dict", "set", "frozenset", "object")
_ARRAY = np.empty(0)


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """Stands for _codecs.encode, with which Python 3 writes bytes in old protocols; that one also runs codecs."""
    if encoding not in ("latin1", "latin-1", "utf-8"):
        raise DataError(f"the pickle encodes text as {encoding!r}", "only latin1 is known in data files")
    return text.encode(encoding)


def _reconstructed(cls: type, base: type, state: Any) -> Any:
    """Stands for copyreg._reconstructor: an empty instance of an allowed class."""
    if base is not object or state is not None:
        raise DataError(f"the pickle rebuilds {cls.__name__} from {base.__name__}", "only plain objects are known")
    return copyreg.__newobj__(cls)  # type: ignore[attr-defined]


_ALLOWED: dict[str, Any] = {
    **{f"builtins.{name}": getattr(importlib.import_module("builtins"), name) for name in _SCALARS + _CONTAINERS},
    "collections.OrderedDict": collections.OrderedDict,
    "collections.defaultdict": collections.defaultdict,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    # numpy's own helpers, by what its arrays and scalars are pickled with: their module moved in numpy 2
    "numpy._core.multiarray._reconstruct": _ARRAY.__reduce__()[0],
    "numpy._core.multiarray.scalar": np.float64(0).__reduce__()[0],
    "numpy._core.numeric._frombuffer": np.zeros(1).__reduce_ex__(5)[0],
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstructed,
}
_MOVED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}
_CSR = {"scipy.sparse.csr.csr_matrix", "scipy.sparse._csr.csr_matrix", "scipy.sparse.csr_matrix"}


class _Unpickler(pickle.Unpickler):
    """Numbers, text, containers, numpy arrays and scipy's csr matrices; every other global is refused by name."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{_MOVED.get(module, module)}.{name}"
        if full in _CSR:
            from scipy.sparse import csr_matrix

            return csr_matrix
        if full not in _ALLOWED:
            raise DataError(
                f"the pickle asks for {module}.{name}",
                "only numbers, text, containers, numpy arrays and scipy.sparse.csr_matrix are read: "
                "convert the file to .npz where you trust it",
            )
        return _ALLOWED[full]

    def persistent_load(self, pid: Any) -> Any:
        raise DataError(f"the pickle refers to an outside object {pid!r}", "no data format known here does")


def unpickle(source: Path | BufferedIOBase) -> Any:
    """The object in a pickle file (Python 2 text read as latin1).

    Raises DataError that names the file and the global that is not allowed, or what is broken.
    """
    name = str(source) if isinstance(source, Path) else str(getattr(source, "name", "the stream"))
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return _load(stream, name)
    return _load(source, name)


def _load(stream: BufferedIOBase, name: str) -> Any:
    try:
        found = _Unpickler(stream, encoding="latin1").load()
        _check(found)
    except DataError as error:
        raise DataError(f"{name!r}: {error.message}", error.hint) from error
    except Exception as error:  # a broken pickle can raise nearly anything
        raise DataError(f"{name!r} is not a readable pickle", f"{type(error).__name__}: {error}") from error
    return found


def _check(found: Any) -> None:
    """A sparse matrix must point into its own columns: compiled code trusts it."""
    check: Callable[..., None] | None = getattr(found, "check_format", None)
    if check is not None:
        check(full_check=True)
