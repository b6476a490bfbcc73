"""DiffusionNAG (An et al., 2024): candidates are drawn from a score-based diffusion that a predictor guides.

The generator learns the space once, without a label; the guide learns what was told. Samples are rounded to legal
configurations, ranked by a second predictor, and the best are evaluated: Bayesian optimisation with another proposer.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from archfront.predictors._errors import TooFewPointsError
from archfront.search._acquisition import ACQUISITIONS, acquired
from archfront.search._guided import Guess, Guided
from archfront.search._proposer import ROUNDS, Pool, Proposer, Sampling
from archfront.search._strategy import Capabilities, Suggestion
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.predictors._predictor import Predictor

__all__ = ["Diffusion"]

CANDIDATES = ("diffusion", "unguided", "mutation", "random")


class Diffusion(Guided):
    """`initial` random proposals, then batches of `batch_size`: the best by `acquisition` of a `predictor`'s guesses
    among `pool` new candidates.

    - Candidates come from the generator, guided by `guide` (noise_aware, or any predictor that is differentiable) with
      scale `guidance` in units of a label's standard deviation; every objective's share is drawn anew for each sample,
      so that one batch covers the front. Where too few are valid and new, the guidance is lowered, then left out; then
      mutations of the best told and random ones fill up. `origin` says which it was.
    - A `guide` that knows other data sets (dataset_aware) guides from the first batch on with `initial=0`, and ranks
      until the predictor has its points.
    - `candidates` unguided, mutation or random replace the generator for comparisons; everything else is the same.
    - `voice`: what of the guide's ensemble is followed (mean, ucb, its); `sde`, `sigma_min`, `sigma_max`, `steps`,
      `sampler` (euler_maruyama, reverse_diffusion, none), `corrector` (langevin, none), `snr` as in the paper;
      `quantiser` threshold refuses rows with another number of ones than they must have, argmax repairs them.
    - Real and integer parameters are drawn from their bins, anywhere in one.

    The generator of a space is trained at its first use (minutes, `training_steps`) and kept in the user's cache
    folder; that of nasbench201 comes with the package. The paper: 1,000 sampling steps, batches of 256, labels over a
    hundred standard deviations, scale 10,000 (100 in our units) lowered by 3 % each round.
    """

    capabilities = Capabilities(batch_preferred=10, determinism="exact", predicts=True)
    test_parameters = {
        "initial": 6,
        "batch_size": 4,
        "pool": 8,
        "steps": 4,
        "training_steps": 6,
        "predictor": "ridge",
        "guide": "ridge",
    }

    def __init__(
        self,
        *base: Any,
        predictor: str = "gaussian_process",
        guide: str = "noise_aware",
        initial: int = 20,
        batch_size: int = 10,
        pool: int = 100,
        candidates: str = "diffusion",
        acquisition: str = "ei",
        guidance: float = 20.0,
        voice: str = "mean",
        sde: str = "ve",
        sigma_min: float = 0.1,
        sigma_max: float = 5.0,
        steps: int = 30,
        sampler: str = "euler_maruyama",
        corrector: str = "langevin",
        snr: float = 0.16,
        quantiser: str = "threshold",
        training_steps: int = 3_000,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        for what, value, known in (("candidates", candidates, CANDIDATES), ("acquisition", acquisition, ACQUISITIONS)):
            if value not in known:
                raise UnknownNameError.of(f"{what} of diffusion", value, known)
        if pool < batch_size:
            raise UsageError(f"pool={pool} must be at least batch_size={batch_size}")
        self.guided_by(predictor, initial=initial, size=batch_size, least=0)
        self.initial, self.batch_size, self.pool = initial, batch_size, pool
        self.candidates, self.acquisition = candidates, acquisition
        self.guide, self.guidance, self.voice, self.quantiser = guide, guidance, voice, quantiser
        self.sde, self.sigma_min, self.sigma_max = sde, sigma_min, sigma_max
        self.steps, self.sampler, self.corrector, self.snr = steps, sampler, corrector, snr
        self.training_steps = training_steps
        self._proposer: Proposer | None = None
        if candidates in ("diffusion", "unguided"):
            sampling = Sampling(**{field.name: getattr(self, field.name) for field in fields(Sampling)})
            self._proposer = Proposer(self, sampling, guided=candidates == "diffusion")
        if initial < 1 and not (self._proposer is not None and self._proposer.transfers):
            raise UsageError(
                f"initial={initial}: guide={guide!r} knows nothing before something is told", "guide=dataset_aware"
            )

    def propose(self, n: int) -> list[Suggestion]:
        if self._proposer is not None:
            self._proposer.begin()  # it trains while the first ones run
        return super().propose(n)

    def _fitted(self) -> Predictor | None:
        """A guide that transfers also ranks, until the predictor has its points."""
        try:
            return super()._fitted()
        except TooFewPointsError:
            proposer = self._proposer
            guide = proposer.fitted_guide(self._batches) if proposer is not None and proposer.transfers else None
            names = [*(o.name for o in self.objectives), *(c.name for c in self.constraints)]
            if guide is None or not set(names) <= set(guide.metrics):
                raise
            return guide

    def batch(self, guess: Guess) -> list[Suggestion]:
        pool = list(self._pool().found.values())
        if not pool:
            return []
        configs = [config for config, _ in pool]
        acquisition = self.acquisition if self.told else "mean"  # nothing is there to improve on
        best = acquired(acquisition, self, guess, configs, self.batch_size)
        return [guess.suggestion(*pool[i]) for i in best]

    def _pool(self) -> Pool:
        """Generated candidates, then mutations of the best told, then random ones, as far as they are allowed."""
        pool = Pool(self, self.pool)
        if self._proposer is not None:
            self._proposer.fill(pool, self._batches)
        if self.candidates != "random" and self.told:
            parents = self.parents(self.batch_size)
            for _ in range(ROUNDS):
                if pool.missing > 0:
                    pool.add(self.space.mutate_all(parents * (self.pool // len(parents) + 1), self.rng), "mutation")
        for _ in range(ROUNDS):
            if pool.missing > 0:
                pool.add(self.space.sample(self.rng, self.pool), "random")
        return pool
