"""Measuring: what is timed, stored, reused, and what happens when a network cannot be timed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archfront.cluster import _timing
from archfront.cluster._device import Device, cpu, cuda, named_device
from archfront.cluster._measure import Measurer
from archfront.cluster._timing import Timing, time_networks
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces import Configuration
from archfront.spaces._errors import MeasurementError, UnknownNameError, UsageError
from archfront.spaces._toy import ToyImages

TOY = "archfront.spaces._toy:ToyImages"


class Wait(nn.Module):
    """Takes a known time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x


class BadToy(ToyImages):
    """Depth 1 raises when it is built, depth 2 ends its process, depth 3 works."""

    registered_as = None

    def build(self, config: Configuration) -> nn.Module:
        if config["depth"] == 1:
            raise RuntimeError("depth 1 cannot be built")
        if config["depth"] == 2:
            os._exit(9)
        return super().build(config)


class TestTiming:
    def test_known_times_in_order(self) -> None:
        (one, other), best = time_networks([(Wait(0.001), (torch.ones(1),)), (Wait(0.003), (torch.ones(1),))])
        assert 1.0 <= one.minimum <= one.median
        assert other.minimum >= 3.0
        assert one.value < other.value
        assert one.n >= 32
        assert one.spread >= 0
        assert 0 < best < 100

    def test_what_slows_the_whole_host_does_not_change_the_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two sessions on a host whose clock times are multiplied by 1, then by 1 to 3."""
        slowness = iter(np.random.default_rng(0).uniform(1, 3, 100_000))

        def block(candidate: _timing._Candidate) -> _timing._Block:
            net = candidate.next_copy()
            if not isinstance(net, Wait):
                host["now"] = next(slowness) if host["busy"] else 1.0
            return _timing._Block(host["now"] * getattr(net, "seconds", 2e-4) * 1e3, 1.0)

        host: dict[str, Any] = {"now": 1.0, "busy": False}
        monkeypatch.setattr(_timing, "_cpu_block", block)
        nets = [(Wait(seconds), (torch.ones(1),)) for seconds in (1e-3, 3e-3)]
        quiet, best = time_networks(nets)
        host["busy"] = True
        busy, after = time_networks(nets, best=best)
        assert [t.value for t in quiet] == pytest.approx([1.0, 3.0])
        assert [t.value for t in busy] == pytest.approx([1.0, 3.0])
        assert after == best == pytest.approx(0.2)
        assert [t.drift for t in quiet] == pytest.approx([0, 0])
        assert all(t.drift > 0.5 and t.median > 1.5 * t.value for t in busy)

    def test_more_work_takes_longer(self) -> None:
        nets = [nn.Sequential(*(nn.Linear(256, 256) for _ in range(depth))) for depth in (1, 8)]
        (small, large), _ = time_networks([(net, (torch.ones(8, 256),)) for net in nets])
        assert small.value < large.value


class TestMeasurer:
    @pytest.fixture
    def measurer(self) -> Iterator[Measurer]:
        made = Measurer(BadToy.bind(), cpu())
        yield made
        made.close()

    def test_a_network_that_fails_costs_only_itself(self, measurer: Measurer) -> None:
        default = ToyImages.search_space.default
        configs = [{**default, "depth": depth} for depth in (1, 2, 3)]
        built, killed, fine = measurer.measure(configs)
        assert isinstance(built, MeasurementError)
        assert "depth 1 cannot be built" in str(built)
        assert isinstance(killed, MeasurementError)
        assert "its process died" in str(killed)
        assert isinstance(fine, Timing)

    def test_a_busy_host_is_waited_for_once(self, measurer: Measurer, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def busy() -> Any:
            asked.append(1)
            raise MeasurementError("busy")

        monkeypatch.setattr("archfront.cluster._measure.measuring_turn", busy)
        answers = measurer.measure([{**ToyImages.search_space.default, "depth": 3}] * 40)
        assert [str(answer) for answer in answers] == ["busy"] * 40
        assert len(asked) == 1


class TestDevice:
    def test_identity_covers_everything_but_the_name(self) -> None:
        device = cpu()
        assert cpu().identity == device.identity
        changed = [replace(device, threads=2), replace(device, batch=8), replace(device, hardware="other")]
        assert len({d.identity for d in [device, *changed]}) == 4
        assert Device.of(device.record().definition) == device

    def test_names(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'cuda'"):
            named_device("cud")
        other = replace(cpu(name="pi"), hardware="Cortex-A76")
        with pytest.raises(UsageError, match="this machine is"):
            named_device("pi", {"pi": other})
        with pytest.raises(UsageError, match="batch=0"):
            replace(cpu(), batch=0)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device answers here")
    def test_cuda_where_there_is_none(self) -> None:
        with pytest.raises(UsageError, match="no CUDA device"):
            cuda()


class TestStudy:
    def study(self, store: Store, name: str, **options: Any) -> Study:
        return Study(name, store=store, space=TOY, epochs=1, **options)

    def test_latency_is_measured_and_stored_with_its_spread(self, store: Store) -> None:
        study = self.study(store, "one")
        summary = study.run(trials=4)
        assert [o.name for o in study.record.objectives] == ["error", "latency_ms@cpu"]
        assert summary["failed"] == 0
        told = [e for _, _, e in store.told("one")]
        assert all(e.values["latency_ms@cpu"].kind == "measured" for e in told)
        assert study.front(device="cpu")[0].metrics["latency_ms"] > 0
        again = self.study(store, "two")
        again.run(trials=4)
        assert again.summary()["reused"] == 4
        latencies = [[e.values["latency_ms@cpu"].value for _, _, e in store.told(n)] for n in ("one", "two")]
        assert latencies[1] == pytest.approx(latencies[0], rel=0.5), "reused, or measured again on the front"

    def test_the_front_is_measured_again_at_the_end(self, store: Store) -> None:
        study = self.study(store, "one")
        study.run(trials=3)
        for point in store.front(study="one", device="cpu").points:
            value = store.device_value(
                study.record.identity, study.record.signature, point.architecture_key, cpu().identity, "latency_ms"
            )
            assert value is not None
            assert value.n == 2

    def test_a_network_that_cannot_be_timed_fails_and_the_study_goes_on(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def measure(self: Measurer, configs: list[Configuration], seed: int = 0) -> list[Timing | MeasurementError]:
            return [MeasurementError("on device 'cpu': no such kernel") for _ in configs]

        monkeypatch.setattr(Measurer, "measure", measure)
        summary = self.study(store, "bad").run(trials=3)
        assert (summary["told"], summary["failed"]) == (3, 3)
        assert "no such kernel" in store.told("bad")[0][2].error

    def test_another_device_ranks_what_is_stored(self, store: Store) -> None:
        from archfront.cluster._remeasure import measure_studies

        self.study(store, "one").run(trials=4)
        device = cpu(name="cpu-batch-8", batch=8)
        store.put_devices([device.record()])
        (done,) = measure_studies(store, device, ["one"])
        assert (done.study, done.measured) == ("one", len(store.front(study="one", device="cpu")))
        assert not done.missing
        moved = store.front(study="one", device="cpu-batch-8")
        assert len(moved) >= 1
        assert moved.device == "cpu-batch-8"
        with pytest.raises(UnknownNameError, match="did you mean 'one'"):
            measure_studies(store, device, ["oen"])
