"""Layers whose weights respond to hyperparameters (MacKay et al., 2019; centred: Bae & Grosse, 2020).

y_b = c (W_e x_b + b_e) + (V h_b) * (W_h x_b) + (C h_b) * b_h: each example sees the weights of its own row h_b.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from archfront.spaces._errors import UsageError
from archfront.spaces._supernet import chunked, corner

__all__ = ["ResponseConv", "ResponseConvTranspose", "ResponseEmbedding", "ResponseLayer", "ResponseLinear", "Rows"]

GATE_STD = 0.01


class Rows:
    """What the response layers of one network see: h (B, n), or (1, n) for all examples.

    None: h = 0, the general network of a centred one. The network owns it, its layers hold it.
    """

    def __init__(self) -> None:
        self.h: Tensor | None = None


class ResponseLayer(nn.Module, ABC):
    """A plain layer with a second weight whose outputs are gated by a linear function of h.

    `weight` and `bias` are the plain layer's own parameters (W_e, b_e), as it was initialised. `gates` is [V; C].
    `centred`: V = C = 0 at the start, h is a difference from the current hyperparameters, and there is no c. `scaled`:
    whether a layer that is not centred has c.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    response_bias: nn.Parameter | None
    scale: nn.Parameter | None

    def __init__(
        self, plain: nn.Module, rows: Rows, hypers: int, *, centred: bool = False, scaled: bool = True, bound: float
    ) -> None:
        super().__init__()
        self.rows, self.centred = rows, centred
        self._shell = [_emptied(plain)]  # in a list: not a submodule
        weight, bias = plain._parameters["weight"], plain._parameters.get("bias")
        assert weight is not None
        self.weight = weight
        self.register_parameter("bias", bias)
        self.outputs = weight.shape[self.gated_axis]
        self.response_weight = nn.Parameter(torch.empty_like(weight).uniform_(-bound, bound))
        second = None if bias is None else nn.Parameter(torch.empty_like(bias).uniform_(-bound, bound))
        self.register_parameter("response_bias", second)
        self.gates = nn.Linear(hypers, self.outputs * (1 if bias is None else 2), bias=False, device=weight.device)
        nn.init.zeros_(self.gates.weight) if centred else nn.init.normal_(self.gates.weight, std=GATE_STD)
        own = nn.Parameter(torch.ones((), device=weight.device)) if scaled and not centred else None
        self.register_parameter("scale", own)

    gated_axis = 0
    """The axis of the weight that the gates act on."""

    @abstractmethod
    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The plain layer's map with these tensors."""

    @abstractmethod
    def spread(self, gate: Tensor, output: Tensor) -> Tensor:
        """Gates (B, outputs) shaped to multiply the output."""

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the plain layer's shape."""
        return self._respond(lambda weight, bias: self.product(x, weight, bias))

    def _respond(self, product: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
        output = product(self.weight, self.bias)
        if self.rows.h is None:
            return output
        if len(self.rows.h) not in (1, len(output)):
            raise UsageError(
                f"a layer sees {len(output)} rows for {len(self.rows.h)} examples: its first axis is not the batch",
                "such a network cannot tune itself per example",
            )
        if self.scale is not None:
            output = self.scale * output
        gate, *bias_gate = self.gates(self.rows.h).split(self.outputs, dim=1)
        output = output + self.spread(gate, output) * product(self.response_weight, None)
        for gate in bias_gate:  # (C h) * b_h
            output = output + self.spread(gate * self.response_bias, output)
        return output

    def weights_at(self, h: Float[Tensor, " hypers"] | None) -> tuple[Tensor, Tensor | None]:
        """W_e + diag(V h) W_h and b_e + (C h) * b_h, the first terms times c."""
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if h is None:
            return weight, bias
        if self.scale is not None:
            weight, bias = self.scale * weight, None if bias is None else self.scale * bias
        gate, *bias_gate = self.gates(h).split(self.outputs)
        shape = [1] * weight.dim()
        shape[self.gated_axis] = -1
        weight = weight + gate.view(shape) * self.response_weight
        return weight, bias + bias_gate[0] * self.response_bias if bias is not None else None

    @torch.no_grad()
    def collapse(self, h: Float[Tensor, " hypers"] | None) -> nn.Module:
        """The plain layer with the weights that answer h; None: the general ones."""
        plain = copy.copy(self._shell[0])
        plain._parameters = dict(plain._parameters)
        weight, bias = self.weights_at(h)
        plain.weight = _parameter(weight, self.weight)
        if bias is not None and self.bias is not None:
            plain.bias = _parameter(bias, self.bias)
        plain.train(self.training)
        return plain

    @torch.no_grad()
    def sliced(self, shape: tuple[int, ...]) -> ResponseLayer:
        """The leading part whose weight has `shape`, on own tensors: elementary and response tensors together."""
        part = copy.deepcopy(self)
        part.outputs = shape[self.gated_axis]
        for name in ("weight", "response_weight"):
            setattr(part, name, nn.Parameter(corner(getattr(self, name), shape).clone()))
        blocks = self.gates.out_features // self.outputs
        rows = (blocks * part.outputs, self.gates.in_features)
        part.gates.weight = nn.Parameter(chunked(self.gates.weight, rows, blocks).clone())
        part.gates.out_features = rows[0]
        for name in ("bias", "response_bias"):
            if (tensor := getattr(self, name)) is not None:
                setattr(part, name, nn.Parameter(tensor[: part.outputs].clone()))
        return part


class ResponseLinear(ResponseLayer):
    """x (B, ..., inputs) -> (B, ..., outputs)."""

    def __init__(self, plain: nn.Linear, rows: Rows, hypers: int, **how: Any) -> None:
        super().__init__(plain, rows, hypers, bound=plain.in_features**-0.5, **how)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)

    def spread(self, gate: Tensor, output: Tensor) -> Tensor:
        return gate.view(len(gate), *[1] * (output.dim() - 2), -1)


class ResponseConv(ResponseLayer):
    """Convolution over one or two axes: one gate per output channel. x (B, inputs, *space) -> (B, outputs, *space)."""

    def __init__(self, plain: _ConvNd, rows: Rows, hypers: int, **how: Any) -> None:
        super().__init__(plain, rows, hypers, bound=plain.weight[0].numel() ** -0.5, **how)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        convolution: Any = self._shell[0]
        output: Tensor = convolution._conv_forward(x, weight, bias)
        return output

    def spread(self, gate: Tensor, output: Tensor) -> Tensor:
        return gate.view(len(gate), -1, *[1] * (output.dim() - 2))


class ResponseConvTranspose(ResponseConv):
    """Transposed convolution over one or two axes, not in groups: one gate per output channel, axis 1 of the weight."""

    gated_axis = 1

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x (B, inputs, *space) -> (B, outputs, *space), of `output_size` where several would do."""
        return self._respond(lambda weight, bias: self._spread_out(x, weight, bias, output_size))

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._spread_out(x, weight, bias, None)

    def _spread_out(self, x: Tensor, weight: Tensor, bias: Tensor | None, output_size: list[int] | None) -> Tensor:
        of: Any = self._shell[0]
        axes = weight.dim() - 2
        more = of._output_padding(x, output_size, of.stride, of.padding, of.kernel_size, axes, of.dilation)
        transposed = functional.conv_transpose1d if axes == 1 else functional.conv_transpose2d
        return transposed(x, weight, bias, of.stride, of.padding, more, of.groups, of.dilation)


class ResponseEmbedding(ResponseLayer):
    """Indices (B, ...) -> (B, ..., width): E_e[x] + (V h) * E_h[x], one gate per coordinate of the embedding.

    `mask` (vocabulary, 1), word dropout, multiplies both tables.
    """

    gated_axis = 1

    def __init__(self, plain: nn.Embedding, rows: Rows, hypers: int, **how: Any) -> None:
        super().__init__(plain, rows, hypers, bound=0.1, **{"scaled": False, **how})

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Outputs (B, ..., width)."""
        return self._respond(lambda table, _: self.product(x, table if mask is None else table * mask, None))

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        table = self._shell[0]
        assert isinstance(table, nn.Embedding)
        settings = table.padding_idx, table.max_norm, table.norm_type, table.scale_grad_by_freq, table.sparse
        output: Tensor = functional.embedding(x, weight, *settings)
        return output

    def spread(self, gate: Tensor, output: Tensor) -> Tensor:
        return gate.view(len(gate), *[1] * (output.dim() - 2), -1)


def _emptied(plain: nn.Module) -> nn.Module:
    """The layer's settings without its tensors."""
    shell = copy.copy(plain)
    shell._parameters = dict.fromkeys(plain._parameters)
    return shell


def _parameter(tensor: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone(), requires_grad=like.requires_grad)
