"""Prior-data fitted networks (Müller et al., 2022; for Bayesian optimisation 2023): a set transformer that has seen so
many data sets of a prior that one forward pass is Bayesian inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Task
from archfront.spaces.inference._prior import Prior
from archfront.spaces.inference._prior_architectures import Architectures
from archfront.spaces.inference._prior_gp import FixedGp, HeboPlus, MixedGp
from archfront.spaces.inference._prior_networks import BayesianNetworks
from archfront.spaces.inference._prior_task import PriorTask
from archfront.spaces.inference._transformer import PfnNetwork, PfnShape

__all__ = ["Pfn"]

PRIORS: Mapping[str, tuple[Callable[[], Prior], int]] = {
    "rbf_gp": (FixedGp, 20),
    "rbf_gp_mixed": (MixedGp, 20),
    "hebo": (lambda: HeboPlus(warp=True), 60),
    "bnn": (BayesianNetworks, 60),
    "architectures": (lambda: Architectures(trees=0.25), 60),
}
"""The prior and the number of points of a data set (the paper's 60 for Bayesian optimisation)."""
WEIGHTED = "_weighted"


class Pfn(ModelSpace):
    """Data set x (points, features), y (points,), known (points,) -> a bar distribution for every point. Elastic: the
    first layers, the leading hidden units, buckets (neighbours merged).

    Tasks are priors: `rbf_gp`, `rbf_gp_mixed` (hyperparameters drawn), `hebo` (HEBO+ with warped inputs), `bnn`,
    `architectures`. How many points are known is
    uniform, or, in those with the suffix `_weighted`, weighted towards many. `bucket_share` is of the finest grid of
    400. The paper trains 1,200 steps of 64 data sets for its Gaussian processes, as the 12 epochs do.
    """

    search_space = SearchSpace(
        Ordinal("emsize", (32, 64, 128, 256, 512), default=64),
        Integer("layers", 2, 12, default=3, elastic=True),
        Categorical("heads", (4, 2, 8)),
        Ordinal("nhid_ratio", (1, 2, 4), default=2, elastic=True),
        Ordinal("bucket_share", (0.125, 0.25, 0.5, 1.0), default=0.25, elastic=True),
        Categorical("tails", ("full", "bounded")),
        Categorical("norm", ("post", "pre")),
        Categorical("attends_itself", (True, False)),
    )
    tasks = (*PRIORS, *(f"{name}{WEIGHTED}" for name in PRIORS))
    recipe = {
        "backprop": {
            "lr": Real("lr", 1e-5, 1e-2, default=1e-3, log=True, bins=24),
            "optimizer": "adam",
            "weight_decay": 0.0,
            "schedule": "cosine",
            "warmup_epochs": 3.0,
            "gradient_clip": 1.0,
            "batch_size": 64,
        },
        "supernet": {"lr": 1e-3, "batch_size": 64, "distillation": 0.0},
    }
    epochs = 12
    paper = "Müller et al.: Transformers Can Do Bayesian Inference, ICLR 2022"
    year = 2022

    def build(self, config: Configuration) -> nn.Module:
        buckets = self.signature.outputs - 2
        shape = PfnShape(
            features=self.signature.inputs[0].shape[-1],
            emsize=config["emsize"],
            layers=config["layers"],
            heads=config["heads"],
            nhid=config["nhid_ratio"] * config["emsize"],
            buckets=round(config["bucket_share"] * buckets),
            tails=config["tails"] == "full",
            pre_norm=config["norm"] == "pre",
            attends_itself=config["attends_itself"],
        )
        task = self.task()
        # a signature alone knows no prior: weights that are loaded bring their grid with them
        borders = task.borders if isinstance(task, PriorTask) else torch.linspace(-4, 4, buckets + 1)
        return PfnNetwork(shape, borders)

    def cover(self, fixed: Mapping[str, Any] | None = None) -> list[Configuration]:
        """The largest network with norms before the parts of a layer, which has one norm more; no choice makes another
        tensor."""
        space = self.search_space.fix(fixed or {})
        largest = {p.name: p.largest() for p in space}
        if space["norm"].problem("pre") is None:
            largest["norm"] = "pre"
        return [space.canonicalise(largest)]

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        make, points = PRIORS[name.removesuffix(WEIGHTED)]
        sampler = "weighted" if name.endswith(WEIGHTED) else "uniform"
        return PriorTask(name, make(), points=points, sampler=sampler, seed=seed)
