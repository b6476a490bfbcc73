"""Trained generators: one for each kind of space, made once, shared between studies."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from archfront.predictors._relaxation import Relaxation
from archfront.predictors._sde import Sde
from archfront.predictors._workshop import Kept
from archfront.search._diffusion import Guide, Sampler, sampled
from archfront.search._score_network import ScoreNetwork
from archfront.search._score_training import ScoreRecipe, new_network, train_score_network
from archfront.spaces._cache import cached_tensors, is_cached, read_tensors
from archfront.spaces._parameter import Floats

__all__ = ["SHIPPED", "Generator", "Round", "draw", "prepare"]

SHIPPED = Path(__file__).parent / "checkpoints"
"""Generators that come with the package, by identity."""


@dataclass(frozen=True)
class Generator:
    """What a trained network is a function of: it travels to wherever samples are drawn."""

    relaxation: Relaxation
    sde: Sde
    recipe: ScoreRecipe

    @functools.cached_property
    def id(self) -> str:
        """Content hash of the space's matrices, the process and the recipe."""
        content = [self.relaxation.id, type(self.sde).__name__, asdict(self.sde), asdict(self.recipe)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def is_trained(self) -> bool:
        """Whether its network is here already, shipped or in the user's cache; what is damaged there is said here, not
        in the process that makes it again."""
        return self._shipped.exists() or is_cached(self._cached, self.id)

    @property
    def _shipped(self) -> Path:
        return SHIPPED / f"{self.id[:16]}.pt"

    @property
    def _cached(self) -> str:
        return f"generators/{self.id}.pt"

    def network(self) -> ScoreNetwork:
        """The trained network: shipped, from the user's cache, or trained now and kept there."""
        with torch.random.fork_rng(devices=[]):
            net = new_network(self.relaxation, self.sde, self.recipe.shape)
        if self._shipped.exists():
            tensors = read_tensors(self._shipped, self.id)
        else:
            tensors = cached_tensors(self._cached, self.id, self.trained)
        net.load_state_dict(tensors)
        return net.eval().requires_grad_(False)

    def trained(self, watch: Callable[[int, float], None] | None = None) -> dict[str, torch.Tensor]:
        """The tensors of a network trained now."""
        return train_score_network(self.relaxation, self.sde, self.recipe, watch=watch or _silent).state_dict()


def _silent(step: int, loss: float) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Round:
    """One batch of samples: how many, with which guide, from which seed."""

    n: int
    seed: int
    guide: Guide | None = None


def prepare(kept: Kept, generator: Generator) -> None:
    """Have the generator's network at hand, trained if need be: work for a study's workshop."""
    if generator.id not in kept:
        kept[generator.id] = generator.network()


def draw(kept: Kept, generator: Generator, sampler: Sampler, round_: Round) -> Floats:
    """Matrices (n, rows, columns) of a round, on one thread: work for a study's workshop."""
    prepare(kept, generator)
    generated = torch.Generator().manual_seed(round_.seed)
    return sampled(kept[generator.id], generator.relaxation, round_.n, sampler, generated, round_.guide)
