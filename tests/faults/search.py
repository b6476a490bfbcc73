"""A search in its own processes, what was told before an injection, and what has to hold after it."""

from __future__ import annotations

import functools
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import moocore
import numpy as np
import psutil

from archfront.cluster._table_hash import table_hash
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from tests.cluster import toys
from tests.cluster.command import start
from tests.faults.toys import PACE

__all__ = ["FUNCTION", "PACE_S", "PATIENCE_S", "STUDY", "TRAINING", "Search", "Verdict", "What", "uninterrupted"]

STUDY = "chaos"
PATIENCE_S = 3.0
"""A worker that says nothing for so long is given up."""
GIVE_UP_S = 120.0
LOOKAHEAD = 6
PACE_S = 0.03

Row = tuple[str, str, dict[str, float]]
"""Of an evaluation: key, status, values."""


@dataclass(frozen=True)
class What:
    """What is searched: a function of a space, or the networks of a model space."""

    space: str
    objectives: tuple[str, ...]
    evaluate: str | None = None
    trainer: str | None = None
    epochs: int | None = None

    @property
    def arguments(self) -> list[str]:
        """Of `archfront search`."""
        given = {"evaluate": self.evaluate, "trainer": self.trainer, "epochs": self.epochs}
        named = [text for name, value in given.items() if value is not None for text in (f"--{name}", str(value))]
        return [self.space, "--objective", ",".join(self.objectives), *named]


FUNCTION = What("tests.cluster.toys:SPACE", ("error:min", "cost:min"), evaluate="tests.faults.toys:paced")
TRAINING = What("archfront.spaces._toy:ToyImages", ("error", "params_m"), trainer="tests.faults.toys:Diary", epochs=6)


@dataclass(frozen=True)
class Verdict:
    """What became of a study: evaluations told before the injections that are missing or changed, proposals told twice,
    sittings it took, and its table's hash."""

    told: int
    lost: int
    twice: int
    sittings: int
    table: str


@dataclass
class Search:
    """One reproducible study on one store. `engine` are arguments of every sitting."""

    url: str
    trials: int
    seed: int
    what: What = FUNCTION
    engine: Sequence[str] = ("--workers", "0")
    environment: Mapping[str, str] = field(default_factory=dict)
    most_sittings: int = 4
    """A study that does not end within so many is a failure."""
    sittings: int = 0
    before: dict[str, Row] = field(default_factory=dict)
    """What was told when something was injected, by proposal."""
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays behind when a test fails in the middle."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def begin(self, **options: Any) -> None:
        """Start the search, in a store that has none."""
        assert self.told() == 0, f"{self.url} holds a search already"
        self._sit(
            *("search", *self.what.arguments, "--strategy", "nsga2", "--trials", str(self.trials)),
            *("--seed", str(self.seed), "--reproducible", "--lookahead", str(LOOKAHEAD)),
            *("--max-failures", "1000", "--patience", str(PATIENCE_S), "--study", STUDY),
            **options,
        )

    def resume(self) -> None:
        """Start the next sitting."""
        self._sit("resume", STUDY)

    def _sit(self, *arguments: str, **options: Any) -> None:
        self.sittings += 1
        everywhere = ("--store", self.url, "--json")
        environment = {**os.environ, PACE: str(PACE_S), **self.environment}
        self.process = start(*arguments, *self.engine, *everywhere, environment=environment, **options)

    def told(self) -> int:
        """Evaluations in the store."""
        if self.url.startswith("sqlite") and not self.file.exists():
            return 0
        with Store(self.url) as store:
            return store.counts(STUDY).told if store.studies() else 0

    @property
    def file(self) -> Path:
        """Of an SQLite store."""
        return Path(self.url.removeprefix("sqlite:///"))

    def wait_until(self, told: int) -> bool:
        """Until so many evaluations are told; False when the study ends before. Raises AssertionError when it stands
        still."""
        assert self.process is not None
        deadline = time.monotonic() + GIVE_UP_S
        while self.told() < told:
            if self.process.poll() is not None:
                said = self.end()
                if self._status() == "done":
                    return False
                self._go_on(said)
            assert time.monotonic() < deadline, f"no {told} evaluations within {GIVE_UP_S} s"
            time.sleep(0.05)
        return True

    def remember(self) -> None:
        """Take down what is told now: all of it must be there at the end."""
        with Store(self.url) as store:
            self.before |= rows(store)

    def kill(self) -> None:
        """`kill -9` of the driver."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def end(self) -> str:
        """Wait for the driver; what it printed."""
        assert self.process is not None
        if self.process.stdout is None or self.process.stdout.closed:
            return ""  # it was heard before
        out, said = self.process.communicate(timeout=GIVE_UP_S)
        return out + said

    def finish(self) -> Verdict:
        """Wait for the end, by itself or by `archfront resume`, and check everything. Raises AssertionError."""
        said = self.end()
        while self._status() != "done":
            self._go_on(said)
            said = self.end()
        return self.verdict()

    def _go_on(self, said: str) -> None:
        """Another sitting of a search that ended with an error."""
        assert self.sittings < self.most_sittings, said
        self.resume()

    def _status(self) -> str:
        with Store(self.url) as store:
            return store.study(STUDY).status if store.studies() else "not begun"

    def verdict(self) -> Verdict:
        """What the store holds, beside what it has to."""
        if self.url.startswith("sqlite"):
            _check_file(self.file)
        with Store(self.url) as store:
            evaluations = store.told(STUDY)
            after = rows(store)
            lost = sum(after.get(proposal) != row for proposal, row in self.before.items())
            twice = len(evaluations) - len(after)
            assert [sequence for sequence, _, _ in evaluations] == list(range(1, self.trials + 1))
            assert all(record.state == "done" for record in store.proposals(STUDY))
            if self.what is FUNCTION:
                _check_values(store)
            return Verdict(len(evaluations), lost, twice, self.sittings, table_hash(store, STUDY))

    def workers(self, root: int, name: str = "ray::ImplicitFunc") -> list[psutil.Process]:
        """The processes of this name below a process."""
        found = []
        for process in psutil.Process(root).children(recursive=True):
            try:
                if " ".join(process.cmdline()).startswith(name) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # it has just ended
                continue
        return found


def rows(store: Store) -> dict[str, Row]:
    """Every evaluation that is told."""
    if not store.studies():
        return {}
    told = [evaluation for _, _, evaluation in store.told(STUDY)]
    return {str(e.proposal): (e.key, e.status, {name: v.value for name, v in e.values.items()}) for e in told}


def _check_file(file: Path) -> None:
    connection = sqlite3.connect(file)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()


def _check_values(store: Store) -> None:
    """Every evaluation is the function's value, and the front is that of all evaluations."""
    told = [evaluation for _, _, evaluation in store.told(STUDY)]
    for evaluation in told:
        assert evaluation.status == "ok", evaluation
        assert {name: v.value for name, v in evaluation.values.items()} == toys.two(evaluation.config)
    losses = np.array([[e.values["error"].value, e.values["cost"].value] for e in told])
    best = moocore.is_nondominated(losses, keep_weakly=True)
    assert {p.key for p in store.front(study=STUDY).points} == {e.key for e, is_ in zip(told, best, strict=True) if is_}


@functools.cache
def uninterrupted(what: What, trials: int, seed: int) -> str:
    """The hash of the same study's table, run in this process without anything happening to it."""
    given = asdict(what) | {"strategy": "nsga2", "seed": seed, "reproducible": True, "lookahead": LOOKAHEAD}
    with tempfile.TemporaryDirectory() as folder, Store(f"sqlite:///{folder}/archfront.db") as store:
        Study(STUDY, **given, store=store).run(trials=trials)
        return table_hash(store, STUDY)
