"""Devices that run another network than was trained: quantised after training, in the runtime it is deployed in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archfront.cluster import _deployed, _evaluators
from archfront.cluster._deployed import OnnxNetwork, calibration_rows, onnx_bytes, quantised, scores
from archfront.cluster._device import Device, cpu, named_device
from archfront.cluster._measure import CannotRunError, Measurer
from archfront.cluster._remeasure import measure_studies
from archfront.cluster.export import load_network
from archfront.cluster.front import Front
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces._data import data_folder
from archfront.spaces._errors import ExportError, UnknownNameError, UsageError
from archfront.spaces._toy import ToyImages
from archfront.trainers._trainer import outputs_of
from tests.cluster.command import Command, in_process

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
TOY = "archfront.spaces._toy:ToyImages"
INT8 = Device("int8", "cpu", cpu().hardware, precision="int8", runtime="onnxruntime")


@pytest.fixture
def archfront(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return in_process(monkeypatch, capsys)


def study(store: Store, name: str = "s", **options: Any) -> Study:
    store.put_devices([INT8.record()])
    given = {"space": TOY, "strategy": "random", "epochs": 2, "devices": ["cpu", "int8"]}
    return Study(name, store=store, **{**given, **options})


class TestNetworks:
    space = ToyImages.bind()
    config = space.search_space.default

    @pytest.fixture
    def net(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return self.space.build(self.config).eval()

    def test_an_onnx_network_is_the_network(self, net: nn.Module) -> None:
        deployed = OnnxNetwork(onnx_bytes(net, self.space.prepared_example(self.config), batched=True))
        for batch in (1, 7):
            inputs = self.space.prepared_example(self.config, batch)
            with torch.no_grad():
                assert torch.allclose(deployed(*inputs), net(*inputs), atol=1e-5)

    def test_int8_is_near_but_another_one(self, net: nn.Module) -> None:
        model = onnx_bytes(net, self.space.prepared_example(self.config), batched=True)
        small = OnnxNetwork(quantised(model, calibration_rows(self.space, self.config)))
        (inputs,) = self.space.task().split("val").inputs
        with torch.no_grad():
            wanted, got = net(inputs), small(inputs)
        error = float((got - wanted).abs().max() / wanted.abs().max())
        assert 0 < error < 0.2

    def test_no_processor_overflows(self, net: nn.Module) -> None:
        """Two products of an activation and a weight fit into sixteen bits: that is all some processors have."""
        model = onnx_bytes(net, self.space.prepared_example(self.config), batched=True)
        small = onnx.load_from_string(quantised(model, calibration_rows(self.space, self.config)))
        int8 = [t for t in small.graph.initializer if t.data_type == onnx.TensorProto.INT8]
        weights = [onnx.numpy_helper.to_array(tensor) for tensor in int8]
        assert max(int(abs(w.astype(int)).max()) for w in weights if w.ndim > 1) * 2 * 255 < 2**15

    def test_scores_are_those_of_the_quantised_network(self, net: nn.Module) -> None:
        model = onnx_bytes(net, self.space.prepared_example(self.config), batched=True)
        small = OnnxNetwork(quantised(model, calibration_rows(self.space, self.config)))
        data = self.space.task().split("val")
        assert scores(net, self.space, self.config) == pytest.approx(
            self.space.task().score(*data.chosen(outputs_of(small, data)))
        )

    def test_what_onnx_cannot_express_is_said(self) -> None:
        class Sorted(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.linalg.svd(x.mean(1))[1]

        with pytest.raises(ExportError, match="ONNX"):
            onnx_bytes(Sorted(), (torch.randn(2, 1, 4, 4),), batched=True)


class TestDevices:
    def test_bad_ones_are_refused(self) -> None:
        with pytest.raises(UnknownNameError, match="precision"):
            Device("x", "cpu", "h", precision="int9")
        with pytest.raises(UsageError, match="int8 runs in onnxruntime"):
            Device("x", "cpu", "h", precision="int8")
        with pytest.raises(UsageError, match="for processors"):
            Device("x", "cuda", "h", runtime="onnxruntime")

    def test_the_deployed_runtime_is_a_device(self) -> None:
        device = named_device("cpu-onnxruntime")
        assert device.identity != cpu().identity
        measurer = Measurer(ToyImages.bind(), device)
        try:
            (timing,) = measurer.measure([ToyImages.bind().search_space.default])
        finally:
            measurer.close()
        assert timing.value > 0  # type: ignore[union-attr]

    def test_registering(self, archfront: Command) -> None:
        done = archfront("devices", "register", "small", "--precision", "int8", "--batch", "4")
        assert done.code == 0, done.err
        assert "int8 in onnxruntime" in done.out
        listed = {row["name"]: row for row in archfront("devices", "--json").json}
        assert (listed["small"]["precision"], listed["small"]["batch"]) == ("int8", 4)
        again = archfront("devices", "register", "small", "--precision", "int8", "--batch", "8")
        assert again.code != 0
        assert again.err.count("small-") == 2  # both identities are shown
        like = archfront("devices", "register", "smaller", "--like", "small", "--threads", "2", "--batch", "4")
        assert "int8 in onnxruntime" in like.out


class TestSearch:
    def test_its_own_latency_and_its_own_error(self, store: Store) -> None:
        summary = study(store).run(trials=4)
        assert (summary["told"], summary["failed"]) == (4, 0)
        record = store.study("s")
        assert [o.name for o in record.objectives] == ["error", "error@int8", "latency_ms@cpu", "latency_ms@int8"]
        for _, _, evaluation in store.told("s"):
            assert {"error", "error@int8", "latency_ms@int8"} <= set(evaluation.values)
            assert evaluation.values["error@int8"].kind == "trained"
        point = store.front(study="s", device="int8").points[0]
        assert {o.name for o in store.front(study="s", device="int8").objectives} == {"error@int8", "latency_ms@int8"}
        space = ToyImages.bind()
        net = load_network(store, point.key, study="s")
        config = {n: v for n, v in point.config.items() if n in space.search_space}
        assert point.metrics["error"] == pytest.approx(scores(net, space, config)["error"])
        assert {o.name for o in store.front(study="s", device="cpu").objectives} == {"error", "latency_ms@cpu"}

    def test_an_int8_device_alone(self, store: Store) -> None:
        study(store, devices=["int8"], supernet="train").run(trials=3)
        assert [o.name for o in store.study("s").objectives] == ["error@int8", "latency_ms@int8"]
        told = store.told("s")[0][2]
        assert told.values["error@int8"].kind == "sliced"
        assert store.front(study="s").points

    def test_its_error_is_an_error_like_any_other(self, store: Store) -> None:
        """With the task's reference, and no cost by which a front is sorted."""
        study(store).run(trials=4)
        record = store.study("s")
        references = dict(zip([o.name for o in record.objectives], record.reference or (), strict=True))
        assert references["error@int8"] == references["error"] is not None
        latencies = [p.metrics["latency_ms"] for p in store.front(study="s", device="int8").points]
        assert latencies == sorted(latencies)

    def test_the_papers_own_setting_on_the_device_of_another_study(self, store: Store) -> None:
        study(store, "cpu", devices=["cpu"]).run(trials=1)
        study(store, "later", devices=["int8"]).run(trials=1)  # its newest evaluation knows no latency on cpu
        front = Front(store.front(TOY, device="cpu"), store)
        assert front.default is not None
        assert set(front.default.values) == {"error", "latency_ms@cpu"}

    def test_facts_of_the_weights_alone_are_not_enough(self, store: Store) -> None:
        study(store, "plain", devices=["cpu"]).run(trials=3)
        assert study(store, "both").run(trials=3)["reused"] == 0
        again = study(store, "again").run(trials=3)
        assert again["reused"] == 3
        one, other = ({e.key: e.values["error@int8"].value for _, _, e in store.told(n)} for n in ("both", "again"))
        assert one == other
        study(store, "plain again", devices=["cpu"]).run(trials=3)
        assert not any("int8" in name for _, _, e in store.told("plain again") for name in e.values)
        front = store.front("archfront.spaces._toy:ToyImages", device="int8")
        assert front.points  # everyone's facts

    def test_resume_and_constraints(self, store: Store) -> None:
        first = study(store, devices=["int8"], constraints=["latency_ms<=1000", "error@int8<=1"])
        first.run(trials=2)
        resumed = Study.open("s", store=store)
        assert resumed.run(trials=4)["told"] == 4
        assert store.front(study="s").points

    def test_what_cannot_be_quantised_fails_there_only(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: Any, **__: Any) -> dict[str, float]:
            raise ExportError("int8: no such operator")

        monkeypatch.setattr(_evaluators, "scores", refused)
        study(store).run(trials=2)
        told = [e for _, _, e in store.told("s")]
        assert {e.status for e in told} == {"invalid"}
        assert all("on device 'int8': int8: no such operator" in e.error for e in told)
        assert all(math.isfinite(e.values["error"].value) for e in told)
        assert study(store, "cpu", devices=["cpu"]).run(trials=2)["failed"] == 0

    def test_a_table_cannot_say_what_is_left_of_quality(self, store: Store) -> None:
        if not (data_folder() / "nas/nb201_accuracy.parquet").exists():
            pytest.skip("no nas/nb201_accuracy.parquet in ARCHFRONT_DATA")
        with pytest.raises(UsageError, match="the table 'nasbench201' knows what they are worth unchanged"):
            study(store, space="nasbench201", epochs=200, devices=["int8"]).run(trials=1)

    def test_quality_on_a_plain_device_is_refused(self, store: Store) -> None:
        with pytest.raises(UsageError, match="error does not depend on a device in fp32"):
            study(store, objectives=["error@cpu", "latency_ms"]).run(trials=1)


class TestMeasuredLater:
    @pytest.mark.parametrize("supernet", [None, "train"])
    def test_a_front_without_training(self, store: Store, supernet: str | None) -> None:
        study(store, devices=["cpu"], supernet=supernet).run(trials=4)
        members = {point.key for point in store.front(study="s").points}
        (done,) = measure_studies(store, INT8, ["s"])
        assert (done.measured, done.missing) == (len(members), {})
        front = store.front(study="s", device="int8")
        assert [o.name for o in front.objectives] == ["error@int8", "latency_ms@int8"]
        assert {point.key for point in front.points} <= members
        assert front.points
        space = ToyImages.bind()
        config = {n: v for n, v in front.points[0].config.items() if n in space.search_space}
        net = load_network(store, front.points[0].key, study="s")
        assert front.points[0].metrics["error"] == pytest.approx(scores(net, space, config)["error"])
        assert store.front(study="s", device="cpu").points  # as before
        everyone = store.front(TOY, device="int8", objectives=["error@int8", "latency_ms@int8"])
        assert {p.key for p in everyone.points} == {p.key for p in front.points}

    def test_without_weights_it_is_listed(self, store: Store) -> None:
        study(store, devices=["cpu"], keep="none").run(trials=2)
        (done,) = measure_studies(store, INT8, ["s"])
        assert set(done.missing) == {point.key for point in store.front(study="s").points}
        assert all("archfront train" in why for why in done.missing.values())

    def test_what_cannot_run_is_on_no_front_of_that_device(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        study(store, devices=["cpu"]).run(trials=3)
        before = store.front(study="s", device="cpu")
        later = cpu(name="later", batch=2)
        store.put_devices([later.record()])
        monkeypatch.setattr(
            Measurer, "measure", lambda self, configs, seed=0: [CannotRunError("no kernel")] * len(configs)
        )
        (done,) = measure_studies(store, later, ["s"])
        assert (done.measured, set(done.missing.values())) == (0, {"no kernel"})
        assert store.front(study="s", device="later").points == ()
        assert store.front(study="s", device="cpu") == before
        monkeypatch.undo()
        (done,) = measure_studies(store, later, ["s"])  # it was mended
        assert done.measured == len(before.points)
        assert store.front(study="s", device="later").points

    def test_the_commands(self, archfront: Command, tmp_path: Path) -> None:
        how = ("--trials", "3", "--epochs", "1", "--workers", "0", "--device", "cpu", "--study", "s")
        assert archfront("search", TOY, *how).code == 0
        archfront("devices", "register", "cpu-int8", "--precision", "int8")
        measured = archfront("devices", "measure", "cpu-int8", "--study", "s")
        assert measured.code == 0, measured.err
        shown = archfront("front", "--study", "s", "--device", "cpu-int8")
        assert "error" in shown.out
        assert archfront("front", "--study", "s", "--device", "cpu-int8", "--json").json["points"]
        both = archfront("front", "--study", "s", "--device", "cpu", "--device", "cpu-int8", "--plot", "both.png")
        assert both.code == 0, both.err
        assert (tmp_path / "both.png").stat().st_size > 10_000


def test_the_exporter_is_quiet(recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture) -> None:
    space = ToyImages.bind()
    net = space.build(space.search_space.default).eval()
    model = onnx_bytes(net, space.prepared_example(space.search_space.default), batched=True)
    quantised(model, calibration_rows(space, space.search_space.default))
    assert not list(recwarn)
    assert [record.getMessage() for record in caplog.records] == []
    assert _deployed.CALIBRATION_ROWS >= _deployed.CALIBRATION_BATCH
