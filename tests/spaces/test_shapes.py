"""Shapes in annotations are checked while testing: a swapped axis fails loudly."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from archfront.spaces.graph.dagnn._gates import make_gate


def test_a_missing_axis_is_refused() -> None:
    gate = make_gate("sigmoid", 2, 4)
    assert gate(torch.ones(5, 3, 4)).shape == (5, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="nodes hops classes"):
        gate(torch.ones(5, 4))
