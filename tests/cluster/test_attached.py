"""A device that is another Ray node: measured there, missed when it disappears, measured later when it is back."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from archfront.cluster._attached import AttachedMeasurer, refuse_absent
from archfront.cluster._device import cpu, named_device
from archfront.cluster.store import Store
from archfront.spaces._errors import MeasurementError, UsageError
from archfront.spaces._toy import ToyImages
from tests.cluster.command import Done, start
from tests.faults.nodes import Nodes

TOY = "archfront.spaces._toy:ToyImages"
PI = replace(cpu(name="pi"), node="pi")


class TestWithoutItsNode:
    def test_the_node_is_no_part_of_the_identity(self) -> None:
        assert PI.identity == cpu(name="pi").identity
        elsewhere = replace(PI, hardware="Cortex-A76")
        assert named_device("pi", {"pi": elsewhere}) == elsewhere, "it need not be this machine"

    def test_a_search_says_what_is_missing_before_it_runs(self, ray_cluster: int) -> None:
        with pytest.raises(UsageError, match=r"no node of this Ray cluster offers 'device:pi'.*ray start"):
            refuse_absent([cpu(), PI])

    def test_measuring_without_it_is_an_answer(self, ray_cluster: int) -> None:
        (answer,) = AttachedMeasurer(ToyImages.bind(), PI).measure([ToyImages.search_space.default])
        assert isinstance(answer, MeasurementError)
        assert "device 'pi' has disappeared" in str(answer)


class TestNode:
    @pytest.fixture
    def nodes(self) -> Iterator[Nodes]:
        cluster = Nodes(1, {})
        yield cluster
        cluster.close()

    def test_a_device_that_disappears_and_comes_back(self, nodes: Nodes, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'a.db'}"
        common = ("--address", nodes.address, "--store", url)
        search = ("search", TOY, "--device", "pi", "--strategy", "random", "--epochs", "1", "--json")

        refused = _run("devices", "register", "pi", "--attached", *common)
        assert "no node of this Ray cluster offers 'device:pi'" in refused.err
        device = nodes.add(device="pi")
        assert "attached as device:pi" in _run("devices", "register", "pi", "--attached", *common).out
        running = _start(*search, "--trials", "10", "--study", "lost", *common)
        _wait_until_told(running, url, 2)
        nodes.kill(device)
        out, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
        assert json.loads(out)["told"] == 10
        with Store(url) as store:
            told = [e for _, _, e in store.told("lost")]
            assert {e.status for e in told} == {"ok", "unmeasured"}
            assert all("has disappeared" in e.error for e in told if e.status == "unmeasured")
            before = store.front(study="lost").points
        assert "give --address" in _run(*search, "--workers", "0", "--study", "alone", "--store", url).out

        nodes.add(device="pi")
        back = _run("devices", "measure", "pi", "--study", "lost", *common, "--json").json
        waited = {e.key for e in told if e.status == "unmeasured"}
        assert back["measured"]["lost"] == len(waited | {point.key for point in before})
        assert not back["missing"]["lost"]
        with Store(url) as store:
            record = store.study("lost")
            keys = [proposal.architecture_key for proposal in store.proposals("lost")]
            place = (record.identity, record.signature)
            assert store.device_values(*place, keys, record.devices["pi"], "latency_ms").keys() == set(keys)
            everybody = {e.key: e.values["error"].value for e in told}
            best = min(everybody.values())
            assert any(p.values["error"].value == best for p in store.front(study="lost").points)


def _start(*arguments: str) -> subprocess.Popen[str]:
    return start(*arguments, environment={**os.environ, "RAY_AUTH_MODE": "disabled"})


def _run(*arguments: str) -> Done:
    process = _start(*arguments)
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out, err)


def _wait_until_told(process: subprocess.Popen[str], url: str, number: int) -> None:
    deadline = time.monotonic() + 90
    with Store(url) as store:
        while not any(r.name == "lost" for r in store.studies()) or store.counts("lost").told < number:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the search did not get that far"
            time.sleep(0.05)
