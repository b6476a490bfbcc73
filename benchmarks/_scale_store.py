"""Results into the store, the upkeep of a front, and reports; Optuna's storages beside it."""

from __future__ import annotations

import multiprocessing
import selectors
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
from _scale_optuna import optuna_rate, optuna_reports, optuna_storages
from _scale_page import Row, row
from _scale_study import begun, outcome, proposed, study, trivial
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from archfront.cluster._front import Front
from archfront.cluster.store import Outcome, Report, Store
from archfront.search._types import Evaluation, Proposal, Value

__all__ = ["front_upkeep", "reports", "writer"]

POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"


def writer(folder: Path, quick: bool) -> Iterator[Row]:
    """Results of 8 processes to one writer: take what waits, commit, acknowledge. Optuna's on the same disk."""
    peers = {name: optuna_rate(storage, quick) for name, storage in optuna_storages(folder).items()}
    for url, asked in stores(folder):
        kind = url.partition(":")[0]
        for message in (1, 10, 64):
            total = (2_000 if quick else 8_000) * (1 if message == 1 else 4)
            rate, ack = written(url, total, message)
            name = f"{kind}: results of 8 processes, {message} a message, p99 of the answer {ack:.0f} ms"
            for peer, rate_of_peer in peers.items():
                yield row("writer", name, asked, rate, "1/s", peer, rate_of_peer)


def stores(folder: Path) -> Iterator[tuple[str, str]]:
    """Addresses, with what is asked of them."""
    yield f"sqlite:///{folder}/writer.db", ">= 5000"
    engine = create_engine(POSTGRES.replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT")
    drop = text("drop database if exists archfront_scale with (force)")
    try:
        with engine.connect() as connection:
            connection.execute(drop)
            connection.execute(text("create database archfront_scale"))
    except OperationalError:
        return
    yield POSTGRES.rpartition("/")[0] + "/archfront_scale", ">= 1000"
    with engine.connect() as connection:
        connection.execute(drop)
    engine.dispose()


def written(url: str, total: int, message: int, producers: int = 8) -> tuple[float, float]:
    """Evaluations per second, and the 99th percentile of the milliseconds from sending to the answer."""
    name = f"writer {message}"
    each = total // producers // message * message
    with Store(url) as store:
        trials = begun(study(store, name, trivial), each * producers)
        epoch = store.begin_sitting(name)
        proposals = proposed(store, name, epoch, each * producers)
        pipes, processes = [], []
        for i in range(producers):
            mine = proposals[i * each : (i + 1) * each]
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=produce, args=(theirs, mine, message))
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        for pipe in pipes:
            pipe.recv()  # it is up
        for pipe in pipes:
            pipe.send("go")
        started, acks = time.monotonic(), []
        done = 0
        waiting = selectors.DefaultSelector()
        for pipe in pipes:
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            came, senders = [], []
            for ready, _ in waiting.select():
                pipe = cast(Connection, ready.fileobj)
                given = pipe.recv()
                if isinstance(given, dict):  # its own times: it has ended
                    acks += given["acks"]
                    waiting.unregister(pipe)
                    continue
                came += given
                senders.append(pipe)
            if came:
                done += store.record(name, epoch, came)
                for pipe in senders:
                    pipe.send("committed")
        rate = done / (time.monotonic() - started)
        for process in processes:
            process.join()
        told = store.told(name)
        assert len({e.proposal for _, _, e in told}) == len(told) == trials
    return rate, 1000 * float(np.percentile(acks, 99))


def produce(pipe: Connection, proposals: list[Proposal], message: int) -> None:
    """Hand results over, each message after the answer to the one before."""
    results = [outcome(p) for p in proposals]
    pipe.send("up")
    pipe.recv()
    acks = []
    for at in range(0, len(results), message):
        outcomes = results[at : at + message]
        sent = time.monotonic()
        pipe.send(outcomes)
        pipe.recv()
        acks.append(time.monotonic() - sent)
    pipe.send({"acks": acks})


def front_upkeep(folder: Path, quick: bool) -> Iterator[Row]:
    """A tell with a front of 5,000 points, in memory and through the store."""
    import moocore

    points = 5_000
    rng = np.random.default_rng(0)
    x = np.sort(rng.random(points + 1_000))
    curve = np.stack([x, 1 - x], 1)  # no point dominates another
    kept, new = curve[:points], curve[points:]
    rng.shuffle(new)
    front = Front(2)
    for i, point in enumerate(kept):
        front.add(str(i), point.tolist())
    started = time.process_time()
    for i, point in enumerate(new):
        front.add(f"new {i}", point.tolist())
    ours = 1000 * (time.process_time() - started) / len(new)
    started = time.process_time()
    for _ in range(20):
        moocore.is_nondominated(curve)
    peer = 1000 * (time.process_time() - started) / 20
    yield row("front", "a point that enters a front of 5,000", "<= 1", ours, "ms", "moocore from scratch", peer)
    with Store(f"sqlite:///{folder}/front.db") as store:
        tells = tell_times(store, curve)
    name = "a tell, committed, that enters a kept front of 5,000 (median; alone in its transaction)"
    yield row("front", name, "<= 1", 1000 * statistics.median(tells[:500]), "ms")
    name = "the same, 64 in a transaction, each"
    yield row("front", name, "<= 1", 1000 * tells[-1], "ms")


def tell_times(store: Store, curve: np.ndarray[Any, Any]) -> list[float]:
    """Seconds of 500 single tells beyond the first 5,000 points, and of one among 64 at last."""
    name = "front"
    begun(study(store, name, trivial), len(curve))
    epoch = store.begin_sitting(name)
    proposals = proposed(store, name, epoch, len(curve))

    def told(i: int) -> Outcome:
        values = {n: Value(float(v), "trained") for n, v in zip(("error", "cost"), curve[i], strict=True)}
        p = proposals[i]
        return Outcome(Evaluation(p.config, p.key, "ok", values, p.id, {}, 0.0, ""))

    for at in range(0, 5_000, 1_000):
        store.record(name, epoch, [told(i) for i in range(at, at + 1_000)])
    seconds = []
    for i in range(5_000, 5_500):
        one = [told(i)]
        started = time.perf_counter()
        store.record(name, epoch, one)
        seconds.append(time.perf_counter() - started)
    many = [[told(i) for i in range(at, at + 64)] for at in range(5_500, 5_884, 64)]
    started = time.perf_counter()
    for part in many:
        store.record(name, epoch, part)
    return [*seconds, (time.perf_counter() - started) / (64 * len(many))]


def reports(folder: Path, quick: bool) -> Iterator[Row]:
    """Learning curves into the store, as many in one call as pilots bring together."""
    name, number = "reports", 200
    peers = {peer: optuna_reports(storage) for peer, storage in optuna_storages(folder).items()}
    with Store(f"sqlite:///{folder}/reports.db") as store:
        begun(study(store, name, trivial), number)
        epoch = store.begin_sitting(name)
        proposals = proposed(store, name, epoch, number)
        for together in (1, 16, 256):
            steps = range(together, together + (5 if together == 1 else 100))
            given = [Report(p.id, s + 1000 * together, {"error": 0.5, "nll": 1.0}) for s in steps for p in proposals]
            started = time.monotonic()
            for at in range(0, len(given), together):
                store.add_reports(given[at : at + together])
            rate = len(given) / (time.monotonic() - started)
            for peer, rate_of_peer in peers.items():
                what = f"reports, {together} in a transaction"
                yield row("reports", what, ">= 10000", rate, "1/s", peer, rate_of_peer)
