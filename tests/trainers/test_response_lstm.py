"""nn.LSTM as response cells, and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archfront.spaces._errors import UsageError
from archfront.spaces._sequence_dropout import DropConnect
from archfront.trainers._response import ResponseLayer, Rows
from archfront.trainers._response_lstm import ResponseLSTM

N = 3
CASES: dict[str, dict[str, Any]] = {
    "one layer": {"batch_first": True},
    "time first": {},
    "two layers, both directions": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "three layers, time first, no bias": {"num_layers": 3, "bias": False},
    "both directions, time first": {"bidirectional": True},
}


def layers_of(case: str, *, centred: bool) -> tuple[nn.LSTM, ResponseLSTM, Rows]:
    """A plain layer and one that responds, with gates that can be seen."""
    torch.manual_seed(0)
    rows, plain = Rows(), nn.LSTM(4, 6, **CASES[case])
    layer = ResponseLSTM(plain, rows, N, centred=centred)
    for module in layer.modules():
        if isinstance(module, ResponseLayer):
            nn.init.normal_(module.gates.weight, std=0.3)
    return plain, layer, rows


def state_of(plain: nn.LSTM, batch: int) -> tuple[Tensor, Tensor]:
    shape = (plain.num_layers * (2 if plain.bidirectional else 1), batch, 6)
    return torch.randn(shape), torch.randn(shape)


@pytest.mark.parametrize("case", CASES)
def test_without_rows_it_is_the_plain_layer(case: str) -> None:
    plain, layer, _ = layers_of(case, centred=True)
    x, state = torch.randn(5, 5, 4), state_of(plain, 5)
    for given in ((x,), (x, state)):
        (output, (h, c)), (wanted, (wanted_h, wanted_c)) = layer(*given), plain(*given)
        assert torch.allclose(output, wanted, atol=1e-6)
        assert torch.allclose(h, wanted_h, atol=1e-6)
        assert torch.allclose(c, wanted_c, atol=1e-6)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_each_sequence_meets_the_plain_layer_of_its_row(case: str, centred: bool) -> None:
    plain, layer, rows = layers_of(case, centred=centred)
    axis = 0 if plain.batch_first else 1
    x, state = torch.randn(7, 7, 4), state_of(plain, 7)  # as many steps as sequences: the axes could be mistaken
    x = x.narrow(1 - axis, 0, 5)
    rows.h = H = torch.randn(7, N)
    output, (h, c) = layer(x, state)
    for b in range(7):
        twin = layer.collapse(H[b])
        assert list(twin.state_dict()) == list(plain.state_dict())
        own = tuple(part[:, b : b + 1].contiguous() for part in state)
        wanted, (wanted_h, wanted_c) = twin(x.narrow(axis, b, 1).contiguous(), own)
        assert torch.allclose(output.select(axis, b), wanted.select(axis, 0), atol=1e-5)
        assert torch.allclose(h[:, b], wanted_h[:, 0], atol=1e-5)
        assert torch.allclose(c[:, b], wanted_c[:, 0], atol=1e-5)


def test_the_collapsed_layer_keeps_its_settings() -> None:
    plain = nn.LSTM(4, 6, num_layers=2, dropout=0.25, batch_first=True)
    layer = ResponseLSTM(plain, Rows(), N).eval()
    twin = layer.collapse(torch.zeros(N))
    assert (twin.num_layers, twin.dropout, twin.batch_first, twin.training) == (2, 0.25, True, False)
    assert {name: p.shape for name, p in twin.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    torch.manual_seed(0)
    layer.train()
    x = torch.randn(3, 4, 4)
    assert not torch.equal(layer(x)[0], layer(x)[0]), "dropout between the layers"


def test_what_is_no_batch_of_sequences_is_refused() -> None:
    _, layer, _ = layers_of("one layer", centred=True)
    with pytest.raises(UsageError, match="a batch of sequences"):
        layer(torch.randn(5, 4))
    with pytest.raises(UsageError, match="a batch of sequences"):
        layer(nn.utils.rnn.pack_sequence([torch.randn(3, 4)]))


def test_drop_connect_masks_both_weights_of_every_layer_alike() -> None:
    _, layer, rows = layers_of("two layers, both directions", centred=False)
    rows.h = torch.randn(5, N)
    connect = DropConnect(layer, 0.5)
    x = torch.randn(5, 3, 4)
    torch.manual_seed(1)
    dropped, _ = connect(x)
    masks = []
    torch.manual_seed(1)
    for cell in layer.cells:
        masks.append((torch.rand_like(cell.from_hidden.weight) >= 0.5) * 2.0)  # type: ignore[arg-type, union-attr]
    with torch.no_grad():
        for cell, mask in zip(layer.cells, masks, strict=True):
            cell.from_hidden.weight.mul_(mask)  # type: ignore[union-attr, operator]
            cell.from_hidden.response_weight.mul_(mask)  # type: ignore[union-attr, operator]
    assert torch.allclose(dropped, layer(x)[0], atol=1e-6)
    connect.eval()
    assert torch.equal(connect(x)[0], layer(x)[0])
