"""A space of your own: a two-layer network on scikit-learn's wine data, whose width and activation are searched.

archfront search custom_space:Wine --objective error,params_m --trials 20 --epochs 20
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from archfront.spaces import (
    METRICS,
    Categorical,
    Classification,
    Configuration,
    Integer,
    ModelSpace,
    Real,
    SearchSpace,
    Signature,
    Split,
    Task,
    TensorSpec,
)

__all__ = ["Wine"]


class Wine(ModelSpace):
    """Thirteen numbers -> three cultivars. Elastic: the leading units."""

    search_space = SearchSpace(
        Integer("width", 2, 64, default=16, log=True, elastic=True),
        Categorical("activation", ("relu", "tanh")),
    )
    tasks = ("wine",)
    recipe = {"backprop": {"lr": Real("lr", 1e-3, 1e-1, default=1e-2, log=True), "batch_size": 32}}

    def build(self, config: Configuration) -> nn.Module:
        activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[config["activation"]]()
        return nn.Sequential(nn.Linear(13, config["width"]), activation, nn.Linear(config["width"], 3))

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        signature = Signature("classification", (TensorSpec((13,)),), outputs=3)
        return Classification(name, signature, (METRICS["error"], METRICS["nll"]), load_wine)


def load_wine() -> dict[str, Split]:
    """60/20/20, standardised."""
    from sklearn.datasets import load_wine as bundled

    x, y = (torch.as_tensor(part) for part in bundled(return_X_y=True))
    x = ((x - x.mean(0)) / x.std(0)).float()
    train, val, test = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).split([106, 36, 36])
    return {name: Split((x[i],), y[i]) for name, i in (("train", train), ("val", val), ("test", test))}
