"""HAT's super-network bound to vocabularies of the tests' own, and with other than initial values."""

from __future__ import annotations

import torch
from torch import nn

from archfront.spaces import ModelSpace
from archfront.spaces._task import Signature, TensorSpec
from archfront.spaces.supernets.transformer import Transformer

__all__ = ["of_size", "perturbed"]


def of_size(variant: str, vocabulary: int, source: int = 30, target: int = 30) -> ModelSpace:
    """A variant for sentences of at most these many tokens."""
    inputs = tuple(TensorSpec((length,), "int64", vocabulary) for length in (source, target))
    return Transformer.of_signature(Signature("token_classification", inputs, vocabulary), variant)


def perturbed(net: nn.Module, seed: int = 0) -> nn.Module:
    """Biases and norms start at 0 and 1, where much would go unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net.eval()
