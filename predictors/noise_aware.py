"""Predictor of noised configurations, which guides a diffusion (DiffusionNAG; An et al., 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._networks import calibrated, shares_of
from archfront.predictors._noisy_training import NoisyTraining, Rows
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.predictors._relaxation import BINS, Relaxation
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration

if TYPE_CHECKING:
    from torch import Tensor

    from archfront.predictors._directed import DirectedEnsemble
    from archfront.predictors._sde import Sde

__all__ = ["NoiseAware"]


@dataclass(frozen=True)
class Noisy:
    """What each network says, in the metric's unit. A class, so that it travels to another process. `context`
    (networks, 1, context) is the embedding of a data set."""

    net: DirectedEnsemble
    sde: Sde
    level: float
    spread: float
    context: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x (n, rows, columns), t (n,) to (networks, n)."""
        said: Tensor = self.net(x[None], self.sde.condition(t)[None], self.context)
        return self.level + self.spread * said


class NoiseAware(Predictor):
    """`networks` directed graph networks over the rows of the relaxed configuration, each trained on noised copies of
    the labelled ones at times t ~ U(smallest, 1) of the same process (`sde`, `sigma_min`, `sigma_max`) that the
    generator uses. A prediction is their mean at the smallest time.

    Each network leaves out one of five folds; the standard deviation joins their disagreement with a constant under
    which 90 % of the left-out rows lie within the central 90 % interval. `noisy=False` trains on clean configurations
    only: the ablation of the paper, which guides worse. The paper's sizes are hidden=144 and 10,000 steps of batch 256.
    """

    capabilities = PredictorCapabilities(uncertainty=True, noise_aware=True)
    minimum = 5
    test_parameters = {"networks": 2, "hidden": 32, "steps": 150, "lr": 3e-3}

    def __init__(
        self,
        *base: Any,
        networks: int = 3,
        hidden: int = 32,
        layers: int = 4,
        steps: int = 150,
        batch: int = 64,
        lr: float = 2e-3,
        noisy: bool = True,
        sde: str = "ve",
        sigma_min: float = 0.1,
        sigma_max: float = 5.0,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        if networks < 2 or min(hidden // 4, layers, steps, batch) < 1 or not lr > 0:
            raise UsageError(
                f"networks={networks}, hidden={hidden}, layers={layers}, steps={steps}, batch={batch}, lr={lr}",
                "networks must be at least 2, hidden 4, the other whole numbers 1, lr above 0",
            )
        self.networks, self.hidden, self.layers = networks, hidden, layers
        self.steps, self.batch, self.lr, self.learns_noise = steps, batch, lr, noisy
        self.process: dict[str, Any] = {"name": sde, "sigma_min": sigma_min, "sigma_max": sigma_max}
        self.relaxation = Relaxation.of(self.search_space, self.context, bins=BINS)

    def inputs(self, configs: Sequence[Configuration]) -> Floats:
        """Matrices (n, rows, columns) of -1 and 1."""
        return 2 * self.relaxation.encode(configs) - 1

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        import torch

        level, spread = float(y.mean()), float(y.std()) or 1.0
        shares = shares_of(len(y), self.networks)
        heavy = np.ones(len(y)) if weights is None else weights / weights.mean()
        rng = self.generator()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            net = self._net()
            rows = Rows(inputs, (y - level) / spread, heavy, shares)
            self._training()(list(net.parameters()), lambda x, condition, _: net(x, condition), rows, rng)
        model: dict[str, Any] = {
            "tensors": {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()},
            "level": level,
            "spread": spread,
        }
        means = self._means(model, inputs)
        noise, out_of_fold = calibrated(means, np.ones_like(means), y, shares)
        return Fitted({**model, "noise": noise}, out_of_fold=out_of_fold)

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        means = self._means(model, inputs)
        return means.mean(axis=0), np.sqrt(model["noise"] ** 2 + means.var(axis=0))

    def torch_noisy(self, model: Model) -> Callable[[Tensor, Tensor], Tensor]:
        return Noisy(self._loaded(model), self._sde(), model["level"], model["spread"])

    def _means(self, model: Model, inputs: Floats) -> Floats:
        """What each network says of clean configurations, (networks, n), in the metric's unit."""
        import torch

        with torch.no_grad():
            t = torch.full((len(inputs),), self._sde().smallest)
            means: Floats = self.torch_noisy(model)(torch.from_numpy(inputs).float(), t).double().numpy()
        return means

    def _loaded(self, model: Model) -> DirectedEnsemble:
        import torch

        with torch.random.fork_rng(devices=[]):
            net = self._net()
        net.load_state_dict({name: torch.from_numpy(array) for name, array in model["tensors"].items()})
        return net.eval().requires_grad_(False)

    def _net(self) -> DirectedEnsemble:
        from archfront.predictors._directed import DirectedEnsemble

        return DirectedEnsemble(**self._shape())

    def _shape(self) -> dict[str, Any]:
        """What `DirectedEnsemble` is made of."""
        import torch

        return {
            "networks": self.networks,
            "columns": self.relaxation.shape[1],
            "mask": torch.from_numpy(self.relaxation.attention),
            "hidden": self.hidden,
            "layers": self.layers,
        }

    def _training(self) -> NoisyTraining:
        free = self.relaxation.free
        return NoisyTraining(self.steps, self.batch, self.lr, self.learns_noise, self.process, free)

    def _sde(self) -> Sde:
        return self._training().sde
