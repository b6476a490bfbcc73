"""Magnitude-invariant hypernetworks (Gonzalez Ortiz, Guttag, Dalca: Magnitude Invariant Parametrizations Improve
Hypernetwork Learning, ICLR 2024): the weights of a main network as a function of a vector."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces._errors import UsageError
from archfront.spaces._mip_layers import (
    ACTIVATIONS,
    ENCODINGS,
    HEADS,
    INITS,
    LEAK,
    NORMS,
    Block,
    ChunkedHead,
    FullHead,
    LowRankHead,
    MipShape,
    Shapes,
    Tensors,
    encoded,
    encoded_size,
    initial_tensors,
    key_of,
)
from archfront.spaces._supernet import corner

__all__ = [
    "ACTIVATIONS",
    "ENCODINGS",
    "HEADS",
    "INITS",
    "LEAK",
    "NORMS",
    "HyperNetwork",
    "MipShape",
    "call_each",
    "encoded",
    "encoded_size",
    "freed",
    "initial_tensors",
    "to_unit",
]

logger = logging.getLogger(__name__)


def to_unit(values: Tensor, how: str, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Unbounded inputs brought to 0..1: "normal" by the Gaussian's distribution function (mean `low`, deviation
    `high`), "tanh", "log" by that of the log-uniform distribution between `low` and `high`. Raises UsageError."""
    if how == "normal":
        return 0.5 * (1 + torch.erf((values - low) / (high * math.sqrt(2))))
    if how == "tanh":
        return 0.5 * (1 + torch.tanh(values))
    if how == "log" and 0 < low < high:
        return ((values.log() - math.log(low)) / math.log(high / low)).clamp(0, 1)
    raise UsageError(f"how={how!r}, low={low}, high={high}", "normal, tanh, or log with 0 < low < high")


class HyperNetwork(nn.Module):
    """Named inputs -> named tensors theta = theta0 + Delta(E(g)).

    `inputs`: name -> shape of a sample, numbers in 0..1 (others are clamped, with one warning); g is all of them,
    flattened, in alphabetical order. `categories`: name -> number of categories, inputs (batch,) of integers, which
    come one-hot after E(g), or, with `embedding` > 0, as learned vectors of this size divided by their norm.
    `outputs`: name -> shape, in the order in which theta is drawn. `theta0`: the values that theta0 starts from, of a
    pre-trained main network for instance.
    """

    def __init__(
        self,
        inputs: Shapes,
        outputs: Shapes,
        shape: MipShape | None = None,
        *,
        categories: Mapping[str, int] | None = None,
        embedding: int = 0,
        theta0: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape or MipShape()
        self.inputs, self.categories = sorted(inputs), dict(sorted((categories or {}).items()))
        self.outputs = {name: tuple(of) for name, of in outputs.items()}
        width = encoded_size(sum(math.prod(inputs[name]) for name in self.inputs), self.shape.encoding)
        self.embeddings = Tensors({name: torch.randn(n, embedding) for name, n in self.categories.items() if embedding})
        width += sum(embedding or n for n in self.categories.values())
        sizes = (width, *self.shape.hidden)
        self.blocks = nn.ModuleList(Block(a, b, self.shape) for a, b in pairwise(sizes))
        self.head = nn.ModuleDict({self.shape.head: HEADS[self.shape.head](sizes[-1], self.outputs, self.shape)})
        self.base = nn.ModuleDict({self.shape.base: self._start()})
        if theta0 is not None:
            self.take(theta0)
        self._warned = False

    def _start(self) -> Tensors:
        if not self.shape.residual:
            return Tensors({name: torch.zeros(of) for name, of in self.outputs.items()})
        return Tensors(initial_tensors(self.outputs), trained=self.shape.trainable)

    @torch.no_grad()
    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Let theta0 be these values: a copy, of every predicted tensor. Raises UsageError."""
        if not self.shape.residual:
            raise UsageError("a hypernetwork without residual has no theta0", "residual=True")
        for name, shape in self.outputs.items():
            if name not in tensors or tuple(tensors[name].shape) != shape:
                found = tuple(tensors[name].shape) if name in tensors else "none"
                raise UsageError(f"theta0 of {name!r}: {found} instead of {shape}", "give the main network's tensors")
            self.free(name).copy_(tensors[name])

    def free(self, name: str) -> Tensor:
        """theta0, or the bias, of a predicted tensor."""
        base = self.base[self.shape.base]
        assert isinstance(base, Tensors)
        return base.of(name)

    def forward(self, inputs: Mapping[str, Tensor], outputs: Shapes | None = None) -> dict[str, Tensor]:
        """theta of (batch, *shape) inputs: (batch, *shape) tensors, or, of a batch of one, without the batch axis.

        `outputs`: only these tensors, and of each the leading corner of this shape (kernels: the centre), as
        sub-networks of a supernet have them.
        """
        theta = self.generated(self.joined(inputs), self.one_hot(inputs), outputs)
        batch = len(next(iter(inputs.values())))
        return {name: t[0] for name, t in theta.items()} if batch == 1 else theta

    def generated(
        self,
        g: Float[Tensor, "batch inputs"],
        chosen: Float[Tensor, "batch categories"] | None = None,
        outputs: Shapes | None = None,
    ) -> dict[str, Tensor]:
        """theta of flat inputs, always with the batch axis. `chosen`: what `one_hot` gives."""
        z = encoded(self._clamped(g), self.shape.encoding)
        if self.shape.unit:
            z = z / math.sqrt(max(1, g.shape[1]))
        h = z if chosen is None else torch.cat([z, chosen], dim=1)
        for block in self.blocks:
            h = block(h)
        shapes = self.outputs if outputs is None else {name: tuple(of) for name, of in outputs.items()}
        head = self.head[self.shape.head]
        assert isinstance(head, FullHead | LowRankHead | ChunkedHead)
        return {name: corner(self.free(name), shapes[name]) + delta for name, delta in head.deltas(h, shapes).items()}

    def joined(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "batch inputs"]:
        """The inputs as rows."""
        if not self.inputs:
            batch = len(next(iter(inputs.values())))
            return torch.zeros(batch, 0)
        return torch.cat([inputs[name].flatten(1) for name in self.inputs], dim=1)

    def one_hot(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "batch categories"] | None:
        """The categories as rows, None where there are none."""
        parts = []
        for name, n in self.categories.items():
            if hasattr(self.embeddings, key_of(name)):
                parts.append(nn.functional.normalize(self.embeddings.of(name)[inputs[name]], dim=1))
            else:
                parts.append(nn.functional.one_hot(inputs[name], n).float())
        return torch.cat(parts, dim=1) if parts else None

    def _clamped(self, g: Tensor) -> Tensor:
        """cos and sin fold what lies outside of 0..1: two inputs would become one."""
        if not (self._warned or torch.compiler.is_compiling()) and bool(((g < 0) | (g > 1)).any()):
            logger.warning("inputs of a hypernetwork between %.3g and %.3g: clamped to 0..1", g.min(), g.max())
            self._warned = True
        return g.clamp(0, 1)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """For an optimiser: only the head decays, which pulls theta to theta0 and nothing else."""
        head = list(self.head.parameters())
        known = {id(p) for p in head}
        others = [p for p in self.parameters() if id(p) not in known]
        return [{"params": head, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


# -- the main network


def freed(net: nn.Module, names: Sequence[str]) -> nn.Module:
    """`net` without these parameters: they must be given in each call. Raises AttributeError for an unknown name."""
    for name in names:
        path, _, own = name.rpartition(".")
        module = net.get_submodule(path)
        if own not in module._parameters:
            raise AttributeError(f"{type(net).__name__} has no parameter {name!r}")
        module._parameters[own] = None
    return net


def call_each(net: nn.Module, theta: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
    """Outputs (batch, ...) of the main network, sample b of the inputs with sample b of the weights, both (batch, ...).
    A sample is what one call takes: the rows that share weights."""

    def one(weights: dict[str, Tensor], *own: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(net, weights, own)
        return output

    outputs: Tensor = torch.func.vmap(one, randomness="different")(dict(theta), *inputs)
    return outputs
