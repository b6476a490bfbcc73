"""Content-addressed files: in a folder beside an SQLite store, or anywhere fsspec reaches."""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from archfront.spaces._errors import StoreError

__all__ = ["Files", "digest"]

_PART = 1 << 20
_OURS = re.compile(r"/([0-9a-f]{2})/\1[0-9a-f]{62}(\.[0-9a-f]{32}\.part)?$")


def digest(data: bytes | Path) -> str:
    """sha256 of bytes or of a file, in hexadecimal."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Files:
    """Files named by their sha256, two digits of it as the folder. Written to a temporary name, then renamed."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self._fs: Any
        self._fs, self._root = url_to_fs(url)
        self._local = isinstance(self._fs, LocalFileSystem)
        self.url = url

    def location(self, sha256: str) -> str:
        """The path of a file, or its URL on a remote store."""
        path = self._path(sha256)
        return path if self._local else str(self._fs.unstrip_protocol(path))

    def put(self, data: bytes | Path) -> tuple[str, int]:
        """Keep the content: its sha256 and its size in bytes. Content that is there already is not written again."""
        sha256 = digest(data)
        path, size = self._path(sha256), len(data) if isinstance(data, bytes) else data.stat().st_size
        try:
            if not self._fs.exists(path):
                self._fs.makedirs(os.path.dirname(path), exist_ok=True)
                self._write(path, data)
        except OSError as error:
            raise StoreError(
                f"file {path} cannot be written: {error.strerror or error}", "give --files another"
            ) from error
        return sha256, size

    def read(self, sha256: str) -> bytes:
        """The content. Raises StoreError when it is gone or damaged."""
        path = self._path(sha256)
        try:
            data = bytes(self._fs.cat_file(path))
        except OSError as error:
            raise StoreError(f"file {path} is gone", "was the folder of files moved? give --files its place") from error
        if digest(data) != sha256:
            raise StoreError(
                f"file {path} is damaged: its content is not what its name says", "remove it and train again"
            )
        return data

    def remove_all_but(self, kept: Collection[str], *, older_than_s: float) -> list[str]:
        """Remove the files not named in `kept`, and temporary ones, that are older than that; returns their names.

        Only files that `put` could have written: whatever else lies below the same folder is somebody's. Raises
        StoreError when they cannot be listed or removed.
        """
        removed = []
        try:
            for path, facts in self._fs.find(self._root, detail=True).items() if self._fs.exists(self._root) else ():
                name = path.rsplit("/", 1)[-1]
                if not _OURS.search(path) or name in kept:
                    continue
                with suppress(FileNotFoundError):  # another study of this store swept it away meanwhile
                    if self._age_s(path, facts) >= older_than_s:
                        self._fs.rm_file(path)
                        removed.append(name)
        except OSError as error:
            raise StoreError(
                f"the files in {self._root} cannot be cleaned up: {error.strerror or error}",
                "nothing that is named is lost",
            ) from error
        return sorted(removed)

    def _write(self, path: str, data: bytes | Path) -> None:
        temporary = f"{path}.{uuid.uuid4().hex}.part"
        try:
            with self._fs.open(temporary, "wb") as target:
                if isinstance(data, bytes):
                    target.write(data)
                else:
                    with data.open("rb") as source:
                        while part := source.read(_PART):
                            target.write(part)
                if self._local:  # the row that names the file is committed after it is really there
                    target.flush()
                    os.fsync(target.fileno())
            if self._local:
                os.replace(temporary, path)
            else:
                self._fs.mv(temporary, path)
        except BaseException:
            if self._fs.exists(temporary):
                self._fs.rm_file(temporary)
            raise

    def _age_s(self, path: str, facts: dict[str, Any]) -> float:
        try:
            changed = facts["mtime"] if "mtime" in facts else self._fs.modified(path).timestamp()
        except NotImplementedError:
            return 0.0  # a store that knows no ages: it might be new
        return time.time() - float(changed)

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"
