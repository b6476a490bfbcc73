"""How the decisions of a space hang together, for what generates configurations as rows of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Wiring", "descendants"]


@dataclass(frozen=True)
class Wiring:
    """`rows` (N): the parameter that each row decides, or, for a name that is no parameter, a constant of that name
    (an input, an output); `flow` (N, N): flow[i, j] where row i feeds row j; `positions` (N): the index of each row's
    positional encoding."""

    rows: Sequence[str]
    flow: NDArray[np.bool_]
    positions: NDArray[np.int64]


def descendants(flow: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The transitive closure (N, N): closure[i, j] where a path leads from i to j."""
    reached = flow.copy()
    for k in range(len(flow)):
        reached |= reached[:, k : k + 1] & reached[k]
    return reached
