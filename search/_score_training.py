"""Denoising score matching: how a generator learns what configurations of a space look like, without any label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from archfront.predictors._relaxation import Relaxation
from archfront.predictors._sde import Sde
from archfront.search._diffusion import ScoreModel
from archfront.search._score_network import ScoreNetwork, ScoreShape
from archfront.spaces._errors import UsageError
from archfront.spaces._search_space import ENUMERABLE

__all__ = ["ScoreRecipe", "new_network", "score_loss", "train_score_network"]


@dataclass(frozen=True)
class ScoreRecipe:
    """The small recipe: minutes on two cores. The paper's: 12 blocks, batches of 256, lr 2e-5, 250,000 steps (a million
    for MobileNetV3), 1,000 of them of linear warm-up, no decay of the rate."""

    steps: int = 3_000
    batch: int = 128
    lr: float = 1e-3
    warmup: int = 100
    ema: float = 0.9999
    shape: ScoreShape = field(default_factory=lambda: ScoreShape(blocks=4))
    cosine: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or not self.lr > 0:
            raise UsageError(f"steps={self.steps} and batch={self.batch} must be at least 1, lr={self.lr} above 0")


def new_network(relaxation: Relaxation, sde: Sde, shape: ScoreShape) -> ScoreNetwork:
    """An untrained network for the matrices of a relaxation; initial values from torch's global generator."""
    attention = torch.from_numpy(relaxation.attention)
    return ScoreNetwork(relaxation.shape[1], attention, torch.from_numpy(relaxation.positions), sde, shape)


def score_loss(net: ScoreModel, x: Tensor, t: Tensor, z: Tensor, free: Tensor) -> Tensor:
    """Mean over the free entries of (std s(x_t, t) + z)^2; the others stay as they are, without noise."""
    noised = torch.where(free, net.sde.noised(x, t, z), x)
    error = (net.sde.std(t)[:, None, None] * net(noised, t) + z).square()
    loss: Tensor = error[:, free].mean()
    return loss


def train_score_network(
    relaxation: Relaxation,
    sde: Sde,
    recipe: ScoreRecipe | None = None,
    *,
    watch: Callable[[int, float], None] = lambda step, loss: None,
) -> ScoreNetwork:
    """A network with the moving average of its weights, in eval mode. Deterministic given the recipe on one thread.

    Draws t ~ U(smallest, 1) and configurations: all of a space of at most 200,000 in shuffled order, else fresh samples
    of every batch. `watch` hears (step, loss).
    """
    recipe = recipe or ScoreRecipe()
    rng = np.random.default_rng(recipe.seed)
    draw = _drawer(relaxation, recipe.batch, rng)
    free = torch.from_numpy(relaxation.free)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = new_network(relaxation, sde, recipe.shape).train()
        optimiser = torch.optim.Adam(net.parameters(), lr=recipe.lr)
        average = [p.detach().clone() for p in net.parameters()]
        for step in range(recipe.steps):
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * _share(recipe, step)
            x = draw()
            t = sde.smallest + (1 - sde.smallest) * torch.rand(len(x))
            loss = score_loss(net, x, t, torch.randn_like(x), free)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            decay = min(recipe.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [p.detach() for p in net.parameters()], 1 - decay)
            watch(step + 1, float(loss.detach()))
    with torch.no_grad():
        for own, mean in zip(net.parameters(), average, strict=True):
            own.copy_(mean)
    return net.eval()


def _share(recipe: ScoreRecipe, step: int) -> float:
    """Of the learning rate: linear warm-up, then a cosine to 0 where the recipe has one."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    if not recipe.cosine:
        return 1.0
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.5 * (1 + float(np.cos(np.pi * progress)))


def _drawer(relaxation: Relaxation, batch: int, rng: np.random.Generator) -> Callable[[], Tensor]:
    """Batches of matrices with entries -1 and 1."""
    space = relaxation.space
    everything = None
    if space.size <= ENUMERABLE:
        everything = torch.from_numpy(2 * relaxation.encode(space.enumerate()) - 1).float()

    def draw() -> Tensor:
        if everything is not None:
            return everything[torch.from_numpy(rng.integers(len(everything), size=batch))]
        return torch.from_numpy(2 * relaxation.encode(space.sample(rng, batch)) - 1).float()

    return draw
