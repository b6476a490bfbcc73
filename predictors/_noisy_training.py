"""Networks that learn from noised copies of labelled configurations (DiffusionNAG's predictors)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archfront.predictors._sde import Sde

__all__ = ["NoisyTraining", "Rows"]

Says = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""(x_t, condition, numbers of the rows) to what each network says of them, (networks, batch)."""


@dataclass(frozen=True)
class Rows:
    """What is learned from: matrices (n, rows, columns), standardised labels (n,) with their weights (n,), and the rows
    of each network."""

    inputs: Floats
    labels: Floats
    heavy: Floats
    shares: Sequence[NDArray[np.int64]]

    def drawn(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """A batch of row numbers (networks, size)."""
        return np.stack([rng.choice(share, size) for share in self.shares])


@dataclass(frozen=True)
class NoisyTraining:
    """`steps` of Adam with a cosine on the squared error; each network draws its own rows, times and noise. `process`
    are the arguments of `sde_of`, `free` (rows, columns) the entries that are noised; with `noisy=False` none is."""

    steps: int
    batch: int
    lr: float
    noisy: bool
    process: Mapping[str, Any]
    free: NDArray[np.bool_]

    @property
    def sde(self) -> Sde:
        """The process that noises."""
        from archfront.predictors._sde import sde_of

        return sde_of(**self.process)

    def __call__(self, weights: Sequence[nn.Parameter], says: Says, rows: Rows, rng: np.random.Generator) -> None:
        """Train `weights`, those behind `says`; torch's own generator draws times and noise."""
        import torch

        sde = self.sde
        x, y, heavy = (torch.from_numpy(values).float() for values in (rows.inputs, rows.labels, rows.heavy))
        free, size = torch.from_numpy(self.free), min(self.batch, len(y))
        optimiser = torch.optim.Adam(weights, lr=self.lr, foreach=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        for _ in range(self.steps):
            drawn = torch.from_numpy(rows.drawn(rng, size))
            clean = x[drawn]
            t = torch.full(drawn.shape, sde.smallest)
            if self.noisy:
                t = sde.smallest + (1 - sde.smallest) * torch.rand(drawn.shape)
                clean = torch.where(free, sde.noised(clean, t, torch.randn(clean.shape)), clean)
            said = says(clean, sde.condition(t), drawn)
            loss = ((said - y[drawn]).square() * heavy[drawn]).mean(dim=1).sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
