"""The plain multi-layer perceptron: the classifier on which initialisation and self-tuning are proved."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces._choices import Categorical
from archfront.spaces._condition import Equals, IndexBelow
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._noise import GaussianNoise
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Repeated, SelfTuned
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Task
from archfront.spaces.vision._choice import cover_one_at_a_time
from archfront.spaces.vision._images import image_classification

__all__ = ["Mlp"]

DEEPEST = 30
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "silu": nn.SiLU}


class Layer(nn.Module):
    """Dropout(activation(W x + b))."""

    def __init__(self, inputs: int, outputs: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        hidden: Tensor = self.dropout(self.activation(self.linear(x)))
        return hidden


class Perceptron(nn.Module):
    """Image (batch, channels, height, width) -> logits (batch, classes)."""

    def __init__(self, noise: float, layers: list[Layer], head: nn.Linear) -> None:
        super().__init__()
        self.noise = GaussianNoise(noise)
        self.blocks = nn.ModuleList(layers)
        self.head = head

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        x = self.noise(x.flatten(1))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x)
        return logits


class Mlp(ModelSpace):
    """Depth hidden layers of one width. Elastic: the first layers, the leading units.

    `initialisation` scaled: W ~ N(0, C_W / fan_in), b ~ N(0, C_b), the variances searched by their logarithm to base 2.
    """

    search_space = SearchSpace(
        Integer("depth", 1, DEEPEST, default=3, elastic=True),
        Integer("width", 8, 512, default=128, log=True, elastic=True),
        Categorical("activation", tuple(ACTIVATIONS)),
        Categorical("initialisation", ("pytorch", "scaled"), role="hyperparameter"),
        Real(
            "log2_C_W",
            -3.0,
            3.0,
            default=1.0,
            bins=24,
            role="hyperparameter",
            when=(Equals("initialisation", "scaled"),),
        ),
        Real(
            "log2_C_b",
            -12.0,
            0.0,
            default=-6.0,
            bins=24,
            role="hyperparameter",
            when=(Equals("initialisation", "scaled"),),
        ),
        Real(
            "input_noise",
            0.0,
            1.0,
            default=0.0,
            bins=10,
            role="hyperparameter",
            self_tuned=SelfTuned("noise", "logit", 0.5),
        ),
        Repeated(
            Real(
                "dropout",
                0.0,
                0.9,
                default=0.0,
                bins=9,
                role="hyperparameter",
                self_tuned=SelfTuned("blocks.*.dropout", "logit", 0.5),
            ),
            DEEPEST,
            when=IndexBelow("depth"),
        ),
    )
    tasks = ("digits", "fashion_mnist", "mnist", "cifar10", "cifar100")
    recipe = {
        "backprop": {
            "lr": Real("lr", 1e-4, 1e-1, default=1e-3, log=True, bins=24),
            "optimizer": "adamw",
            "weight_decay": 0.01,
            "schedule": "cosine",
            "batch_size": 128,
        },
        # a deep plain network does not train from its own default initialisation: nobody should learn from its outputs
        "supernet": {"lr": 1e-3, "batch_size": 128, "distillation": 0.0},
    }
    paper = "plain multi-layer perceptron"

    def build(self, config: Configuration) -> nn.Module:
        width, inputs = config["width"], prod(self.signature.inputs[0].shape)
        layers = [
            Layer(width if i else inputs, width, config["activation"], config[f"dropout[{i}]"])
            for i in range(config["depth"])
        ]
        net = Perceptron(config["input_noise"], layers, nn.Linear(width, self.signature.outputs))
        if config["initialisation"] == "scaled":
            _initialise(net, 2.0 ** config["log2_C_W"], 2.0 ** config["log2_C_b"])
        return net

    def cover(self, fixed: Mapping[str, Any] | None = None) -> list[Configuration]:
        """One network: neither activation nor initialisation makes a tensor of its own."""
        space = self.search_space.fix(fixed or {})
        return cover_one_at_a_time(space, inert=("activation", "initialisation"))

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        return image_classification(name, data=data, seed=seed)


def _initialise(net: nn.Module, weight_variance: float, bias_variance: float) -> None:
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=(weight_variance / module.in_features) ** 0.5)
            nn.init.normal_(module.bias, std=bias_variance**0.5)
