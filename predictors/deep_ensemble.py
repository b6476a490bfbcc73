"""Deep ensemble (Lakshminarayanan et al., 2017): networks that tell mean and variance, and disagree where they must."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._networks import FLOOR, Training, calibrated, forward, layers_of, mean_of, shares_of, train
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DeepEnsemble"]


class DeepEnsemble(Predictor):
    """`networks` networks with a head for the mean and one for the variance; the prediction is mean and standard
    deviation of the mixture (§2.4). No adversarial training.

    Two things differ from the paper, which are needed with tens of rows: each network leaves out one of five folds, on
    which its standard deviation is scaled until the central 90 % interval holds 90 % (all networks share the factor);
    and the heads learn by the weighted likelihood of Seitzer et al. (2022), as the plain one explains hard rows away as
    noise. Layers, steps, `lr` and `decay` as in `mlp`.
    """

    capabilities = PredictorCapabilities(uncertainty=True, differentiable=True)
    minimum = 5
    test_parameters = {"networks": 3, "hidden": 32, "steps": 80, "lr": 1e-2}

    def __init__(
        self,
        *base: Any,
        networks: int = 5,
        hidden: int = 128,
        depth: int = 2,
        steps: int = 800,
        lr: float = 2e-3,
        decay: float = 3.0,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        if networks < 2 or hidden < 1 or depth < 1:
            raise UsageError(f"networks={networks} must be at least 2, hidden={hidden} and depth={depth} at least 1")
        self.networks, self.widths, self.training = networks, [hidden] * depth, Training(steps, lr, decay)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        shares = shares_of(len(y), self.networks)
        sizes = [inputs.shape[1], *self.widths, 2]
        model = train(self, inputs, y, weights, sizes=sizes, shares=shares, training=self.training)
        means, stds = _heads(model, inputs)
        factor, out_of_fold = calibrated(means, stds, y, shares)
        return Fitted({**model, "factor": factor}, out_of_fold=out_of_fold)

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        means, stds = _heads(model, inputs)
        return means.mean(axis=0), np.sqrt(((model["factor"] * stds) ** 2).mean(axis=0) + means.var(axis=0))

    def torch_mean(self, model: Model) -> Callable[[Tensor], Tensor]:
        return mean_of(model)


def _heads(model: Model, inputs: Floats) -> tuple[Floats, Floats]:
    """Means and standard deviations (networks, n) in the metric's unit, without the factor."""
    import torch

    with torch.no_grad():
        output = forward(layers_of(model), torch.from_numpy(inputs))
        stds = (torch.nn.functional.softplus(output[..., 1]) + FLOOR**2).sqrt()
    return model["level"] + model["spread"] * output[..., 0].numpy(), model["spread"] * stds.numpy()
