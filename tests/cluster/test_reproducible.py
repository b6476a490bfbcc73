"""`--reproducible`: one seed gives one table, whatever runs at once, comes back first, or is killed in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from archfront import search
from archfront.cluster._loop import StudyLoop
from archfront.cluster._trial import run_trial
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from tests.cluster.studies import own

TRIALS = 30


class Killed(BaseException):
    """The process is gone."""


def at_random(capacity: int, seed: int) -> Callable[[StudyLoop], None]:
    """An engine without processes: so many trials at once, which end in random order, one or several together."""

    def run(loop: StudyLoop) -> None:
        rng = random.Random(seed)
        loop.capacity = capacity
        while (step := loop.next(capacity)) != "done" or loop.running:
            del step
            ended = rng.sample(loop.running, rng.randint(1, len(loop.running)))
            loop.completed([run_trial(loop.plan.evaluator, p.id, p.config, lambda *_: None) for p in ended])
        loop.finish()

    return run


def made(store: Store, name: str, strategy: str) -> Study:
    given: dict[str, Any] = {"strategy": strategy, "parameters": dict(search.load(strategy).test_parameters)}
    return own(store, name, **given, reproducible=True, lookahead=8)


@pytest.mark.parametrize(
    ("strategy", "trials"),
    [("random", 30), ("nsga2", 30), ("linas", 30), ("regularized_evolution", 30), ("bayesian", 18), ("ehvi", 16)],
)
def test_whatever_runs_at_once(store: Store, monkeypatch: pytest.MonkeyPatch, strategy: str, trials: int) -> None:
    hashes = set()
    for capacity, seed in ((1, 0), (2, 1), (8, 2), (8, 3)):
        monkeypatch.setattr("archfront.cluster.study.run_in_process", at_random(capacity, seed))
        study = made(store, f"{capacity}-{seed}", strategy)
        assert study.run(trials=trials)["told"] == trials
        hashes.add(study.table_hash())
    assert len(hashes) == 1


def test_another_seed_gives_another_table(store: Store) -> None:
    for seed in (0, 1):
        own(store, str(seed), seed=seed, reproducible=True).run(trials=TRIALS)
    assert Study.open("0", store=store).table_hash() != Study.open("1", store=store).table_hash()


@pytest.mark.parametrize("strategy", ["nsga2", "linas"])
def test_whenever_it_is_killed(store: Store, monkeypatch: pytest.MonkeyPatch, strategy: str) -> None:
    """After each of the first commits, and again and again."""
    made(store, "whole", strategy).run(trials=TRIALS)
    expected = Study.open("whole", store=store).table_hash()
    for every in (1, 2, 3, 5):
        study = made(store, f"every {every}", strategy)
        sittings = 0
        while sittings == 0 or study.record.status != "done":
            monkeypatch.setattr("archfront.cluster.study.run_in_process", at_random(2, sittings))
            with monkeypatch.context() as patch:
                _kill_after(patch, sittings % 7 + every)
                try:
                    study.run(trials=TRIALS)
                except Killed:
                    study = Study.open(study.name, store=store)
            sittings += 1
        assert sittings > 3
        assert study.table_hash() == expected


def _kill_after(patch: pytest.MonkeyPatch, commits: int) -> None:
    left = [commits]

    def killing(method: Callable[..., Any]) -> Callable[..., Any]:
        def commit(*given: Any, **named: Any) -> Any:
            done = method(*given, **named)
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return done

        return commit

    for name in ("insert_proposals", "mark_running", "record"):
        patch.setattr(Store, name, killing(getattr(Store, name)))
