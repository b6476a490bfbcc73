"""Functions and strategies that studies in tests name by dotted path."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from archfront.search import Capabilities, Configuration, Strategy
from archfront.spaces import Categorical, Integer, Ordinal, Real, SearchSpace

__all__ = ["SPACE", "Greedy", "NoReals", "evaluate", "slow", "two"]

SPACE = SearchSpace(Integer("depth", 1, 8), Ordinal("width", (8, 16, 32, 64)), Real("lr", 1e-4, 1.0, log=True, bins=16))
CHOICES = SearchSpace(Categorical("a", ("x", "y", "z")), Categorical("b", ("x", "y", "z")))


def two(config: Mapping[str, Any]) -> dict[str, float]:
    """Two conflicting objectives."""
    size = config["depth"] * config["width"]
    return {"error": 1 / (1 + size) + 0.01 * math.log10(config["lr"]) ** 2, "cost": float(size)}


def slow(config: Mapping[str, Any]) -> dict[str, float]:
    """`two`, but each takes a while."""
    time.sleep(0.2)
    return two(config)


def evaluate(config: Mapping[str, Any], *, seed: int, budget: Any, report: Callable[..., None]) -> dict[str, float]:
    """`two` with a learning curve; depth 3 raises, depth 4 gives NaN, depth 5 forgets an objective."""
    values = two(config)
    report(1, {"error": values["error"] + 1})
    report(2, {"error": values["error"]})
    if config["depth"] == 3:
        raise RuntimeError("depth 3 does not work")
    if config["depth"] == 4:
        return {**values, "error": math.nan}
    if config["depth"] == 5:
        return {"cost": values["cost"]}
    return values


def killer(config: Mapping[str, Any]) -> dict[str, float]:
    """Depth 2 kills its process, once if a file named by the environment is there to remember it."""
    if config["depth"] == 2:
        memory = os.environ.get("KILLED_ONCE")
        if memory is None or not Path(memory).exists():
            if memory is not None:
                Path(memory).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return two(config)


class Greedy(Strategy):
    """Mutate the best one so far."""

    def propose(self, n: int) -> Sequence[Configuration]:
        if not self.told:
            return self.space.sample(self.rng, n)
        return [self.space.mutate(self.best(1)[0].config, self.rng) for _ in range(n)]


class NoReals(Greedy):
    """Cannot search real parameters, more than one objective, or constraints."""

    capabilities = Capabilities(objectives=1, constraints=False, real=False)
