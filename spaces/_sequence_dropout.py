"""Dropout of language models (Merity et al., 2018) whose masks are one for a whole batch: words, recurrent weights."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from archfront.spaces._errors import UsageError
from archfront.spaces._noise import for_batch

__all__ = ["DropConnect", "WordDropout"]


class WordDropout(nn.Module):
    """Embedded words, those of some types 0 and the others larger, while training: a mask (vocabulary, 1) on the table,
    whatever the table is made of."""

    strength: ClassVar[str] = "p"
    per_batch: ClassVar[bool] = True
    p: float | Tensor

    def __init__(self, vocabulary: int, p: float = 0.0) -> None:
        super().__init__()
        self.vocabulary, self.p = vocabulary, p

    def forward(
        self, embedded: Float[Tensor, "*words width"], words: Int[Tensor, "*words"]
    ) -> Float[Tensor, "*words width"]:
        if not self.training:
            return embedded
        return embedded * _mask(embedded.new_empty(self.vocabulary, 1), self.p)[words]


class DropConnect(nn.Module):
    """A recurrent layer (nn.LSTM) whose recurrent weights lose some entries while training (Wan et al., 2013), the same
    ones in every step and for every sequence of a forward pass."""

    strength: ClassVar[str] = "p"
    per_batch: ClassVar[bool] = True
    p: float | Tensor

    def __init__(self, recurrent: nn.Module, p: float = 0.0) -> None:
        super().__init__()
        self.recurrent, self.p = recurrent, p

    def forward(self, *inputs: Any) -> Any:
        """What the layer returns."""
        if not self.training:
            return self.recurrent(*inputs)
        masked: dict[str, Tensor] = {}
        for names in recurrent_weights(self.recurrent):
            tensors = {name: attrgetter(name)(self.recurrent) for name in names}
            mask = _mask(tensors[names[0]], self.p)
            masked |= {name: tensor * mask for name, tensor in tensors.items()}
        return functional_call(self.recurrent, masked, inputs)


def recurrent_weights(layer: nn.Module) -> list[tuple[str, ...]]:
    """Names of the layer's recurrent weights, those of one tuple masked alike. A layer that keeps them elsewhere than
    torch does says so by an attribute of this name."""
    own: list[tuple[str, ...]] | None = getattr(layer, "recurrent_weights", None)
    if own is not None:
        return own
    if not isinstance(layer, nn.RNNBase):
        raise UsageError(f"DropConnect knows no recurrent weights of a {type(layer).__name__}", "give it an nn.LSTM")
    return [(name,) for names in layer._all_weights for name in names if name.startswith("weight_hh")]


def _mask(like: Tensor, p: float | Tensor) -> Tensor:
    """1 / (1 - p) with probability 1 - p, else 0."""
    rate = for_batch(p)
    kept = (torch.rand_like(like) >= rate).to(like.dtype)
    return kept / (1 - torch.as_tensor(rate)).clamp(min=1e-6)
