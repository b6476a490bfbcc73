"""Towards Deeper Graph Neural Networks (Liu, Gao, Ji, KDD 2020): transform once, propagate far, gate the hops."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._condition import AtLeast, Equals, In
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import SelfTuned
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Task
from archfront.spaces.graph._features import row_normalised
from archfront.spaces.graph._graphs import NAMED, node_classification
from archfront.spaces.graph._propagate import OPERATORS, normalised_edges, with_remaining_self_loops
from archfront.spaces.graph.dagnn._gates import GATES, LEARNED, make_gate
from archfront.spaces.graph.dagnn._networks import DecoupledNet, EntangledNet, Maps, map_widths

__all__ = ["Dagnn", "PRESETS"]

PRESETS: Mapping[str, Configuration] = {
    "cora": {"K": 10, "dropout": 0.8, "trainer.weight_decay": 5e-3},
    "citeseer": {"K": 10, "dropout": 0.5, "trainer.weight_decay": 2e-2},
    "pubmed": {"K": 20, "dropout": 0.8, "trainer.weight_decay": 5e-3},
}
"""The authors' setting per data set, where it differs from one to the other (run.sh); the rest is the default."""

_DECOUPLED = Equals("entangled", False)
_PROPAGATES = AtLeast("K", 1)


class Dagnn(ModelSpace):
    """Graph (x (n, d), edge_index (2, E)) -> logits (n, classes). K hops cost no parameter.

    Elastic without training again: K (the first hop vectors), hidden (the leading units), mlp_layers (middle layers
    are left out), gate (its options share the MLP, the learned ones also s and b, the others have no tensor) and
    operator (not a tensor at all; the three differ by a scaling of nodes). Not elastic: gate_input, because s means
    something else once a hop embedding is added; self_loop_weight, because a supernet's largest member would then
    leave the paper's 1; feature_norm, because it changes the scale of the inputs twentyfold; entangled, which has
    weights of its own. `hidden` decides nothing where a single map leads from features to classes.
    """

    search_space = SearchSpace(
        Categorical("entangled", (False, True)),
        Integer("K", 0, 20, default=10, elastic=True, unit="hops"),
        Ordinal("hidden", (16, 32, 64, 128, 256), default=64, elastic=True),
        Integer("mlp_layers", 1, 3, default=2, elastic=True, when=(_DECOUPLED,)),
        Categorical("gate", GATES, elastic=True, when=(_DECOUPLED,)),
        Categorical("gate_input", ("hop", "hop_and_embedding"), when=(In("gate", LEARNED),)),
        Real("alpha", 0.05, 0.95, default=0.1, bins=18, when=(Equals("gate", "ppr"),)),
        Categorical("operator", OPERATORS, elastic=True, when=(_PROPAGATES,)),
        Real("self_loop_weight", 0.0, 2.0, default=1.0, bins=8, when=(_PROPAGATES,)),
        Categorical("feature_norm", (True, False)),
        Real(
            "dropout",
            0.0,
            0.9,
            default=0.8,
            bins=9,
            role="hyperparameter",
            self_tuned=SelfTuned("*.dropout", "logit", 0.5),
        ),
    )
    tasks = tuple(NAMED)
    recipe = {
        "backprop": {
            "optimizer": "adam",
            "lr": Real("lr", 1e-3, 5e-2, default=0.01, log=True, bins=16),
            "weight_decay": Real("weight_decay", 1e-5, 5e-2, default=5e-3, log=True, zero=True, bins=16),
            "schedule": "constant",
            "select": "best",
            "early_stopping": 100,
        },
        "supernet": {  # our choice: the paper has none, and its decay of 5e-3 starves the small members
            "optimizer": "adam",
            "lr": 0.01,
            "weight_decay": 5e-4,
            "schedule": "constant",
            "random_subnets": 4,
        },
        "self_tuning": {
            "optimizer": "adam",
            "lr": 0.01,
            "weight_decay": 5e-3,
            "schedule": "constant",
            "select": "best",
            "early_stopping": 100,
        },
    }
    epochs = 1000
    paper = "Towards Deeper Graph Neural Networks, Liu, Gao, Ji, KDD 2020"
    year = 2020

    def prepare(self, config: Configuration, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(x, edge_index[, edge_weight]) -> (x, edge_index, edge_weight) of the normalised operator, self loops in."""
        x, edge_index, *weights = inputs
        edges = normalised_edges(
            edge_index,
            weights[0] if weights else None,
            len(x),
            operator=config["operator"],
            self_loop_weight=config["self_loop_weight"],
        )
        return (row_normalised(x) if config["feature_norm"] else x, *edges)

    def build(self, config: Configuration) -> nn.Module:
        K, classes = config["K"], self.signature.outputs
        maps = Maps(self._features, config["hidden"], classes, _depth(config), config["dropout"])
        if config["entangled"]:
            return EntangledNet(maps, K)
        embedded = config["gate_input"] == "hop_and_embedding"
        return DecoupledNet(maps, K, make_gate(config["gate"], K, classes, embedded=embedded, alpha=config["alpha"]))

    def closed_form(self, config: Configuration) -> Mapping[str, float]:
        """The paper's formulae, extended to every member: d h + h + h c + c + (c + 1) parameters and
        n d h + n h c + K |A| c + (K + 1) n 2c multiply-accumulates, |A| counting both directions and self loops."""
        n, K, c = self.signature.inputs[0].shape[0], config["K"], self.signature.outputs
        widths = map_widths(self._features, config["hidden"], c, _depth(config))
        params = sum(i * o + o for i, o in widths)
        macs = sum(n * i * o for i, o in widths)
        edges = self._edges_with_loops if config["self_loop_weight"] > 0 else self._edges
        if config["entangled"]:
            macs += sum(edges * o for _, o in widths) if K else 0
        else:
            macs += K * edges * c + (K + 1) * n * c * _reads(config["gate"])
            if config["gate"] in LEARNED:
                params += c + 1 + ((K + 1) * c if config["gate_input"] == "hop_and_embedding" else 0)
        return {"params_m": params / 1e6, "macs_m": macs / 1e6}

    def cover(self, fixed: Mapping[str, Any] | None = None) -> list[Configuration]:
        """Both kinds of network, alone and stacked, with and without what the gate can learn."""
        space = self.search_space.fix(fixed or {})
        ends = {name: _ends(space[name]) for name in ("K", "mlp_layers")}
        ends["K"] += [1] if space["K"].problem(1) is None else []  # a single convolution has a tensor of its own
        for name in ("entangled", "gate", "gate_input"):
            ends[name] = list(space[name].decode(space[name].enumerate()))
        largest = {p.name: p.largest() for p in space}
        found: dict[str, Configuration] = {}
        for values in itertools.product(*ends.values()):
            config = space.canonicalise({**largest, **dict(zip(ends, values, strict=True))})
            found.setdefault(_tensors_of(config), config)
        return list(found.values())

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        return node_classification(name, data=data, seed=seed)

    @property
    def _features(self) -> int:
        return self.signature.inputs[0].shape[1]

    @property
    def _edges(self) -> int:
        return self.signature.inputs[1].shape[1]

    @cached_property
    def _edges_with_loops(self) -> int:
        edge_index = self.task().example_input[1]
        nodes = self.signature.inputs[0].shape[0]
        return with_remaining_self_loops(edge_index, torch.ones(self._edges), nodes, 1.0)[0].shape[1]


def _depth(config: Configuration) -> int:
    """How many affine maps there are; a GCN of no layers is still one map."""
    return max(1, config["K"]) if config["entangled"] else int(config["mlp_layers"])


def _reads(gate: str) -> int:
    """How often a gate multiplies each number of the hop vectors: for its scores, for the sum."""
    return 2 if gate in LEARNED else 0 if gate == "last" else 1


def _ends(parameter: Any) -> list[Any]:
    return list(dict.fromkeys([parameter.largest(), parameter.smallest()]))


def _tensors_of(config: Configuration) -> str:
    """What decides the names of a configuration's tensors: with these equal, the larger K has all of them."""
    learned = config["gate"] in LEARNED and not config["entangled"]
    return f"{config['entangled']} {_depth(config)} {learned and config['gate_input']}"
