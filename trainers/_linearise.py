"""A network to first order in what its layers respond to (Bae & Grosse, 2020): y(0) + J_delta y delta."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm

from archfront.spaces._errors import UsageError

__all__ = ["LINEARISATIONS", "frozen_statistics", "linearised", "linearised_forward"]


def linearised(output: Callable[[Tensor], Tensor], delta: Tensor) -> Tensor:
    """y(0), which is a constant here, and the change of y along delta (B, n), which gradients flow through.

    J delta is the gradient, by u, of <J^T u, delta>: two reverse passes.
    """
    at = torch.zeros_like(delta, requires_grad=True)
    y = output(at)
    u = torch.zeros_like(y, requires_grad=True)
    (pulled,) = torch.autograd.grad(y, at, u, create_graph=True)
    (change,) = torch.autograd.grad(pulled, u, delta, create_graph=True)
    return y.detach() + change


def linearised_forward(output: Callable[[Tensor], Tensor], delta: Tensor) -> Tensor:
    """The same by forward-mode differentiation: one pass that carries J delta along. torch 2.13 takes three times as
    long for it on networks of the size of `mlp`, as long on wide ones, and knows none for sparse products. Raises
    UsageError where a part of the network has no forward rule."""
    with forward_ad.dual_level():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch compiles its formulae by what it has deprecated
            at = forward_ad.make_dual(torch.zeros_like(delta), delta)  # type: ignore[no-untyped-call]
        try:
            found = forward_ad.unpack_dual(output(at))  # type: ignore[no-untyped-call]
        except NotImplementedError as error:
            raise UsageError(
                f"trainer.linearisation=forward: {str(error).splitlines()[0]}", "set trainer.linearisation=reverse"
            ) from error
    y: Tensor = found.primal.detach()
    return y if found.tangent is None else y + found.tangent


LINEARISATIONS: Mapping[str, Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]] = {
    "reverse": linearised,
    "forward": linearised_forward,
}
"""By the trainer's setting of this name."""


@contextmanager
def frozen_statistics(net: nn.Module) -> Iterator[None]:
    """Batch norms in train mode normalise by the batch and leave their running statistics alone."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
