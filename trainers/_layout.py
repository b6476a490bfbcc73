"""How a batch lies in memory."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["channels_last"]


def channels_last(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Images with their channels innermost: convolutions keep it so, and take half the time on processors."""
    return tuple(t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in inputs)
