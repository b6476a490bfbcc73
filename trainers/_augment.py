"""Augmentation of image batches at strengths that may differ from example to example, in plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from archfront.spaces._condition import AtLeast
from archfront.spaces._errors import UsageError
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Parameter, SelfTuned
from archfront.spaces._task import Signature
from archfront.trainers._affine import transformed

__all__ = ["AUGMENTATIONS", "AUGMENTATION_PARAMETERS", "augment", "fitted"]

Images = Float[Tensor, "batch channels height width"]
Draw = Callable[[], Tensor]
"""Uniform numbers in [0, 1), one for each image: (batch, 1, 1, 1)."""

GREY = (0.299, 0.587, 0.114)
COLOURED = ("saturation", "hue")
TO_YIQ = torch.tensor([GREY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])


def _real(name: str, high: float, unit: str = "") -> Real:
    return Real(name, 0.0, high, default=0.0, bins=10, unit=unit, role="hyperparameter", self_tuned=SelfTuned(name))


AUGMENTATION_PARAMETERS: tuple[Parameter, ...] = (
    _real("input_scaling", 0.3),
    _real("brightness", 1.0),
    _real("contrast", 1.0),
    _real("saturation", 1.0),
    _real("hue", 0.5),
    _real("rotate", 45.0, "degrees"),
    _real("shear", 45.0, "degrees"),
    _real("zoom", 0.5),
    _real("translate", 0.5),
    Integer(
        "cutout_length", 0, 24, default=0, unit="pixels", role="hyperparameter", self_tuned=SelfTuned("cutout_length")
    ),
    Integer(
        "cutout_holes",
        0,
        4,
        default=1,
        role="hyperparameter",
        self_tuned=SelfTuned("cutout_holes"),
        when=(AtLeast("cutout_length", 1),),
    ),
)
"""0 is off: neither applied nor tuned. Any other value is where tuning starts."""
AUGMENTATIONS = tuple(p.name for p in AUGMENTATION_PARAMETERS)


def fitted(parameter: Parameter, signature: Signature) -> Parameter:
    """The parameter with the range that a task's images give it: no hole is longer than the image. Raises UsageError
    where an augmentation has no meaning."""
    shape = signature.inputs[0].shape
    floating = signature.inputs[0].dtype.startswith("float")
    if len(shape) != 3 or not floating or "classification" not in signature.kind:
        raise UsageError(
            f"trainer.{parameter.name} augments images with labels, not {signature.kind!r} of shape {shape}",
            "leave it 0",
        )
    if parameter.name in COLOURED and shape[0] != 3:
        raise UsageError(f"trainer.{parameter.name} needs 3 channels, the images have {shape[0]}", "leave it 0")
    if parameter.name == "cutout_length":
        return parameter.narrowed(0, min(int(parameter.largest()), *shape[1:]))
    return parameter


def augment(x: Images, strengths: Mapping[str, Tensor], generator: torch.Generator) -> Images:
    """Images changed by the named augmentations; a strength holds one number for each image (batch,) or for all (1,).

    Colours are those of images in 0..1 and stay there. What is not named is not done and draws nothing.
    """
    given = {name: strengths[name].view(-1, 1, 1, 1) for name in AUGMENTATIONS if name in strengths}

    def draw() -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=generator).to(x)

    for name, strength in given.items():
        if name in _CHANGES:
            x = _CHANGES[name](x, strength, draw)
    x = transformed(x, given, draw)
    if "cutout_length" in given:
        x = _cut_out(x, given["cutout_length"], given.get("cutout_holes", torch.ones(1, 1, 1, 1).to(x)), draw)
    return x


def _scaled(x: Tensor, s: Tensor, draw: Draw) -> Tensor:
    """x u, u ~ U[1 / (1 + s), 1 + s]."""
    low, high = 1 / (1 + s), 1 + s
    return x * (low + (high - low) * draw())


def _factor(s: Tensor, draw: Draw) -> Tensor:
    low = (1 - s).clamp(min=0)
    return low + (1 + s - low) * draw()


def _blended(x: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    return (factor * x + (1 - factor) * other).clamp(0, 1)


def _brightness(x: Tensor, s: Tensor, draw: Draw) -> Tensor:
    return _blended(x, 0.0, _factor(s, draw))


def _contrast(x: Tensor, s: Tensor, draw: Draw) -> Tensor:
    return _blended(x, _grey(x).mean(dim=(1, 2, 3), keepdim=True), _factor(s, draw))


def _saturation(x: Tensor, s: Tensor, draw: Draw) -> Tensor:
    return _blended(x, _grey(x), _factor(s, draw))


def _hue(x: Tensor, s: Tensor, draw: Draw) -> Tensor:
    """Colours turned about the grey axis by up to s of a full turn either way (in YIQ, which needs no cases)."""
    angle = 2 * math.pi * s * (2 * draw() - 1)
    yiq = torch.einsum("ij,bjhw->bihw", TO_YIQ.to(x), x)
    y, i, q = yiq.unbind(1)
    cos, sin = angle.cos()[:, 0], angle.sin()[:, 0]
    turned = torch.stack([y, cos * i - sin * q, sin * i + cos * q], dim=1)
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(TO_YIQ).to(x), turned).clamp(0, 1)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    return torch.einsum("j,bjhw->bhw", torch.tensor(GREY).to(x), x)[:, None]


def _cut_out(x: Tensor, length: Tensor, holes: Tensor, draw: Draw) -> Tensor:
    """Square holes of `length` pixels, cut by the image's edge, around random pixels; the holes hold zeros."""
    height, width = x.shape[-2:]
    rows, columns = torch.arange(height).to(x).view(1, 1, -1, 1), torch.arange(width).to(x).view(1, 1, 1, -1)
    length, holes = length.floor(), holes.floor()
    for hole in range(int(holes.max())):
        top = (draw() * height).floor() - (length / 2).floor()
        left = (draw() * width).floor() - (length / 2).floor()
        inside = (rows >= top) & (rows < top + length) & (columns >= left) & (columns < left + length)
        x = x.masked_fill(inside & (holes > hole), 0.0)
    return x


_CHANGES: Mapping[str, Callable[[Tensor, Tensor, Draw], Tensor]] = {
    "input_scaling": _scaled,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}
