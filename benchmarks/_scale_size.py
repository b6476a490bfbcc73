"""What a million evaluations change: asking and telling, the driver's memory, and what users ask of the store."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from _scale_optuna import optuna_storages, optuna_study_of
from _scale_page import Row, row
from _scale_study import study, trivial
from tests.cluster.large import device_study, fill

from archfront.cluster import study as studies
from archfront.cluster._loop import StudyLoop
from archfront.cluster._trial import TrialResult, run_trial
from archfront.cluster.store import Store

__all__ = ["million", "queries"]

OPTUNA = "Optuna, RDB storage (SQLite)"
PEERS_TRIALS = 1_000
"""Optuna's storage takes a minute for three thousand."""


def million(folder: Path, quick: bool) -> Iterator[Row]:
    """Ask and tell, one at a time, with a thousand and a million evaluations stored; the driver's memory between."""
    total = 20_000 if quick else 1_000_000
    seen: dict[str, float] = {}

    def engine(loop: StudyLoop) -> None:
        told = 0
        while (step := loop.next(1 if told < 1_000 else 512)) != "done":
            assert not isinstance(step, str)
            loop.completed([run_trial(loop.plan.evaluator, p.id, p.config, nobody) for p in step])
            told += len(step)
            loop.capacity = 512 if told >= 1_000 else 1
            if told == 1_000:
                seen["few"] = latency(loop)
                told += 200
            elif told >= total // 2 and "half" not in seen:
                gc.collect()
                seen["half"], seen["half told"] = resident(), told
            elif told >= total - 2_000 and "many" not in seen:
                gc.collect()
                seen["end"], seen["end told"] = resident(), told
                seen["many"] = latency(loop)
                told += 200
        loop.finish()

    with Store(f"sqlite:///{folder}/million.db") as store:
        usual = vars(studies)["run_in_process"]
        vars(studies)["run_in_process"] = engine
        try:
            started = time.monotonic()
            study(store, "million", trivial).run(trials=total)
            seconds = time.monotonic() - started
        finally:
            vars(studies)["run_in_process"] = usual
    rdb = optuna_storages(folder)[OPTUNA]
    peer, _ = optuna_study_of(rdb, PEERS_TRIALS)
    what = f"ask and tell at {total:,} evaluations, the peer at {PEERS_TRIALS:,}, each committed (median)"
    yield row("million", what, "", 1e3 * seen["many"], "ms", OPTUNA, peer)
    ratio = seen["many"] / seen["few"]
    name = f"ask and tell at {total:,} evaluations, over the same at 1,000 ({1e3 * seen['few']:.2f} ms, median)"
    yield row("million", name, "<= 1.5", ratio, "ratio")
    grown = (seen["end"] - seen["half"]) / (seen["end told"] - seen["half told"]) / 1e3
    yield row("million", "the driver's memory per evaluation, over the second half", "<= 2", grown, "KB")
    yield row("million", "evaluations through the loop alone, without Ray", "", total / seconds, "1/s")


def latency(loop: StudyLoop) -> float:
    """Median seconds of asking for one proposal and telling its result, 200 times."""
    loop.capacity, seconds = 1, []
    for _ in range(200):
        started = time.perf_counter()
        step = loop.next()
        assert not isinstance(step, str)
        result = TrialResult(step[0].id, "ok", trivial(step[0].config))
        loop.completed([result])
        seconds.append(time.perf_counter() - started)
    loop.capacity = 512
    return statistics.median(seconds)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def nobody(epoch: int, metrics: Mapping[str, float]) -> None:
    """Hears reports."""


def queries(folder: Path, quick: bool) -> Iterator[Row]:
    """What users ask of a store of a million evaluations on ten devices, and the CLI from its start to the front."""
    total, devices = (20_000, 4) if quick else (1_000_000, 10)
    url = f"sqlite:///{folder}/large.db"
    with Store(url) as store:
        fill(store, total, devices)
        members = len(store.front(space="large", device="d1"))
    size = sum(file.stat().st_size for file in folder.glob("large.db*")) / 1e9
    where = f"{total:,} evaluations on {devices} devices ({size:.2f} GB), front of {members}"
    asking = [sys.executable, str(Path(__file__).with_name("_scale_queries.py")), url]
    asked = subprocess.run(asking, check=True, stdout=subprocess.PIPE, text=True)
    _, peer = optuna_study_of(optuna_storages(folder)[OPTUNA], PEERS_TRIALS)
    for name, milliseconds in json.loads(asked.stdout).items():
        what = f"{name}, {where}: 99th percentile of 200 (median {np.median(milliseconds):.3g})"
        beside = (f"{OPTUNA}, best_trials of {PEERS_TRIALS:,}", peer) if name == "front of a study" else ()
        yield row("queries", what, "<= 50", float(np.percentile(milliseconds, 99)), "ms", *beside)
    command = [str(Path(sys.executable).with_name("archfront")), "front", "--study", device_study(1), "--store", url]
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    what = f"archfront front, from its start to the last of {members} rows, same store (median of 7)"
    yield row("queries", what, "<= 1.5", statistics.median(seconds), "s")
