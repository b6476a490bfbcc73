"""Pre-training on a mixture of priors, as a surrogate meets its data: labels standardised by those that are known."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archfront.spaces._cache import cache_folder
from archfront.spaces._errors import DataError, TrainingError
from archfront.spaces.inference._bar_distribution import BarDistribution, borders_of
from archfront.spaces.inference._checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from archfront.spaces.inference._prior import Prior
from archfront.spaces.inference._transformer import PfnNetwork, PfnShape

__all__ = ["Plan", "cached", "pretrained", "standardised_by_known"]

logger = logging.getLogger(__name__)

FARTHEST = 10.0
"""Standardised labels are cut off here: two known labels that happen to be alike make the others arbitrarily large."""
LEAST_SPREAD = 1e-3
BORDER_BATCHES = 60

Progress = Callable[[int, float, float], None]


@dataclass(frozen=True)
class Plan:
    """What a pre-trained network depends on. `mixture`: priors of the same width with their shares of each batch.

    A data set has `shortest`..c known points, c itself log-uniform up to `longest`, and at least `queries` hidden ones.
    """

    shape: PfnShape
    mixture: tuple[tuple[Prior, float], ...]
    steps: int
    batch: int = 64
    lr: float = 1e-3
    warmup: float = 0.1
    shortest: int = 2
    longest: int = 256
    queries: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        wide = {(prior.features, prior.power) for prior, _ in self.mixture}
        if len(wide) != 1 or next(iter(wide))[0] != self.shape.features:
            raise ValueError(f"priors of (features, power) {sorted(wide)} for a network of {self.shape.features}")
        if not 2 <= self.shortest <= self.longest:
            raise ValueError(f"shortest={self.shortest} must lie in 2..longest={self.longest}")

    @cached_property
    def about(self) -> dict[str, Any]:
        """The plan as JSON."""
        mixture = [{"prior": type(prior).__name__, "share": share, **asdict(prior)} for prior, share in self.mixture]
        own = {name: value for name, value in vars(self).items() if name not in ("shape", "mixture")}
        return {**own, "shape": asdict(self.shape), "mixture": mixture, "power": self.mixture[0][0].power}

    @property
    def key(self) -> str:
        """sha256 of the plan."""
        return hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()


def pretrained(
    plan: Plan, *, device: str = "cpu", seconds: float = math.inf, progress: Progress | None = None
) -> Checkpoint:
    """Train for `plan.steps` or `seconds`, whichever ends first; the learning rate falls to 0 by then.

    `progress(step, loss, seconds)` is called after each step. On a GPU the network runs in bfloat16. A limit of time
    makes the result depend on the machine. Raises TrainingError when the loss is not finite.
    """
    started = time.perf_counter()
    generator = torch.Generator(device).manual_seed(plan.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        net = PfnNetwork(plan.shape, _borders(plan, generator)).to(device)
    borders = net.get_buffer("borders")[0]
    optimiser = torch.optim.Adam(net.parameters(), lr=plan.lr)
    lengths = torch.Generator().manual_seed(plan.seed)
    narrow = torch.autocast("cuda", torch.bfloat16) if device.startswith("cuda") else nullcontext()
    steps = 0
    while steps < plan.steps and (elapsed := time.perf_counter() - started) < seconds:
        _set_rate(optimiser, plan, max(steps / plan.steps, elapsed / seconds))
        x, y, known = batch_of(plan, context_of(plan, lengths), generator)
        with narrow:
            output = net(x, y, known)
        loss = BarDistribution.of_output(output[~known].float(), borders).nll(y[~known]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        steps += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} in step {steps}", f"lower lr={plan.lr:g}")
        if progress is not None:
            progress(steps, value, time.perf_counter() - started)
    return Checkpoint.of_network(net, {**plan.about, "trained_steps": steps})


def cached(plan: Plan, folder: Path | None = None) -> Checkpoint:
    """The network of a plan, trained once on this machine: kept in the user's cache folder. A file there that cannot be
    read is made again, which is said once."""
    path = (folder or cache_folder()) / f"pfn-{plan.key[:16]}.pt"
    if path.exists():
        try:
            return load_checkpoint(path)
        except DataError as error:
            logger.warning("%s; it is made again", error)
    checkpoint = pretrained(plan)
    save_checkpoint(checkpoint, path)
    return checkpoint


def context_of(plan: Plan, generator: torch.Generator) -> int:
    """The largest number of known points of a batch: log-uniform, a multiple of 8, as fast kernels like it."""
    least = min(16, plan.longest)
    share = float(torch.rand(1, generator=generator))
    size = least * math.exp(share * math.log(plan.longest / least))
    return min(plan.longest, 8 * math.ceil(size / 8))


def batch_of(
    plan: Plan, context: int, generator: torch.Generator
) -> tuple[Float[Tensor, "batch points features"], Float[Tensor, "batch points"], Bool[Tensor, "batch points"]]:
    """x, standardised labels and which of them are known."""
    points = context + plan.queries
    counts = _counts(plan.batch, [share for _, share in plan.mixture])
    parts = [prior.draw(n, points, generator) for (prior, _), n in zip(plan.mixture, counts, strict=True) if n]
    x, y = (torch.cat(part) for part in zip(*parts, strict=True))
    sizes = torch.randint(plan.shortest, context + 1, (len(y),), generator=generator, device=y.device)
    known = torch.arange(points, device=y.device) < sizes[:, None]
    return x, standardised_by_known(y, known), known


def standardised_by_known(
    y: Float[Tensor, "batch points"], known: Bool[Tensor, "batch points"]
) -> Float[Tensor, "batch points"]:
    """Labels at mean 0 and standard deviation 1 of the known ones, none beyond 10."""
    number = known.sum(1, keepdim=True)
    mean = (y * known).sum(1, keepdim=True) / number
    spread = (((y - mean) * known).square().sum(1, keepdim=True) / number).sqrt().clamp(min=LEAST_SPREAD)
    return ((y - mean) / spread).clamp(-FARTHEST, FARTHEST)


def _borders(plan: Plan, generator: torch.Generator) -> Float[Tensor, " edges"]:
    """Quantiles of the hidden labels, as the network will meet them."""
    lengths = torch.Generator().manual_seed(plan.seed + 1)
    samples = []
    for _ in range(BORDER_BATCHES):
        _, y, known = batch_of(plan, context_of(plan, lengths), generator)
        samples.append(y[~known])
    drawn = torch.cat(samples).cpu()
    inside = drawn[drawn.abs() < FARTHEST]  # many lie exactly at the ends, where they make no quantiles
    return borders_of(inside, plan.shape.buckets)


def _counts(batch: int, shares: Sequence[float]) -> list[int]:
    """How many data sets of a batch each prior draws."""
    ends = [round(batch * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _set_rate(optimiser: torch.optim.Optimizer, plan: Plan, progress: float) -> None:
    """Linear warm-up, then a cosine to 0."""
    if progress < plan.warmup:
        rate = plan.lr * max(progress / plan.warmup, 1e-2)
    else:
        rate = plan.lr * 0.5 * (1 + math.cos(math.pi * (progress - plan.warmup) / (1 - plan.warmup)))
    for group in optimiser.param_groups:
        group["lr"] = rate
