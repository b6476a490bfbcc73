"""Augmentation at strengths per image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from archfront.spaces._errors import UsageError
from archfront.spaces._task import Signature, TensorSpec
from archfront.trainers._augment import AUGMENTATION_PARAMETERS, AUGMENTATIONS, augment, fitted

PARAMETERS = {p.name: p for p in AUGMENTATION_PARAMETERS}


@pytest.fixture
def images() -> Tensor:
    return 0.1 + 0.8 * torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def changed(x: Tensor, **strengths: list[float]) -> Tensor:
    given = {name: torch.tensor(values) for name, values in strengths.items()}
    return augment(x, given, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [n for n in AUGMENTATIONS if not n.startswith("cutout")])
def test_strength_zero_changes_nothing_and_each_image_has_its_own(images: Tensor, name: str) -> None:
    result = changed(images, **{name: [0, 0, 0, 0.3, 0.3, 0.3]})
    assert torch.allclose(result[:3], images[:3], atol=1e-5)
    moved = (result - images).abs().flatten(1).max(dim=1).values
    assert (moved[3:] > 1e-3).all()
    if name != "input_scaling":
        assert 0 <= float(result.min()) <= float(result.max()) <= 1
    one_for_all = changed(images, **{name: [0.3]})
    assert torch.equal(one_for_all[3:], result[3:]), "the draws are those of the images"


def test_input_scaling_lies_in_its_range(images: Tensor) -> None:
    ratio = (changed(images.repeat(200, 1, 1, 1), input_scaling=[0.25]) / images.repeat(200, 1, 1, 1))[:, 0, 0, 0]
    assert 1 / 1.25 <= float(ratio.min()) < 0.81
    assert 1.24 < float(ratio.max()) <= 1.25 + 1e-5


def test_grey_images_have_no_hue(images: Tensor) -> None:
    grey = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert torch.allclose(changed(grey, hue=[0.5]), grey, atol=1e-3)
    assert torch.allclose(changed(grey, saturation=[1.0]), grey, atol=1e-3)


def test_holes_are_squares_of_the_length_asked_for(images: Tensor) -> None:
    result = changed(images, cutout_length=[0, 1, 3, 24, 3, 3], cutout_holes=[1, 1, 1, 1, 0, 2])
    zeros = (result == 0).all(dim=1)
    assert torch.equal(result[0], images[0])
    assert int(zeros[1].sum()) == 1
    assert 1 <= int(zeros[2].sum()) <= 9
    assert int(zeros[3].sum()) == 64, "12 pixels around any pixel of 8 are all of them"
    assert torch.equal(result[4], images[4]), "no hole"
    assert int(zeros[5].sum()) >= int(zeros[2].sum()) or int(zeros[5].sum()) >= 4
    assert torch.equal((result == 0).any(dim=1), zeros)


def test_nothing_asked_nothing_drawn(images: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert torch.equal(augment(images, {}, generator), images)
    assert torch.equal(generator.get_state(), before)


def test_what_has_no_meaning_is_refused_by_name() -> None:
    grey = Signature("image_classification", (TensorSpec((1, 8, 8)),), 10)
    assert fitted(PARAMETERS["cutout_length"], grey).largest() == 8
    assert fitted(PARAMETERS["brightness"], grey) is PARAMETERS["brightness"]
    with pytest.raises(UsageError, match=r"trainer\.hue needs 3 channels, the images have 1"):
        fitted(PARAMETERS["hue"], grey)
    for signature in (
        Signature("node_classification", (TensorSpec((5, 8)),), 10, batched=False),
        Signature("image_to_image", (TensorSpec((1, 8, 8)),), 64),
        Signature("classification", (TensorSpec((1, 8, 8), "int64"),), 64),
    ):
        with pytest.raises(UsageError, match=r"trainer\.contrast augments images with labels"):
            fitted(PARAMETERS["contrast"], signature)
