"""Proxies that compare how a network treats the samples of a batch: Jacobians, activation codes, perturbations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from archfront.predictors._proxies import Probe, batch_statistics, weights_of

__all__ = ["epe_nas", "jacov", "nwot", "zen"]

JACOBIAN_K = 1e-5
"""k of Mellor et al. and of Lopes et al.: keeps logarithms finite."""
EPE_CLASSES = 100
"""Above so many classes EPE-NAS compares them instead of adding them (tau of Lopes et al.)."""
ZEN_ALPHA = 0.01
"""Size of the perturbation (Lin et al., 2021, section 4)."""
aten = torch.ops.aten
RECTIFIERS = frozenset(
    {aten.relu, aten.relu_, aten.leaky_relu, aten.leaky_relu_, aten.gelu, aten.silu, aten.silu_, aten.elu, aten.elu_}
    | {aten.hardswish, aten.hardswish_, aten.hardtanh, aten.hardtanh_}
)
"""Hardtanh is how ReLU6 arrives. The paper knows ReLU only; the others are on where they pass their input, above 0."""


def jacov(probe: Probe) -> float:
    """-sum_i log(s_i + k) + 1/(s_i + k), s the eigenvalues of the correlations of the samples' Jacobians and k = 1e-5
    (Mellor et al., 2021, first version; Abdelfattah et al., 2021, section 3.2).

    The formula is one of a single output; here the Jacobian is that of the sum of the outputs. Where it does not vary
    over a sample's inputs (a network that ignores them), the score is the lowest: that of samples which are all alike.
    """
    correlation = _correlation(_jacobian(probe))
    values = torch.linalg.eigvalsh(correlation).clamp(min=0) + JACOBIAN_K
    return -float((values.log() + 1 / values).sum())


def epe_nas(probe: Probe) -> float:
    """EPE-NAS (Lopes et al., 2021, section 3): per class e_c = sum_ij log(|corr_ij| + k) over the Jacobians of its
    samples; the score is sum_c |e_c|, above 100 classes sum_{c<d} |e_c - e_d| / C with e_c divided by its entries.

    Classes are those of the batch. The Jacobian is that of the sum of the outputs, as for `jacov`.
    """
    jacobian, labels = _jacobian(probe), probe.batch.target
    entries = [(_correlation(jacobian[labels == label]).abs() + JACOBIAN_K).log() for label in torch.unique(labels)]
    if len(entries) <= EPE_CLASSES:
        return sum(abs(float(e.sum())) for e in entries)
    means = torch.stack([e.mean() for e in entries])
    return float((means[:, None] - means).abs().triu().sum()) / len(means)


def nwot(probe: Probe) -> float:
    """log |K|, K_ij the number of rectifiers that samples i and j both switch on or both off (Mellor et al., 2021,
    eqs. 1 and 2).

    A singular K has -inf; its eigenvalues are taken as at least float64's resolution of the largest possible one, so
    that the score stays finite and is lowest for samples that are all alike, or where there is no rectifier.
    """
    net, samples = batch_statistics(probe.net), len(probe.batch.target)
    codes = _Codes(samples)
    with torch.no_grad(), codes:
        net(*probe.inputs)
    values = torch.linalg.eigvalsh(codes.kernel)
    floor = torch.finfo(torch.float64).eps * samples * max(1, codes.units)
    return float(values.clamp(min=floor).log().sum())


def zen(probe: Probe) -> float:
    """log E |F(x) - F(x + 0.01 e)| + sum over batch norms of log sqrt(mean_k variance_k + eps), x and e standard normal
    and weights drawn from N(0, 1) (Lin et al., 2021, algorithm 1; eps, with which a norm divides, is ours).

    F are the features before the global average pooling: the input of the last AdaptiveAvgPool, else of the last linear
    layer, else the output. The paper removes residual links before; a module of any kind cannot be told to, so they
    stay. The norm is a sample's, its expectation the mean over the batch. Biases are 0.
    """
    net = batch_statistics(probe.net.double())
    generator = torch.Generator().manual_seed(probe.seed)
    weights = {id(w) for w in weights_of(net)}
    with torch.no_grad():
        for name, p in net.named_parameters():
            if id(p) in weights:
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
            elif name.rsplit(".", 1)[-1] == "bias":
                p.zero_()
        x = probe.floating(lambda x: torch.randn(x.shape, generator=generator, dtype=torch.float64))
        moved = tuple(
            t + ZEN_ALPHA * torch.randn(t.shape, generator=generator, dtype=torch.float64)
            if t.is_floating_point()
            else t
            for t in x
        )
        features, scale = _features(net, x)
        difference = (features - _features(net, moved)[0]).flatten(1).norm(dim=1).mean()
    return math.log(max(float(difference), torch.finfo(torch.float64).tiny)) + scale


def _jacobian(probe: Probe) -> Tensor:
    """Derivatives (samples, inputs) of the sum of the outputs, float64."""
    net = batch_statistics(probe.net)
    inputs = probe.floating(lambda x: x.detach().clone().requires_grad_())
    real = [x for x in inputs if x.requires_grad]
    gradients = torch.autograd.grad(net(*inputs).sum(), real, materialize_grads=True)
    return torch.cat([gradient.flatten(1) for gradient in gradients], dim=1).double()


def _correlation(rows: Tensor) -> Tensor:
    """Pearson's (samples, samples); all ones where a row does not vary."""
    centred = rows - rows.mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    if float(norms.min()) == 0:
        return torch.ones(len(rows), len(rows), dtype=rows.dtype)
    rows = centred / norms
    return rows @ rows.mT


class _Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts, for each pair of samples, the rectifiers in the same state, whether modules or functions."""

    def __init__(self, samples: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernel, self.units = torch.zeros(samples, samples, dtype=torch.float64), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in RECTIFIERS and args[0].shape[:1] == self.kernel.shape[:1]:
            on = (args[0] > 0).flatten(1).float()
            self.kernel += (on @ on.mT + (1 - on) @ (1 - on).mT).double()  # exact below 2^24 units a layer
            self.units += on.shape[1]
        return func(*args, **(kwargs or {}))


def _features(net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, float]:
    """The features before the pooling, and the sum of log sqrt(mean variance) over the batch norms."""
    pooled: dict[type, Tensor] = {}
    scale = 0.0

    def before_pooling(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        pooled[nn.Linear if isinstance(module, nn.Linear) else nn.AdaptiveAvgPool2d] = args[0]

    def before_norm(module: Any, args: tuple[Tensor, ...]) -> None:
        nonlocal scale
        axes = [axis for axis in range(args[0].ndim) if axis != 1]
        variance = args[0].var(dim=axes, correction=0).mean()
        scale += 0.5 * math.log(float(variance) + module.eps)

    pools = (nn.Linear, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
    handles = []
    for module in net.modules():
        if isinstance(module, pools):
            handles.append(module.register_forward_pre_hook(before_pooling))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            handles.append(module.register_forward_pre_hook(before_norm))
    try:
        output: Tensor = net(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return pooled.get(nn.AdaptiveAvgPool2d, pooled.get(nn.Linear, output)), scale
