"""What a network's penalties add to the loss that is descended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from archfront.spaces._penalties import Penalty

__all__ = ["Seen", "penalised", "total", "watched"]

Seen = list[tuple[Penalty, Tensor]]
"""Penalties of a network and what each was given, in the order of the forward pass."""


def penalised(net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | float]:
    """The network's output, and the sum of its penalties in this pass: 0 where it has none."""
    with watched(net) as seen:
        output: Tensor = net(*inputs)
    return output, total(seen)


def total(seen: Seen) -> Tensor | float:
    """The sum of the penalties."""
    return sum((penalty.of(h) for penalty, h in seen), 0.0)


@contextmanager
def watched(net: nn.Module) -> Iterator[Seen]:
    """What the penalties are given within. Modules keep none of it, so that networks stay copyable and exportable."""
    seen: Seen = []

    def note(penalty: Any, given: tuple[Tensor, ...], result: Tensor) -> None:
        seen.append((penalty, result))

    hooks = [module.register_forward_hook(note) for module in net.modules() if isinstance(module, Penalty)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
