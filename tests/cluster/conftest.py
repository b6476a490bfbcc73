"""A store of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from archfront.cluster.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An SQLite store in the test's folder."""
    with Store(f"sqlite:///{tmp_path}/archfront.db") as opened:
        yield opened
