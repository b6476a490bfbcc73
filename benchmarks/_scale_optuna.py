"""What the scale benchmark asks of Optuna: its two durable storages, random proposals, the same function."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from _scale_study import SPACE, trivial
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

__all__ = ["optuna_rate", "optuna_reports", "optuna_storages", "optuna_study_of"]

optuna.logging.set_verbosity(optuna.logging.ERROR)


def optuna_storages(folder: Path) -> dict[str, Any]:
    """Both, made anew."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    return {
        "Optuna, RDB storage (SQLite)": RDBStorage(f"sqlite:///{folder}/optuna.db"),
        "Optuna, journal file": JournalStorage(JournalFileBackend(f"{folder}/optuna.log")),
    }


def asked(trial: optuna.Trial) -> dict[str, float]:
    """Proposed by the sampler and evaluated."""
    return trivial({name: trial.suggest_float(name, 0, 1) for name in SPACE.names})


def made(storage: Any, objectives: int = 2) -> optuna.Study:
    """A study of random proposals."""
    sampler = optuna.samplers.RandomSampler(0)
    return optuna.create_study(storage=storage, directions=["minimize"] * objectives, sampler=sampler)


def optuna_rate(storage: Any, quick: bool) -> float:
    """Trials per second, in one process."""
    number = 30 if quick else 150
    study = made(storage)
    started = time.monotonic()
    study.optimize(lambda trial: tuple(asked(trial).values()), n_trials=number)
    return number / (time.monotonic() - started)


def optuna_reports(storage: Any, number: int = 200) -> float:
    """Reports per second of one trial; with one objective, as Optuna has none for several."""
    trial = made(storage, objectives=1).ask()
    started = time.monotonic()
    for step in range(number):
        trial.report(0.5, step)
    return number / (time.monotonic() - started)


def optuna_study_of(storage: Any, trials: int) -> tuple[float, float]:
    """With so many trials stored: milliseconds of asking for one more and telling it (median of 100), and of opening
    the study for its front (median of 5)."""
    study = made(storage)
    domains = {name: FloatDistribution(0, 1) for name in SPACE.names}
    configs = SPACE.sample(np.random.default_rng(0), trials)
    study.add_trials(
        [create_trial(values=list(trivial(c).values()), params=dict(c), distributions=domains) for c in configs]
    )
    asking, opening = [], []
    for _ in range(100):
        started = time.perf_counter()
        trial = study.ask()
        study.tell(trial, list(asked(trial).values()))
        asking.append(time.perf_counter() - started)
    for _ in range(5):
        started = time.perf_counter()
        front = optuna.load_study(study_name=study.study_name, storage=str(storage.engine.url)).best_trials
        opening.append(time.perf_counter() - started)
        assert front
    return 1000 * statistics.median(asking), 1000 * statistics.median(opening)
