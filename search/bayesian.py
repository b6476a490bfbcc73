"""Bayesian optimisation: qLogNEHVI (Daulton et al., 2021; Ament et al., 2023) on Gaussian processes, mixed spaces."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from archfront.predictors._errors import TooFewPointsError
from archfront.search._population import beginners
from archfront.search._ranking import survivors
from archfront.search._strategy import Capabilities, Strategy, Suggestion
from archfront.search._surrogate import Surrogate
from archfront.search._types import Constraint
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from archfront.search._botorch_model import Model

__all__ = ["Bayesian"]

logger = logging.getLogger(__name__)

OWN = "botorch"
"""The processes of this strategy."""
BATCH = 64
"""Most proposals of one model; a larger ask takes several."""


class Bayesian(Strategy):
    """Random configurations, then the largest expected hypervolume improvement (one objective: improvement).

    `initial` random proposals come first (default: twice the parameters within 5..20). Every objective, and every
    constrained metric, has a Gaussian process; hyperparameters are fitted anew from the same start whenever something
    was told, so nothing needs to be kept for a resume. Batches are chosen one after another, with proposals that are
    pending or chosen in this batch sampled from the processes. `points` bounds the data of a fit (which costs their
    third power): beyond it, the better half are the best by rank and crowding, the others a random sample. `samples`
    is the number of posterior samples (default 64, 32, 16 for one, two, three objectives, else 8: the boxes of each
    sample cost 0.02 s at three, 0.07 s at four objectives), `restarts` that of local searches.

    - Mixed and conditional spaces: distances are those of `Embedding` (Hamming for categoricals, inactive parameters
      equal to each other and equally far from every active value); reals climb by gradient, everything else steps to
      neighbours and mutants in the space itself, so that every proposal is legal and nothing is rounded. Spaces of at
      most 1,000 configurations are scored whole.
    - Reference point, minimised: halfway between the worst of the feasible front and of all feasible evaluations.
    - Losses further above the median than five times the median's distance to the best are pulled in to there, so
      that one diverged training does not flatten the rest.
    - `predictor`: another surrogate than these processes, any predictor that says how sure it is: "pfn" needs no fit.
      Then every configuration of a small space, or a pool of a large one that is varied round by round, is scored by
      expected (hypervolume) improvement; pending proposals are taken to give what is predicted.
    - A constrained metric that is missing counts as violated. A numerical failure is logged, and proposes at random.
    """

    capabilities = Capabilities(determinism="order", predicts=True)
    test_parameters = {"initial": 12, "samples": 4, "restarts": 1}

    def __init__(
        self,
        *base: Any,
        predictor: str = OWN,
        initial: int | None = None,
        points: int = 500,
        samples: int | None = None,
        restarts: int = 4,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        self.initial = min(max(2 * len(self.space.varied), 5), 20) if initial is None else initial
        self.samples = {1: 64, 2: 32, 3: 16}.get(len(self.objectives), 8) if samples is None else samples
        self.points, self.restarts = points, restarts
        for name, least in (("initial", 1), ("points", 2), ("samples", 1), ("restarts", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)} must be at least {least}")
        self.predictor = predictor
        self._surrogate = None if predictor == OWN else Surrogate(self, predictor)
        self._model: Model | None = None
        """Of everything told: made again after a tell."""

    def learn(self, evaluations: Sequence[Any]) -> None:
        self._model = None

    def propose(self, n: int) -> Sequence[Suggestion]:
        if self.asked < self.initial or len(self.told) < 2:
            return beginners(self, self.initial, n)
        if self._surrogate is not None:
            return self._by_predictor(self._surrogate, n)
        try:
            with _alone():
                return self._acquired(min(n, BATCH))
        except (RuntimeError, np.linalg.LinAlgError) as error:  # what torch and numpy raise for a bad covariance
            logger.warning("no model of %d evaluations (%s): proposing at random", len(self.told), error)
        return [Suggestion(config, "random") for config in self.space.sample(self.rng, n)]

    def _by_predictor(self, surrogate: Surrogate, n: int) -> list[Suggestion]:
        try:
            found = surrogate.propose(min(n, BATCH))
        except TooFewPointsError:
            found = []
        return found or [Suggestion(config, "random") for config in self.space.sample(self.rng, n)]

    def _acquired(self, n: int) -> list[Suggestion]:
        """The n maximisers in turn, and whatever is missing to n at random where the search found nothing unseen."""
        from archfront.search._botorch_climb import Climber
        from archfront.search._botorch_model import Model

        if self._model is None:
            self._model = Model(self.space, *self._data())
        model = self._model
        climber = Climber(model.embedding, self.rng, self.seen, self.restarts)
        pending = self.space.encode([p.config for p in self.pending]) if self.pending else None
        acquisition = model.acquisition(self.samples, n, pending, seed=int(self.rng.integers(2**31)))
        suggestions: list[Suggestion] = []
        taken: set[str] = set()
        for _ in range(n):
            config = climber.best(acquisition.value, model.parents, taken)
            if config is None:
                break
            taken.add(self.space.keys_of([config])[0])
            mean, std = acquisition.add(self.space.encode([config]))
            predicted = {
                o.name: (o.loss(float(loss)), float(spread))
                for o, loss, spread in zip(self.objectives, mean, std, strict=False)
            }
            suggestions.append(Suggestion(config, "acquisition", predicted=predicted))
        return suggestions or [Suggestion(config, "random") for config in self.space.sample(self.rng, n)]

    def _data(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Codes, losses, violations, constrained values and their upper limits, of at most `points` told evaluations.

        By key: the order of told evaluations must not matter, and the order of hashes is a random one.
        """
        positions = sorted(range(len(self.told)), key=lambda i: self.told[i].key)
        if len(positions) > self.points:
            keys = [e.key for e in self.told]
            best = set(survivors(self.losses, self.violations, keys, self.points // 2))
            others = [i for i in positions if i not in best][: self.points - len(best)]
            kept = best.union(others)
            positions = [i for i in positions if i in kept]
        losses, violations = self.rows_of(positions)
        codes = self.space.encode([self.told[i].config for i in positions])
        columns = [self._bounded(constraint, positions) for constraint in self.constraints]
        bounded = np.array(columns, np.float64).reshape(len(columns), len(positions)).T
        limits = np.array([_sign(c) * c.bound for c in self.constraints], np.float64)
        return codes, np.array(losses, np.float64), np.array(violations, np.float64), bounded, limits

    def _bounded(self, constraint: Constraint, positions: Sequence[int]) -> Floats:
        """The constrained metric, as something that must not exceed its limit; missing ones as bad as any."""
        found = [self.told[i].values.get(constraint.name) for i in positions]
        column = np.array([math.nan if v is None else _sign(constraint) * v.value for v in found], np.float64)
        known = np.isfinite(column)
        beyond = _sign(constraint) * constraint.bound + (abs(constraint.bound) or 1.0)
        column[~known] = max([beyond, *column[known]])
        return column


def _sign(constraint: Constraint) -> float:
    return 1.0 if constraint.operator == "<=" else -1.0


@contextmanager
def _alone() -> Iterator[None]:
    """Without BoTorch's warnings (of torch.jit on import), and with one BLAS thread: on matrices this small a second
    one only waits, and on a busy machine made a fit thirty times slower. Both are as before afterwards."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore")
        yield
