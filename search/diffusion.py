"""DiffusionNAG (An et al., 2024): candidates are drawn from a score-based diffusion that a predictor guides.

The generator learns the space once, without a label; the guide learns what was told. Samples are rounded to legal
configurations, ranked by a second predictor, and the best are evaluated: Bayesian optimisation with another proposer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from archfront.predictors._relaxation import Relaxation
from archfront.search._acquisition import ACQUISITIONS, acquired
from archfront.search._guided import Guess, Guided
from archfront.search._strategy import Capabilities, Suggestion
from archfront.search._types import Configuration
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.predictors._predictor import Predictor
    from archfront.search._diffusion import Sampler
    from archfront.search._generator import Generator
    from archfront.search._guidance import Guidance
    from archfront.spaces._parameter import Floats

__all__ = ["Diffusion"]

CANDIDATES = ("diffusion", "unguided", "mutation", "random")
VOICES = ("mean", "ucb", "its")
QUANTISERS = ("threshold", "argmax")
ROUNDS = 4
"""Batches of samples for one pool, each with a smaller guidance; the last one has none."""


class Diffusion(Guided):
    """`initial` random proposals, then batches of `batch_size`: the best by `acquisition` of a `predictor`'s guesses
    among `pool` new candidates.

    - Candidates come from the generator, guided by `guide` (noise_aware, or any predictor that is differentiable) with
      scale `guidance` in units of a label's standard deviation; every objective's share is drawn anew for each sample,
      so that one batch covers the front. Where too few are valid and new, the guidance is lowered, then left out; then
      mutations of the best told and random ones fill up. `origin` says which it was.
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
        for what, value, known in (
            ("candidates", candidates, CANDIDATES),
            ("acquisition", acquisition, ACQUISITIONS),
            ("voice", voice, VOICES),
            ("quantiser", quantiser, QUANTISERS),
        ):
            if value not in known:
                raise UnknownNameError.of(f"{what} of diffusion", value, known)
        if pool < batch_size or guidance < 0:
            raise UsageError(f"pool={pool} must be at least batch_size={batch_size}, guidance={guidance} not below 0")
        self.guided_by(predictor, initial=initial, size=batch_size)
        self.initial, self.batch_size, self.pool, self.candidates = initial, batch_size, pool, candidates
        self.acquisition, self.guidance, self.voice, self.quantiser = acquisition, guidance, voice, quantiser
        self.guide = guide
        self.sde, self.sigma_min, self.sigma_max = sde, sigma_min, sigma_max
        self.steps, self.sampler, self.corrector, self.snr = steps, sampler, corrector, snr
        self.training_steps = training_steps
        self._relaxation = Relaxation.of(self.space, self.context)
        self._ready: Callable[[], Any] | None = None
        if candidates == "diffusion":
            self._refuse_no_gradient()
        if candidates in ("diffusion", "unguided"):
            self._refuse_process()

    # -- the protocol

    def propose(self, n: int) -> list[Suggestion]:
        if self._ready is None and self.candidates in ("diffusion", "unguided"):
            from archfront.search._generator import prepare

            self._ready = self.context.workshop.submit(prepare, self._generator())  # trains while the first ones run
        return super().propose(n)

    def batch(self, guess: Guess) -> list[Suggestion]:
        pool = self._pool()
        if not pool:
            return []
        configs = [config for config, _ in pool]
        best = acquired(self.acquisition, self, guess, configs, self.batch_size)
        return [guess.suggestion(*pool[i]) for i in best]

    # -- candidates

    def _pool(self) -> list[tuple[Configuration, str]]:
        """New configurations with their origin: at most `pool`."""
        found: dict[str, tuple[Configuration, str]] = {}

        def add(configs: Sequence[Configuration], origin: str) -> None:
            for config in self.unseen(configs):
                if len(found) < self.pool:
                    found.setdefault(self.space.keys_of([config])[0], (config, origin))

        if self.candidates in ("diffusion", "unguided"):
            self._generate(add, lambda: self.pool - len(found))
        if self.candidates != "random":
            for _ in range(ROUNDS):
                if len(found) < self.pool:
                    parents = self.parents(self.batch_size)
                    add(self.space.mutate_all(parents * (self.pool // len(parents) + 1), self.rng), "mutation")
        for _ in range(ROUNDS):
            if len(found) < self.pool:
                add(self.space.sample(self.rng, self.pool), "random")
        return list(found.values())

    def _generate(self, add: Callable[[Sequence[Configuration], str], None], missing: Callable[[], int]) -> None:
        """Rounds of samples with less and less guidance until nothing is missing."""
        from archfront.search._generator import Round, draw

        assert self._ready is not None
        self._ready()
        guided = self.candidates == "diffusion"
        guide = self._fitted_guide() if guided else None
        for i in range(ROUNDS):
            if missing() <= 0:
                return
            share = 1 - i / (ROUNDS - 1) if guided else 0.0
            seed, n = int(self.rng.integers(2**62)), max(missing(), self.pool // 4)
            own = None if guide is None or share == 0 else self._guidance(guide, n, share, seed)
            round_ = Round(n, seed, own)
            matrices = self.context.workshop.submit(draw, self._generator(), self._sampler(), round_)()
            add(self._decoded(matrices), "diffusion" if own is None else "diffusion-guided")

    def _decoded(self, matrices: Floats) -> list[Configuration]:
        if self.quantiser == "argmax":
            return self._relaxation.repaired(matrices, self.rng)
        return [config for config in self._relaxation.decode(matrices, self.rng) if config is not None]

    def _generator(self) -> Generator:
        from archfront.predictors._sde import sde_of
        from archfront.search._generator import Generator
        from archfront.search._score_training import ScoreRecipe

        process = sde_of(self.sde, sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        return Generator(self._relaxation, process, ScoreRecipe(steps=self.training_steps))

    def _sampler(self) -> Sampler:
        from archfront.search._diffusion import Sampler

        return Sampler(self.steps, self.sampler, self.corrector, self.snr)

    # -- guidance

    def _new_guide(self) -> Predictor:
        from archfront import predictors

        make = predictors.load(self.guide)
        given: dict[str, Any] = {}
        if make.capabilities.noise_aware:  # it must know the noise that the generator makes
            given = {"sde": self.sde, "sigma_min": self.sigma_min, "sigma_max": self.sigma_max}
        return make(self.space, self.context, seed=self.seed + self._batches, **given)

    def _refuse_no_gradient(self) -> None:
        able = type(self._new_guide()).capabilities
        if not (able.noise_aware or able.differentiable):
            raise UsageError(f"guide={self.guide!r} has no gradient to follow", "choose noise_aware, mlp or ridge")

    def _refuse_process(self) -> None:
        """A process or a sampler that does not exist is refused before anything runs."""
        self._generator()
        self._sampler()

    def _fitted_guide(self) -> Predictor | None:
        """The guide, fitted to what is told; None where it has too few points."""
        names = list(dict.fromkeys([*(o.name for o in self.objectives), *(c.name for c in self.constraints)]))
        told = [e for e in self.told if e.finite(names)]
        guide = self._new_guide()
        if len(told) < guide.minimum:
            return None
        guide.fit([e.config for e in told], {n: [e.values[n].value for e in told] for n in names})
        return guide

    def _guidance(self, guide: Predictor, n: int, share: float, seed: int) -> Guidance:
        """For n samples: `share` of the scale, each sample with its own weights of the objectives."""
        import torch

        from archfront.search._guidance import Bound, Desire, Guidance, opinions_of

        draws = np.random.default_rng(seed)
        desires = [
            Desire(opinions_of(guide, o.name, self._relaxation), o.loss(1.0), self._spread(o.name))
            for o in self.objectives
        ]
        bounds = []
        for c in self.constraints:
            sign = 1.0 if c.operator == "<=" else -1.0
            opinions = opinions_of(guide, c.name, self._relaxation)
            bounds.append(Bound(opinions, sign, sign * c.bound, self._spread(c.name)))
        weights = draws.dirichlet(np.ones(len(self.objectives)), n)
        return Guidance(
            desires,
            bounds,
            torch.from_numpy(weights).float(),
            torch.from_numpy(draws.integers(2**31, size=n)),
            share * self.guidance,
            self.voice,
        )

    def _spread(self, name: str) -> float:
        """Standard deviation of what was told of a metric."""
        values = [e.values[name].value for e in self.told if e.finite([name])]
        return float(np.std(values)) or 1.0
