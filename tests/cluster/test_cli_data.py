"""Official files are imported whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archfront.spaces.tables import _nats_bench
from archfront.spaces.tables._nats_bench import NATS_BENCH
from tests.cluster.command import Command, in_process
from tests.spaces.tables.test_nats_bench import CELLS, write_nats


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ARCHFRONT_STORE", f"sqlite:///{tmp_path}/archfront.db")
    return in_process(monkeypatch, capsys)


def write_mnist(folder: Path) -> None:
    """Files of the official structure with thirty images each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        images = rng.integers(256, size=(40, 28, 28), dtype=np.uint8)
        labels = np.arange(40, dtype=np.uint8) % 10
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / name).write_bytes(header + array.tobytes())


def test_files_are_imported_and_searched(run: Command, tmp_path: Path) -> None:
    write_mnist(tmp_path / "official")
    assert not any(row["there"] for row in run("data", "--json").json)
    done = run("data", "import", "fashion_mnist", str(tmp_path / "official"))
    assert done.code == 0, done.err
    assert [row["name"] for row in run("data", "--json").json if row["there"]] == ["fashion_mnist"]
    options = ("--task", "fashion_mnist", "--objective", "error,params_m", "--set", "depth=1")
    searched = run("search", "mlp", *options, "--trials", "2", "--epochs", "1", "--workers", "0", "--json")
    assert searched.json["failed"] == 0


def test_damaged_files_leave_nothing_behind(run: Command, tmp_path: Path) -> None:
    write_mnist(tmp_path / "official")
    file = tmp_path / "official" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:100])
    done = run("data", "import", "mnist", str(tmp_path / "official"))
    assert done.code == 2
    assert "train-images-idx3-ubyte has 100 bytes" in done.err
    assert not list((tmp_path / "data" / "mnist").iterdir())


def test_a_release_is_converted(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nats_bench, "CELLS", len(CELLS))
    write_nats(tmp_path / "official" / NATS_BENCH)
    done = run("data", "import", "nasbench201", str(tmp_path / "official"), "--json")
    assert done.json == {"name": "nasbench201", "files": [str(tmp_path / "data" / "nas" / "nb201_accuracy.parquet")]}
    assert [row["name"] for row in run("data", "--json").json if row["there"]] == ["nasbench201"]
    again = run("data", "import", "nasbench201", str(tmp_path / "official"))
    assert again.code == 2
    assert "remove it first" in again.err
    nothing = run("data", "import", "nasbench201", str(tmp_path / "nowhere"))
    assert nothing.code == 2
    assert "give the folder" in nothing.err


def test_bad_requests(run: Command, tmp_path: Path) -> None:
    assert "did you mean 'mnist'" in run("data", "import", "mnis", str(tmp_path)).err
    assert "no file '*-ubyte*'" in run("data", "import", "mnist", str(tmp_path)).err
    assert run("data", "import").code == 2
