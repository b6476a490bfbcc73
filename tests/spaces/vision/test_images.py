"""Image tasks: named sets, .npz files and folders; what does not fit is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from archfront.spaces._data import data_folder
from archfront.spaces._errors import DataError, UnknownNameError
from archfront.spaces.vision._arrays import checked_images
from archfront.spaces.vision._images import NAMED, image_classification

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (30, 6, 5), np.uint8)
Y = np.arange(30) % 3


def saved(path: Path, **content: Any) -> Path:
    np.savez(path / "mine.npz", **content)
    return path / "mine.npz"


def task(path: Path, **options: Any) -> Any:
    return image_classification("digits", data=path, seed=0, **options)


def test_digits_are_split_60_20_20() -> None:
    digits = image_classification("digits", data=None, seed=0)
    sizes = {name: len(split) for name, split in digits.splits.items()}
    assert sizes == {"train": 1077, "val": 360, "test": 360}
    (x,) = digits.split("train").inputs
    assert x.shape == (1077, 1, 8, 8)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (0, 1)
    assert digits.identity == image_classification("digits", data=None, seed=0).identity


@pytest.mark.parametrize("name", sorted(NAMED))
def test_signatures_are_known_without_data(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path))
    bound = image_classification(name, data=None, seed=0)
    assert bound.signature.outputs == NAMED[name].classes
    assert bound.example_input[0].shape == (2, *NAMED[name].shape)
    if name != "digits":
        with pytest.raises(DataError, match=re.escape(str(tmp_path))):
            bound.split("train")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="cifar10"):
        image_classification("cifar11", data=None, seed=0)


@pytest.mark.parametrize("shape", [(30, 6, 5), (30, 6, 5, 1), (30, 6, 5, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_npz_files_of_every_legal_form(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    x = RNG.integers(0, 256, shape, np.uint8)
    stored = x if dtype == "uint8" else x / 255.0
    mine = task(saved(tmp_path, x=stored, y=Y))
    assert mine.signature.inputs[0].shape == (shape[3] if len(shape) == 4 else 1, 6, 5)
    assert mine.signature.outputs == 3
    parts = [split.inputs[0] for split in mine.splits.values()]
    assert [len(part) for part in parts] == [18, 6, 6]
    every = torch.cat(parts).double().sum()
    assert float(every) == pytest.approx(x.sum() / 255, rel=1e-5)


@pytest.mark.parametrize("labels", [Y * 10 - 7, np.array(["a", "b", "c"])[Y], Y.astype(np.uint8)])
def test_labels_are_mapped_to_their_order(tmp_path: Path, labels: Any) -> None:
    mine = task(saved(tmp_path, x=X, y=labels))
    assert torch.cat([split.target for split in mine.splits.values()]).bincount().tolist() == [10, 10, 10]


def test_given_splits_are_kept_and_missing_ones_cut(tmp_path: Path) -> None:
    path = saved(tmp_path, x_train=X, y_train=Y, x_test=X[:9], y_test=Y[:9], class_names=np.array(["p", "q", "r"]))
    sizes = {name: len(split) for name, split in task(path).splits.items()}
    assert sizes == {"train": 22, "val": 8, "test": 9}
    whole = saved(tmp_path, x_train=X, y_train=Y, x_val=X[:6], y_val=Y[:6], x_test=X[:9], y_test=Y[:9])
    assert {name: len(s) for name, s in task(whole).splits.items()} == {"train": 30, "val": 6, "test": 9}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"y": Y}, "no array 'x': it has y"),
    ({"x": X}, "no array 'y': it has x"),
    ({"x_train": X}, "no array 'y_train'"),
    ({"x_test": X, "y_test": Y}, "no array 'x_train': it has x_test, y_test"),
    ({"images": X, "labels": Y}, "it has images, labels"),
    ({"x": X[:, 0], "y": Y}, r"'x' has shape \(30, 5\) and dtype uint8.*\(N, H, W\)"),
    ({"x": X.astype(np.int64), "y": Y}, "dtype int64.*uint8"),
    ({"x": X.astype(np.float32), "y": Y}, r"values in 0\.\.255: .*0\.\.1"),
    ({"x": np.full((30, 6, 5), np.nan), "y": Y}, "values in nan"),
    ({"x": np.zeros((30, 3, 6, 5)), "y": Y}, r"\(30, 3, 6, 5\).*channels come last"),
    ({"x": X[:0], "y": Y[:0]}, r"shape \(0, 6, 5\)"),
    ({"x": X, "y": Y[:9]}, "30 rows and 'y' has 9"),
    ({"x": X, "y": Y.astype(float)}, r"labels .* dtype float64.*integers 0\.\.C-1"),
    ({"x": X, "y": np.eye(3)[Y]}, r"labels .*shape \(30, 3\)"),
    ({"x": X, "y": Y * 0}, "1 class.*at least two"),
    ({"x": X, "y": np.array([9, *Y[1:]])}, "class 9 has 1 row, too few"),
    ({"x": X, "y": Y.astype(object)}, "array 'y' holds pickled objects"),
    ({"x": X.astype(object), "y": Y}, "array 'x' holds pickled objects"),
    ({"x": np.float64(1), "y": Y}, "'x' is a single value"),
    ({"x_train": X, "y_train": Y, "x_test": X[:, :4], "y_test": Y}, r"images of shapes \[\(1, 4, 5\), \(1, 6, 5\)\]"),
    ({"x_train": X[:2], "y_train": Y[:2], "x_test": X, "y_test": Y}, "no training row has the label 2"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_wrong_files_are_named_with_what_was_found(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    path = saved(tmp_path, **content)
    with pytest.raises(DataError, match=message):
        task(path)


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    np.save(tmp_path / "one.npy", X)
    whole = saved(tmp_path, x=X, y=Y).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("text.npz", "one.npy", "half.npz"):
        with pytest.raises(DataError, match=re.escape(name)):
            task(tmp_path / name)


@given(
    arrays.arrays(
        st.sampled_from(["uint8", "float32", "int32", "bool", "U3"]),
        arrays.array_shapes(min_dims=1, max_dims=5, max_side=4),
    )
)
def test_images_are_in_the_unit_range_or_refused(array: Any) -> None:
    try:
        images = checked_images(array, "mine: 'x'")
    except DataError as error:
        assert str(array.shape) in str(error)  # noqa: PT017
    else:
        assert images.ndim == 4
        assert ((images >= 0) & (images <= 1)).all()


def test_size_resizes_and_shows_in_the_signature(tmp_path: Path) -> None:
    mine = task(saved(tmp_path, x=X, y=Y), size=12)
    assert mine.signature.inputs[0].shape == (1, 12, 12)
    assert mine.split("val").inputs[0].shape == (6, 1, 12, 12)
    assert image_classification("digits", data=None, seed=0, size=4).split("val").inputs[0].shape[1:] == (1, 4, 4)


def folder(path: Path, *, mode: str = "RGB", splits: tuple[str, ...] = ("",)) -> Path:
    for split in splits:
        for kind in ("cat", "dog"):
            (path / split / kind).mkdir(parents=True)
            for i in range(5):
                size = (8, 6) if i == 0 else (20 + i, 30)
                pixels = RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)
                Image.fromarray(pixels).convert(mode).save(path / split / kind / f"{i}.png")
    return path


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("RGBA", 3), ("P", 3)])
def test_image_folders_take_the_first_images_look(tmp_path: Path, mode: str, channels: int) -> None:
    mine = task(folder(tmp_path, mode=mode))
    assert mine.signature.inputs[0].shape == (channels, 6, 8)
    assert {name: len(split) for name, split in mine.splits.items()} == {"train": 6, "val": 2, "test": 2}


def test_image_folders_may_be_split(tmp_path: Path) -> None:
    mine = task(folder(tmp_path, splits=("train", "val", "test")), size=10)
    assert mine.signature.inputs[0].shape == (3, 10, 10)
    assert {len(split) for split in mine.splits.values()} == {10}


def test_sixteen_bit_images_keep_their_range(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            Image.fromarray(np.full((4, 4), 65535 * i // 2, np.uint16)).save(tmp_path / kind / f"{i}.png")
    values = torch.cat([split.inputs[0] for split in task(tmp_path).splits.values()]).unique()
    assert values.tolist() == pytest.approx([0, 0.5, 1], abs=0.01)


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class folder"):
        task(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"cat.*no image"):
        task(tmp_path)
    (tmp_path / "cat" / "1.png").write_bytes(b"GIF89a nonsense")
    with pytest.raises(DataError, match=r"1\.png.*not a readable image"):
        task(tmp_path)
    folder(tmp_path / "both", splits=("train",))
    (tmp_path / "both" / "cat").mkdir()
    with pytest.raises(DataError, match="'train' beside 'cat'"):
        task(tmp_path / "both")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "vision/mnist_10k.npz"),
        ("fashion_mnist", "vision/fashion_sprite_900.npz"),
        ("cifar10", "vision/cifar10_4k.npz"),
    ],
)
def test_real_files_meet_their_signatures(name: str, file: str) -> None:
    if not (data_folder() / file).exists():
        pytest.skip(f"no {file} in ARCHFRONT_DATA")
    bound = image_classification(name, data=None, seed=0)
    assert sorted(bound.splits) == ["test", "train", "val"]
    for split in bound.splits.values():
        assert split.inputs[0].shape[1:] == bound.signature.inputs[0].shape
        assert len(split.target.bincount()) == bound.signature.outputs
