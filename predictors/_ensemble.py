"""Several Gaussian processes that differ in what the labels leave open of their hyperparameters.

One fit of most posterior probability is far too sure of itself with 20 labels and as many hyperparameters. Members are
fitted under priors centred at draws from the prior (the randomised maximum a posteriori of Bardsley et al., 2014, with
the labels as they are): where the labels decide they agree, elsewhere they spread as the prior does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._process import Coordinates, Posterior, Process
from archfront.spaces._parameter import Floats

__all__ = ["Belief", "Candidates", "Ensemble"]


class Ensemble:
    """`members` processes over the same coordinates; the first has the prior's mean as its centre."""

    def __init__(self, coordinates: Coordinates, members: int) -> None:
        self.processes = [Process(coordinates, draw) for draw in range(members)]

    @property
    def theta(self) -> Floats:
        """Hyperparameters (members, k)."""
        return np.stack([process.theta for process in self.processes])

    @theta.setter
    def theta(self, theta: Floats) -> None:
        for process, own in zip(self.processes, theta, strict=True):
            process.theta = np.array(own)

    def tune(self, design: Floats, y: Floats, *, steps: int) -> None:
        """At most `steps` L-BFGS iterations of each, on design (n, columns), labels (n,)."""
        for process in self.processes:
            process.tune(design, y, steps=steps)

    def conditioned(self, design: Floats, y: Floats) -> Belief:
        """The members given labels (n,)."""
        return Belief(design, [(process, process.conditioned(design, y)) for process in self.processes])


@dataclass
class Candidates:
    """Points (m, columns) that are asked about again and again, with what is kept of the last answer by `name`: told
    rows are only added between two fits, and the work for them is not done twice."""

    design: Floats
    kept: dict[tuple[int, int], _Kept] = field(default_factory=dict)

    def only(self, keep: NDArray[np.bool_]) -> Candidates:
        """Those of a mask (m,)."""
        kept = {name: _Kept(k.theta, k.rows, k.explained[:, keep]) for name, k in self.kept.items()}
        return Candidates(self.design[keep], kept)

    def explained(
        self, name: tuple[int, int], process: Process, posterior: Posterior, rows: Floats
    ) -> NDArray[np.float32]:
        """L^-1 C (n, m) of a posterior on rows (n, columns)."""
        have = self.kept.get(name)
        shared = 0
        if have is not None and have.theta == process.theta.tobytes():
            both = min(len(have.rows), len(rows))
            equal = (have.rows[:both] == rows[:both]).all(axis=1)
            shared = both if equal.all() else int(np.argmin(equal))
        before = have.explained[:shared] if have is not None and shared else np.empty((0, len(self.design)), np.float32)
        if shared < len(rows):
            more = posterior.explained(process.correlations(rows[shared:], self.design), before)
            before = np.concatenate([before, more.astype(np.float32)])
        self.kept[name] = _Kept(process.theta.tobytes(), rows, before)
        return before


@dataclass(frozen=True)
class _Kept:
    theta: bytes
    rows: Floats
    explained: NDArray[np.float32]
    """In single precision: hundreds of rows for 20,000 points and each member."""


@dataclass(frozen=True)
class Belief:
    """Members given labels at `rows` (n, columns): the mixture is taken for a normal of its mean and variance."""

    rows: Floats
    members: Sequence[tuple[Process, Posterior]]

    def at(self, design: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (m,) at the rows of a design."""
        return self._mixed(
            [posterior.explained(process.correlations(self.rows, design)) for process, posterior in self.members]
        )

    def over(self, candidates: Candidates, output: int) -> tuple[Floats, Floats]:
        """Mean and standard deviation (m,) of candidates, which keep what was computed under this output's number."""
        return self._mixed(
            [
                candidates.explained((output, i), process, posterior, self.rows)
                for i, (process, posterior) in enumerate(self.members)
            ]
        )

    def _mixed(self, explained: Sequence[NDArray[np.floating[Any]]]) -> tuple[Floats, Floats]:
        given = [posterior.given(own) for (_, posterior), own in zip(self.members, explained, strict=True)]
        means, stds = (np.stack(parts) for parts in zip(*given, strict=True))
        return means.mean(axis=0), np.sqrt((stds**2).mean(axis=0) + means.var(axis=0))
