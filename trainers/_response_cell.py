"""The LSTM cell whose two maps respond to hyperparameters."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.trainers._response import ResponseLinear, Rows

__all__ = ["ResponseLSTMCell", "State"]

State = tuple[Tensor, Tensor]


class ResponseLSTMCell(nn.Module):
    """x (B, inputs), (h, c) (B, hidden) each -> the next (h, c).

    Both maps are response layers without the scalar c. Gates stand in torch's order (input, forget, candidate, output),
    so that the collapsed cell is an nn.LSTMCell; the paper's order (forget, input, output, candidate) is a permutation
    of rows.
    """

    def __init__(self, plain: nn.LSTMCell, rows: Rows, hypers: int, *, centred: bool = False) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.rows = plain.input_size, plain.hidden_size, rows
        own = plain._parameters
        input_map, hidden_map = (_linear(own[f"weight_{of}"], own.get(f"bias_{of}")) for of in ("ih", "hh"))
        self.from_input = ResponseLinear(input_map, rows, hypers, centred=centred, scaled=False)
        self.from_hidden = ResponseLinear(hidden_map, rows, hypers, centred=centred, scaled=False)

    def forward(
        self,
        x: Float[Tensor, "batch inputs"],
        state: State | None = None,
        dropped: Float[Tensor, "gates hidden"] | None = None,
    ) -> State:
        """`dropped`: DropConnect's mask / (1 - p), drawn once per sequence; it multiplies both recurrent weights."""
        if state is None:
            zeros = x.new_zeros(len(x), self.hidden_size)
            state = zeros, zeros
        h, c = state
        if dropped is None:
            recurrent = self.from_hidden(h)
        else:
            recurrent = self.from_hidden._respond(lambda weight, bias: functional.linear(h, weight * dropped, bias))
        return _next(self.from_input(x) + recurrent, c)

    def through(self, x: Float[Tensor, "batch time inputs"], state: State, *, backwards: bool) -> tuple[Tensor, State]:
        """Outputs (batch, time, hidden) of whole sequences, and the last state. What the hyperparameters decide is
        computed once, and the two products of each step are one."""
        layer, rows = self.from_hidden, self.rows.h
        seen: Tensor = self.from_input(x)
        weight: Tensor = layer.weight
        gate: Tensor | None = None
        if layer.bias is not None:
            seen = seen + layer.bias
        if rows is not None:
            gate, *bias_gate = torch.split(layer.gates(rows), layer.outputs, dim=1)
            weight = torch.cat([weight, layer.response_weight])
            if layer.response_bias is not None:
                seen = seen + (bias_gate[0] * layer.response_bias)[:, None]
        outputs = []
        for part in reversed(seen.unbind(1)) if backwards else seen.unbind(1):
            product = functional.linear(state[0], weight)
            if gate is not None:
                elementary, response = product.chunk(2, dim=1)
                product = elementary + gate * response
            state = _next(part + product, state[1])
            outputs.append(state[0])
        return torch.stack(outputs[::-1] if backwards else outputs, dim=1), state

    @torch.no_grad()
    def collapse(self, h: Float[Tensor, " hypers"] | None) -> nn.LSTMCell:
        """The plain cell with the weights that answer h."""
        weight_ih, bias_ih = self.from_input.weights_at(h)
        weight_hh, bias_hh = self.from_hidden.weights_at(h)
        cell = nn.LSTMCell(self.input_size, self.hidden_size, bias=bias_ih is not None, device="meta")
        cell.weight_ih, cell.weight_hh = (nn.Parameter(w.detach().clone()) for w in (weight_ih, weight_hh))
        if bias_ih is not None and bias_hh is not None:
            cell.bias_ih, cell.bias_hh = (nn.Parameter(b.detach().clone()) for b in (bias_ih, bias_hh))
        return cell.train(self.training)


def _next(gates: Tensor, c: Tensor) -> State:
    """(h, c) after a step with these pre-activations (batch, 4 x hidden)."""
    i, f, g, o = gates.chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _linear(weight: nn.Parameter | None, bias: nn.Parameter | None) -> nn.Linear:
    """A linear layer that holds these very parameters."""
    assert weight is not None
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = weight
    if bias is not None:
        linear.bias = bias
    return linear
