"""Scoring: how many rows go through a network at once changes nothing but time."""

from __future__ import annotations

import pytest
import torch

from archfront.spaces._toy import ToyImages
from archfront.trainers._trainer import outputs_of


@pytest.mark.parametrize("batch", [1, 7, 48, 1000])
def test_the_batch_does_not_matter(batch: int) -> None:
    space = ToyImages.bind()
    torch.manual_seed(0)
    net, split = space.build(space.search_space.default).train(), space.task().split("val")
    whole = outputs_of(net, split, batch=len(split))
    assert torch.allclose(outputs_of(net, split, batch=batch), whole, atol=1e-6)
    assert torch.allclose(outputs_of(net, split), whole, atol=1e-6)
    assert net.training, "the mode is restored"
