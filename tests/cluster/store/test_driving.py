"""One process runs a study: a second one is refused with the reason, and a killed one makes room at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster.studies import own

from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces._errors import StoreError

HOLDER = """
import sys, time
from archfront.cluster.store import Store
with Store(sys.argv[1]) as store, store.driving("mine"):
    print("driving", flush=True)
    time.sleep(60)
"""


def test_one_at_a_time(url: str, store: Store) -> None:
    with Store(url) as other:
        with store.driving("mine"):
            with pytest.raises(StoreError, match="study 'mine' is being run by") as refused, other.driving("mine"):
                pass
            assert "archfront front --study mine" in str(refused.value.hint)
            with other.driving("another one"):
                pass
        with other.driving("mine"):
            pass
    left = Path(url.removeprefix("sqlite:///")).parent if url.startswith("sqlite") else None
    assert left is None or not list(left.glob("*-run-*"))


def test_stores_of_one_database_do_not_see_each_other(url: str, store: Store) -> None:
    if url.startswith("sqlite"):
        pytest.skip("a file is one store")
    schema = url.rpartition("%3D")[2]
    with store._writer.begin() as connection:
        connection.exec_driver_sql(f"create schema {schema}_other")
    try:
        with Store(f"{url}_other") as other, store.driving("mine"), other.driving("mine"):
            pass
    finally:
        with store._writer.begin() as connection:
            connection.exec_driver_sql("set local client_min_messages = warning")
            connection.exec_driver_sql(f"drop schema {schema}_other cascade")


def test_what_fails_inside_makes_room(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.driving("mine"):
        raise ZeroDivisionError
    with store.driving("mine"):
        pass


def test_a_killed_process_makes_room_at_once(url: str, store: Store) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "driving\n"
    says = f"process {holder.pid} on " if url.startswith("sqlite") else "another process"
    with pytest.raises(StoreError, match=says), store.driving("mine"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    for _ in range(100):  # a server notices within milliseconds
        try:
            with store.driving("mine"):
                return
        except StoreError:
            if url.startswith("sqlite"):
                raise
    pytest.fail("the claim of a killed process stays")


def test_a_second_driver_and_a_told_result_are_refused_and_do_no_harm(url: str, store: Store) -> None:
    refused = []

    def meddle(progress: object) -> None:
        with Store(url) as other:
            study = Study.open("own", store=other)
            for attempt in (study.run, lambda: study.tell({"depth": 3, "width": 16}, {"error": 0.5, "cost": 1.0})):
                with pytest.raises(StoreError, match="is being run by") as said:
                    attempt()
                refused.append(said.value)

    summary = own(store).run(trials=3, watch=meddle)
    assert len(refused) == 6
    assert (summary["told"], summary["failed"], summary["status"]) == (3, 0, "done")
