"""Looking into a store that may not be there, and leaving nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archfront.cluster.store import Store

__all__ = ["looked_into"]


@contextmanager
def looked_into(store: str | None, files: str | None = None) -> Iterator[Store]:
    """The store, or where there is none an empty one that goes away again."""
    from archfront.cluster.store import NoStoreError, Store

    try:
        opened = Store(store, files=files, create=False)
    except NoStoreError:
        with tempfile.TemporaryDirectory() as folder, Store(f"sqlite:///{folder}/archfront.db") as empty:
            yield empty
    else:
        with opened:
            yield opened
