"""How fast populations are sampled and encoded: 100,000 configurations of a conditional space of 20 parameters.

Beside it Optuna's random sampler on the same parameters (1,000 trials, scaled), in the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from _results import write

from archfront.spaces import Categorical, Equals, IndexBelow, Integer, Ordinal, Real, Repeated, SearchSpace
from archfront.spaces._adapters import to_optuna

N, REPEATS = 100_000, 5
SPACE = SearchSpace(
    Integer("depth", 1, 8),
    Categorical("kind", ("conv", "attention")),
    Repeated(Categorical("op", ("a", "b", "c")), 8, when=IndexBelow("depth")),
    Integer("heads", 1, 16, log=True, when=Equals("kind", "attention")),
    *(Real(f"rate[{i}]", 1e-4, 1.0, log=True, bins=8) for i in range(4)),
    Real("decay", 1e-5, 1e-1, log=True, zero=True, bins=4),
    Ordinal("width", (8, 16, 32)),
    Integer("step", 0, 10, step=2),
    Categorical("flag", (True, False, None)),
    Real("share", 0, 1, bins=3),
)


def seconds(call: Callable[[], Any]) -> list[float]:
    """CPU seconds of several runs."""
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return times


def ask_optuna(n: int = 1000) -> None:
    """The same parameters from Optuna's random sampler."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    domains = to_optuna(SPACE)
    for _ in range(n):
        study.ask(domains)


def main() -> None:
    """Measure and write docs/results/search_space."""
    rng = np.random.default_rng(0)
    population = SPACE.sample(rng, N)
    peer = statistics.median(seconds(ask_optuna)) * N / 1000
    cases: dict[str, Callable[[], Any]] = {
        "sample": lambda: SPACE.sample(rng, N),
        "to_features": lambda: SPACE.to_features(population),
        "to_ints": lambda: SPACE.to_ints(population),
        "keys": lambda: SPACE.keys_of(population),
        "mutate": lambda: SPACE.mutate_all(population, rng),
        "crossover": lambda: SPACE.crossover_all(population, population[::-1], rng),
    }
    rows = []
    for name, call in cases.items():
        times = seconds(call)
        median = statistics.median(times)
        wanted = 2.0 if name in ("sample", "to_features", "to_ints") else None
        row = {"operation": name, "CPU s for 100,000": median, "lowest": min(times), "highest": max(times)}
        rows.append({**row, "asked": wanted or "", "Optuna random / ours": peer / median if name == "sample" else ""})
    write(
        "search_space",
        "Populations of a search space",
        f"{len(SPACE)} parameters, {sum(bool(p.when) for p in SPACE)} of them conditional; medians of {REPEATS} runs.",
        rows,
    )


if __name__ == "__main__":
    main()
