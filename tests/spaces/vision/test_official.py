"""Official files of MNIST and CIFAR, written here in miniature."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from archfront.spaces._errors import DataError
from archfront.spaces.vision._image_pairs import image_to_image
from archfront.spaces.vision._images import image_classification
from archfront.spaces.vision._official import read_idx

RNG = np.random.default_rng(0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path))
    return tmp_path


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, *, zipped: bool) -> None:
    folder.mkdir(parents=True)
    for prefix, rows in (("train", 60), ("t10k", 20)):
        content = {
            f"{prefix}-images-idx3-ubyte": idx(RNG.integers(0, 256, (rows, 28, 28), np.uint8)),
            f"{prefix}-labels-idx1-ubyte": idx((np.arange(rows) % 10).astype(np.uint8)),
        }
        for name, data in content.items():
            (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)


@pytest.mark.parametrize(
    ("name", "folder", "zipped"),
    [("mnist", "mnist", True), ("mnist", "MNIST/raw", False), ("fashion_mnist", "fashion_mnist", False)],
)
def test_idx_files_keep_the_official_test_set(home: Path, name: str, folder: str, zipped: bool) -> None:
    write_mnist(home / folder, zipped=zipped)
    splits = image_classification(name, data=None, seed=0).splits
    assert {part: len(split) for part, split in splits.items()} == {"train": 44, "val": 16, "test": 20}
    assert splits["test"].target.tolist() == [i % 10 for i in range(20)]
    assert splits["train"].inputs[0].shape[1:] == (1, 28, 28)


def test_idx_round_trip(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (3, 4, 5), np.uint8)
    (tmp_path / "a").write_bytes(idx(array))
    assert (read_idx(tmp_path / "a", axes=3) == array).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(np.zeros((2, 2, 2), np.uint8))[:-1], "needs 24"),
        (idx(np.zeros((2, 2, 2), np.uint8)) + b"!", "25 bytes"),
        (idx(np.zeros(2, np.uint8)), "starts with bytes 00 00 08 01.*00 00 08 03"),
        (b"", "starts with"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "needs"),
    ],
)
def test_wrong_idx_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "wrong").write_bytes(content)
    with pytest.raises(DataError, match=f"wrong.*{message}"):
        read_idx(tmp_path / "wrong", axes=3)


def test_a_damaged_gz_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "wrong.gz").write_bytes(gzip.compress(b"0" * 1000)[:20])
    with pytest.raises(DataError, match=r"wrong\.gz cannot be read"):
        read_idx(tmp_path / "wrong.gz", axes=1)


def test_a_missing_idx_file_is_named(home: Path) -> None:
    write_mnist(home / "mnist", zipped=False)
    (home / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        image_classification("mnist", data=None, seed=0).split("test")


def write_cifar(folder: Path, names: list[str], key: str, classes: int) -> None:
    folder.mkdir()
    for name in names:
        rows = classes * 2
        content = {"data": RNG.integers(0, 256, (rows, 3072), np.uint8), key: list(range(classes)) * 2}
        (folder / name).write_bytes(pickle.dumps(content, 2))


def test_cifar_batches(home: Path) -> None:
    write_cifar(home / "cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], "labels", 10)
    splits = image_classification("cifar10", data=None, seed=0).splits
    assert {part: len(split) for part, split in splits.items()} == {"train": 76, "val": 24, "test": 20}
    assert splits["val"].inputs[0].shape == (24, 3, 32, 32)


def test_cifar_pixels_are_red_then_green_then_blue(home: Path) -> None:
    write_cifar(home / "cifar-100-python", ["train", "test"], "fine_labels", 100)
    raw = pickle.loads((home / "cifar-100-python" / "test").read_bytes())["data"]
    (x,) = image_classification("cifar100", data=None, seed=0).split("test").inputs
    assert np.allclose(x.flatten(1).numpy() * 255, raw, atol=1e-3)


def test_imagenet32_counts_its_labels_from_one(home: Path) -> None:
    folder = home / "imagenet32"
    folder.mkdir()
    for name in ("train_data_batch_1", "train_data_batch_2", "val_data"):
        pixels = RNG.integers(0, 256, (20, 3072), np.uint8)
        content = {"data": pixels, "labels": [1, 2, 3, 1000] * 5, "mean": pixels.mean(axis=0)}
        (folder / name).write_bytes(pickle.dumps(content, 2))
    task = image_to_image("sr2_imagenet32", data=None, seed=0)
    assert task.signature.inputs[0].shape == (3, 16, 16)
    assert {part: split.target.shape[1] for part, split in task.splits.items()} == dict.fromkeys(task.splits, 3072)
    assert sum(map(len, task.splits.values())) == 60
    (folder / "val_data").write_bytes(pickle.dumps({"data": pixels, "labels": [0] * 20}))
    with pytest.raises(DataError, match=r"val_data.*integers 1\.\.1000"):
        image_to_image("denoise_imagenet32", data=None, seed=0).split("test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [1]}, "lacks 'data'.*it has labels"),
        ([1, 2], "lacks 'data'.*list"),
        ({"data": np.zeros((2, 9), np.uint8), "labels": [0, 1]}, r"\(2, 9\).*\(N, 3072\) uint8"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, r"integers 0\.\.9"),
        ({"data": os.getcwd, "labels": [0]}, "asks for posix.getcwd"),
    ],
)
def test_wrong_cifar_batches_are_named(home: Path, content: object, message: str) -> None:
    (home / "cifar-10-batches-py").mkdir()
    (home / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=f"data_batch_1.*{message}"):
        image_classification("cifar10", data=None, seed=0).split("train")
