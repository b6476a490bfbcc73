"""Several Gaussian processes that differ in what the labels leave open of their hyperparameters.

One fit of most posterior probability is far too sure of itself with 20 labels and as many hyperparameters. Members are
fitted under priors centred at draws from the prior (the randomised maximum a posteriori of Bardsley et al., 2014, with
the labels as they are): where the labels decide they agree, elsewhere they spread as the prior does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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

    def tune(self, design: Floats, y: Floats, *, steps: int, afresh: int = 0) -> None:
        """At most `steps` L-BFGS iterations of each, on design (n, columns), labels (n,); `afresh` from the start."""
        for process in self.processes:
            process.tune(design, y, steps=steps, afresh=afresh)

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
        return Candidates(self.design[keep], {name: kept.only(keep) for name, kept in self.kept.items()})

    def explained(self, name: tuple[int, int], process: Process, posterior: Posterior, rows: Floats) -> _Kept:
        """What is kept for a posterior on rows (n, columns), brought up to date."""
        kept = self.kept.get(name)
        theta = process.theta.tobytes()
        if kept is None or kept.theta != theta or not _begins(rows, kept.rows):
            many = len(self.design)
            none = np.empty((0, many), np.float32)
            kept = _Kept(theta, process.embedded(self.design), rows[:0], none, np.zeros(many))
        new = process.embedded(rows[len(kept.rows) :])
        if len(new):
            before = kept.explained if len(kept.rows) else None
            more = posterior.explained(process.between(new, kept.points), before)
            explained = np.concatenate([kept.explained, more.astype(np.float32)])
            kept = _Kept(theta, kept.points, rows, explained, kept.share + (more * more).sum(axis=0))
        self.kept[name] = kept
        return kept


def _begins(rows: Floats, first: Floats) -> bool:
    return len(first) <= len(rows) and np.array_equal(rows[: len(first)], first)


@dataclass(frozen=True)
class _Kept:
    """Embedded candidates (m, dimensions), told rows (n, columns), L^-1 C (n, m), its sum of squares (m,)."""

    theta: bytes
    points: Floats
    rows: Floats
    explained: NDArray[np.float32]
    """In single precision: hundreds of rows for 20,000 points and each member."""
    share: Floats

    def only(self, keep: NDArray[np.bool_]) -> _Kept:
        return _Kept(self.theta, self.points[keep], self.rows, self.explained[:, keep], self.share[keep])


@dataclass(frozen=True)
class Belief:
    """Members given labels at `rows` (n, columns): the mixture is taken for a normal of its mean and variance."""

    rows: Floats
    members: Sequence[tuple[Process, Posterior]]

    def at(self, design: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (m,) at the rows of a design."""
        return _mixed(
            [own.given(own.explained(process.correlations(self.rows, design))) for process, own in self.members]
        )

    def over(self, candidates: Candidates, output: int) -> tuple[Floats, Floats]:
        """Mean and standard deviation (m,) of candidates, which keep what was computed under this output's number."""
        given = []
        for i, (process, posterior) in enumerate(self.members):
            kept = candidates.explained((output, i), process, posterior, self.rows)
            given.append(posterior.given(kept.explained, kept.share))
        return _mixed(given)


def _mixed(given: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    means, stds = (np.stack(parts) for parts in zip(*given, strict=True))
    return means.mean(axis=0), np.sqrt((stds**2).mean(axis=0) + means.var(axis=0))
