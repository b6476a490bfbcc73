"""How configurations become numbers: genomes of integers, features in 0..1, graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._errors import ConfigurationError
from archfront.spaces._parameter import Floats, Parameter

if TYPE_CHECKING:
    from archfront.spaces._search_space import SearchSpace

__all__ = ["feature_names", "from_ints", "to_features", "to_graph", "to_ints"]

Configuration = dict[str, Any]


def to_ints(space: SearchSpace, configs: Sequence[Configuration]) -> NDArray[np.int64]:
    """Genomes (n, parameters) of canonical configurations."""
    codes = space.encode(configs)
    return np.stack([p.to_ints(codes[:, i]) for i, p in enumerate(space.parameters)], axis=1)


def from_ints(space: SearchSpace, ints: NDArray[np.int64]) -> list[Configuration]:
    """Canonical configurations of genomes (n, parameters). Raises ConfigurationError."""
    if ints.ndim != 2 or ints.shape[1] != len(space):
        raise ConfigurationError(f"genomes of shape {ints.shape} must have the shape (n, {len(space)})")
    bad = np.argwhere((ints < 0) | (ints >= np.array(space.cardinalities)))
    if len(bad):
        row, column = bad[0]
        p = space.parameters[column]
        raise ConfigurationError(f"genome {row}: {p.name} = {ints[row, column]} is not in 0..{p.cardinality - 1}")
    columns = [p.from_ints(ints[:, i]) for i, p in enumerate(space.parameters)]
    return space.decode(space.settled(np.stack(columns, axis=1)))


def feature_names(parameter: Parameter) -> list[str]:
    """The columns of a parameter in `to_features`."""
    return [*parameter.feature_names, *([f"{parameter.name}:active"] if parameter.when else [])]


def to_features(space: SearchSpace, configs: Sequence[Configuration]) -> Floats:
    """Columns (n, features) in 0..1: one-hot choices, ranks, scaled numbers, all zero when inactive."""
    codes = space.encode(configs)
    active = space.active(codes)
    blocks = []
    for i, parameter in enumerate(space.parameters):
        on = active[:, i : i + 1]
        blocks.append(parameter.features(codes[:, i]) * on)
        if parameter.when:
            blocks.append(on.astype(np.float64))
    return np.concatenate(blocks, axis=1)


def to_graph(space: SearchSpace, config: Configuration) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
    """Nodes (N, F), mask (N, N), positions (N): one node per parameter that holds its features, all connected."""
    row = to_features(space, [config])[0]
    nodes = np.zeros((len(space), len(row)))
    at = 0
    for i, parameter in enumerate(space.parameters):
        width = len(feature_names(parameter))
        nodes[i, at : at + width] = row[at : at + width]
        at += width
    return nodes, np.ones((len(space), len(space)), bool), np.arange(len(space))
