"""What `bench --out` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

__all__ = ["check"]


def check(file: Path, found: Mapping[str, Any]) -> None:
    """A written file says the same as the document, in six digits and with its columns named once."""
    written = json.loads(file.read_text())
    assert written["summary"] == found["summary"]
    for row, whole in zip(written["rows"], found["rows"], strict=True):
        read = {**written["all rows"], **dict(zip(written["columns"], row, strict=True))}
        for name, value in whole.items():
            assert read[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)
