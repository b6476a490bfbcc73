"""Augmentation at strengths per image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from archfront.spaces._errors import UsageError
from archfront.spaces._task import Signature, TensorSpec
from archfront.trainers._affine import AFFINE, warp
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


@pytest.mark.parametrize("name", AFFINE)
def test_strength_zero_moves_no_pixel(images: Tensor, name: str) -> None:
    own = {"rotate": 45.0, "shear": 45.0, "zoom": 0.5, "translate": 0.5}[name]
    result = changed(images, **{name: [0, own, 0, own, own, own]})
    assert torch.equal(result[[0, 2]], images[[0, 2]]), "exactly"
    assert all(not torch.allclose(result[i], images[i], atol=1e-2) for i in (1, 3, 4, 5))
    others = {other: [0.0] for other in AFFINE if other != name}
    together = changed(images, **{name: [0, own, 0, own, own, own]}, **others)
    assert torch.equal(together[[0, 2]], images[[0, 2]])


def moved(x: Tensor, **by: float) -> Tensor:
    amounts = {"turn": 0.0, "slant": 0.0, "zoom": 1.0, "right": 0.0, "down": 0.0, **by}
    return warp(x, *(torch.full((len(x),), amount) for amount in amounts.values()))


def test_affine_maps_are_the_known_ones(images: Tensor) -> None:
    assert torch.allclose(moved(images), images, atol=1e-5)
    assert torch.allclose(moved(images, turn=math.pi / 2), images.rot90(1, dims=(2, 3)), atol=1e-4)
    wide = images[..., :4, :]  # not square: its middle turns, pixels stay square
    assert torch.allclose(moved(wide, turn=math.pi), wide.rot90(2, dims=(2, 3)), atol=1e-4)
    assert torch.allclose(moved(wide, turn=math.pi / 2)[..., 2:6], wide[..., 2:6].rot90(1, dims=(2, 3)), atol=1e-4)
    shifted = moved(images, right=0.25, down=0.125)
    assert torch.allclose(shifted[..., 1:, 2:], images[..., :-1, :-2], atol=1e-4)
    assert not shifted[..., :2].abs().gt(1e-4).any(), "black comes in"
    blurred = torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
    assert torch.allclose(moved(images, zoom=2.0)[..., 1:-1, 1:-1], blurred[..., 5:11, 5:11], atol=1e-4)
    sheared = moved(images, slant=math.pi / 4)
    assert torch.allclose(sheared[..., 3, :-1], images[..., 3, :].unfold(-1, 2, 1).mean(-1), atol=1e-4), "half a pixel"
    assert torch.allclose(sheared[..., 4, 1:], images[..., 4, :].unfold(-1, 2, 1).mean(-1), atol=1e-4)


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
