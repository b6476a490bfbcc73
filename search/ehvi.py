"""Expected hypervolume improvement over a pool of candidates, with Gaussian processes for each objective.

For spaces of choices, where gradients of an acquisition function mean nothing: every configuration of a small space, or
a fresh pool of a large one, is scored. Losses are warped to look normal for the processes and compared as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._ensemble import Belief, Candidates, Ensemble
from archfront.predictors._process import Coordinates
from archfront.search._improvement import (
    expected_improvement,
    hypervolume_improvement,
    scalarised_improvement,
    sorted_front,
)
from archfront.search._ranking import constrained_rank
from archfront.search._strategy import Capabilities, Strategy, Suggestion
from archfront.search._types import Configuration
from archfront.search._warp import Warp
from archfront.spaces._errors import UsageError

__all__ = ["Ehvi"]

Floats = NDArray[np.float64]
ENUMERATED = 20_000
"""Spaces up to this size are scored whole."""
POOL = 1_500
"""Random candidates for a larger space, beside as many variations of the front's members."""
SHORTLIST = 400
"""Candidates whose improvement is computed on real losses, after the warped ones have ranked all."""
NODES = 5
"""Of the Gauss-Hermite rule, per objective."""
REFERENCE_QUANTILE = 0.9
"""Of the initial losses: beyond it nothing counts. Losses told later crowd at the front and would cut off its ends."""
MEMBERS = 3
"""Gaussian processes per objective."""
STALE = 10
"""So many seen members are taken out of a pool that is kept; fewer are passed over."""
TIE = 1e-4
"""Relative difference of scores that counts as none, so that rounding does not choose: the first one is taken."""
STEPS = (40, 15)
"""L-BFGS iterations of the first fit and of later ones, which start from the last. Whenever the told have doubled there
is a first one again, and the more probable hyperparameters stay: what 20 labels suggest may be a corner that no later
fit leaves (seen on NAS-Bench-201: one seed in a hundred stopped at .89 of the hypervolume, and gets .996 so)."""
DATA = 500
"""At most so many told evaluations are modelled: the best half and the newest half."""


class Ehvi(Strategy):
    """Every candidate's expected improvement of the front; the best one is proposed.

    `initial` random proposals come first; hyperparameters are fitted again after every `refit` told evaluations. One
    and two objectives are exact; more are scalarised with random weights (ParEGO; Knowles, 2006). Pending proposals are
    taken to give what is predicted. The feasibility of constraints is predicted by further processes.
    """

    capabilities = Capabilities(determinism="exact", predicts=True)
    test_parameters = {"initial": 5}

    def __init__(self, *base: Any, initial: int = 20, refit: int = 5, **rest: Any) -> None:
        super().__init__(*base, **rest)
        for name, value in (("initial", initial), ("refit", refit)):
            if value < 1:
                raise UsageError(f"{name}={value} must be at least 1")
        self.initial, self.refit = initial, refit
        self._coordinates = Coordinates(self.space, self.context.idle)
        outputs = len(self.objectives) + len(self.constraints)
        self._processes = [Ensemble(self._coordinates, MEMBERS) for _ in range(outputs)]
        self._fitted = 0
        self._pool: _Pool | None = None

    # -- the protocol

    def propose(self, n: int) -> list[Suggestion]:
        if len(self.told) < min(self.initial, 2) or self.asked < self.initial:
            missing = max(self.initial - self.asked, 1)
            return [Suggestion(config, "random") for config in self.space.sample(self.rng, min(n, missing))]
        model = _Model(self)
        waiting = [proposal.config for proposal in self.pending]
        chosen: list[Suggestion] = []
        for _ in range(n):
            suggestion = self._next(model, [*waiting, *(s.config for s in chosen)])
            if suggestion is None:
                break
            chosen.append(suggestion)
        return chosen or [Suggestion(config, "random") for config in self.space.sample(self.rng, 1)]

    def state(self) -> dict[str, Any]:
        return {"theta": [process.theta.tolist() for process in self._processes], "fitted": self._fitted}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        thetas = [np.array(theta) for theta in state["theta"]]
        if any(own.shape != e.theta.shape for own, e in zip(thetas, self._processes, strict=True)):
            return  # a study of an earlier version, with other processes: the next proposal fits these
        self._fitted = int(state["fitted"])
        for ensemble, theta in zip(self._processes, thetas, strict=True):
            ensemble.theta = theta

    # -- one proposal

    def _next(self, model: _Model, waiting: Sequence[Configuration]) -> Suggestion | None:
        taken = {self.space.keys_of([config])[0] for config in waiting}
        pool = self._candidates(model, taken)
        if not len(pool.configs):
            return None
        beliefs = model.believing(waiting)
        guesses = [belief.over(pool.candidates, i) for i, belief in enumerate(beliefs)]
        mean = np.stack([m for m, _ in guesses], axis=1)
        std = np.stack([s for _, s in guesses], axis=1)
        scores = np.where(pool.fresh(self, taken), self._scores(model, mean, std), -1.0)
        best = int(np.argmax(scores >= scores.max() * (1 - TIE)))
        predicted = {}
        for j, objective in enumerate(self.objectives):
            low, middle, high = model.warps[j].back(mean[best, j] + std[best, j] * np.array([-1.0, 0.0, 1.0]))
            predicted[objective.name] = (objective.loss(float(middle)), float(high - low) / 2)
        return Suggestion(pool.configs[best], "improvement", predicted=predicted)

    def _scores(self, model: _Model, mean: Floats, std: Floats) -> Floats:
        """Expected improvement times the probability of feasibility (n,)."""
        m = len(self.objectives)
        feasible = model.feasibility(mean[:, m:], std[:, m:])
        if not model.feasible.any():
            return feasible
        mean, std = mean[:, :m], std[:, :m]
        if m > 2:
            weights = self.rng.dirichlet(np.ones(m))
            draws = self.rng.standard_normal((64, m))
            return feasible * scalarised_improvement(mean, std, model.warped[model.feasible], weights, draws)
        front = sorted_front(model.warped[model.feasible], model.reference_warped) if m == 2 else model.best()
        scores = feasible * expected_improvement(mean, std, front, model.reference_warped)
        if m == 1:
            return scores
        shortlist = np.argsort(-scores, kind="stable")[:SHORTLIST]
        exact = np.full(len(scores), -1.0)
        exact[shortlist] = feasible[shortlist] * model.real_improvement(mean[shortlist], std[shortlist])
        return exact if exact.max() > 0 else scores

    # -- candidates

    def _candidates(self, model: _Model, taken: set[str]) -> _Pool:
        if self.space.size <= ENUMERATED:
            if self._pool is None:
                self._pool = _Pool.of(self, self.space.enumerate(), set())
            fresh = self._pool.fresh(self, taken)
            if len(fresh) - fresh.sum() >= STALE or not fresh.any():  # leaving them out copies what is kept
                self._pool = self._pool.only(fresh)
            return self._pool
        members = model.front * (POOL // max(1, len(model.front)) + 1)
        varied = self.space.mutate_all(members[:POOL], self.rng)
        return _Pool.of(self, [*self.space.sample(self.rng, POOL), *varied], taken)


class _Pool:
    """Candidates with their configurations and keys."""

    def __init__(self, configs: list[Configuration], keys: list[str], candidates: Candidates) -> None:
        self.configs, self.keys, self.candidates = configs, keys, candidates

    @classmethod
    def of(cls, strategy: Ehvi, configs: Sequence[Configuration], taken: set[str]) -> _Pool:
        """The unseen ones of these configurations, each once."""
        named = dict(zip(strategy.space.keys_of(configs), configs, strict=True)) if configs else {}
        fresh = {key: config for key, config in named.items() if not strategy.seen(key) and key not in taken}
        chosen = list(fresh.values())
        return cls(chosen, list(fresh), Candidates(strategy._coordinates(chosen) if chosen else np.empty((0, 1))))

    def fresh(self, strategy: Ehvi, taken: set[str]) -> NDArray[np.bool_]:
        """Which are unseen and not taken."""
        return np.array([key not in taken and not strategy.seen(key) for key in self.keys], bool)

    def only(self, keep: NDArray[np.bool_]) -> _Pool:
        """Those of a mask."""
        configs = [config for config, kept in zip(self.configs, keep, strict=True) if kept]
        keys = [key for key, kept in zip(self.keys, keep, strict=True) if kept]
        return _Pool(configs, keys, self.candidates.only(keep))


class _Model:
    """What is modelled for one ask: told rows, warped, and a process for each objective and constraint."""

    def __init__(self, strategy: Ehvi) -> None:
        self.strategy = strategy
        self.rows = _modelled(strategy)
        told = [strategy.told[i] for i in self.rows]
        self.losses = strategy.losses[self.rows]
        self.feasible = strategy.violations[self.rows] <= 0
        columns = [*self.losses.T, *(_signed(told, c.name, c.operator) for c in strategy.constraints)]
        self.warps = [Warp.of(column) for column in columns]
        self.labels = [warp(column) for warp, column in zip(self.warps, columns, strict=True)]
        self.warped = np.stack(self.labels[: len(strategy.objectives)], axis=1)
        self.design = strategy._coordinates([e.config for e in told])
        self._reference()
        if strategy._fitted == 0 or len(strategy.told) - strategy._fitted >= strategy.refit:
            steps = STEPS[strategy._fitted > 0]
            afresh = STEPS[0] if _doubled(strategy._fitted, len(strategy.told), strategy.initial) else 0
            for process, labels in zip(strategy._processes, self.labels, strict=True):
                process.tune(self.design, labels, steps=steps, afresh=afresh)
            strategy._fitted = len(strategy.told)
        first = constrained_rank(self.losses, strategy.violations[self.rows]) == 0
        inside = first & (self.losses <= self.reference).all(axis=1)
        self.front = [told[i].config for i in np.flatnonzero(inside if inside.any() else first)]

    def _reference(self) -> None:
        """Beyond this nothing counts: a quantile of what was told first, but never the best value itself."""
        strategy = self.strategy
        beginning = strategy.losses[: strategy.initial]
        reference = np.quantile(beginning, REFERENCE_QUANTILE, axis=0)
        best = strategy.losses.min(axis=0)
        self.reference = np.maximum(reference, best + 1e-9 * np.maximum(1, abs(best)))
        m = len(strategy.objectives)
        self.reference_warped = np.array([self.warps[j](self.reference[j : j + 1])[0] for j in range(m)])

    def best(self) -> Floats:
        """The least feasible warped loss of a single objective, (1, 1)."""
        return np.asarray(self.warped[self.feasible].min(axis=0, keepdims=True))

    def believing(self, waiting: Sequence[Configuration]) -> list[Belief]:
        """Beliefs in which pending proposals gave what was predicted: only the uncertainty near them shrinks."""
        strategy = self.strategy
        pairs = list(zip(strategy._processes, self.labels, strict=True))
        beliefs = [process.conditioned(self.design, labels) for process, labels in pairs]
        if not waiting:
            return beliefs
        more = strategy._coordinates(waiting)
        rows = np.concatenate([self.design, more])
        return [
            process.conditioned(rows, np.concatenate([labels, belief.at(more)[0]]))
            for (process, labels), belief in zip(pairs, beliefs, strict=True)
        ]

    def feasibility(self, mean: Floats, std: Floats) -> Floats:
        """Probability (n,) that every constraint holds, from guesses (n, constraints)."""
        from scipy.special import ndtr

        probability = np.ones(len(mean))
        warps = self.warps[len(self.strategy.objectives) :]
        for j, (constraint, warp) in enumerate(zip(self.strategy.constraints, warps, strict=True)):
            bound = constraint.bound if constraint.operator == "<=" else -constraint.bound
            probability *= ndtr((_within(warp, bound) - mean[:, j]) / std[:, j])
        return probability

    def real_improvement(self, mean: Floats, std: Floats) -> Floats:
        """Expected hypervolume improvement on losses as they are, of independent warped normals (n, 2)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        weights = weights / weights.sum()
        front = sorted_front(self.losses[self.feasible], self.reference)
        ones, others = ([self.warps[j].back(mean[:, j] + std[:, j] * node) for node in nodes] for j in (0, 1))
        total = np.zeros(len(mean))
        for one, by_one in zip(ones, weights, strict=True):
            for other, by_other in zip(others, weights, strict=True):
                points = np.stack([one, other], axis=1)
                total += by_one * by_other * hypervolume_improvement(front, points, self.reference)
        return total


def _doubled(before: int, now: int, first: int) -> bool:
    """Whether one of 2, 4, 8, ... times `first` lies above `before` and not above `now`."""
    return before > 0 and (now // first).bit_length() > max(1, (before // first).bit_length())


def _modelled(strategy: Ehvi) -> NDArray[np.int64]:
    """Positions of the told evaluations that are modelled, ascending."""
    n = len(strategy.told)
    if n <= DATA:
        return np.arange(n)
    rank = constrained_rank(strategy.losses, strategy.violations)
    best = np.argsort(rank, kind="stable")[: DATA // 2]
    return np.unique(np.concatenate([best, np.arange(n - DATA // 2, n)]))


def _signed(told: Sequence[Any], name: str, operator: str) -> Floats:
    """Values of a constrained metric as something that has to be small; the worst where a value is missing."""
    values = np.array([e.values[name].value if name in e.values else np.nan for e in told], np.float64)
    values = values if operator == "<=" else -values
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, values[known].max() if known.any() else 0.0))


def _within(warp: Warp, bound: float) -> float:
    """The warped bound; beyond all that a warp of one sign reaches, infinitely far."""
    if warp.sign and warp.sign * bound <= 0:
        return -np.inf if warp.sign > 0 else np.inf
    return float(warp(np.array([bound]))[0])
