"""A network of two hidden layers of 400: the accuracy predictor of Once-for-All (Cai et al., 2020, §3.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._folds import folds
from archfront.predictors._networks import Training, forward, layers_of, mean_of, train
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Mlp"]


class Mlp(Predictor):
    """`depth` hidden layers of `hidden` units with ReLU, squared error on standardised labels; a mean and no more.

    Once-for-All states the shape; the optimiser (`steps` of AdamW, `lr`, weight decay `decay`) is our choice.
    """

    capabilities = PredictorCapabilities(differentiable=True)
    minimum = 2
    test_parameters = {"hidden": 32, "steps": 80, "lr": 1e-2}

    def __init__(
        self,
        *base: Any,
        hidden: int = 400,
        depth: int = 2,
        steps: int = 800,
        lr: float = 2e-3,
        decay: float = 3.0,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        if hidden < 1 or depth < 1:
            raise UsageError(f"hidden={hidden} and depth={depth} must be at least 1")
        self.widths, self.training = [hidden] * depth, Training(steps, lr, decay)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        sizes = [inputs.shape[1], *self.widths, 1]
        return Fitted(train(self, inputs, y, weights, sizes=sizes, shares=[np.arange(len(y))], training=self.training))

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, None]:
        import torch

        with torch.no_grad():
            mean: Floats = mean_of(model)(torch.from_numpy(inputs)).numpy()
        return mean, None

    def out_of_fold(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Floats:
        """The five networks train side by side."""
        import torch

        shares = [rows for rows, _ in folds(len(y))]
        sizes = [inputs.shape[1], *self.widths, 1]
        model = train(self, inputs, y, weights, sizes=sizes, shares=shares, training=self.training)
        with torch.no_grad():
            output = forward(layers_of(model), torch.from_numpy(inputs))[..., 0].numpy()
        guess = np.empty(len(y))
        for network, (_, held) in enumerate(folds(len(y))):
            guess[held] = model["level"] + model["spread"] * output[network, held]
        return guess

    def torch_mean(self, model: Model) -> Callable[[Tensor], Tensor]:
        return mean_of(model)
