"""Directed graph convolutions over a configuration's graph: messages along the edges and against them.

The idea is that of BRP-NAS (Dudziak et al., 2020) and of directed GCNs in predictor-guided search (Wen et al., 2020);
the layers are torch-geometric's dense ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._networks import calibrated, shares_of
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Graph"]

BATCH = 32


class Graph(Predictor):
    """Reads the model space's `to_graph` where the search is over that space's parameters and no others (a trainer's),
    else the search space's: by default one node per parameter, all connected; a space of cells gives its own.

    `layers` times: each node mixes itself with the mean of its predecessors and, by other weights, of its successors;
    `hidden` wide; the mean over the nodes feeds a linear head. `networks` such nets each leave out one of five folds.
    The standard deviation joins their disagreement with a constant under which 90 % of the left-out rows lie within the
    central 90 % interval of the net that left them out. Fits take seconds, with 45 nodes tens of seconds.
    """

    capabilities = PredictorCapabilities(uncertainty=True)
    minimum = 5
    test_parameters = {"networks": 2, "hidden": 16, "layers": 2, "steps": 60}

    def __init__(
        self,
        *base: Any,
        networks: int = 5,
        hidden: int = 64,
        layers: int = 3,
        steps: int = 300,
        lr: float = 1e-2,
        decay: float = 1e-2,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        if networks < 2 or min(hidden, layers, steps) < 1 or not (lr > 0 and decay >= 0):
            raise UsageError(
                f"networks={networks}, hidden={hidden}, layers={layers}, steps={steps}, lr={lr}, decay={decay}",
                "networks must be at least 2, the other whole numbers at least 1, lr above 0, decay not below",
            )
        self.networks, self.hidden, self.layers = networks, hidden, layers
        self.steps, self.lr, self.decay = steps, lr, decay

    def inputs(self, configs: Sequence[Configuration]) -> Floats:
        """(n, nodes, features + 1 + nodes): a node's features, its position in 0..1, its row of the adjacency."""
        space = self.context.model_space
        own = space is not None and space.search_space.names == self.search_space.names
        read = space.to_graph if space is not None and own else self.search_space.to_graph
        graphs = [read(config) for config in configs]
        if not graphs:
            return np.empty((0, 1, 2))
        nodes, masks, positions = (np.stack(parts) for parts in zip(*graphs, strict=True))
        place = positions / max(1, positions.shape[1] - 1)
        return np.concatenate([nodes, place[..., None], masks], axis=2, dtype=np.float64)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        level, spread = float(y.mean()), float(y.std()) or 1.0
        heavy = np.ones(len(y)) if weights is None else weights / weights.mean()
        shares = shares_of(len(y), self.networks)
        seeds = self.generator().integers(2**62, size=self.networks)
        nets = [
            self._trained(int(seed), inputs[rows], (y[rows] - level) / spread, heavy[rows])
            for seed, rows in zip(seeds, shares, strict=True)
        ]
        model: dict[str, Any] = {"nets": nets, "shape": [self.hidden, self.layers], "level": level, "spread": spread}
        means = self._means(model, inputs)
        noise, out_of_fold = calibrated(means, np.ones_like(means), y, shares)
        return Fitted({**model, "noise": noise}, out_of_fold=out_of_fold)

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        means = self._means(model, inputs)
        return means.mean(axis=0), np.sqrt(model["noise"] ** 2 + means.var(axis=0))

    def _trained(self, seed: int, inputs: Floats, labels: Floats, heavy: Floats) -> Mapping[str, NDArray[Any]]:
        """The tensors of one net."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = _net(inputs.shape[2] - inputs.shape[1], self.hidden, self.layers)
        x, y, weight = (torch.from_numpy(values).float() for values in (inputs, labels, heavy))
        optimiser = torch.optim.AdamW(net.parameters(), lr=self.lr, weight_decay=self.decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        generator = torch.Generator().manual_seed(seed)
        order: list[int] = []
        for _ in range(self.steps):
            if not order:
                order = torch.randperm(len(y), generator=generator).tolist()
            at, order = order[:BATCH], order[BATCH:]
            loss = ((net(x[at]) - y[at]).square() * weight[at]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        return {name: tensor.numpy() for name, tensor in net.state_dict().items()}

    @staticmethod
    def _means(model: Model, inputs: Floats) -> Floats:
        """What each net says, (networks, n), in the metric's unit."""
        import torch

        x = torch.from_numpy(inputs).float()
        hidden, layers = model["shape"]
        means = []
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for tensors in model["nets"]:
                net = _net(inputs.shape[2] - inputs.shape[1], hidden, layers)
                net.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
                means.append(model["level"] + model["spread"] * net(x).double().numpy())
        return np.stack(means)


def _net(features: int, hidden: int, layers: int) -> nn.Module:
    """Graphs (batch, nodes, features + nodes) to standardised labels (batch,)."""
    import torch
    from torch import Tensor, nn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch-geometric still scripts on import
        from torch_geometric.nn import DenseSAGEConv

    class DirectedNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [features] + [hidden] * layers
            pairs = list(pairwise(widths))
            self.along = nn.ModuleList(DenseSAGEConv(i, o) for i, o in pairs)
            self.against = nn.ModuleList(DenseSAGEConv(i, o) for i, o in pairs)
            self.head = nn.Linear(hidden, 1)

        def forward(self, graphs: Tensor) -> Tensor:
            x, adjacency = graphs[..., :features], graphs[..., features:]
            for along, against in zip(self.along, self.against, strict=True):
                x = torch.relu((along(x, adjacency.mT) + against(x, adjacency)) / 2)
            label: Tensor = self.head(x.mean(dim=1))[:, 0]
            return label

    return DirectedNet()
