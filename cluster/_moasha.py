"""Multi-objective successive halving (MO-ASHA; Schmucker et al., 2021): stop what is not among the best of its rung.

The best are those of the first non-dominated fronts; inside the front that is cut, an epsilon-net spreads them.
"""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import NDArray

__all__ = ["Rungs", "epsilon_net_order", "milestones"]

Floats = NDArray[np.float64]


def milestones(first: int, last: int, factor: int) -> list[int]:
    """Epochs at which trials are compared: first, first * factor, ..., below `last`."""
    found = []
    epoch = max(1, first)
    while epoch < last:
        found.append(epoch)
        epoch *= factor
    return found


def epsilon_net_order(losses: Floats) -> list[int]:
    """Positions of the rows (n, m): the least first loss, then always the one farthest from all before it, with every
    loss scaled to 0..1 (section 3.2 of the paper). Ties: the earlier row."""
    span = np.ptp(losses, axis=0)
    scaled = (losses - losses.min(axis=0)) / np.where(span > 0, span, 1.0)
    order = [int(np.argmin(losses[:, 0]))]
    distance = np.full(len(losses), np.inf)
    while len(order) < len(losses):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        distance[order] = -1.0
        order.append(int(np.argmax(distance)))
    return order


class Rungs:
    """Which trials go on. `epochs` are the milestones, ascending; 1 / `factor` of those at a milestone go on."""

    def __init__(self, epochs: list[int], factor: int) -> None:
        self.factor = factor
        self._rungs: dict[int, dict[str, Floats]] = {epoch: {} for epoch in epochs}

    def goes_on(self, trial: str, epoch: int, losses: Floats) -> bool:
        """Whether a trial that reached `epoch` with these losses (m,), minimised, is among the best of the highest
        milestone that it has newly reached. Losses that are not finite are never among them."""
        reached = [e for e, told in self._rungs.items() if e <= epoch and trial not in told]
        if not reached:
            return True
        if not np.isfinite(losses).all():
            return False
        for milestone in reached:
            self._rungs[milestone][trial] = losses
        rung = self._rungs[max(reached)]
        return trial in self._best(rung)

    def _best(self, rung: dict[str, Floats]) -> list[str]:
        """The best 1 / factor of a rung, one at least."""
        names, losses = list(rung), np.stack(list(rung.values()))
        places = max(1, len(names) // self.factor)
        rank = moocore.pareto_rank(losses)
        best: list[str] = []
        for level in np.unique(rank):
            members = np.flatnonzero(rank == level)
            free = places - len(best)
            if free <= 0:
                break
            order = range(len(members)) if len(members) <= free else epsilon_net_order(losses[members])[:free]
            best += [names[members[i]] for i in order]
        return best
