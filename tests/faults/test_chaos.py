"""Faults in running searches, at random moments: nothing told is lost or told twice, and the table is the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archfront.cluster.store import Store
from tests.faults import scenarios
from tests.faults.nodes import Nodes
from tests.faults.scenarios import Injection
from tests.faults.search import PACE_S
from tests.faults.server import OwnServer, SharedServer, server
from tests.faults.toys import DIARY, PACE

SEED = 4


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A cluster of two nodes with a slot each."""
    diary = tmp_path_factory.mktemp("diary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DIARY, str(diary))
        cluster = Nodes(scenarios.SLOTS, {PACE: str(PACE_S), DIARY: str(diary)})
        yield cluster
        cluster.close()


@pytest.fixture(scope="module")
def database() -> Iterator[OwnServer | SharedServer]:
    """A PostgreSQL server that may be killed."""
    found = server()
    if found is None:
        pytest.skip("neither PostgreSQL's programs nor a server on 127.0.0.1:5432")
    yield found
    found.close()


def check(injections: list[Injection], number: int) -> None:
    assert len(injections) == number
    for injection in injections:
        assert injection.good, injection


@pytest.mark.ray
def test_pilots_and_the_controller(nodes: Nodes, tmp_path: Path) -> None:
    kinds = ["pilot", "stall", "pilot", "controller", "pilot", "stall", "pilot", "controller", "stall", "pilot"]
    check(scenarios.pilots(tmp_path, nodes, SEED, kinds), 10)


@pytest.mark.ray
def test_workers_that_train(nodes: Nodes, tmp_path: Path) -> None:
    check(scenarios.workers(tmp_path, nodes, SEED, 4), 4)


@pytest.mark.ray
def test_the_driver(nodes: Nodes, tmp_path: Path) -> None:
    check(scenarios.drivers(tmp_path, nodes, SEED, 2), 2)


@pytest.mark.ray
def test_a_node(nodes: Nodes, tmp_path: Path) -> None:
    check(scenarios.raylets(tmp_path, nodes, SEED, 2), 2)


@pytest.mark.ray
def test_a_clock_that_jumps(nodes: Nodes, tmp_path: Path) -> None:
    check(scenarios.clocks(tmp_path, nodes, SEED, 1), 1)


def test_a_store_waits_for_its_server(database: OwnServer | SharedServer) -> None:
    with Store(database.url) as store:
        killing = threading.Thread(target=database.kill)
        killing.start()
        deadline = time.monotonic() + 3
        while killing.is_alive() or time.monotonic() < deadline:
            assert isinstance(store.studies(), list)
        killing.join()


def test_the_database(database: OwnServer | SharedServer, tmp_path: Path) -> None:
    check(scenarios.databases(tmp_path, database, SEED, 2), 2)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    check(scenarios.disks(tmp_path, SEED, 2), 2)


def test_a_torn_write(tmp_path: Path) -> None:
    check(scenarios.torn(tmp_path, SEED, 2), 2)
