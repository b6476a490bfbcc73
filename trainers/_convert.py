"""A plain network as one that responds to its own hyperparameters, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Parameter
from archfront.trainers._hyper_vector import Hyperparameter, HyperVector
from archfront.trainers._response import (
    ResponseConv,
    ResponseConvTranspose,
    ResponseEmbedding,
    ResponseLayer,
    ResponseLinear,
    Rows,
)
from archfront.trainers._response_cell import ResponseLSTMCell
from archfront.trainers._response_lstm import ResponseLSTM
from archfront.trainers._response_weights import is_responding, respond, settle
from archfront.trainers._strength import DROPOUTS, ExampleDropout, Strength, reached

__all__ = ["ResponseNet", "Strengths", "convert", "declared", "with_rates"]

Strengths = Mapping[str, list[Strength]]
"""What each self-tuned parameter sets, by its name."""

PER_EXAMPLE: Mapping[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Linear: ResponseLinear,
    nn.Conv1d: ResponseConv,
    nn.Conv2d: ResponseConv,
    nn.ConvTranspose1d: ResponseConvTranspose,
    nn.ConvTranspose2d: ResponseConvTranspose,
    nn.Embedding: ResponseEmbedding,
    nn.LSTMCell: ResponseLSTMCell,
    nn.LSTM: ResponseLSTM,
}
"""Only these very classes: what a subclass does with its weight is its own affair."""
PER_BATCH = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""These and their subclasses."""
WHOLE = (ResponseLayer, ResponseLSTMCell, ResponseLSTM)
"""What collapses as one, with all that is within."""


class ResponseNet(nn.Module):
    """The converted network with its hyperparameters `hypers` and the rows that its layers see.

    Before a forward pass call `see` (perturbed rows) or `rest` (the current hyperparameters). `one_row`: all examples
    of a batch have the same ones.
    """

    def __init__(
        self,
        net: nn.Module,
        hypers: HyperVector,
        rows: Rows,
        strengths: Strengths,
        *,
        centred: bool,
        one_row: bool,
    ) -> None:
        super().__init__()
        self.net, self.hypers, self.rows, self.centred, self.one_row = net, hypers, rows, centred, one_row
        self._strengths = dict(strengths)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The network's output."""
        output: Tensor = self.net(*inputs)
        return output

    def see(self, H: Float[Tensor, "rows hypers"]) -> None:
        """From now on example b has the hyperparameters of row b, in its weights and in its dropout."""
        self.rows.h = H - self.hypers.lam.detach() if self.centred else H
        self._set(self.hypers.values(H.detach()))

    def rest(self) -> None:
        """From now on every example has the current hyperparameters."""
        lam = self.hypers.lam.detach()[None]
        self.rows.h = None if self.centred else lam
        self._set(self.hypers.values(lam))

    def _set(self, values: Tensor) -> None:
        for column, name in enumerate(self.hypers.names):
            for strength in self._strengths.get(name, ()):
                strength.set(values[:, column])

    @property
    def response_parameters(self) -> list[nn.Parameter]:
        """W_h, b_h and [V; C] of every layer."""
        layers = [m for m in self.modules() if isinstance(m, ResponseLayer)]
        own = ("response_weight", "response_bias", "gates.weight")
        return [p for layer in layers for name, p in layer.named_parameters() if name in own]

    @property
    def general_parameters(self) -> list[nn.Parameter]:
        """Every other trained parameter of the network: the elementary weights, norms, the scalars c."""
        response = {id(p) for p in self.response_parameters}
        return [p for p in self.net.parameters() if id(p) not in response and p.requires_grad]

    def collapse(self) -> nn.Module:
        """The plain network, in eval mode, with the weights and strengths of the current hyperparameters."""
        self.rest()
        twin = copy.deepcopy(self)
        h = None if self.centred else twin.hypers.lam.detach()
        for name, value in twin.hypers.value_of().items():
            for strength in twin._strengths.get(name, ()):
                strength.set(value)
        return twin.plain(h).eval()

    def plain(self, h: Float[Tensor, " hypers"] | None) -> nn.Module:
        """The network with the weights that answer h, its strengths being numbers; this one is used up."""
        return _replaced(self.net, lambda module: _collapsed(module, h))


def convert(
    model: nn.Module,
    parameters: Sequence[Parameter],
    config: Mapping[str, Any],
    *,
    centred: bool,
    per_batch: bool = False,
    scale: float = 1.0,
    elsewhere: Collection[str] = (),
) -> ResponseNet:
    """Take `model` over: every layer responds to `parameters`, which start at their values in `config`.

    `per_batch`: one row for all examples of a batch; a parameter that reaches a module which says so itself has one
    value for them in any case. `scale` multiplies every sigma0. `elsewhere` names parameters that act outside of the
    network. Raises UsageError that names the layer or parameter, and why.
    """
    strengths, hypers = declared(model, parameters, config, per_batch=per_batch, scale=scale, elsewhere=elsewhere)
    _check(model, per_batch=per_batch)
    tables = _tables(model)
    rows = Rows()

    def changed(module: nn.Module) -> nn.Module:
        if not _has_weight(module, per_batch=per_batch) or _is_tied(module, tables):
            return module
        if per_batch:
            layer = ResponseLinear if isinstance(module, nn.Linear) else ResponseConv
            return respond(module, layer(module, rows, len(hypers.members), centred=centred))  # type: ignore[arg-type]
        return PER_EXAMPLE[type(module)](module, rows, len(hypers.members), centred=centred)

    net, strengths = with_rates(model, strengths, changed)
    if not any(isinstance(m, ResponseLayer) for m in net.modules()):
        raise UsageError("this network has no layer that could respond to hyperparameters", "it has no trained weight")
    return ResponseNet(net, hypers, rows, strengths, centred=centred, one_row=per_batch)


def declared(
    model: nn.Module,
    parameters: Sequence[Parameter],
    config: Mapping[str, Any],
    *,
    per_batch: bool,
    scale: float,
    elsewhere: Collection[str],
) -> tuple[Strengths, HyperVector]:
    """What each parameter sets in the network, and the vector of them all. Raises UsageError."""
    strengths = {p.name: reached(model, p) for p in parameters if p.name not in elsewhere}
    shared = {name for name, found in strengths.items() if any(getattr(s.module, "per_batch", False) for s in found)}
    hypers = HyperVector(
        [Hyperparameter.of(p, config[p.name], per_batch=per_batch or p.name in shared, scale=scale) for p in parameters]
    )
    return strengths, hypers


def with_rates(
    model: nn.Module, strengths: Strengths, change: Callable[[nn.Module], nn.Module] = lambda module: module
) -> tuple[nn.Module, Strengths]:
    """The network with dropouts whose rates may be one for each example, where a parameter sets them; every other
    module is changed by `change`."""
    bound = {id(s.module) for found in strengths.values() for s in found}
    made: dict[int, nn.Module] = {}

    def changed(module: nn.Module) -> nn.Module:
        if id(module) in bound and type(module) in DROPOUTS:
            return ExampleDropout(module)
        return change(module)

    net = _replaced(model, changed, made)
    moved = {
        name: [Strength(made.get(id(s.module), s.module), s.attribute) for s in found]
        for name, found in strengths.items()
    }
    return net, moved


def _check(model: nn.Module, *, per_batch: bool) -> None:
    """Every trained weight is one that can respond; vectors (biases, norms) need not. Tensors are shared by no two
    layers, except the table of an embedding by linear decoders."""
    owners: dict[int, str] = {}
    tables = set() if per_batch else _tables(model)
    for name, module in model.named_modules():
        own = {key: p for key, p in module._parameters.items() if p is not None and p.requires_grad}
        for key, parameter in own.items():
            tied = key == "weight" and _is_tied(module, tables)
            if not tied and (other := owners.setdefault(id(parameter), name)) != name:
                raise UsageError(
                    f"layers {other!r} and {name!r} share {key}: their responses would differ", "untie them"
                )
        wide = [key for key, p in own.items() if sum(length > 1 for length in p.shape) > 1]
        if wide and not _has_weight(module, per_batch=per_batch):
            reason = _reason(module, wide[0], per_batch=per_batch)
            raise UsageError(f"layer {name!r} ({type(module).__name__}) cannot respond", reason)


def _has_weight(module: nn.Module, *, per_batch: bool) -> bool:
    kinds = isinstance(module, PER_BATCH) if per_batch else type(module) in PER_EXAMPLE and not _beyond(module)
    return kinds and any(p is not None and p.requires_grad for p in module._parameters.values())


def _tables(model: nn.Module) -> set[int]:
    """Ids of the embeddings' tables."""
    return {id(m.weight) for m in model.modules() if type(m) is nn.Embedding}


def _is_tied(module: nn.Module, tables: Collection[int]) -> bool:
    """Whether this is a decoder on an embedding's table. It stays plain, on the elementary table, as in the paper's
    language model: collapsed, the embedding has a table of its own, and the network is not tied any more."""
    return type(module) is nn.Linear and id(module.weight) in tables


def _beyond(module: nn.Module) -> str:
    """What of a covered kind of layer is not covered."""
    if isinstance(module, nn.LSTM) and module.proj_size:
        return f"projections (proj_size={module.proj_size}) are not covered"
    if isinstance(module, _ConvTransposeNd) and module.groups > 1:
        return f"transposed convolutions in groups (groups={module.groups}) are not covered"
    return ""


def _reason(module: nn.Module, parameter: str, *, per_batch: bool) -> str:
    if per_batch:
        return f"a graph is one batch, for which only {_names(PER_BATCH)} respond"
    if beyond := _beyond(module):
        return beyond
    if isinstance(module, nn.RNNBase) and not isinstance(module, nn.LSTM):
        return "write it with nn.LSTM or nn.LSTMCell"
    if isinstance(module, tuple(PER_EXAMPLE)):
        return f"it is a {type(module).__mro__[1].__name__} of its own kind: what it does with its weight is not known"
    return f"its {parameter} is neither the weight of a covered layer ({_names(PER_EXAMPLE)}) nor a bias or norm"


def _names(kinds: Iterable[type[nn.Module]]) -> str:
    return ", ".join(kind.__name__ for kind in kinds)


def _collapsed(module: nn.Module, h: Tensor | None) -> nn.Module:
    if isinstance(module, ExampleDropout):
        assert isinstance(module.p, float)
        return module.collapse(module.p)
    if isinstance(module, WHOLE):
        return module.collapse(h)
    return settle(module, h) if is_responding(module) else module


@torch.no_grad()
def _replaced(
    model: nn.Module, change: Callable[[nn.Module], nn.Module], made: dict[int, nn.Module] | None = None
) -> nn.Module:
    """`model` with `change` applied to each module once, also where it stands several times; `made` by old id."""
    made = {} if made is None else made
    old = list(model.modules())  # ids stay taken while this list lives
    inner = {id(part) for m in old if isinstance(m, WHOLE) for part in m.modules() if part is not m}
    inner |= {id(part) for m in old if is_responding(m) for part in m.get_submodule("response").modules()}
    for module in old:
        if id(module) not in inner:
            made[id(module)] = change(module)
    for module in old:
        for name, child in module._modules.items():
            if child is not None and id(child) in made:
                module._modules[name] = made[id(child)]
    return made[id(model)]
