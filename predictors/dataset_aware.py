"""Predictor that knows other data sets, for a new one with few evaluations or none (DiffusionNAG; An et al., 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._context import Context
from archfront.predictors._datasets import DataSet, DataSets, KnownDataSets
from archfront.predictors._networks import calibrated, shares_of
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._transfer import Learned, RowsOfSets, Transfer, learned, standardised
from archfront.predictors.noise_aware import NoiseAware, Noisy
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from torch import Tensor

    from archfront.predictors._directed import DirectedEnsemble

__all__ = ["DatasetAware"]

PRIOR = 2.0
"""The sources' spread of labels counts as so many rows of the target's."""


class DatasetAware(NoiseAware):
    """The networks of `noise_aware`, with an embedding of the data set beside that of the configuration: trained for
    `steps` on everything known on earlier data sets (once, and kept for the next fit), then for `adaptation` steps with
    the told rows of the study's own, each step with a new draw of `rows` rows of every class. A prediction is the mean
    over `draws` such draws.

    Labels are standardised for each data set: what is learned from the others is which configuration is better, not
    by how much errors differ between data sets. Level and spread of the study's own are those of its told rows (the
    spread drawn towards the others'), and the others' mean before there are any: a fit on no row is a transfer. A
    metric that no other data set knows is learned from the told rows alone, in `adaptation` steps.

    The context tells the data sets (`KnownDataSets`). The paper's sizes are hidden=144, rows=20 and
    10,000 steps of batch 256.
    """

    capabilities = PredictorCapabilities(uncertainty=True, noise_aware=True, task_conditioned=True)
    minimum = 0
    test_parameters = {"networks": 2, "hidden": 16, "steps": 60, "adaptation": 80, "lr": 3e-3, "rows": 2, "draws": 2}

    def __init__(
        self,
        *base: Any,
        rows: int = 10,
        draws: int = 10,
        steps: int = 1500,
        adaptation: int = 150,
        batch: int = 128,
        **rest: Any,
    ) -> None:
        super().__init__(*base, steps=steps, batch=batch, **rest)
        if min(rows, draws, adaptation) < 1:
            raise UsageError(f"rows={rows}, draws={draws} and adaptation={adaptation} must be at least 1")
        self.rows, self.draws, self.adaptation = rows, draws, adaptation

    @classmethod
    def supports(cls, context: Context) -> str | None:
        if not isinstance(context, KnownDataSets) or context.known is None:
            return "no other data set is known here: give KnownDataSets.of(target, sources) as context"
        found = context.known()
        return None if found.sources else found.reason

    def minimum_of(self, metric: str) -> int:
        """None for what other data sets know."""
        return 0 if self._sources_of(metric) else NoiseAware.minimum

    def fit_of(self, metric: str, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        return self._fit(self._sources_of(metric), inputs, y, weights)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        """From these rows alone: a metric without a name is known nowhere else."""
        return self._fit([], inputs, y, weights)

    def torch_noisy(self, model: Model) -> Callable[[Tensor, Tensor], Tensor]:
        """With the mean of the draws' embeddings: a diffusion follows one function."""
        return self._says(model, model["embeddings"].mean(axis=0))

    def _fit(self, sources: Sequence[Labelled], inputs: Floats, y: Floats, weights: Floats | None) -> Fitted:
        level, spread = _scale(y, sources)
        own = Labelled(self._target, inputs, (y - level) / spread)
        rows, told = self._table([*sources, own], weights), len(y)
        seed = int(self.generator().integers(2**62))
        work = Transfer(
            self._shape(),
            self._training(),
            self.adaptation,
            standardised([*(source.dataset for source in sources), own.dataset]),
            rows,
            self.rows,
            self.draws,
            seed,
        )
        found: Learned = self.context.workshop.submit(learned, work)()
        model: dict[str, Any] = {
            "tensors": {name: array.copy() for name, array in found.tensors.items()},  # theirs may be read only
            "embeddings": found.embeddings.copy(),
            "level": level,
            "spread": spread,
        }
        if told >= NoiseAware.minimum:
            means, others = self._means(model, inputs), len(rows.labels) - told
            shares = [share[share >= others] - others for share in rows.shares]
            noise, out_of_fold = calibrated(means, np.ones_like(means), y, shares)
            return Fitted({**model, "noise": noise}, out_of_fold=out_of_fold)
        noise, _ = calibrated(found.said, np.ones_like(found.said), rows.labels, rows.shares)
        return Fitted({**model, "noise": spread * noise})

    def _table(self, sets: Sequence[Labelled], weights: Floats | None) -> RowsOfSets:
        """All rows, the target's last. A network leaves out a fifth of the sources' rows, whole data sets where there
        are many, and a fifth of the target's."""
        told = len(sets[-1].labels)
        others = sum(len(one.labels) for one in sets[:-1])
        heavy = np.ones(others + told)
        if weights is not None and told:
            heavy[others:] = weights / weights.mean()
        stretches = [(start, n) for start, n in ((0, others), (others, told)) if n]
        parts = [[start + own for own in shares_of(n, self.networks)] for start, n in stretches]
        shares = [np.concatenate(own) for own in zip(*parts, strict=True)]
        inputs = np.concatenate([one.inputs for one in sets])
        labels = np.concatenate([one.labels for one in sets])
        owners = np.repeat(np.arange(len(sets)), [len(one.labels) for one in sets])
        return RowsOfSets(inputs, labels, heavy, shares, owners)

    def _means(self, model: Model, inputs: Floats) -> Floats:
        import torch

        x = torch.from_numpy(inputs).float()
        t = torch.full((len(inputs),), self._sde().smallest)
        with torch.no_grad():
            said = [self._says(model, embedding)(x, t).double().numpy() for embedding in model["embeddings"]]
        return np.asarray(np.mean(said, axis=0))

    def _says(self, model: Model, embedding: NDArray[np.float32]) -> Noisy:
        import torch

        return Noisy(self._loaded(model), self._sde(), model["level"], model["spread"], torch.from_numpy(embedding))

    def _net(self) -> DirectedEnsemble:
        from archfront.predictors._directed import DirectedEnsemble
        from archfront.predictors._set_encoder import EMBEDDING

        return DirectedEnsemble(**self._shape(), context=EMBEDDING)

    # -- what is known elsewhere

    @cached_property
    def _known(self) -> DataSets:
        assert isinstance(self.context, KnownDataSets)  # `supports` has looked
        assert self.context.known is not None
        return self.context.known()

    @property
    def _target(self) -> DataSet:
        assert self._known.target is not None  # there are sources
        return self._known.target

    @cached_property
    def _inputs_of_sources(self) -> list[Floats]:
        return [self.encoded(source.configs) for source in self._known.sources]

    def _sources_of(self, metric: str) -> list[Labelled]:
        """The sources that know a metric, standardised; one whose labels are all alike says nothing."""
        found = []
        for source, inputs in zip(self._known.sources, self._inputs_of_sources, strict=True):
            rows = source.known(metric)
            labels = np.asarray(source.values.get(metric, ()), np.float64)[rows]
            if len(rows) and np.ptp(labels) > 0:
                level, spread = float(labels.mean()), float(labels.std())
                found.append(Labelled(source.dataset, inputs[rows], (labels - level) / spread, level, spread))
        return found


@dataclass(frozen=True)
class Labelled:
    """Matrices (n, rows, columns) and standardised labels (n,) of one data set, and what they were standardised by."""

    dataset: DataSet
    inputs: Floats
    labels: Floats
    level: float = 0.0
    spread: float = 1.0


def _scale(y: Floats, sources: Sequence[Labelled]) -> tuple[float, float]:
    """Level and spread of the target's labels."""
    if not sources:
        return float(y.mean()), float(y.std()) or 1.0
    spread = float(np.mean([source.spread for source in sources]))
    level = float(y.mean()) if len(y) else float(np.mean([source.level for source in sources]))
    own = len(y) * float(y.var()) if len(y) else 0.0
    return level, float(np.sqrt((own + PRIOR * spread**2) / (len(y) + PRIOR)))
