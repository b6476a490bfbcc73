"""Magnitude-invariant hypernetworks (Gonzalez Ortiz et al., 2024): one network that is, for each gamma, the network of
that gamma."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._condition import Equals, IndexBelow
from archfront.spaces._mip import ACTIVATIONS, ENCODINGS, HEADS, INITS, NORMS, MipShape
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Repeated
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import SplitName, Task
from archfront.spaces.inference._mip_network import PREDICTED, GeneratedNetwork, main_network
from archfront.spaces.inference._mip_tasks import DISTRIBUTIONS, FAMILIES, MOST_DROPOUT, DigitsFamily, family_task
from archfront.spaces.vision._choice import cover_one_at_a_time

__all__ = ["MipHypernet", "scores_by_gamma"]

DEEPEST = 4
WIDTHS = {"image": (16, 32), "rows": (32, 32)}
"""Hidden layers of the main network at main_width = 1."""


class MipHypernet(ModelSpace):
    """gamma (k,) and a sample x -> what the main network with the weights theta(gamma) makes of x. Elastic: the first
    hidden layers, leading units, and the width of the main network (a prefix of each generated tensor).

    Tasks: `sine_family` f(x; gamma) = sin(2 pi (x + gamma)) + gamma x, 64 points; `digits_dropout`, gamma the rate of
    dropout; `scale_digits`, gamma the size of the image. Their gamma is uniform in 0..1, in those with the suffix
    `_log_uniform` log-uniform, with `_beta` Beta(2, 2). The paper's baseline is encoding none without residual.

    A frozen theta0 stays at the random values of a normal network, or at those of a trained one that
    `hyper.take` was given.
    """

    search_space = SearchSpace(
        Categorical("encoding", ENCODINGS),
        Categorical("residual", (True, False)),
        Categorical("theta0", ("trainable", "frozen"), when=(Equals("residual", True),)),
        Integer("depth", 0, DEEPEST, default=2, elastic=True),
        Repeated(
            Integer("width", 8, 256, log=True, elastic=True),
            DEEPEST,
            when=IndexBelow("depth"),
            defaults=(16, 128, 128, 128),
        ),
        Categorical("activation", tuple(ACTIVATIONS)),
        Categorical("norm", tuple(NORMS)),
        Categorical("head", tuple(HEADS)),
        Ordinal("rank", (2, 4, 8, 16, 32), default=8, when=(Equals("head", "low-rank"),)),
        Categorical("predicted", PREDICTED),
        Ordinal("main_width", (0.25, 0.5, 0.75, 1.0), default=1.0, elastic=True),
        Categorical("init", INITS, role="hyperparameter"),
        Real("dropout", 0.0, 0.5, default=0.0, bins=5, role="hyperparameter"),
    )
    tasks = tuple(f"{family}{suffix}" for suffix in DISTRIBUTIONS for family in FAMILIES)
    recipe = {
        "backprop": {
            "optimizer": Categorical("optimizer", ("adam", "sgd"), role="hyperparameter"),
            "lr": Real("lr", 1e-5, 1e-1, default=1e-3, log=True, bins=24, role="hyperparameter"),
            "momentum": 0.9,
            "weight_decay": 0.0,
            "schedule": "constant",
            "batch_size": 32,
        },
        "supernet": {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "batch_size": 32, "distillation": 0.0},
    }
    epochs = 20
    exports = {
        "torch-export": "each sample has weights of its own, and torch.func.vmap fixes the size of the batch",
        "onnx": "each sample has weights of its own, and torch.func.vmap fixes the size of the batch",
    }
    paper = "Magnitude Invariant Parametrizations Improve Hypernetwork Learning, ICLR 2024"
    year = 2024

    def build(self, config: Configuration) -> nn.Module:
        gamma, x = (spec.shape for spec in self.signature.inputs)
        hidden = tuple(config[f"width[{i}]"] for i in range(config["depth"]))
        shape = MipShape(
            encoding=config["encoding"],
            residual=config["residual"],
            trainable=config["theta0"] == "trainable",
            hidden=hidden,
            activation=config["activation"],
            norm=config["norm"],
            dropout=config["dropout"],
            head=config["head"],
            rank=config["rank"],
            init=config["init"],
        )
        widths = [round(config["main_width"] * width) for width in WIDTHS["image" if len(x) == 3 else "rows"]]
        main = main_network(x, widths, self.signature.outputs, norms=config["predicted"] == "norms")
        task = self.task()
        most = MOST_DROPOUT if isinstance(task, DigitsFamily) and task.dropout else None
        return GeneratedNetwork(main, gamma, shape, config["predicted"], most)

    def slice_rule(
        self, name: str, tensor: Tensor, shape: tuple[int, ...], config: Configuration, bank_only: Mapping[str, Tensor]
    ) -> Tensor | None:
        """The leading corner on all axes: the last axis of a head is the backbone's width, never a kernel's."""
        return tensor[tuple(slice(size) for size in shape)]

    def cover(self, fixed: Mapping[str, Any] | None = None) -> list[Configuration]:
        """For each choice of generated tensors every head, every free part and every norm once."""
        space = self.search_space.fix(fixed or {})
        return cover_one_at_a_time(space, product=("predicted",), inert=("activation", "init"))

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        return family_task(name, seed=seed, data=data)


@torch.no_grad()
def scores_by_gamma(net: nn.Module, task: Task, split: SplitName = "val") -> dict[float, dict[str, float]]:
    """The task's metrics for each gamma of a split, which a mean over gamma would hide: a residual network may answer
    well without its hypernetwork."""
    data = task.split(split)
    gamma = data.inputs[0][:, 0]
    training = net.training
    net.eval()
    found = {}
    for value in sorted(set(gamma.tolist())):
        rows = gamma == value
        output = net(*(x[rows] for x in data.inputs))
        found[value] = task.score(output, data.target[rows])
    net.train(training)
    return found
