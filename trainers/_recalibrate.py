"""Batch-norm statistics of one sub-network, from its own activations."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from archfront.spaces._task import Split
from archfront.trainers._layout import channels_last

__all__ = ["recalibrate"]


@torch.no_grad()
def recalibrate(net: nn.Module, split: Split, *, rows: int = 512, batch: int = 64, seed: int = 0) -> nn.Module:
    """Replace every batch norm's running statistics by the mean over batches of at most `rows` rows of a prepared
    split, drawn once from `seed`; the rest of the network runs in eval mode. Returns `net`, in eval mode."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    net.eval()
    if not norms:
        return net
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    if split.rows is not None:
        net(*split.inputs)
    else:
        order = torch.randperm(len(split.target), generator=torch.Generator().manual_seed(seed))[:rows]
        for part in torch.split(order, batch):
            if len(part) > 1 or len(order) == 1:
                net(*channels_last(tuple(t[part] for t in split.inputs)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return net
