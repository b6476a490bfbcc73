"""Families of tasks that a vector gamma tells apart: sines, digits by their dropout rate, digits of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from archfront.spaces._errors import DataError, UsageError
from archfront.spaces._metric import METRICS, Metric
from archfront.spaces._task import Batch, Signature, Split, Task, TensorSpec
from archfront.spaces._tasks import CLASSIFICATION_METRICS, Classification
from archfront.spaces.vision._images import image_classification

__all__ = ["DISTRIBUTIONS", "MOST_DROPOUT", "DigitsFamily", "SineFamily", "family_task", "scaled", "sine"]

POINTS = 64
TRAIN, GRID, TEST = 1024, 64, 64
"""Functions of the sine family: of an epoch, of validation (gamma on an even grid) and of test."""
IMAGE_GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
"""gamma of the images of validation and test, each of which appears with all of them."""
MOST_DROPOUT = 0.8
"""The rate that gamma = 1 stands for (our choice: at 1 nothing would be left)."""
SMALLEST_SCALE = 0.5
LEAST = 1e-2
"""Where the log-uniform distribution begins."""
WORST = Metric("mse_worst", "min")

Quantile = Callable[[Tensor], Tensor]
DISTRIBUTIONS: Mapping[str, Quantile] = {
    "": lambda u: u,
    "_log_uniform": lambda u: LEAST ** (1 - u),
    "_beta": lambda u: 0.5 - torch.sin(torch.asin(1 - 2 * u) / 3),  # Beta(2, 2)
}
"""How gamma is drawn in training, by the suffix of a task's name: the quantile functions."""


def sine(x: Float[Tensor, "batch points 1"], gamma: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch points 1"]:
    """f(x; gamma) = sin(2 pi (x + gamma)) + gamma x."""
    shift = gamma[:, None]
    return torch.sin(2 * torch.pi * (x + shift)) + shift * x


def scaled(
    images: Float[Tensor, "batch channels height width"], gamma: Float[Tensor, "batch 1"]
) -> Float[Tensor, "batch channels height width"]:
    """Images shrunk to 1/2 (gamma = 0) .. 1 (gamma = 1) of their size, about the centre, zeros around them."""
    zoom = 1 / (SMALLEST_SCALE + (1 - SMALLEST_SCALE) * gamma[:, 0])
    maps = torch.zeros(len(images), 2, 3, device=images.device)
    maps[:, 0, 0] = maps[:, 1, 1] = zoom
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


class SineFamily(Task):
    """gamma (1,), x (64, 1) -> f(x; gamma) (64, 1). Training draws fresh functions; validation is an even grid.
    Metrics: mse, and mse_worst, that of the worst gamma."""

    def __init__(self, name: str, quantile: Quantile, seed: int) -> None:
        signature = Signature("regression", (TensorSpec((1,)), TensorSpec((POINTS, 1))), 1)
        super().__init__(name, signature, (METRICS["mse"], WORST), self._made)
        self.quantile, self.seed = quantile, seed

    def _made(self) -> Mapping[str, Split]:
        generators = [torch.Generator().manual_seed(2 * self.seed + part) for part in range(2)]
        test = torch.rand(TEST, 1, generator=generators[1])
        gammas = {"val": torch.linspace(0, 1, GRID)[:, None], "test": test}
        return {
            "train": self._split(self._drawn(TRAIN, generators[0])),
            **{n: self._split(g) for n, g in gammas.items()},
        }

    def _drawn(self, n: int, generator: torch.Generator) -> Tensor:
        return self.quantile(torch.rand(n, 1, generator=generator))

    @staticmethod
    def _split(gamma: Tensor) -> Split:
        x = torch.linspace(0, 1, POINTS)[None, :, None].repeat(len(gamma), 1, 1)
        return Split((gamma, x), sine(x, gamma))

    def corrupt(self, inputs: tuple[Tensor, ...], target: Tensor, generator: torch.Generator) -> Batch:
        """As many fresh functions on the same points."""
        x = inputs[1]
        gamma = self._drawn(len(x), generator).to(x.device)
        return (gamma, x), sine(x, gamma)

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        if smoothing:
            raise UsageError(f"label_smoothing={smoothing} on task {self.name!r}", "it has no labels: leave it 0")
        return functional.mse_loss(output, target)

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        errors = (output.double() - target.double()).square().flatten(1).mean(1)
        return {"mse": float(errors.mean()), "mse_worst": float(errors.max())}

    def reference(self, metric: str) -> float | None:
        """Of answering with 0."""
        target = self.split("val").target
        return self.score(torch.zeros_like(target), target).get(metric)


class DigitsFamily(Classification):
    """gamma (1,), image (C, H, W) -> logits. `dropout`: the main network drops hidden values at the rate 0.8 gamma
    while it trains, and the image stays; else the image is shrunk to (1 + gamma) / 2 of its size.

    Training draws gamma afresh for each image; the other splits hold each image with every gamma of a grid. A penalty
    on the weights by gamma is not among the tasks: a task's loss sees outputs, not weights.
    """

    def __init__(self, name: str, images: Classification, quantile: Quantile, *, dropout: bool) -> None:
        inputs = (TensorSpec((1,)), *images.signature.inputs)
        signature = Signature(images.signature.kind, inputs, images.signature.outputs)
        super().__init__(name, signature, CLASSIFICATION_METRICS, self._made)
        self.images, self.quantile, self.dropout = images, quantile, dropout

    def _made(self) -> Mapping[str, Split]:
        return {name: self._with_gamma(name, split) for name, split in self.images.splits.items()}

    def _with_gamma(self, name: str, split: Split) -> Split:
        (x,) = split.inputs
        if name == "train":  # gamma and sizes are drawn in `corrupt`
            return Split((torch.ones(len(x), 1), x), split.target)
        gamma = torch.tensor(IMAGE_GRID).repeat_interleave(len(x))[:, None]
        x = x.repeat(len(IMAGE_GRID), 1, 1, 1)
        return Split((gamma, x if self.dropout else scaled(x, gamma)), split.target.repeat(len(IMAGE_GRID)))

    def corrupt(self, inputs: tuple[Tensor, ...], target: Tensor, generator: torch.Generator) -> Batch:
        """A fresh gamma for each image."""
        x = inputs[1]
        gamma = self.quantile(torch.rand(len(x), 1, generator=generator)).to(x.device)
        return (gamma, x if self.dropout else scaled(x, gamma)), target


FAMILIES = ("sine_family", "digits_dropout", "scale_digits")


def family_task(name: str, *, seed: int, data: Path | None) -> Task:
    """The task called `name`: a family, and a suffix of DISTRIBUTIONS. Digits are replaced by a user's images where
    `data` is given. Raises DataError."""
    family = next(family for family in FAMILIES if name.startswith(family))
    quantile = DISTRIBUTIONS[name.removeprefix(family)]
    if family != "sine_family":
        images = image_classification("digits", data=data, seed=seed)
        return DigitsFamily(name, images, quantile, dropout=family == "digits_dropout")
    if data is not None:
        raise DataError(f"task {name!r} is generated: it reads no {str(data)!r}", "use digits_dropout or scale_digits")
    return SineFamily(name, quantile, seed)
