"""Which graph the predictor on graphs reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archfront.predictors import Context
from archfront.predictors.graph import Graph
from archfront.spaces import Integer
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration
from archfront.spaces._toy import ToyImages


class Chain(ToyImages):
    """Three blocks in a row, those below `depth` linked."""

    registered_as = "tests.predictors.test_graph:Chain"

    def to_graph(self, config: Configuration) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
        """Nodes (3, 1) of the width."""
        used = np.arange(3) < config["depth"]
        links = np.eye(3, k=1, dtype=bool) & used[:, None] & used
        return np.full((3, 1), config["width"] / 6), links, np.arange(3)


def test_the_model_spaces_graph_is_read() -> None:
    space = Chain.bind()
    config = {**space.search_space.default, "depth": 2, "width": 6}
    (found,) = Graph(space.search_space, Context(space)).inputs([config])
    assert found.tolist() == [[1, 0, 0, 1, 0], [1, 0.5, 0, 0, 0], [1, 1, 0, 0, 0]]


def test_a_trainers_parameters_are_not_in_it_and_so_it_is_not_read() -> None:
    space = Chain.bind()
    wider = space.search_space.extended([Integer("trainer.epochs", 1, 3)])
    found = Graph(wider, Context(space)).inputs([wider.default])
    assert np.array_equal(found, Graph(wider).inputs([wider.default]))
    assert found.shape[1] == len(wider)


def test_by_default_it_is_the_search_spaces() -> None:
    space = ToyImages.bind()
    config = space.search_space.default
    own, other = space.to_graph(config), space.search_space.to_graph(config)
    assert all(np.array_equal(one, two) for one, two in zip(own, other, strict=True))
