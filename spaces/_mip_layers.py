"""What a magnitude-invariant hypernetwork is made of: its shape, the encodings, the backbone's layers, the heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces._errors import UsageError
from archfront.spaces._supernet import corner

__all__ = [
    "ACTIVATIONS",
    "ENCODINGS",
    "HEADS",
    "INITS",
    "LEAK",
    "NORMS",
    "Block",
    "ChunkedHead",
    "FullHead",
    "LowRankHead",
    "MipShape",
    "Shapes",
    "Tensors",
    "encoded",
    "encoded_size",
    "initial_tensors",
    "key_of",
]

ENCODINGS = ("cos-sin", "none", "z-1-z", "unit-norm")
ACTIVATIONS = {"LeakyReLU": nn.LeakyReLU, "ReLU": nn.ReLU, "GELU": nn.GELU, "SiLU": nn.SiLU, "Tanh": nn.Tanh}
NORMS = {"none": None, "LayerNorm": nn.LayerNorm, "BatchNorm": nn.BatchNorm1d}
INITS = ("fan_out", "fan_in", "xavier", "orthogonal")
LEAK = 0.01
GAINS = {"LeakyReLU": math.sqrt(2 / (1 + LEAK**2)), "Tanh": 5 / 3}
"""The others have ReLU's: no paper states one for them."""

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class MipShape:
    """What a hypernetwork is built from. The defaults are full MIP; encoding none without residual is the default
    parametrisation that it is compared with.

    `residual`: theta = theta0 + Delta, else Delta and a bias that starts at 0; `trainable`: theta0 is learned, else
    frozen; `rank`: of the low-rank head; `unit`: E(g) is divided by the root of the number of inputs (ours: Delta then
    starts equally small for many inputs).
    """

    encoding: str = "cos-sin"
    residual: bool = True
    trainable: bool = True
    hidden: tuple[int, ...] = (16, 128)
    activation: str = "LeakyReLU"
    norm: str = "none"
    dropout: float = 0.0
    head: str = "full"
    rank: int = 8
    init: str = "fan_out"
    unit: bool = False

    def __post_init__(self) -> None:
        known: dict[str, Sequence[str] | Mapping[str, Any]] = {
            "encoding": ENCODINGS,
            "activation": ACTIVATIONS,
            "norm": NORMS,
            "head": HEADS,
            "init": INITS,
        }
        for name, options in known.items():
            if getattr(self, name) not in options:
                raise UsageError(f"{name}={getattr(self, name)!r}", f"choose one of {', '.join(options)}")
        if self.rank < 1 or min(self.hidden, default=1) < 1:
            raise UsageError(f"rank={self.rank} and hidden={self.hidden} must be at least 1")

    @property
    def gain(self) -> float:
        """Of the backbone's activation."""
        return GAINS.get(self.activation, math.sqrt(2))

    @property
    def base(self) -> str:
        """Where the free parameters of the output are: "theta0", "frozen" or "bias"."""
        return ("theta0" if self.trainable else "frozen") if self.residual else "bias"


def encoded(g: Float[Tensor, "batch inputs"], encoding: str) -> Float[Tensor, "batch encoded"]:
    """E(g) for g in 0..1. cos-sin: all cosines, then all sines of pi g / 2: |E(g)|^2 is the number of inputs."""
    if encoding == "none":
        return g
    if encoding == "cos-sin":
        return torch.cat([torch.cos(0.5 * math.pi * g), torch.sin(0.5 * math.pi * g)], dim=1)
    pair = torch.cat([g, 1 - g], dim=1)
    # g / |g| would forget |g|, of a single input everything: hence the pair, which it can be read from
    return pair if encoding == "z-1-z" else pair / torch.linalg.vector_norm(pair, dim=1, keepdim=True)


def encoded_size(inputs: int, encoding: str) -> int:
    """Width of E(g)."""
    return inputs if encoding == "none" else 2 * inputs


class Tensors(nn.Module):
    """Tensors under the names of a main network, dots included: parameters, or buffers that nothing trains."""

    def __init__(self, tensors: Mapping[str, Tensor], *, trained: bool = True) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            if trained:
                self.register_parameter(key_of(name), nn.Parameter(tensor))
            else:
                self.register_buffer(key_of(name), tensor)

    def of(self, name: str) -> Tensor:
        """The tensor of this name."""
        tensor: Tensor = getattr(self, key_of(name))
        return tensor


def key_of(name: str) -> str:
    """A main network's name for a tensor as an attribute: a module may not register a name with dots."""
    return name.replace(".", "__")


def initial_tensors(shapes: Shapes) -> dict[str, Tensor]:
    """theta0 as a normal network starts: weights Kaiming-normal by fan_in, those of one axis (the scales of norms,
    which Kaiming cannot do) 1, everything else 0. A tensor called "weight" is one, too."""
    tensors = {}
    for name, shape in shapes.items():
        tensor = torch.zeros(tuple(shape))
        if name.rpartition(".")[2] == "weight":
            if len(shape) > 1:
                nn.init.kaiming_normal_(tensor, a=LEAK)
            else:
                tensor.fill_(1.0)
        tensors[name] = tensor
    return tensors


def _initialise(weight: Tensor, init: str, gain: float) -> None:
    """Of a matrix (outputs, inputs)."""
    if init == "orthogonal":
        nn.init.orthogonal_(weight, gain)
    else:
        nn.init.normal_(weight, std=_std(weight.shape[0], weight.shape[1], init, gain))


def _std(outputs: int, inputs: int, init: str, gain: float) -> float:
    """Standard deviation of an initial weight; of the orthogonal ones for a matrix of more outputs than inputs."""
    if init == "xavier":
        return gain * math.sqrt(2 / (outputs + inputs))
    return gain / math.sqrt(inputs if init == "fan_in" else outputs)


class Block(nn.Module):
    """dropout(activation(norm(W x + b))) of the backbone."""

    def __init__(self, inputs: int, outputs: int, shape: MipShape) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        _initialise(self.linear.weight, shape.init, shape.gain)
        nn.init.zeros_(self.linear.bias)
        norm = NORMS[shape.norm]
        if norm is not None:
            self.add_module(shape.norm, norm(outputs))
        self.norm = shape.norm
        self.activation = ACTIVATIONS[shape.activation]()
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        x = self.linear(x)
        if self.norm != "none":
            x = self.get_submodule(self.norm)(x)
        hidden: Tensor = self.dropout(self.activation(x))
        return hidden


class FullHead(nn.Module):
    """Delta_t = W_t h with a matrix (numel(t), inputs), kept as (*shape of t, inputs), for each predicted tensor t.

    Each is initialised by itself: fan_out is the size of its own tensor, so that Delta starts small.
    """

    def __init__(self, inputs: int, outputs: Shapes, shape: MipShape) -> None:
        super().__init__()
        weights = {name: torch.empty(*of, inputs) for name, of in outputs.items()}
        for weight in weights.values():
            _initialise(weight.view(-1, inputs), shape.init, shape.gain)
        self.weights = Tensors(weights)

    def deltas(self, h: Float[Tensor, "batch inputs"], outputs: Shapes) -> dict[str, Tensor]:
        """Delta of the leading corner of each tensor, (batch, *shape); the other rows are not multiplied."""
        return {name: self._delta(h, name, tuple(shape)) for name, shape in outputs.items()}

    def _delta(self, h: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        rows = corner(self.weights.of(name), (*shape, h.shape[1]))
        return (h @ rows.reshape(-1, h.shape[1]).mT).reshape(len(h), *shape)


class LowRankHead(nn.Module):
    """Delta = V U h: U to a few coefficients, V a full head. |U h| starts as large as |h|, on average."""

    def __init__(self, inputs: int, outputs: Shapes, shape: MipShape) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, shape.rank, bias=False)
        nn.init.normal_(self.project.weight, std=1 / math.sqrt(shape.rank))
        self.full = FullHead(shape.rank, outputs, shape)

    def deltas(self, h: Float[Tensor, "batch inputs"], outputs: Shapes) -> dict[str, Tensor]:
        """As the full head."""
        return self.full.deltas(self.project(h), outputs)


class ChunkedHead(nn.Module):
    """Delta_{t,o} = W (a_{t,o} * h): one shared matrix W, and a vector a for each chunk (von Oswald et al., 2020, for
    chunks; the product is ours: it stays proportional to h).

    Chunks are the slices of a tensor along its first axis, or a whole tensor of one axis: a narrower main network
    then needs a prefix of the chunks, and of the rows of W. a starts at random signs times the standard deviation
    that the full head's weights of this tensor would have.
    """

    def __init__(self, inputs: int, outputs: Shapes, shape: MipShape) -> None:
        super().__init__()
        self.outputs = {name: tuple(of) for name, of in outputs.items()}
        signs = {}
        for name, of in self.outputs.items():
            std = _std(math.prod(of), inputs, shape.init, shape.gain)
            signs[name] = nn.init.uniform_(torch.empty(_chunks(of), inputs), -1, 1).sign() * std
        self.vectors = Tensors(signs)
        longest = max(math.prod(_inner(of)) for of in self.outputs.values())
        self.matrix = nn.Parameter(nn.init.normal_(torch.empty(longest, inputs)))

    def deltas(self, h: Float[Tensor, "batch inputs"], outputs: Shapes) -> dict[str, Tensor]:
        """As the full head."""
        return {name: self._delta(h, name, tuple(shape)) for name, shape in outputs.items()}

    def _delta(self, h: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        size, whole = h.shape[1], _inner(self.outputs[name])
        rows = self.matrix[: math.prod(whole)].reshape(1, *whole, size)
        rows = corner(rows, (1, *_inner(shape), size)).reshape(-1, size)
        scaled = h[:, None] * self.vectors.of(name)[: _chunks(shape)]
        return (scaled @ rows.mT).reshape(len(h), *shape)


def _chunks(shape: Sequence[int]) -> int:
    return shape[0] if len(shape) > 1 else 1


def _inner(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) > 1 else shape


HEADS = {"full": FullHead, "chunked": ChunkedHead, "low-rank": LowRankHead}
