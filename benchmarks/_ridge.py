"""Ridge regression with the weight e^lambda: a problem whose best response is known in closed form.

Training loss: mean (y - x w)^2 + e^lambda |w|^2, so w*(lambda) = (X'X / n + e^lambda I)^-1 X'y / n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from archfront.trainers._hyper_vector import Hyperparameter, HyperVector
from archfront.trainers._linearise import linearised
from archfront.trainers._response import ResponseLinear, Rows

__all__ = ["Found", "Problem", "tuned"]

GRID = np.linspace(-8, 4, 1201)


class Problem:
    """20 inputs, 40 training and 200 validation rows, noise of standard deviation 3."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        w = torch.randn(20, generator=generator)
        self.x, self.x_val = (torch.randn(n, 20, generator=generator) for n in (40, 200))
        self.y, self.y_val = (x @ w + 3 * torch.randn(len(x), generator=generator) for x in (self.x, self.x_val))

    def best_response(self, lam: float) -> Tensor:
        """w*(lambda)."""
        x, y = self.x.double(), self.y.double()
        return torch.linalg.solve(x.T @ x / len(x) + np.exp(lam) * torch.eye(20).double(), x.T @ y / len(x)).float()

    def val_loss(self, w: Tensor) -> float:
        """Mean squared error on the validation rows."""
        return float((self.y_val - self.x_val @ w).square().mean())

    def grid_optimum(self) -> float:
        """The lambda whose best response has the lowest validation loss."""
        return float(min(GRID, key=lambda lam: self.val_loss(self.best_response(lam))))


@dataclass(frozen=True)
class Found:
    """What a run ended with: lambda, sigma, the weights there and the direction in which they respond."""

    lam: float
    sigma: float
    w: Tensor
    direction: Tensor


def tuned(problem: Problem, *, seed: int, centred: bool = False, steps: int = 6000, sigma0: float = 0.5) -> Found:
    """A response layer without bias, tuned from lambda = -4: 300 steps of warm-up, then two training steps to one
    validation step. Centred: a step of w_e at lambda, then a step of the linearised response."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rows = Rows()
    layer = ResponseLinear(nn.Linear(20, 1, bias=False), rows, 1, centred=centred, scaled=False)
    hypers = HyperVector([Hyperparameter("lam", -20, 20, -4.0, "identity", sigma0)])
    own = [layer.response_weight, layer.gates.weight]
    weights = [torch.optim.SGD(group, lr=0.02, momentum=0.9) for group in ([layer.weight], own)]
    hyper = torch.optim.Adam(hypers.parameters(), lr=0.01)
    updates = 0
    for step in range(steps):
        if step < 300 or (step - 300) % 3 < 2:
            _weight_step(problem, layer, hypers, weights, generator)
            updates += 1
            continue
        H = hypers.perturb(200, generator)
        rows.h = H - hypers.lam.detach() if centred else H
        loss = (problem.y_val - layer(problem.x_val)[:, 0]).square().mean() - 1e-3 * hypers.entropy()
        for parameter, gradient in zip(
            hypers.parameters(), torch.autograd.grad(loss, [*hypers.parameters()]), strict=True
        ):
            parameter.grad = gradient
        hyper.step()
    lam = hypers.lam.detach()
    w, _ = layer.weights_at(None if centred else lam)
    direction = layer.gates.weight[0, 0] * layer.response_weight[0]
    return Found(float(lam), float(hypers.sigma.detach()), w.detach()[0], direction.detach())


def _weight_step(
    problem: Problem,
    layer: ResponseLinear,
    hypers: HyperVector,
    weights: list[torch.optim.SGD],
    generator: torch.Generator,
) -> None:
    lam = hypers.lam.detach()
    H = hypers.perturb(40, generator).detach()
    if not layer.centred:
        layer.rows.h = H
        _descend(_loss(problem, _answers(layer, problem.x), H), weights)
        return
    layer.rows.h = None
    _descend(_loss(problem, _answers(layer, problem.x), lam[None]), weights[:1])

    def answers(delta: Tensor) -> Tensor:
        layer.rows.h = delta
        return _answers(layer, problem.x)

    _descend(_loss(problem, linearised(answers, H - lam), H), weights[1:])


def _answers(layer: ResponseLinear, x: Tensor) -> Tensor:
    """(rows, 1 + 20): the output for each row, and the weights that it saw."""
    h = layer.rows.h
    w = layer.weight.expand(len(x), -1)
    if h is not None:
        w = w + layer.gates(h) * layer.response_weight
    return torch.cat([layer(x), w], dim=1)


def _loss(problem: Problem, answers: Tensor, H: Tensor) -> Tensor:
    squared = (problem.y - answers[:, 0]).square().mean()
    return squared + (H[:, 0].exp() * answers[:, 1:].square().sum(dim=1)).mean()


def _descend(loss: Tensor, optimisers: list[torch.optim.SGD]) -> None:
    moved = [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    for parameter, gradient in zip(moved, torch.autograd.grad(loss, moved), strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(moved, 5.0)
    for optimiser in optimisers:
        optimiser.step()
