"""LINAS, first called ConcurrentNAS (Sarah et al., 2022; Cummings et al., 2022): predictors in an evolutionary loop.

Each iteration fits a predictor per objective to everything that was evaluated, lets NSGA-II explore the predicted
landscape for thousands of evaluations, and evaluates the best of its final population.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archfront.search._guided import Floats, Guess, Guided
from archfront.search._population import default_population
from archfront.search._proposer import Pool, Proposer, Sampling
from archfront.search._ranking import constrained_rank, crowding_distance, survivors
from archfront.search._strategy import Capabilities, Suggestion
from archfront.search._types import Configuration
from archfront.spaces._errors import UnknownNameError, UsageError

__all__ = ["Linas"]

TACTICS = ("concurrent", "full", "random")
INNER = ("nsga2", "diffusion")
DRAWN = 4
"""Candidates that a diffusion draws for each member of a batch."""
INNER_EVALUATIONS = 5_000
INNER_POPULATION = 50
"""At least, where the evaluations make ten generations of it: a few members can't hold a front."""
CROSSOVER = 0.9
FULL_SHARE = 0.5
"""Share of the trials that tactic "full" spends on its sample (the paper: 1,000 to 4,000 of a cheap supernet)."""


class Linas(Guided):
    """Tactics of the paper: "concurrent" (algorithm 1), "full" (one random sample, one fit, one inner search, then its
    front is validated), "random" (no predictor: its baseline).

    `population` is c of algorithm 1 (default: 50, or a fifth of the trials); the inner NSGA-II makes
    `inner_evaluations` on the predictors. It varies by the space's own operators: uniform crossover with probability
    0.9, a mutation of 1 / active parameters (the released package rounds SBX and polynomial mutation, which presume an
    order of options). `validation_only` names objectives, separated by "+", that the study's context computes exactly.
    `inner` diffusion draws candidates from the space's generator (DiffusionNAG) instead of the inner NSGA-II, guided by
    the iteration's own predictor where that has a gradient.
    `predictor`: the paper's is best_of_both (ridge or support vectors); a Gaussian process finds more on tables at the
    same budget, more surely (docs/results/search_nasbench201.md).
    A warm start is a set of configurations to begin with (`--start`) or foreign evaluations told. What was evaluated
    is never evaluated again: the batch is filled from the next inner fronts, then at random.
    """

    capabilities = Capabilities(batch_preferred=50, determinism="exact", predicts=True)
    test_parameters = {"population": 4, "inner_evaluations": 40, "predictor": "ridge"}

    def __init__(
        self,
        *base: Any,
        population: int | None = None,
        tactic: str = "concurrent",
        predictor: str = "gaussian_process",
        inner: str = INNER[0],
        inner_evaluations: int = INNER_EVALUATIONS,
        validation_only: str = "",
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        trials = self.budget.trials
        if population is None:
            population = default_population(trials, 50)
        if tactic not in TACTICS:
            raise UnknownNameError.of("tactic of linas", tactic, TACTICS)
        if inner not in INNER:
            raise UnknownNameError.of("inner search of linas", inner, INNER)
        initial = population
        if tactic == "full" and trials is not None:
            initial = max(population, int(FULL_SHARE * trials))
        size = max(1, trials - initial) if tactic == "full" and trials is not None else population
        self.validation_only = validation_only
        self.guided_by(predictor, initial=initial, size=size)
        if population < 2 or inner_evaluations < population:
            raise UsageError(
                f"population={population} must be at least 2 and inner_evaluations={inner_evaluations} no fewer"
            )
        self.population, self.tactic, self.inner_evaluations = population, tactic, inner_evaluations
        self.inner = inner
        self._proposer = self._of_diffusion() if inner == "diffusion" else None
        known = [o.name for o in self.objectives]
        for name in self.exact:
            if name not in known:
                raise UnknownNameError.of("objective", name, known)
            if self.context.model_space is not None and self.context.exact(name, [self.space.default]) is None:
                raise UsageError(f"validation_only={name!r} has to be measured", "leave it to the predictor")

    @property
    def exact(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.validation_only.split("+") if name.strip())

    def batch(self, guess: Guess) -> list[Suggestion]:
        if self.tactic == "random":
            return [Suggestion(config, "random") for config in self.space.sample(self.rng, self._size)]
        if self._proposer is not None:
            return self._drawn(self._proposer, guess)
        visited, losses, violations = self._inner(guess)
        fresh = self.unseen(visited)
        position = {key: i for i, key in enumerate(self.space.keys_of(visited))}
        rows = [position[key] for key in self.space.keys_of(fresh)] if fresh else []
        best = self.ranked(fresh, losses[rows], violations[rows], self._size) if fresh else []
        return [guess.suggestion(fresh[i], "inner-evolution") for i in best]

    def _of_diffusion(self) -> Proposer:
        """Guided by the iteration's own predictor where that has a gradient, else by a noise-aware one."""
        able = self._new_predictor().capabilities
        own = able.differentiable or able.noise_aware
        return Proposer(self, Sampling(guide=self.predictor) if own else Sampling())

    def _drawn(self, proposer: Proposer, guess: Guess) -> list[Suggestion]:
        """The best of what a diffusion draws, by the predictors."""
        pool = Pool(self, DRAWN * self._size)
        own = guess.predictor is not None and proposer.sampling.guide == self.predictor
        proposer.fill(pool, self._batches, guess.predictor if own else None)
        found = list(pool.found.values())
        if not found:
            return []
        losses, _, violations = guess.of([config for config, _ in found])
        best = self.ranked([config for config, _ in found], losses, violations, self._size)
        return [guess.suggestion(*found[i]) for i in best]

    def _inner(self, guess: Guess) -> tuple[list[Configuration], Floats, Floats]:
        """NSGA-II on the predictors: the final population and the best it met besides, with losses and violations."""
        size = max(self.population, min(INNER_POPULATION, self.inner_evaluations // 10))
        population = self.space.sample(self.rng, size)
        losses, _, violations = guess.of(population)
        keep = 3 * max(size, self._size)  # spare ones: most of the best may be known already
        for _ in range(self.inner_evaluations // size - 1):
            living = survivors(losses, violations, self.space.keys_of(population), size)
            children = self._children([population[i] for i in living], losses[living], violations[living])
            known = set(self.space.keys_of(population))
            named = dict(zip(self.space.keys_of(children), children, strict=True))
            children = [child for key, child in named.items() if key not in known]
            if not children:
                continue
            more, _, worse = guess.of(children)
            population = [*population, *children]
            losses, violations = np.concatenate([losses, more]), np.concatenate([violations, worse])
            if len(population) > 2 * keep:
                kept = survivors(losses, violations, self.space.keys_of(population), keep)
                population, losses, violations = [population[i] for i in kept], losses[kept], violations[kept]
        return population, losses, violations

    def _children(self, parents: list[Configuration], losses: Floats, violations: Floats) -> list[Configuration]:
        """As many as there are parents: binary tournaments on (rank, crowding), crossover, mutation."""
        n = len(parents)
        rank = constrained_rank(losses, violations)
        crowding = np.zeros(n)
        for r in np.unique(rank):
            crowding[rank == r] = crowding_distance(losses[rank == r])
        place = np.empty(n, np.int64)
        place[np.lexsort((-crowding, rank))] = np.arange(n)
        pairs = self.rng.integers(n, size=(2, n, 2))
        winners = np.where(place[pairs[..., 0]] <= place[pairs[..., 1]], pairs[..., 0], pairs[..., 1])
        ones, others = ([parents[i] for i in winners[side]] for side in (0, 1))
        crossed = self.space.crossover_all(ones, others, self.rng)
        children = [c if self.rng.random() < CROSSOVER else one for c, one in zip(crossed, ones, strict=True)]
        return self.space.mutate_all(children, self.rng)
