"""What Bayesian optimisation believes about the told evaluations, and where it would look next."""

from __future__ import annotations

import moocore
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archfront.search._botorch import Processes, Samples
from archfront.search._botorch_fit import fitted
from archfront.search._botorch_space import Embedding
from archfront.search._ranking import constrained_rank
from archfront.search._types import Configuration
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import SearchSpace

__all__ = ["Acquisition", "Model"]

PRUNING = 64
"""Samples that decide which told points may be on the front."""

BASELINE = 100
"""Most of these points: more make the boxes of three and four objectives slow."""


class Model:
    """Gaussian processes of losses (n, m), and of bounded metrics (n, c) that must not exceed `limits` (c,).

    `codes` (n, parameters) of canonical configurations, `violations` (n,) 0 where feasible. Raises LinAlgError.
    """

    def __init__(
        self, space: SearchSpace, codes: Floats, losses: Floats, violations: Floats, bounded: Floats, limits: Floats
    ) -> None:
        self.embedding = Embedding(space)
        losses = tamed(losses)
        reference = reference_point(losses, violations)
        outcomes = np.concatenate([-losses, bounded], axis=1)
        self.centre, scale = outcomes.mean(0), outcomes.std(0, ddof=1)
        self.scale = np.where(scale > 1e-12 * np.abs(self.centre), scale, 1.0)  # a constant outcome
        m = losses.shape[1]
        self.reference = torch.from_numpy((-reference - self.centre[:m]) / self.scale[:m])
        self.limits = torch.from_numpy((limits - self.centre[m:]) / self.scale[m:])
        y = (outcomes - self.centre) / self.scale
        x = self.embedding.columns(codes)
        hyperparameters = [fitted(x, self.embedding.groups, column) for column in y.T]
        self.processes = Processes(x, y, self.embedding.groups, hyperparameters)
        first = np.flatnonzero(constrained_rank(losses, violations) == 0)
        self.parents: list[Configuration] = space.decode(codes[first])

    def acquisition(self, samples: int, picks: int, pending: Floats | None, seed: int) -> Acquisition:
        """For `picks` points in turn; `pending` codes (k, parameters) are sampled first."""
        outcomes = len(self.centre)
        baseline = self.processes.points[self._baseline(seed)]
        if pending is not None:
            baseline = torch.cat([baseline, torch.from_numpy(self.embedding.columns(pending))])
        grown = Samples(
            self.processes, _normals(samples, len(baseline) + picks, outcomes, seed), self.reference, self.limits
        )
        if len(baseline):
            grown.add(baseline)
        return Acquisition(self, grown)

    def _baseline(self, seed: int) -> NDArray[np.int64]:
        """Told points that are feasible, beyond the reference and non-dominated in some sample, the likeliest first."""
        sampled = self.processes.draw(_normals(PRUNING, len(self.processes.points), len(self.centre), seed + 1))
        m = len(self.reference)
        allowed = (sampled[..., :m] > self.reference).all(-1) & (sampled[..., m:] <= self.limits).all(-1)
        count = np.zeros(sampled.shape[1], np.int64)
        for values, ok in zip(sampled[..., :m].numpy(), allowed.numpy(), strict=True):
            rows = np.flatnonzero(ok)
            if len(rows):
                count[rows[moocore.is_nondominated(values[rows], maximise=True)]] += 1
        order = np.argsort(-count, kind="stable")
        return order[: min(BASELINE, int((count > 0).sum()))]


class Acquisition:
    """Expected improvement beyond the sampled points; `add` makes a pick one of them."""

    def __init__(self, model: Model, samples: Samples) -> None:
        self._model, self._samples = model, samples
        samples.prepare()

    def value(self, x: Tensor) -> Tensor:
        """Log acquisition (k,) of columns (k, columns)."""
        return self._samples.acquisition(x)

    def add(self, codes: Floats) -> tuple[Floats, Floats]:
        """Predicted losses and their standard deviations (m,) at one configuration's codes, which is now pending."""
        model = self._model
        x = torch.from_numpy(model.embedding.columns(codes))
        mean, std = model.processes.predict(x)
        if self._samples.values.shape[1] < self._samples.normals.shape[1] - 1:
            self._samples.add(x)
            self._samples.prepare()
        m = len(model.reference)
        losses = -(mean[0].numpy() * model.scale + model.centre)[:m]
        return losses, (std[0].numpy() * model.scale)[:m]


def tamed(losses: Floats) -> Floats:
    """Losses (n, m), the worst pulled in to the median plus five times its distance to the best."""
    middle, best = np.median(losses, axis=0), losses.min(0)
    highest = np.where(middle > best, middle + 5 * (middle - best), np.inf)
    return np.minimum(losses, highest)


def reference_point(losses: Floats, violations: Floats) -> Floats:
    """Halfway between the worst of the feasible front and of all feasible points; beyond everything while none is.

    The front's own worst (BoTorch's `infer_reference_point`) locks a search into a front that starts narrow; the worst
    of all points sends it to the ends of the front.
    """
    feasible = losses[violations <= 0]
    whole = np.ptp(losses, axis=0)
    margin = 0.1 * np.where(whole > 0, whole, 1.0)
    if not len(feasible):
        return np.asarray(losses.max(0) + margin)
    front, worst = feasible[moocore.is_nondominated(feasible)].max(0), feasible.max(0)
    return np.asarray(np.where(worst > front, (front + worst) / 2, front + margin))


def _normals(samples: int, points: int, outcomes: int, seed: int) -> Tensor:
    """Standard normals (samples, points, outcomes), a scrambled Sobol sequence where it has as many dimensions."""
    from botorch.utils.sampling import draw_sobol_normal_samples

    if points * outcomes > torch.quasirandom.SobolEngine.MAXDIM:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(samples, points, outcomes, dtype=torch.float64, generator=generator)
    drawn: Tensor = draw_sobol_normal_samples(points * outcomes, samples, seed=seed % 2**31, dtype=torch.float64)
    return drawn.view(samples, points, outcomes)
