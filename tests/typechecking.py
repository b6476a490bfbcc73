"""What checks the package's annotations, shapes included, while testing (`--jaxtyping-packages` in pyproject.toml)."""

from __future__ import annotations

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

__all__ = ["checked"]

_NUMBERS = FrozenDict({float: float | int | np.floating | np.integer, int: int | np.integer})
checked = beartype(conf=BeartypeConf(hint_overrides=_NUMBERS))
"""Accepts an int where a float is asked for, as mypy does, and NumPy's scalars, as the package does."""
