"""A control: what must be known lies exactly r hops away, so that shorter reaches can only guess."""

from __future__ import annotations

from typing import Literal

import numpy as np

from archfront.spaces._errors import UsageError
from archfront.spaces._tasks import CLASSIFICATION_METRICS, NodeClassification
from archfront.spaces.graph._graph import checked_graph

__all__ = ["long_range"]


def long_range(
    distance: int, *, shape: Literal["path", "cycle"] = "path", classes: int = 4, copies: int = 15, seed: int = 0
) -> NodeClassification:
    """Separate paths of `distance` edges, or cycles of twice as many: one node shows a class, the one `distance` hops
    away is asked for it.

    Features (classes + 1): the class as a one-hot row at the showing node, the last feature 1 at all others. Each
    class has `copies` components, in equal parts for training, validation and testing.
    """
    if distance < 1 or copies < 3 or classes < 2:
        raise UsageError(f"distance={distance}, copies={copies}, classes={classes}", "need at least 1, 3 and 2")
    length = distance + 1 if shape == "path" else 2 * distance
    steps = np.array([(i, (i + 1) % length) for i in range(length if shape == "cycle" else distance)])
    labels = np.random.default_rng(seed).permutation(np.tile(np.arange(classes), copies))
    first = np.arange(len(labels)) * length
    x = np.zeros((length * len(labels), classes + 1), np.float32)
    x[:, classes] = 1
    x[first] = np.eye(classes + 1)[labels]
    y = np.full(len(x), -1, np.int64)
    y[first + distance] = labels
    edges = (steps.T[:, None, :] + first[None, :, None]).reshape(2, -1)
    parts = [np.concatenate([np.flatnonzero(labels == c)[i::3] for c in range(classes)]) for i in range(3)]
    rows = {name: np.sort(first[part] + distance) for name, part in zip(("train", "val", "test"), parts, strict=True)}
    graph = checked_graph("long_range", x, edges, y, rows)
    return NodeClassification(f"long_range_{shape}_{distance}", graph.signature, CLASSIFICATION_METRICS, graph.splits)
