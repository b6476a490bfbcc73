"""Evaluations through the whole path, what is lost to overhead, and one table whatever runs at once."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from _scale_page import Row, row
from _scale_study import study, trivial
from sqlalchemy import text

from archfront.cluster.store import Store

__all__ = ["reproducible", "sleep_overhead", "whole_path"]


def sleeping(config: Mapping[str, Any]) -> dict[str, float]:
    """The same in a second, with the worker and the moment when it began."""
    began = time.time()
    time.sleep(1)
    return {**trivial(config), "worker": float(os.getpid()), "began": began}


def whole_path(folder: Path, quick: bool) -> Iterator[Row]:
    """Trivial evaluations through ask, lease, evaluation on Ray, tell, durable store and front, on two slots."""
    trials = 10_000 if quick else 50_000
    rates = []
    with Store(f"sqlite:///{folder}/path.db") as store:
        for turn in range(3):
            made = study(store, f"path {turn}", trivial)
            made.run(trials=trials, workers=2)
            created = times(store, f"path {turn}")
            rates.append((len(created) - 1) / (created[-1] - created[0]))
    peer = ray_tune(100 if quick else 400)
    name = f"{trials} trivial evaluations on 2 slots, median of 3 ({min(rates):.0f} to {max(rates):.0f})"
    yield row("path", name, ">= 5000", statistics.median(rates), "1/s", "Ray Tune, actors reused, no loggers", peer)


def ray_tune(trials: int) -> float:
    """Trials per second of Ray Tune itself with its fastest settings, between the first and the last result."""
    from ray import tune
    from ray.tune import Callback

    from archfront.cluster.engine import RayOptions, ray_cluster

    ended: list[float] = []

    class Clock(Callback):  # type: ignore[misc, unused-ignore]
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            ended.append(time.monotonic())

    def trainable(config: dict[str, Any]) -> dict[str, float]:
        return trivial(config)

    with ray_cluster(RayOptions(workers=2)), tempfile.TemporaryDirectory() as storage:
        space = {f"x{i}": tune.uniform(0, 1) for i in range(6)}
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True, max_concurrent_trials=2),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[Clock()]),
        )
        tuner.fit()
    return (len(ended) - 1) / (ended[-1] - ended[0])


def sleep_overhead(folder: Path, quick: bool) -> Iterator[Row]:
    """Evaluations that sleep for a second on 16 slots: what a slot loses from one to the next."""
    rounds = 10 if quick else 30
    with Store(f"sqlite:///{folder}/sleep.db") as store:
        made = study(store, "sleep", sleeping)
        begun = time.monotonic()
        made.run(trials=16 * rounds, workers=16)
        whole = time.monotonic() - begun
        told = [evaluation.values for _, _, evaluation in store.told("sleep")]
    began: dict[float, list[float]] = defaultdict(list)
    for values in told:
        began[values["worker"].value].append(values["began"].value)
    lost = [max(moments) - min(moments) - (len(moments) - 1) for moments in began.values()]
    share = sum(lost) / sum(len(moments) - 1 for moments in began.values())
    name = f"{16 * rounds} evaluations of 1 s on {len(began)} slots: between two of a slot (whole: {whole:.0f} s)"
    yield row("sleep", name, "<= 3", 100 * share, "% over the ideal", "Ray's own gate", 14.0)


def delayed(config: Mapping[str, Any]) -> dict[str, float]:
    """The same after a while that no seed knows."""
    time.sleep(random.SystemRandom().uniform(0, 0.05))
    return trivial(config)


def reproducible(folder: Path, quick: bool) -> Iterator[Row]:
    """Tables of one seed with 1, 2 and 8 workers on Ray, whose evaluations end in another order each time."""
    workers = (1, 2) if quick else (1, 2, 8)
    for strategy, trials in (("random", 60), ("nsga2", 60), ("linas", 60), ("bayesian", 30)):
        tables = set()
        with Store(f"sqlite:///{folder}/{strategy}.db") as store:
            for slots in workers:
                made = study(store, f"{slots}", delayed, strategy=strategy, reproducible=True)
                assert made.run(trials=trials, workers=slots)["told"] == trials
                tables.add(made.table_hash())
        name = f"{strategy}: different tables of {trials} trials with {', '.join(map(str, workers))} workers"
        yield row("reproducible", name, "1", len(tables), "table")


def times(store: Store, name: str) -> list[float]:
    """When each evaluation was committed, in order."""
    query = (
        "select e.created from evaluation e join study s on s.id = e.study_id where s.name = :name order by sequence"
    )
    with store._reader.begin() as connection:
        return [float(created) for (created,) in connection.execute(text(query), {"name": name})]
