"""Prior-data fitted network as a surrogate (Müller et al., 2023): a pre-trained transformer reads the observations; no
fit, one forward pass for mean, uncertainty and expected improvement."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._power import Power
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.spaces._choices import Ordinal
from archfront.spaces._errors import StoreError, UnknownNameError, UsageError
from archfront.spaces._metric import Direction
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration

if TYPE_CHECKING:
    from torch import Tensor

    from archfront.spaces.inference._checkpoint import Checkpoint
    from archfront.spaces.inference._transformer import Memory, PfnNetwork

__all__ = ["Pfn"]

logger = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent / "checkpoints" / "pfn.pt"
SPARED = ("fixed", "active", "ordinal")
"""Columns that other columns imply, in the order in which they are left out: those of fixed parameters, those that say
whether a parameter is active (the parameters that decide it do too), the one-hot columns of ordinals beside a rank."""
ORDER = 8
"""Points in each bucket at which its values are turned into the metric's unit."""


class Pfn(Predictor):
    """Reads the space's features (at most as many columns as the network was trained on, 64 in the shipped one) and the
    labels, brought to mean 0 and variance 1 after a power transform. Nothing is fitted but that.

    Where a space has more columns, those that others imply are left out (`SPARED`). Of more observations than the
    network has seen in training, those at evenly spaced ranks of the label are kept, the smallest and the largest among
    them. Weights are not used. The seed decides nothing.

    `checkpoint`: a file of `benchmarks/pretrain_pfn.py`, or "default". `transform`: Yeo-Johnson on the labels; without
    it they are only scaled. `rotations`: the distribution is the mean of as many, each of the columns in another cyclic
    order, which the network was not trained to ignore; as many times the work.
    """

    capabilities = PredictorCapabilities(uncertainty=True, differentiable=True)
    minimum = 2

    def __init__(
        self, *base: Any, checkpoint: str = "default", transform: bool = True, rotations: int = 1, **rest: Any
    ) -> None:
        super().__init__(*base, **rest)
        if rotations < 1:
            raise UsageError(f"rotations={rotations} of predictor 'pfn' must be at least 1")
        self.transform, self.rotations = transform, rotations
        self._checkpoint = _checkpoint(SHIPPED if checkpoint == "default" else Path(checkpoint))
        self._columns = self._chosen_columns(self._checkpoint.shape.features)
        self._told = False
        self._held: dict[str, tuple[Model, list[Memory]]] = {}

    def inputs(self, configs: Sequence[Configuration]) -> Floats:
        return np.asarray(self.search_space.to_features(configs)[:, self._columns])

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        rows = self._kept(y)
        power = Power.of(y[rows], transform=self.transform)
        model = {"x": inputs[rows], "t": power.forward(y[rows]), "power": power.as_dict()}
        chosen = {"context": len(rows), "exponent": round(power.exponent, 3)}
        return Fitted({**model, "checkpoint": self._checkpoint.hash}, chosen)

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        mean, square = self._expected(model, inputs, self._moments(model)).T
        level, spread = self._power(model).unit
        return level + spread * mean, spread * np.sqrt(np.maximum(square - mean**2, 0))

    def improvement(self, configs: Sequence[Configuration], metric: str, best: float, direction: Direction) -> Floats:
        """Expected improvement (n,) of a new measurement over `best`, in the metric's unit and from the predicted
        distribution itself. Raises UsageError before a fit, UnknownNameError for a metric that it did not have."""
        if not self._models:
            raise UsageError("predictor 'pfn' has learned nothing", "call fit first")
        if metric not in self._models:
            raise UnknownNameError.of("metric of this predictor", metric, self._models)
        model = self._models[metric]
        values, weights = self._values(model)
        level, spread = self._power(model).unit
        better = values - (best - level) / spread
        gain = np.maximum(better if direction == "max" else -better, 0) @ weights
        return np.asarray(spread * self._expected(model, self.encoded(configs), gain[:, None])[:, 0])

    def torch_mean(self, model: Model) -> Callable[[Tensor], Tensor]:
        import torch

        memory = self._context(model, torch.float64)
        network = _network(self._checkpoint, torch.float64)
        means = torch.from_numpy(self._moments(model)[:, 0])
        level, spread = self._power(model).unit
        columns = torch.from_numpy(self._columns)

        def mean(features: Tensor) -> Tensor:
            probabilities = network.log_probs(memory, self._encoded(features[:, columns])).exp().mean(0)
            return level + spread * (probabilities @ means)

        return mean

    # -- how

    def _chosen_columns(self, most: int) -> NDArray[np.int64]:
        """The feature columns that are read. Raises UsageError where there are too many."""
        groups: dict[str, list[int]] = {kind: [] for kind in (*SPARED, "needed")}
        at = 0
        for parameter in self.search_space:
            own = len(parameter.feature_names)
            hot = own - 1 if isinstance(parameter, Ordinal) else 0
            fixed = parameter.size == 1 and not parameter.when
            groups["fixed" if fixed else "ordinal"] += range(at, at + hot)
            groups["fixed" if fixed else "needed"] += range(at + hot, at + own)
            groups["active"] += range(at + own, at + own + bool(parameter.when))
            at += own + bool(parameter.when)
        for kind in SPARED:
            if sum(map(len, groups.values())) > most:
                groups[kind] = []
        found = sorted(column for columns in groups.values() for column in columns)
        if len(found) > most:
            raise UsageError(
                f"predictor 'pfn' reads at most {most} feature columns: this space has {at}, {len(found)} that nothing "
                "else tells",
                "hold some parameters (--set), or use `gaussian_process` or `forest`",
            )
        return np.array(found, np.int64)

    def _kept(self, y: Floats) -> NDArray[np.int64]:
        """Rows of the context."""
        most = int(self._checkpoint.about["longest"])
        if len(y) <= most:
            return np.arange(len(y))
        if not self._told:
            logger.warning(
                "pfn was trained on up to %d observations: of %d it reads %d, at evenly spaced ranks of the label",
                most,
                len(y),
                most,
            )
            self._told = True
        ranks = np.linspace(0, len(y) - 1, most).round().astype(np.int64)
        return np.sort(np.argsort(y, kind="stable")[ranks])

    def _encoded(self, x: Tensor) -> Tensor:
        """What the network reads of chosen columns (n, columns): (rotations, n, features)."""
        import torch

        from archfront.spaces.inference._prior import encoded

        columns = x.shape[-1]
        orders = [torch.roll(x, i * columns // self.rotations, -1) for i in range(self.rotations)]
        padded = torch.nn.functional.pad(torch.stack(orders), (0, self._checkpoint.shape.features - columns))
        used = torch.full((self.rotations,), columns)
        return encoded(padded, used, float(self._checkpoint.about["power"]))

    def _context(self, model: Model, dtype: Any) -> list[Memory]:
        """What the network remembers of a model's observations; the last one's is kept."""
        import torch

        if model["checkpoint"] != self._checkpoint.hash:
            raise StoreError("the stored state is of another checkpoint", "give checkpoint=FILE of the study's own")
        held = self._held.get(str(dtype))
        if held is not None and held[0] is model:
            return held[1]
        x, t = (torch.from_numpy(np.asarray(model[name])).to(dtype) for name in ("x", "t"))
        with torch.no_grad():
            memory = _network(self._checkpoint, dtype).context(self._encoded(x), t.expand(self.rotations, -1))
        self._held[str(dtype)] = model, memory
        return memory

    def _expected(self, model: Model, inputs: NDArray[Any], values: Floats) -> Floats:
        """Expectations (n, k) of what has the mean `values` (buckets, k) in each bucket."""
        import torch

        from archfront.spaces.inference._transformer import CHUNK

        memory, network = self._context(model, torch.float32), _network(self._checkpoint, torch.float32)
        x, table = torch.from_numpy(np.asarray(inputs, np.float32)), torch.from_numpy(values)
        with torch.no_grad():
            parts = [
                network.log_probs(memory, self._encoded(part)).exp_().mean(0).double() @ table
                for part in torch.split(x, CHUNK)
            ]
            return np.asarray(torch.cat(parts).numpy())

    @staticmethod
    def _power(model: Model) -> Power:
        return Power(**model["power"])

    def _values(self, model: Model) -> tuple[Floats, Floats]:
        """Values (buckets, ORDER) in units of `Power.unit` and weights (ORDER,): what a bucket stands for."""
        from archfront.spaces.inference._bar_distribution import nodes_of, tail_scales

        borders = self._checkpoint.borders.double()
        scales = tail_scales(borders) * self._checkpoint.shape.tails
        nodes, weights = nodes_of(borders, scales, ORDER)
        return self._power(model).backward(nodes.numpy()), weights.numpy()

    def _moments(self, model: Model) -> Floats:
        """Mean and mean square (buckets, 2) of each bucket's values."""
        values, weights = self._values(model)
        return np.stack([values @ weights, values**2 @ weights], 1)


@lru_cache(maxsize=4)
def _checkpoint(path: Path) -> Checkpoint:
    from archfront.spaces.inference._checkpoint import load_checkpoint

    return load_checkpoint(path)


@lru_cache(maxsize=4)
def _network(checkpoint: Checkpoint, dtype: Any) -> PfnNetwork:
    return checkpoint.network().to(dtype)
