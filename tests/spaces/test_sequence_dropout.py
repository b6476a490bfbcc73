"""Masks that are one for a whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from archfront.spaces._errors import UsageError
from archfront.spaces._sequence_dropout import DropConnect, WordDropout


@pytest.mark.parametrize("p", [0.5, torch.tensor([0.5, 0.9, 0.9])])
def test_word_dropout_masks_types(p: float | torch.Tensor) -> None:
    """Every occurrence of a type shares the type's fate, and the first example's rate holds for all."""
    torch.manual_seed(0)
    drop = WordDropout(200)
    drop.p = p
    words = torch.arange(200).repeat(3, 2)
    dropped = drop(torch.ones(3, 400, 4), words)
    assert torch.equal(dropped[:, :200], dropped[:, 200:])
    assert torch.equal(dropped[0], dropped[2])
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
    assert float((dropped == 0).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert torch.equal(drop.eval()(torch.ones(3, 400, 4), words), torch.ones(3, 400, 4))


def test_word_dropout_is_a_mask_on_the_table() -> None:
    torch.manual_seed(0)
    table, drop, words = nn.Embedding(9, 4), WordDropout(9, 0.5), torch.randint(9, (3, 5))
    torch.manual_seed(1)
    dropped = drop(table(words), words)
    torch.manual_seed(1)
    mask = (torch.rand(9, 1) >= 0.5) * 2.0
    assert torch.equal(dropped, nn.functional.embedding(words, table.weight * mask))


def test_drop_connect_masks_recurrent_weights_of_a_plain_layer() -> None:
    torch.manual_seed(0)
    plain = nn.LSTM(3, 4, num_layers=2, batch_first=True)
    connect, x = DropConnect(plain, 0.3), torch.randn(2, 5, 3)
    torch.manual_seed(1)
    dropped, _ = connect(x)
    dropped.sum().backward()
    assert plain.weight_hh_l0.grad is not None
    torch.manual_seed(1)
    masks = [(torch.rand(16, 4) >= 0.3) / 0.7 for _ in range(2)]
    assert not plain.weight_hh_l0.grad[masks[0] == 0].any(), "what is dropped does not learn"
    with torch.no_grad():
        plain.weight_hh_l0.mul_(masks[0])
        plain.weight_hh_l1.mul_(masks[1])
    assert torch.allclose(dropped, plain(x)[0], atol=1e-6)
    assert torch.equal(connect.eval()(x)[0], plain(x)[0])
    with pytest.raises(UsageError, match="no recurrent weights of a Linear"):
        DropConnect(nn.Linear(2, 2), 0.1)(torch.ones(1, 2))
