"""Random forest (Breiman, 2001), with the variance of Hutter et al. (2014, §4.3.2): between trees and within leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

__all__ = ["Forest"]


class Forest(Predictor):
    """`trees` regression trees on bootstrap samples, each split tried on the share `features` of the columns, leaves of
    at least `leaf` rows.

    The standard deviation is that of the mixture over trees: the variance of their means plus the mean variance of the
    training labels in the leaves a row falls into.
    """

    capabilities = PredictorCapabilities(uncertainty=True)
    minimum = 2
    test_parameters = {"trees": 30}

    def __init__(self, *base: Any, trees: int = 100, leaf: int = 1, features: float = 0.5, **rest: Any) -> None:
        super().__init__(*base, **rest)
        if trees < 1 or leaf < 1:
            raise UsageError(f"trees={trees} and leaf={leaf} must be at least 1")
        if not 0 < features <= 1:
            raise UsageError(f"features={features} must lie in (0, 1]")
        self.trees, self.leaf, self.features = trees, leaf, features

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            self.trees, min_samples_leaf=self.leaf, max_features=self.features, random_state=self.seed
        )
        forest.fit(inputs, y, weights)
        trees = [estimator.tree_ for estimator in forest.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
        nodes: dict[str, list[NDArray[np.int64]]] = {"left": [], "right": []}
        for tree, root in zip(trees, roots, strict=True):
            own = np.arange(tree.node_count)
            for name, children in (("left", tree.children_left), ("right", tree.children_right)):
                nodes[name].append(root + np.where(children < 0, own, children))  # a leaf is its own child
        model = {
            **{name: np.concatenate(parts) for name, parts in nodes.items()},
            "feature": np.concatenate([np.maximum(tree.feature, 0) for tree in trees]),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "mean": np.concatenate([tree.value[:, 0, 0] for tree in trees]),
            "variance": np.concatenate([np.maximum(tree.impurity, 0) for tree in trees]),
            "roots": roots,
            "depth": max(tree.max_depth for tree in trees),
        }
        return Fitted(model)

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        x = inputs.astype(np.float32)  # as scikit-learn compares
        node = np.tile(model["roots"], (len(x), 1))
        rows = np.arange(len(x))[:, None]
        for _ in range(model["depth"]):
            left = x[rows, model["feature"][node]] <= model["threshold"][node]
            node = np.where(left, model["left"][node], model["right"][node])
        means = model["mean"][node]
        return means.mean(axis=1), np.sqrt(means.var(axis=1) + model["variance"][node].mean(axis=1))
