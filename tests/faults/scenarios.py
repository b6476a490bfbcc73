"""Searches and what is done to them, at random moments from a seed. Every scenario ends with a verdict."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import psutil

from archfront.cluster.store import Store
from tests.faults.nodes import Nodes
from tests.faults.search import PATIENCE_S, TRAINING, Search, Verdict, uninterrupted
from tests.faults.server import OwnServer, SharedServer
from tests.faults.toys import DIARY, JUMPS

__all__ = ["Injection", "clocks", "databases", "disks", "drivers", "pilots", "raylets", "torn", "workers"]

BETWEEN = 12
"""At most so many evaluations are told between two injections."""
SLOTS = 2


@dataclass(frozen=True)
class Injection:
    """One fault: what it was, how many evaluations were told, and what became of the study in the end."""

    scenario: str
    kind: str
    told: int
    detail: str
    verdict: Verdict
    expected: str
    """The uninterrupted table's hash."""

    @property
    def good(self) -> bool:
        """Nothing lost, nothing twice, the same table."""
        return self.verdict.lost == 0 and self.verdict.twice == 0 and self.verdict.table == self.expected


Done = list[tuple[str, int, str]]
"""Kind, evaluations told at the time, detail."""


def _injected(scenario: str, done: Done, search: Search) -> list[Injection]:
    """Wait for the study's end and judge."""
    verdict = search.finish()
    expected = uninterrupted(search.what, search.trials, search.seed)
    return [Injection(scenario, kind, told, detail, verdict, expected) for kind, told, detail in done]


def _moments(rng: random.Random, search: Search, number: int) -> Iterator[int]:
    """So many moments of a running search, fewer if it ends before: told evaluations, which are remembered."""
    told = 0
    for _ in range(number):
        told += rng.randint(2, BETWEEN)
        if not search.wait_until(told):
            return
        time.sleep(rng.uniform(0, 0.1))
        search.remember()
        told = max(told, len(search.before))
        yield len(search.before)


def _trials(number: int, meanwhile: int = 12) -> int:
    """Enough that the study still runs at the last moment; so many are told while one fault is prepared."""
    return (number + 1) * (BETWEEN + meanwhile)


def _store(folder: Path, name: str, seed: int) -> str:
    return f"sqlite:///{folder}/{name}-{seed}.db"


def pilots(folder: Path, nodes: Nodes, seed: int, kinds: Sequence[str]) -> list[Injection]:
    """One running study whose pilots are killed or stalled, and whose controller is killed."""
    rng = random.Random(seed)
    with Search(
        _store(folder, "pilots", seed), _trials(len(kinds)), seed, engine=("--address", nodes.address)
    ) as search:
        search.begin()
        done: Done = []
        with _Stalls() as stalls:
            for kind, told in zip(kinds, _moments(rng, search, len(kinds)), strict=False):
                name = "ray::Controller" if kind == "controller" else "ray::ImplicitFunc"
                hit = stalls.stall if kind == "stall" else psutil.Process.kill
                victim = _hit(hit, rng, search, nodes, name, stalls)
                done.append((kind, told, f"process {victim.pid}"))
        return _injected("pilots", done, search)


class _Stalls:
    """Processes that are held, each until its lease has been given to somebody else."""

    def __init__(self) -> None:
        self._timers: dict[psutil.Process, threading.Timer] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers.values():
            timer.join()

    def stall(self, process: psutil.Process) -> None:
        """Hold it for twice the study's patience."""
        process.send_signal(signal.SIGSTOP)
        timer = threading.Timer(2 * PATIENCE_S, _go_on, [process])
        timer.start()
        self._timers[process] = timer

    @property
    def stalled(self) -> list[psutil.Process]:
        """Those that are held now."""
        return [process for process, timer in self._timers.items() if timer.is_alive()]


def _go_on(process: psutil.Process) -> None:
    if process.is_running():
        process.send_signal(signal.SIGCONT)


def _hit(
    hit: Callable[[psutil.Process], object],
    rng: random.Random,
    search: Search,
    nodes: Nodes,
    name: str = "ray::ImplicitFunc",
    stalls: _Stalls | None = None,
) -> psutil.Process:
    """Do it to one of the cluster's processes; one that has just ended by itself cannot be hit: another one is."""
    while True:
        victim = rng.choice(_victims(search, nodes, name, stalls.stalled if stalls else ()))
        with contextlib.suppress(psutil.NoSuchProcess):
            hit(victim)
            return victim


def _victims(search: Search, nodes: Nodes, name: str, but: Sequence[psutil.Process] = ()) -> list[psutil.Process]:
    """The cluster's processes of this name, as soon as there is one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = [
            p for node in [*nodes.nodes, nodes.head] for p in search.workers(node.process.pid, name) if p not in but
        ]
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"no process {name!r} for 30 s")


def drivers(folder: Path, nodes: Nodes | None, seed: int, number: int) -> list[Injection]:
    """A driver is killed again and again, and the study resumed."""
    rng = random.Random(seed)
    engine = ("--workers", "0") if nodes is None else ("--address", nodes.address)
    with Search(
        _store(folder, "drivers", seed), _trials(number), seed, engine=engine, most_sittings=number + 2
    ) as search:
        search.begin()
        done: Done = []
        for told in _moments(rng, search, number):
            search.kill()
            done.append(("driver", told, " ".join(engine)))
            search.resume()
        return _injected("drivers", done, search)


def raylets(folder: Path, nodes: Nodes, seed: int, number: int) -> list[Injection]:
    """A node dies, its workers outlive it for a while, and another node comes."""
    rng = random.Random(seed)
    with Search(
        _store(folder, "raylets", seed), _trials(number, 100), seed, engine=("--address", nodes.address)
    ) as search:
        search.begin()
        done: Done = []
        for told in _moments(rng, search, number):
            node = rng.choice(nodes.nodes)
            done.append(("raylet", told, f"process {node.raylet.pid}"))
            nodes.kill(node)
            nodes.add()
        return _injected("raylets", done, search)


def databases(folder: Path, server: OwnServer | SharedServer, seed: int, number: int) -> list[Injection]:
    """The database server dies, and comes back a second later."""
    rng = random.Random(seed)
    with Store(server.url) as store:  # of an earlier search
        for record in store.studies():
            store.remove_study(record.name)
    with Search(server.url, _trials(number), seed) as search:
        search.begin()
        done: Done = []
        for told in _moments(rng, search, number):
            server.kill()
            done.append(("database", told, server.how))
        return _injected("databases", done, search)


def disks(folder: Path, seed: int, number: int) -> list[Injection]:
    """The disk is full: no file can grow by more than a few pages. Then there is room again."""
    rng = random.Random(seed)
    with Search(_store(folder, "disks", seed), _trials(number), seed, most_sittings=number + 2) as search:
        search.begin()
        done: Done = []
        for told in _moments(rng, search, number):
            wal = search.file.with_name(search.file.name + "-wal")
            room = wal.stat().st_size + rng.randint(0, 5) * 4096 + rng.randint(0, 4095)
            assert search.process is not None
            psutil.Process(search.process.pid).rlimit(resource.RLIMIT_FSIZE, (room, room))
            said = search.end()
            assert search.process.returncode == 1, said
            assert "what was committed stays" in said, said
            done.append(("disk", told, f"limit {room} bytes"))
            search.resume()
        return _injected("disks", done, search)


def torn(folder: Path, seed: int, number: int) -> list[Injection]:
    """Driver and machine die while the last frame of the write-ahead log is written."""
    rng = random.Random(seed)
    with Search(_store(folder, "torn", seed), _trials(number), seed, most_sittings=number + 2) as search:
        search.begin()
        done: Done = []
        for told in _moments(rng, search, number):
            search.kill()
            done.append(("torn", told, _tear(search.file, rng)))
            search.resume()
        return _injected("torn", done, search)


def _tear(file: Path, rng: random.Random) -> str:
    """Append a part of a frame as SQLite would have begun it: its header names the log's salts, its content is torn."""
    wal = file.with_name(file.name + "-wal")
    log = bytearray(wal.read_bytes())
    page = int.from_bytes(log[8:12], "big")
    frame = 24 + page
    header = log[:32]
    begun = bytearray(rng.randbytes(frame))
    begun[8:16] = header[16:24]  # the salts
    kept = rng.randint(1, frame)
    whole = 32 + (len(log) - 32) // frame * frame
    wal.write_bytes(bytes(log[:whole] + begun[:kept]))
    return f"{kept} of {frame} bytes after {whole // frame} frames"


def clocks(folder: Path, nodes: Nodes, seed: int, number: int) -> list[Injection]:
    """The driver's wall clock jumps by up to a day, five times a second, and a pilot is killed meanwhile."""
    rng = random.Random(seed)
    where = ("--address", nodes.address)
    with Search(
        _store(folder, "clocks", seed), _trials(number), seed, engine=where, environment={JUMPS: "1"}
    ) as search:
        search.begin()
        done: Done = []
        for told in _moments(rng, search, number):
            victim = _hit(psutil.Process.kill, rng, search, nodes)
            done.append(("clock", told, f"jumps; process {victim.pid} killed"))
        return _injected("clocks", done, search)


def workers(folder: Path, nodes: Nodes, seed: int, number: int) -> list[Injection]:
    """Trainings whose workers are killed; the last injection is the driver's death. At most one epoch is repeated."""
    rng = random.Random(seed)
    with Search(
        _store(folder, "workers", seed), 4 * number + 6, seed, what=TRAINING, engine=("--address", nodes.address)
    ) as search:
        search.begin()
        done: Done = []
        told = 0
        for turn in range(number):
            told += rng.randint(1, 4)
            assert search.wait_until(told)
            time.sleep(rng.uniform(0, 0.5))
            search.remember()
            if turn == number - 1:
                search.kill()
                done.append(("driver", len(search.before), "of trainings"))
                search.resume()
                break
            victim = _hit(psutil.Process.kill, rng, search, nodes)
            done.append(("worker", len(search.before), f"process {victim.pid}"))
        diary = Path(os.environ[DIARY])
        search.finish()
        _check(diary)
        injected = _injected("workers", done, search)
        for file in diary.iterdir():  # of the uninterrupted one
            file.unlink()
        return injected


def _check(diary: Path) -> None:
    """Every training went through its epochs in order, and a death repeated one at most. Closes the diary."""
    for file in diary.iterdir():
        epochs = [int(line) for line in file.read_text().split()]
        file.unlink()
        assert epochs[0] == 1, epochs
        assert all(later - earlier in (0, 1) for earlier, later in pairwise(epochs)), epochs
