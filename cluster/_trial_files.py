"""Where trials leave what must survive them: checkpoints and finished weights, by proposal id, local or by URL."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass
from typing import Any

import fsspec
import torch

from archfront.spaces._errors import StoreError

__all__ = ["TrialFiles"]


@dataclass(frozen=True)
class TrialFiles:
    """A folder, or an fsspec URL, that every worker can write to."""

    url: str

    def save(self, name: str, state: Any) -> str:
        """Write a state under a name, whole or not at all. Returns its address."""
        system, folder = fsspec.core.url_to_fs(self.url)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        path, half = f"{folder}/{name}", f"{folder}/.{name}.{uuid.uuid4().hex}"
        try:
            system.makedirs(folder, exist_ok=True)
            system.pipe_file(half, buffer.getvalue())
            system.mv(half, path)
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error}", "free some space or give --files another place"
            ) from error
        return path

    def load(self, name: str) -> Any:
        """The state saved under a name, or None. A damaged one counts as none: the trial starts again."""
        system, folder = fsspec.core.url_to_fs(self.url)
        try:
            data = system.cat_file(f"{folder}/{name}")
        except FileNotFoundError:
            return None
        try:
            return torch.load(io.BytesIO(data), weights_only=True)
        except Exception:
            return None

    def read(self, name: str) -> bytes | None:
        """The bytes saved under a name, or None."""
        system, folder = fsspec.core.url_to_fs(self.url)
        try:
            data: bytes = system.cat_file(f"{folder}/{name}")
        except FileNotFoundError:
            return None
        return data

    def remove(self, *names: str) -> None:
        """Remove what is there of these."""
        system, folder = fsspec.core.url_to_fs(self.url)
        for name in names:
            if system.exists(f"{folder}/{name}"):
                system.rm(f"{folder}/{name}")
