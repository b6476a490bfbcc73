"""What zero-cost proxies are computed on: an untrained network, one batch, its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Batch", "Probe", "batch_statistics", "losses_gradient", "weights_of"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs as the task has them, targets, the rows that count (graphs, else None), and a scalar loss of the two."""

    inputs: tuple[Tensor, ...]
    target: Tensor
    rows: Tensor | None
    loss: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Probe:
    """A freshly built network, which a proxy may change as it likes, and the batch as the network sees it.

    `seed` is for what a proxy draws itself. `inputs` are float32 (or integers) and must not be changed in place.
    """

    net: nn.Module
    inputs: tuple[Tensor, ...]
    batch: Batch
    seed: int = 0

    def floating(self, inputs: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        """The inputs with a function applied to the real ones; indices (tokens, edges) stay."""
        return tuple(inputs(x) if x.is_floating_point() else x for x in self.inputs)

    def loss(self) -> Tensor:
        """The batch's loss, with its graph."""
        output, target = self.net(*self.inputs), self.batch.target
        if self.batch.rows is not None:
            output, target = output[self.batch.rows], target[self.batch.rows]
        return self.batch.loss(output, target)


def weights_of(net: nn.Module) -> list[nn.Parameter]:
    """The trainable tensors of two or more axes: what is multiplied with, not biases and the scales of norms.

    The papers sum "over all parameters" and prune weights; none says what becomes of biases and norms.
    """
    return [p for p in net.parameters() if p.requires_grad and p.ndim > 1]


def batch_statistics(net: nn.Module) -> nn.Module:
    """`net` as in its first training step, batch norms using the batch's statistics, but without dropout and noise:
    the papers' networks have none, and a score should be the architecture's."""
    net.eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return net


def losses_gradient(probe: Probe, *, differentiable: bool = False) -> list[tuple[Tensor, Tensor]]:
    """(weight, its gradient of the batch's loss), zero for a weight that the output does not depend on."""
    weights = weights_of(batch_statistics(probe.net))
    gradients = torch.autograd.grad(probe.loss(), weights, create_graph=differentiable, materialize_grads=True)
    return list(zip(weights, gradients, strict=True))
