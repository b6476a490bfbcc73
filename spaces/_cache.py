"""Trained tensors that are made once and kept in the user's cache folder, by content hash."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["cache_folder", "cached_tensors", "is_cached", "read_tensors", "write_tensors"]

logger = logging.getLogger(__name__)

FORMAT = "archfront-tensors-1"


def cache_folder() -> Path:
    """Where what was trained once is kept: the environment variable ARCHFRONT_CACHE, else the user's cache folder."""
    named = os.environ.get("ARCHFRONT_CACHE")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("archfront"))


def write_tensors(path: Path, identity: str, tensors: Mapping[str, Tensor]) -> None:
    """Write a file of tensors that says what it is; a reader sees it whole or not at all."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save({"format": FORMAT, "identity": identity, "tensors": dict(tensors)}, beside)
    beside.replace(path)


def read_tensors(path: Path, identity: str) -> dict[str, Tensor]:
    """The tensors of a file; floating ones in single precision. Raises ValueError for a file of something else, or of
    nothing that can be read."""
    import torch

    try:
        saved = torch.load(path, weights_only=True)
        if saved["format"] != FORMAT or saved["identity"] != identity:
            raise ValueError(f"it is of {saved['identity']!r}")
        return {name: t.float() if t.is_floating_point() else t for name, t in saved["tensors"].items()}
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def cached_tensors(name: str, identity: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of the cache's file `name`, or what `make` returns, which is then kept there. Several processes that
    want the same wait for one of them to make it. A damaged file is said once, and made again."""
    from filelock import FileLock

    path = cache_folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if (found := _read(path, identity)) is not None:
            return found
        made = {key: tensor.detach().contiguous() for key, tensor in make().items()}
        write_tensors(path, identity, made)
        return made


def is_cached(name: str, identity: str) -> bool:
    """Whether the cache's file `name` is there and can be read. A damaged one is said, and taken away."""
    return _read(cache_folder() / name, identity) is not None


def _read(path: Path, identity: str) -> dict[str, Tensor] | None:
    if not path.exists():
        return None
    try:
        return read_tensors(path, identity)
    except ValueError as error:
        logger.warning("%s is damaged (%s): it is made again", path, error)
        path.unlink(missing_ok=True)  # said once, by whoever looks first
        return None
