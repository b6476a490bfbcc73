"""Proxies that sum a saliency over weights or channels (Abdelfattah et al., 2021, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from archfront.predictors._proxies import Probe, batch_statistics, losses_gradient, weights_of

__all__ = ["fisher", "grad_norm", "grasp", "l2_norm", "plain", "snip", "synflow"]

CHANNEL_AXES: dict[Any, int] = {functional.linear: -1, functional.conv1d: 1, functional.conv2d: 1, functional.conv3d: 1}


def grad_norm(probe: Probe) -> float:
    """Sum over the weights of the Euclidean norm of the loss's gradient (Abdelfattah et al., 2021, section 3.2)."""
    return sum(float(gradient.double().norm()) for _, gradient in losses_gradient(probe))


def l2_norm(probe: Probe) -> float:
    """Sum over the weights of their Euclidean norm: what the others say beyond the size of the network."""
    return sum(float(weight.detach().double().norm()) for weight in weights_of(probe.net))


def plain(probe: Probe) -> float:
    """Sum of dL/dw * w (Mozer & Smolensky, 1989): what the loss loses to first order when the weights vanish."""
    return sum(_dot(gradient, weight) for weight, gradient in losses_gradient(probe))


def snip(probe: Probe) -> float:
    """Sum of |dL/dw * w| (Lee et al., 2019, section 4.1; Abdelfattah et al., 2021, eq. 1), not normalised: between
    architectures the total is the score."""
    return sum(_dot(gradient.abs(), weight.abs()) for weight, gradient in losses_gradient(probe))


def grasp(probe: Probe) -> float:
    """Sum of -(H g) * w, g the gradient of the loss and H its Hessian by the weights (Wang et al., 2020, section 4).

    Without the temperature that Wang et al. divide the logits by, as Abdelfattah et al. (2021, eq. 1).
    """
    pairs = losses_gradient(probe, differentiable=True)
    product = sum((gradient * gradient.detach()).sum() for _, gradient in pairs)
    assert isinstance(product, Tensor)
    if not product.requires_grad:  # the loss is linear in the weights
        return 0.0
    weights = [weight for weight, _ in pairs]
    curved = torch.autograd.grad(product, weights, materialize_grads=True)
    return -sum(_dot(h, weight) for h, weight in zip(curved, weights, strict=True))


def synflow(probe: Probe) -> float:
    """Sum of dR/dw * w, R the sum of the outputs of an input of ones through absolute weights (Tanaka et al., 2020,
    eq. 2 and algorithm 1).

    Batch norms use their running statistics: at the start the identity, so that no statistic joins the layers. float64,
    as R grows with the product of all layers' widths. A layer norm maps ones to zero: behind one the score says little.
    """
    net = probe.net.double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    ones = probe.floating(lambda x: torch.ones_like(x if probe.batch.rows is not None else x[:1], dtype=torch.float64))
    weights = weights_of(net)
    gradients = torch.autograd.grad(net(*ones).sum(), weights, materialize_grads=True)
    return sum(_dot(gradient, weight) for weight, gradient in zip(weights, gradients, strict=True))


def fisher(probe: Probe) -> float:
    """Sum over channels of 1/(2N) sum_n (sum_ij A_nij g_nij)^2, A an activation and g the loss's gradient by it
    (Turner et al., 2020, section 3; Abdelfattah et al., 2021, eq. 2).

    Which activations is left open; here the outputs of convolutions (channel axis 1) and linear layers (last axis).
    The loss is the batch's mean, so that g carries a further 1/N.
    """
    batch_statistics(probe.net)
    with _Activations() as activations:
        loss = probe.loss()
    outputs = [output for output, _ in activations.found]
    gradients = torch.autograd.grad(loss, outputs, materialize_grads=True) if outputs else ()
    total = 0.0
    for (output, axis), gradient in zip(activations.found, gradients, strict=True):
        product = (output.detach() * gradient).double().movedim(axis, 1)
        potential = product.flatten(2).sum(dim=2) if product.ndim > 2 else product
        total += float(potential.square().sum()) / (2 * len(potential))
    return total


def _dot(one: Tensor, other: Tensor) -> float:
    return float((one.detach().double() * other.detach().double()).sum())


class _Activations(TorchFunctionMode):
    """Keeps (output, its channel axis) of every convolution and linear layer, whether modules or functions."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func not in CHANNEL_AXES:
            return output
        self.found.append((output, CHANNEL_AXES[func]))
        return output.clone()  # what follows may work in place
