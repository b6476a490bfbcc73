"""Image-to-image tasks on digits and on a user's pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from archfront.spaces._errors import DataError, UnknownNameError, UsageError
from archfront.spaces._task import Task
from archfront.spaces.vision._image_pairs import GenerativeClassification, image_to_image
from archfront.spaces.vision._images import image_classification


def bound(name: str, data: Path | None = None) -> Task:
    return image_to_image(name, data=data, seed=0)


def test_gencls_maps_to_the_mean_training_image_of_the_class() -> None:
    task, digits = bound("gencls"), image_classification("digits", data=None, seed=0)
    assert [m.name for m in task.metrics] == ["error", "psnr_db", "psnr_pooled_db", "mse"]
    train = digits.split("train")
    mean = train.inputs[0][train.target == 3].mean(dim=0).flatten()
    val = task.split("val")
    assert torch.equal(val.target[digits.split("val").target == 3][0], mean)
    assert isinstance(task, GenerativeClassification)
    assert task.prototypes.shape == (10, 64)


def test_gencls_scores_by_the_nearest_prototype() -> None:
    task = bound("gencls")
    target = task.split("val").target
    perfect = task.score(target + 1e-3, target)
    assert perfect["error"] == 0
    assert task.score(target.flip(0), target)["error"] > 0.5
    constant = task.score(target[:1].expand_as(target), target)["error"]
    best = task.reference("error")
    assert best is not None
    assert best <= constant < 1


def test_psnr_is_the_mean_over_images_and_pooled() -> None:
    task = bound("denoise")
    target = torch.zeros(2, 4)
    output = torch.tensor([[0.1] * 4, [0.01] * 4])
    scores = task.score(output, target)
    assert scores["psnr_db"] == pytest.approx((20 + 40) / 2, abs=1e-4)
    assert scores["psnr_pooled_db"] == pytest.approx(-10 * np.log10((0.01 + 0.0001) / 2), abs=1e-4)
    with pytest.raises(UsageError, match="label_smoothing"):
        task.loss(output, target, smoothing=0.1)


def test_sr2_inputs_are_means_of_2x2_pixels() -> None:
    split = bound("sr2").split("val")
    images = split.target.reshape(-1, 8, 8)
    assert split.inputs[0].shape == (360, 1, 4, 4)
    assert torch.allclose(split.inputs[0][:, 0, 1, 2], images[:, 2:4, 4:6].mean(dim=(1, 2)))


def test_denoise_noise_is_fixed_for_validation_and_fresh_in_training() -> None:
    task, again = bound("denoise"), bound("denoise")
    noise = task.split("val").inputs[0].flatten(1) - task.split("val").target
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    assert torch.equal(task.split("val").inputs[0], again.split("val").inputs[0])
    train = task.split("train")
    assert torch.equal(train.inputs[0].flatten(1), train.target)
    generator = torch.Generator().manual_seed(1)
    ((one,), target), ((other,), _) = (task.corrupt(train.inputs, train.target, generator) for _ in range(2))
    assert target is train.target
    assert not torch.equal(one, other)
    (same,), _ = task.corrupt(train.inputs, train.target, torch.Generator().manual_seed(1))
    assert torch.equal(one, same)
    assert float((one - train.inputs[0]).std()) == pytest.approx(0.3, rel=0.02)


def test_names_say_the_set() -> None:
    assert bound("sr2_fashion_mnist").signature.inputs[0].shape == (1, 14, 14)
    assert bound("gencls_mnist").signature.outputs == 784
    for wrong in ("sr3", "gencls_nothing"):
        with pytest.raises(UnknownNameError):
            bound(wrong)


def saved(path: Path, **content: object) -> Path:
    np.savez(path / "pairs.npz", **content)  # type: ignore[arg-type]
    return path / "pairs.npz"


X = np.random.default_rng(0).random((20, 4, 6)).astype(np.float32)
T = np.random.default_rng(1).integers(0, 256, (20, 2, 3, 3), np.uint8)


def test_pairs_are_a_users_images(tmp_path: Path) -> None:
    task = bound("pairs", saved(tmp_path, x=X, target=T))
    assert task.signature.inputs[0].shape == (1, 4, 6)
    assert task.signature.outputs == 18
    sizes = {name: len(split) for name, split in task.splits.items()}
    assert sizes == {"train": 12, "val": 4, "test": 4}
    val: Tensor = task.split("val").target
    assert float(val.max()) <= 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": X}, "no array 'target'"),
        ({"x": X, "target": T[:5]}, "20 rows and 'target' has 5"),
        ({"x": X * 9, "target": T}, "'x' of part 'all'.*values"),
        ({"x": X, "target": T[:, 0, 0]}, r"'target' .*shape \(20, 3\)"),
    ],
)
def test_wrong_pairs_are_named(tmp_path: Path, content: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        bound("pairs", saved(tmp_path, **content))


def test_the_way_from_one_kind_of_file_to_the_other_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data"):
        bound("pairs")
    with pytest.raises(DataError, match="task 'pairs'"):
        bound("gencls", saved(tmp_path, x=X, target=T))
    labelled = bound("sr2", saved(tmp_path, x=X, y=np.arange(20) % 2))
    assert labelled.signature.inputs[0].shape == (1, 2, 3)
