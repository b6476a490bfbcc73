"""Exported files agree with their module, and say what they are."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import archfront
from archfront.cluster import export as exported_module
from archfront.cluster._export_all import export_front
from archfront.cluster.export import FORMATS, export, load, load_network
from archfront.cluster.front import Front
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces._errors import DataError, ExportError, UnknownNameError
from archfront.spaces._toy import ToyImages
from tests.cluster.command import in_process

TOY = "archfront.spaces._toy:ToyImages"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("export")
    with Store(f"sqlite:///{folder}/archfront.db") as opened:
        options = {"space": TOY, "objectives": ["error", "params_m"], "epochs": 2}
        Study("toy", store=opened, **options).run(trials=5)
        Study("sliced", store=opened, supernet="train", **options).run(trials=3)
        yield opened


@pytest.mark.parametrize("study", ["toy", "sliced"])
@pytest.mark.parametrize("format", [format for format in FORMATS if format != "onnx-int8"])
def test_every_format_is_compared_with_the_module(store: Store, tmp_path: Path, study: str, format: str) -> None:
    key = store.front(study=study).points[0].key
    done = export(store, key[:12], tmp_path / "net.pt2", format=format, study=study)
    assert done.path.exists()
    assert done.difference <= 1e-5


@pytest.mark.parametrize(
    ("format", "name"), [("torch", "net.pt"), ("torch-export", "net.pt2"), ("torch-export", "net")]
)
def test_a_file_is_taken_home(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, format: str, name: str
) -> None:
    key = store.front(study="toy").points[0].key
    export(store, key, tmp_path / name, format=format)
    net = archfront.load(tmp_path / name)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [], (
        "no complaint about the file's name"
    )
    x = torch.randn(7, 1, 4, 4)
    with torch.no_grad():
        assert torch.allclose(net(x), load_network(store, key)(x), atol=1e-6)


def test_onnx_says_what_it_is(store: Store, tmp_path: Path) -> None:
    import onnxruntime

    key = store.front(study="toy").points[0].key
    export(store, key, tmp_path / "net.onnx", format="onnx")
    meta = onnxruntime.InferenceSession(str(tmp_path / "net.onnx")).get_modelmeta().custom_metadata_map
    assert json.loads(meta["archfront.key"]) == key
    assert json.loads(meta["archfront.study"]) == "toy"


def test_without_weights_the_command_to_train_is_named(store: Store, tmp_path: Path) -> None:
    on_front = {p.key for p in store.front(study="toy").points}
    lost = next(r.proposal.key for r in store.proposals("toy") if r.proposal.key not in on_front)
    with pytest.raises(ExportError, match=f"archfront train {lost[:12]}"):
        export(store, lost, tmp_path / "net.pt")
    assert not (tmp_path / "net.pt").exists()


def test_bad_requests(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = store.front(study="toy").points[0].key
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        export(store, key, tmp_path / "net", format="onx")
    with pytest.raises(UnknownNameError, match="no key begins"):
        export(store, "zz", tmp_path / "net")
    monkeypatch.setattr(ToyImages, "exports", {"onnx": "its gate has no operator"})
    with pytest.raises(ExportError, match="its gate has no operator"):
        export(store, key, tmp_path / "net", format="onnx")
    (tmp_path / "bad.pt").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not a file that archfront exported"):
        load(tmp_path / "bad.pt")
    with pytest.raises(DataError, match="no file"):
        load(tmp_path / "none.pt")


def test_a_file_that_disagrees_is_removed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = store.front(study="toy").points[0].key
    monkeypatch.setattr(
        "archfront.cluster.export._onnx_runner", lambda path: lambda inputs: inputs[0].numpy()[:1, :1, 0, 0]
    )
    with pytest.raises(ExportError, match="differs by"):
        export(store, key, tmp_path / "net.onnx", format="onnx")
    assert not (tmp_path / "net.onnx").exists()


class TestInt8:
    def test_it_is_scored_and_says_what_it_is(self, store: Store, tmp_path: Path) -> None:
        import onnx

        key = store.front(study="toy").points[0].key
        done = export(store, key, tmp_path / "net.onnx", format="onnx-int8", study="toy")
        assert set(done.scores) == {"error", "nll"}
        model = onnx.load(str(done.path))
        assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        meta = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
        assert meta["archfront.key"] == key
        assert "error" in meta["archfront.metrics"]
        space = ToyImages.bind()
        config = {n: v for n, v in store.proposal_of("toy", key).proposal.config.items() if n in space.search_space}
        before = load_network(store, key, study="toy")
        data = space.prepared(config, space.task().split("val"))
        with torch.no_grad():
            own = space.task().score(before(*data.inputs), data.target)
        assert done.difference == pytest.approx(done.scores["error"] - own["error"])

    def test_one_that_lost_everything_is_refused(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken(exported_module.OnnxNetwork):
            def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
                return torch.zeros_like(super().forward(*inputs))

        monkeypatch.setattr(exported_module, "OnnxNetwork", Broken)
        monkeypatch.setattr(ToyImages.bind().task().__class__, "reference", lambda self, metric: 0.6)
        key = store.front(study="toy").points[-1].key
        with pytest.raises(ExportError, match="no better than doing nothing"):
            export(store, key, tmp_path / "net.onnx", format="onnx-int8", study="toy")
        assert not (tmp_path / "net.onnx").exists()


class TestWholeFront:
    def test_an_index_and_a_file_each(self, store: Store, tmp_path: Path) -> None:
        front = Front(store.front(study="toy"), store)
        done = export_front(front, tmp_path / "all", "torch")
        index = json.loads(done.index.read_text())
        assert [point["key"] for point in index["points"]] == [member.key for member in front]
        assert done.written == len(front)
        assert {path.name for path in (tmp_path / "all").iterdir()} == {
            "index.json",
            *(point["file"] for point in index["points"]),
        }
        net = archfront.load(tmp_path / "all" / index["points"][0]["file"])
        assert net(torch.randn(2, 1, 4, 4)).shape == (2, 3)

    def test_what_has_no_weights_says_so(self, store: Store, tmp_path: Path) -> None:
        Study("bare", store=store, space=TOY, objectives=["error", "params_m"], keep="none", epochs=1).run(trials=2)
        done = export_front(Front(store.front(study="bare"), store), tmp_path / "all")
        assert done.written == 0
        assert all("archfront train" in entry["error"] for entry in done.entries)

    def test_the_command(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = in_process(monkeypatch, capsys)
        where = ("--store", str(store.url), "--study", "sliced")
        done = command("front", *where, "--export-all", str(tmp_path / "out"), "--format", "torch")
        assert done.code == 0, done.err
        assert "networks and" in done.out
        assert (tmp_path / "out" / "index.json").exists()
        assert command("front", *where, "--export-all", str(tmp_path / "out"), "--format", "tflite").code == 2
