"""What the tests of predictors learn from: one-hot features of a space of cells, an additive label with noise."""

from __future__ import annotations

import numpy as np

from archfront.spaces import Categorical, Repeated, SearchSpace
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration

CELLS = SearchSpace(Repeated(Categorical("op", ("none", "skip", "conv1", "conv3", "pool")), 6))


def table(n: int, seed: int, *, scale: float = 1.0, shift: float = 20.0) -> tuple[list[Configuration], Floats, Floats]:
    """n configurations, their features, and labels of standard deviation near `scale` around `shift` * `scale`."""
    rng = np.random.default_rng(seed)
    configs = CELLS.sample(rng, n)
    x = CELLS.to_features(configs)
    weight = rng.normal(size=x.shape[1])
    y = x @ weight + 0.5 * np.sin(3 * x @ rng.normal(size=x.shape[1])) + rng.normal(0, 0.3, n)
    return configs, x, scale * (shift + y)
