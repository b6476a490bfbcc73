"""The task of a prior-data fitted network: hidden labels of data sets that are drawn from a prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from archfront.spaces._errors import UsageError
from archfront.spaces._metric import METRICS
from archfront.spaces._task import Batch, Signature, Split, Task, TensorSpec
from archfront.spaces.inference._bar_distribution import BarDistribution, borders_of
from archfront.spaces.inference._prior import Prior

__all__ = ["SAMPLERS", "PriorTask", "context_sizes", "hidden"]

FINEST = 400
"""Buckets of the finest grid of a task."""
TRAIN, HELD_OUT, DRAWN = 6400, 512, 64
"""Data sets: of an epoch, of validation and of test; how many are drawn as place holders of the training split."""
BORDER_SAMPLES = 80_000


class PriorTask(Task):
    """Inputs x (points, features), y (points,) with zeros where hidden, known (points,); target (points,), NaN where
    known. Outputs are log-probabilities of the buckets between `borders` and two tail scales. Metrics: nll, mse.

    A training batch is a fresh draw, whatever rows it stands for; the other splits are fixed by the seed. `sampler`
    says how many points are known (see `context_sizes`).
    """

    def __init__(self, name: str, prior: Prior, *, points: int, sampler: str, seed: int) -> None:
        inputs = (TensorSpec((points, prior.features)), TensorSpec((points,)), TensorSpec((points,), "bool"))
        super().__init__(name, Signature("posterior", inputs, FINEST + 2), (METRICS["nll"], METRICS["mse"]), self._made)
        self.prior, self.points, self.seed = prior, points, seed
        self._sizes = SAMPLERS[sampler]

    @cached_property
    def borders(self) -> Float[Tensor, " edges"]:
        """The finest grid: quantiles of the prior's labels."""
        _, y = self.prior.draw(BORDER_SAMPLES // self.points, self.points, self._generator(3))
        return borders_of(y.flatten(), FINEST)

    def _generator(self, part: int) -> torch.Generator:
        return torch.Generator().manual_seed(4 * self.seed + part)

    def _made(self) -> Mapping[str, Split]:
        splits = {name: Split(*self._drawn(HELD_OUT, self._generator(i))) for i, name in ((1, "val"), (2, "test"))}
        inputs, target = self._drawn(DRAWN, self._generator(0))
        rows = torch.arange(TRAIN) % DRAWN  # training sees fresh ones: see `corrupt`
        return {"train": Split(tuple(t[rows] for t in inputs), target[rows]), **splits}

    def _drawn(self, batch: int, generator: torch.Generator) -> Batch:
        x, y = self.prior.draw(batch, self.points, generator)
        return hidden(x, y, self._sizes(batch, self.points, generator))

    def corrupt(self, inputs: tuple[Tensor, ...], target: Tensor, generator: torch.Generator) -> Batch:
        """As many fresh data sets, drawn where the inputs are."""
        seed = int(torch.randint(2**62, (1,), generator=generator))
        return self._drawn(len(target), torch.Generator(target.device).manual_seed(seed))

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        if smoothing:
            raise UsageError(f"label_smoothing={smoothing} on task {self.name!r}", "it has no labels: leave it 0")
        asked = ~target.isnan()
        return self._posterior(output[asked]).nll(target[asked]).mean()

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        asked = ~target.isnan()
        posterior, y = self._posterior(output[asked].double()), target[asked].double()
        return {"nll": float(posterior.nll(y).mean()), "mse": float((posterior.mean - y).square().mean())}

    def reference(self, metric: str) -> float | None:
        """Of answering with the prior whatever is known: every bucket is as probable."""
        target = self.split("val").target
        flat = -torch.full((*target.shape, FINEST), float(FINEST)).log()
        return self.score(torch.cat([flat, torch.zeros(*target.shape, 2)], -1), target).get(metric)

    def _posterior(self, output: Tensor) -> BarDistribution:
        return BarDistribution.of_output(output, self.borders.to(output.device))


def hidden(
    x: Float[Tensor, "batch points features"], y: Float[Tensor, "batch points"], sizes: Int[Tensor, " batch"]
) -> Batch:
    """Inputs and target of data sets of which the first `sizes` points are known."""
    known = torch.arange(y.shape[1], device=y.device) < sizes[:, None]
    return (x, torch.where(known, y, 0.0), known), torch.where(known, torch.nan, y)


def context_sizes(batch: int, points: int, generator: torch.Generator, *, weighted: bool) -> Int[Tensor, " batch"]:
    """How many of each data set's points are known, 0..points - 1: uniform, or `weighted` by 1 / (points - size)."""
    weight = torch.ones(points, device=generator.device)
    if weighted:
        weight = 1 / torch.arange(points, 0, -1, device=generator.device)
    return torch.multinomial(weight, batch, replacement=True, generator=generator)


SAMPLERS: Mapping[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "uniform": lambda *drawn: context_sizes(*drawn, weighted=False),
    "weighted": lambda *drawn: context_sizes(*drawn, weighted=True),
}
