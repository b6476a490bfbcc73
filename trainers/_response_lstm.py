"""nn.LSTM whose maps respond to hyperparameters: a response cell for each layer and direction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from archfront.spaces._errors import UsageError
from archfront.trainers._response import Rows
from archfront.trainers._response_cell import ResponseLSTMCell, State

__all__ = ["ResponseLSTM"]


class ResponseLSTM(nn.Module):
    """What nn.LSTM computes for a batch of whole sequences, (batch, time, inputs) or time first.

    The batch stands first within, whatever the plain layer's order: example b meets row b of the hyperparameters.
    """

    def __init__(self, plain: nn.LSTM, rows: Rows, hypers: int, *, centred: bool = False) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = plain.input_size, plain.hidden_size, plain.num_layers
        self.batch_first, self.bidirectional, self.dropout = plain.batch_first, plain.bidirectional, plain.dropout
        self.cells = nn.ModuleList(
            ResponseLSTMCell(_cell(plain, names), rows, hypers, centred=centred) for names in plain._all_weights
        )

    @property
    def recurrent_weights(self) -> list[tuple[str, ...]]:
        """For `DropConnect`: elementary and response weights have one mask."""
        both = ("weight", "response_weight")
        return [tuple(f"cells.{i}.from_hidden.{name}" for name in both) for i in range(len(self.cells))]

    def forward(self, x: Any, state: State | None = None) -> tuple[Tensor, State]:
        """The last layer's outputs, and the last (h, c), each (layers x directions, batch, hidden)."""
        if not isinstance(x, Tensor) or x.dim() != 3:
            raise UsageError(
                "a self-tuning nn.LSTM takes a batch of sequences of one length", "give it a tensor with three axes"
            )
        x = x if self.batch_first else x.transpose(0, 1)
        zeros = x.new_zeros(len(x), self.hidden_size)
        ends: list[State] = []
        for layer, cells in enumerate(self._layers()):
            if layer and self.dropout:
                x = functional.dropout(x, self.dropout, self.training)
            outputs: list[Tensor] = []
            for cell in cells:
                begin = (zeros, zeros) if state is None else (state[0][len(ends)], state[1][len(ends)])
                output, end = cell.through(x, begin, backwards=len(outputs) == 1)
                outputs.append(output)
                ends.append(end)
            x = torch.cat(outputs, dim=2)
        h, c = zip(*ends, strict=True)
        return x if self.batch_first else x.transpose(0, 1), (torch.stack(h), torch.stack(c))

    def _layers(self) -> Iterator[list[ResponseLSTMCell]]:
        """The cells of each layer: forwards, then backwards."""
        cells = [cell for cell in self.cells if isinstance(cell, ResponseLSTMCell)]
        directions = 2 if self.bidirectional else 1
        for first in range(0, len(cells), directions):
            yield cells[first : first + directions]

    @torch.no_grad()
    def collapse(self, h: Float[Tensor, " hypers"] | None) -> nn.LSTM:
        """The plain layer with the weights that answer h."""
        cells = [cell.collapse(h) for layer in self._layers() for cell in layer]
        how = {name: getattr(self, name) for name in ("num_layers", "batch_first", "bidirectional", "dropout")}
        plain = nn.LSTM(self.input_size, self.hidden_size, bias=cells[0].bias, device="meta", **how)
        for names, cell in zip(plain._all_weights, cells, strict=True):
            for name in names:
                setattr(plain, name, getattr(cell, _in_cell(name)))
        return plain.train(self.training)


def _cell(plain: nn.LSTM, names: list[str]) -> nn.LSTMCell:
    """One layer and direction as a cell that holds these very parameters."""
    inputs = getattr(plain, names[0]).shape[1]
    cell = nn.LSTMCell(inputs, plain.hidden_size, bias=plain.bias, device="meta")
    for name in names:
        setattr(cell, _in_cell(name), getattr(plain, name))
    return cell


def _in_cell(name: str) -> str:
    """weight_ih_l0_reverse -> weight_ih."""
    return name.partition("_l")[0]
