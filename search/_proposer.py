"""Candidates from a guided diffusion, for any strategy that ranks candidates (DiffusionNAG)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from archfront.predictors._relaxation import Relaxation
from archfront.search._strategy import Strategy
from archfront.search._types import Configuration
from archfront.spaces._cache import cache_folder
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.predictors._predictor import Predictor
    from archfront.search._diffusion import Sampler
    from archfront.search._generator import Generator
    from archfront.search._guidance import Guidance
    from archfront.spaces._parameter import Floats

__all__ = ["GUIDED", "UNGUIDED", "Pool", "Proposer", "Sampling"]

logger = logging.getLogger(__name__)

VOICES = ("mean", "ucb", "its")
QUANTISERS = ("threshold", "argmax")
HAVE_GRADIENTS = "choose noise_aware, mlp or ridge"
SAMPLES = 64
"""Random configurations that give a metric's spread before anything is told."""
ROUNDS = 4
"""Batches of samples for one pool, each with a smaller guidance; the last one has none."""
GUIDED, UNGUIDED = "diffusion-guided", "diffusion"
"""Origins."""


@dataclass(frozen=True)
class Sampling:
    """How candidates are drawn: what strategies that use a proposer offer as their own parameters."""

    guide: str = "noise_aware"
    guidance: float = 20.0
    voice: str = "mean"
    sde: str = "ve"
    sigma_min: float = 0.1
    sigma_max: float = 5.0
    steps: int = 30
    sampler: str = "euler_maruyama"
    corrector: str = "langevin"
    snr: float = 0.16
    quantiser: str = "threshold"
    training_steps: int = 3_000

    def __post_init__(self) -> None:
        for what, value, known in (("voice", self.voice, VOICES), ("quantiser", self.quantiser, QUANTISERS)):
            if value not in known:
                raise UnknownNameError.of(f"{what} of a diffusion", value, known)
        if self.guidance < 0:
            raise UsageError(f"guidance={self.guidance} must not be below 0")


class Pool:
    """At most `size` configurations that the strategy has not seen, each with its origin."""

    def __init__(self, strategy: Strategy, size: int) -> None:
        self.strategy, self.size = strategy, size
        self.found: dict[str, tuple[Configuration, str]] = {}

    def add(self, configs: Sequence[Configuration], origin: str) -> None:
        """Take in what is new, as far as there is room."""
        for config, key in zip(configs, self.strategy.space.keys_of(configs), strict=True) if configs else ():
            if self.missing > 0 and not self.strategy.seen(key):
                self.found.setdefault(key, (config, origin))

    @property
    def missing(self) -> int:
        """How many more there is room for."""
        return self.size - len(self.found)


class Proposer:
    """Draws from the generator of the strategy's space, trained at its first use in the study's workshop.

    Raises UsageError, before anything runs, for a space that a generator cannot encode, naming the parameter, and for a
    guide that has no gradient.
    """

    def __init__(self, strategy: Strategy, sampling: Sampling, *, guided: bool = True) -> None:
        self.strategy, self.sampling, self.guided = strategy, sampling, guided
        self.relaxation = Relaxation.of(strategy.space, strategy.context)
        self._ready: Callable[[], Any] | None = None
        self._fitted: tuple[tuple[int, int], Predictor] | None = None
        self._generator()
        self._sampler()
        if guided:
            able = type(self._new_guide(0)).capabilities
            if not (able.noise_aware or able.differentiable):
                raise UsageError(f"guide={sampling.guide!r} has no gradient to follow", HAVE_GRADIENTS)

    def begin(self) -> None:
        """Have the generator trained, if need be, while other things happen."""
        if self._ready is None:
            from archfront.search._generator import prepare

            generator = self._generator()
            if not generator.is_trained:
                logger.warning(
                    "training a generator of %d decisions, %d steps: minutes, once; then it is kept in %s",
                    self.relaxation.shape[0],
                    self.sampling.training_steps,
                    cache_folder(),
                )
            self._ready = self.strategy.context.workshop.submit(prepare, generator)

    def fill(self, pool: Pool, number: int, guide: Predictor | None = None) -> None:
        """Rounds of samples with less and less guidance until nothing is missing. `guide` is fitted already; by default
        it is one of its own, fitted to everything told; `number` counts batches, for its seed. Draws from the
        strategy's generator."""
        from archfront.search._generator import Round, draw

        self.begin()
        assert self._ready is not None
        self._ready()
        rng, workshop = self.strategy.rng, self.strategy.context.workshop
        if self.guided and guide is None:
            guide = self.fitted_guide(number)
        for i in range(ROUNDS):
            if pool.missing <= 0:
                return
            share = 1 - i / (ROUNDS - 1) if guide is not None else 0.0
            seed, n = int(rng.integers(2**62)), max(pool.missing, pool.size // 4)
            own = None if guide is None or share == 0 else self._guidance(guide, n, share, seed)
            matrices = workshop.submit(draw, self._generator(), self._sampler(), Round(n, seed, own))()
            pool.add(self._decoded(matrices), UNGUIDED if own is None else GUIDED)

    def _decoded(self, matrices: Floats) -> list[Configuration]:
        rng = self.strategy.rng
        if self.sampling.quantiser == "argmax":
            return self.relaxation.repaired(matrices, rng)
        return [config for config in self.relaxation.decode(matrices, rng) if config is not None]

    def _generator(self) -> Generator:
        from archfront.predictors._sde import sde_of
        from archfront.search._generator import Generator
        from archfront.search._score_training import ScoreRecipe

        own = self.sampling
        process = sde_of(own.sde, sigma_min=own.sigma_min, sigma_max=own.sigma_max)
        return Generator(self.relaxation, process, ScoreRecipe(steps=own.training_steps))

    def _sampler(self) -> Sampler:
        from archfront.search._diffusion import Sampler

        own = self.sampling
        return Sampler(own.steps, own.sampler, own.corrector, own.snr)

    # -- guidance

    def _new_guide(self, number: int) -> Predictor:
        from archfront import predictors

        own, strategy = self.sampling, self.strategy
        make = predictors.load(own.guide)
        given: dict[str, Any] = {}
        if make.capabilities.noise_aware:  # it must know the noise that the generator makes
            given = {"sde": own.sde, "sigma_min": own.sigma_min, "sigma_max": own.sigma_max}
        return make(strategy.space, strategy.context, seed=strategy.seed + number, **given)

    @property
    def transfers(self) -> bool:
        """Whether the guide knows something before anything is told."""
        from archfront import predictors

        return self.guided and predictors.load(self.sampling.guide).minimum == 0

    def fitted_guide(self, number: int) -> Predictor | None:
        """The guide of a batch, fitted to what is told; None where it has too few points. A guide that transfers
        is fitted to what it knows of, even where nothing is told."""
        strategy = self.strategy
        names = list(dict.fromkeys([*(o.name for o in strategy.objectives), *(c.name for c in strategy.constraints)]))
        told = [e for e in strategy.told if e.finite(names)]
        if self._fitted is not None and self._fitted[0] == (number, len(told)):
            return self._fitted[1]
        guide = self._new_guide(number)
        names = [name for name in names if len(told) >= guide.minimum_of(name)]
        if not names:
            return None
        guide.fit([e.config for e in told], {n: [e.values[n].value for e in told] for n in names})
        self._fitted = (number, len(told)), guide
        return guide

    def _guidance(self, guide: Predictor, n: int, share: float, seed: int) -> Guidance:
        """For n samples: `share` of the scale, each sample with its own weights of the objectives."""
        import torch

        from archfront.search._guidance import Bound, Desire, Guidance, opinions_of

        strategy, draws = self.strategy, np.random.default_rng(seed)
        desires = [
            Desire(opinions_of(guide, o.name, self.relaxation), o.loss(1.0), self._spread(guide, o.name))
            for o in strategy.objectives
            if o.name in guide.metrics
        ]
        bounds = []
        for c in strategy.constraints:
            if c.name not in guide.metrics:
                continue  # a guide that transfers need not know it yet
            sign = 1.0 if c.operator == "<=" else -1.0
            opinions = opinions_of(guide, c.name, self.relaxation)
            bounds.append(Bound(opinions, sign, sign * c.bound, self._spread(guide, c.name)))
        weights = draws.dirichlet(np.ones(max(1, len(desires))), n)[:, : len(desires)]
        return Guidance(
            desires,
            bounds,
            torch.from_numpy(weights).float(),
            torch.from_numpy(draws.integers(2**31, size=n)),
            share * self.sampling.guidance,
            self.sampling.voice,
        )

    def _spread(self, guide: Predictor, name: str) -> float:
        """Standard deviation of what was told of a metric; before that, of what the guide says of random ones."""
        values = [e.values[name].value for e in self.strategy.told if e.finite([name])]
        if len(values) < 2:
            random = self.strategy.space.sample(guide.generator(), SAMPLES)
            values = list(guide.predict(random, [name])[name].mean)
        return float(np.std(values)) or 1.0
