"""qLogNEHVI (Daulton et al., 2021; Ament et al., 2023) for one candidate at a time, on posterior samples that grow.

BoTorch evaluates the joint posterior of all baseline points anew for every candidate. Here the functions are sampled
once at the baseline and pending points, and the processes are conditioned on each sample: a candidate then costs one
row of the kernel, memory does not grow with the batch, and nothing is compiled at first use (BoTorch's own class would
build a C++ kernel). The value is BoTorch's, up to the random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archfront.search._botorch_fit import Hyperparameters

__all__ = ["Processes", "Samples"]

JITTER = 1e-6
"""Variance that keeps the joint covariance of data and sampled points positive definite (BoTorch tries 1e-8 and up)."""

TAU_RELU, TAU_MAX, ETA = 1e-6, 1e-3, 1e-3
"""Temperatures of qLogNEHVI: of the smooth improvement, the smooth minimum and the smooth feasibility."""

ELEMENTS = 4_000_000
"""Largest table in the evaluation of candidates, in numbers: bounds the memory of a call."""


class Processes:
    """Independent Gaussian processes, one per outcome, with the RBF kernel and hyperparameters of `_botorch_fit`.

    `x` (n, columns), `y` (n, outcomes) standardised, `groups` the parameter of each column.
    """

    def __init__(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        groups: NDArray[np.int64],
        hyperparameters: Sequence[Hyperparameters],
    ) -> None:
        scales = np.array([np.array(h.lengthscales)[groups] for h in hyperparameters])
        self.scales = torch.from_numpy(scales)[:, None, :]
        self.means = torch.tensor([h.mean for h in hyperparameters], dtype=torch.float64)
        noises = torch.tensor([h.noise for h in hyperparameters], dtype=torch.float64)
        self.points = torch.from_numpy(x)
        covariance = self.kernel(self.points, self.points)
        covariance.diagonal(dim1=-2, dim2=-1).add_(noises[:, None])
        self.factor: Tensor = torch.linalg.cholesky(covariance)
        self.residuals = torch.from_numpy(y).T[..., None] - self.means[:, None, None]
        self.weights = torch.cholesky_solve(self.residuals, self.factor)

    def kernel(self, one: Tensor, other: Tensor) -> Tensor:
        """(outcomes, n, k)."""
        a, b = one / self.scales, other / self.scales
        products = a @ b.mT
        squares = (a**2).sum(-1)[..., None] + (b**2).sum(-1)[:, None, :]
        return (products - squares / 2).clamp_max(0).exp()

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (k, outcomes) of the functions, without noise."""
        cross = self.kernel(self.points, x)
        mean = (cross * self.weights).sum(1) + self.means[:, None]
        spread = 1 - torch.linalg.solve_triangular(self.factor, cross, upper=False).square().sum(1)
        return mean.T, spread.clamp_min(0).sqrt().T

    def draw(self, normals: Tensor) -> Tensor:
        """Joint samples (samples, n, outcomes) at the data's own points, from standard normals of that shape."""
        cross = self.kernel(self.points, self.points)
        mean = (cross @ self.weights)[..., 0] + self.means[:, None]
        half = torch.linalg.solve_triangular(self.factor, cross, upper=False)
        covariance = cross - half.mT @ half
        covariance.diagonal(dim1=-2, dim2=-1).add_(JITTER)
        root = torch.linalg.cholesky(covariance)
        return (mean + torch.einsum("oij,sjo->soi", root, normals)).mT


class Samples:
    """Samples of the processes at a growing set of points, and the acquisition of one more.

    `normals` (samples, points, outcomes) are the standard normals of all points to come, one column each: candidates
    share a column (common random numbers). The first `objectives` outcomes are maximised beyond `reference`
    (objectives,); each further outcome must not exceed its entry in `limits`.
    """

    def __init__(self, processes: Processes, normals: Tensor, reference: Tensor, limits: Tensor) -> None:
        self.processes, self.normals = processes, normals
        self.reference, self.limits = reference, limits
        self.points, self.factor = processes.points, processes.factor
        self._targets = processes.residuals.expand(-1, -1, len(normals))
        self.weights = torch.cholesky_solve(self._targets, self.factor)
        self.values = normals.new_empty((len(normals), 0, normals.shape[-1]))
        """Sampled outcomes (samples, points, outcomes)."""

    def add(self, x: Tensor) -> None:
        """Sample at further points (k, columns), given all that was sampled before."""
        first, last = self.values.shape[1], self.values.shape[1] + len(x)
        cross = self.processes.kernel(self.points, x)
        half = torch.linalg.solve_triangular(self.factor, cross, upper=False)
        covariance = self.processes.kernel(x, x) - half.mT @ half
        covariance.diagonal(dim1=-2, dim2=-1).add_(JITTER)
        root = torch.linalg.cholesky(covariance)
        deviations = cross.mT @ self.weights + torch.einsum("oij,sjo->ois", root, self.normals[:, first:last])
        upper = torch.cat([self.factor, torch.zeros_like(cross)], -1)
        self.factor = torch.cat([upper, torch.cat([half.mT, root], -1)], -2)
        self._targets = torch.cat([self._targets, deviations], 1)
        self.weights = torch.cholesky_solve(self._targets, self.factor)
        self.points = torch.cat([self.points, x])
        sampled = deviations + self.processes.means[:, None, None]
        self.values = torch.cat([self.values, sampled.permute(2, 1, 0)], 1)

    def prepare(self) -> None:
        """Decompose what the sampled points leave to be improved: call after `add`, before `acquisition`."""
        from botorch.utils.multi_objective.box_decompositions.box_decomposition_list import BoxDecompositionList
        from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning

        m = len(self.reference)
        feasible = (self.values[..., m:] <= self.limits).all(-1)
        if m == 1:  # qLogNEI: what improves on the best sampled value
            best = self.values[..., 0].masked_fill(~feasible, -torch.inf).amax(-1) if self.values.shape[1] else None
            lower = self.reference.expand(len(self.normals), 1) if best is None else best[:, None]
            self._lower = torch.maximum(lower, self.reference)[:, None, :]
            self._upper = torch.full_like(self._lower, torch.inf)
            return
        fronts = [row[ok][:, :m] for row, ok in zip(self.values, feasible, strict=True)]
        boxes = BoxDecompositionList(*(FastNondominatedPartitioning(self.reference, Y=front) for front in fronts))
        self._lower, self._upper = boxes.get_hypercell_bounds()

    def acquisition(self, x: Tensor) -> Tensor:
        """Logarithm of the expected feasible (hypervolume) improvement (k,) of each point of x (k, columns)."""
        at_once = max(1, ELEMENTS // max(1, self._lower.numel(), self.factor[..., 0].numel() * 4))
        return torch.cat([self._acquisition(part) for part in torch.split(x, at_once)])

    def _acquisition(self, x: Tensor) -> Tensor:
        from botorch.utils.safe_math import fatmin, log_fatplus, logmeanexp, logsumexp

        sampled = self._sampled(x)
        m = len(self.reference)
        improvement = log_fatplus(sampled[..., None, :m] - self._lower[:, None], tau=TAU_RELU)
        sides = (self._upper.clamp_max(1e10) - self._lower).log()[:, None].expand_as(improvement)
        areas = fatmin(torch.stack([improvement, sides], -1), dim=-1, tau=TAU_MAX).sum(-1)
        value = logsumexp(areas, dim=-1)
        if len(self.limits):
            value = value + self._log_feasibility(sampled[..., m:])
        result: Tensor = logmeanexp(value, dim=0)
        return result

    def _sampled(self, x: Tensor) -> Tensor:
        """(samples, k, outcomes): one value of each sampled function, given its values at the sampled points."""
        cross = self.processes.kernel(self.points, x)
        mean = cross.mT @ self.weights + self.processes.means[:, None, None]
        spread = 1 - torch.linalg.solve_triangular(self.factor, cross, upper=False).square().sum(1)
        spread = spread.clamp_min(1e-10).sqrt()
        sampled: Tensor = mean.permute(2, 1, 0) + spread.T * self.normals[:, self.values.shape[1], None, :]
        return sampled

    def _log_feasibility(self, excess: Tensor) -> Tensor:
        from botorch.utils.objective import compute_smoothed_feasibility_indicator

        def beyond(j: int) -> Callable[[Tensor], Tensor]:
            return lambda z: z[..., j] - self.limits[j]

        limits = [beyond(j) for j in range(len(self.limits))]
        log: Tensor = compute_smoothed_feasibility_indicator(limits, excess, ETA, log=True, fat=True)
        return log
