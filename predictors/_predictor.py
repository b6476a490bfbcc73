"""One predictor interface: fit, predict, score, state. The base owns everything but the model."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archfront.predictors._context import Context
from archfront.predictors._errors import TooFewPointsError
from archfront.predictors._folds import folds
from archfront.predictors._prediction import GUESSED_KINDS, FitReport, Fitted, Model, Prediction, PredictorCapabilities
from archfront.predictors._scores import Scores, scores_of
from archfront.predictors._state import joined, separated
from archfront.spaces._arguments import Argument, arguments_of
from archfront.spaces._errors import StoreError, UnknownNameError, UsageError
from archfront.spaces._metric import Direction
from archfront.spaces._parameter import Floats
from archfront.spaces._registry import registered_name
from archfront.spaces._search_space import Configuration, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Predictor"]

CHUNK = 1024
"""Rows that are predicted at once: bounds the memory of kernels and graphs."""


class Predictor(ABC):
    """Write `fit_metric` and `predict_metric`; override `inputs` where features are not what the model reads.

    A model is data (see `Model`), so that storing it needs no code. Everything random comes from `self.generator()`:
    a function of the seed, the same for every metric and every call, so that a fit depends on its own data only.
    Its parameters are the keyword-only arguments of its own `__init__`.

    A predictor that is not trained (a proxy, a cost model) declares `minimum = 0` and offers its metrics by
    `untrained`; its `inputs` may return `self.rows_of(configs)`, the configurations themselves.
    """

    capabilities: ClassVar[PredictorCapabilities] = PredictorCapabilities()
    minimum: ClassVar[int] = 2
    """Least number of rows to fit on."""
    test_parameters: ClassVar[Mapping[str, Any]] = {}
    """Parameters with which the contract kit runs it quickly."""

    def __init__(
        self, search_space: SearchSpace, context: Context | None = None, *, seed: int = 0, **unknown: Any
    ) -> None:
        name = registered_name(type(self))
        for parameter in unknown:
            raise UnknownNameError.of(f"parameter of predictor {name!r}", parameter, self.parameters())
        self.search_space, self.context, self.seed = search_space, context or Context(), seed
        if (reason := self.supports(self.context)) is not None:
            raise UsageError(f"predictor {name!r} cannot be used here", reason)
        self._models: dict[str, Model] = {}

    # -- written by the predictor's file

    @classmethod
    def supports(cls, context: Context) -> str | None:
        """Why this predictor cannot be used with a study's context, or None. `auto` skips it, a request is refused."""
        return None

    def inputs(self, configs: Sequence[Configuration]) -> NDArray[Any]:
        """What the model reads, one row per configuration: by default the space's features (n, features) in 0..1."""
        return self.search_space.to_features(configs)

    @abstractmethod
    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        """Learn labels `y` (n,) in the metric's unit; `weights` (n,) are positive. n is at least `minimum`."""

    def fit_of(self, metric: str, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        """`fit_metric` where the metric's name says something; n is at least `minimum_of(metric)`."""
        return self.fit_metric(inputs, y, weights)

    def minimum_of(self, metric: str) -> int:
        """Least number of rows to fit a metric on."""
        return self.minimum

    @abstractmethod
    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats | None]:
        """Mean (n,) and, with capability `uncertainty`, standard deviation (n,) of a new measurement, else None."""

    def untrained(self) -> Mapping[str, Model]:
        """Metrics that can be guessed without a fit, each with the model that `predict_metric` then receives."""
        return {}

    def torch_mean(self, model: Model) -> Callable[[Tensor], Tensor]:
        """The mean as a torch function from features (n, features) to (n,); for capability `differentiable`."""
        name = registered_name(type(self))
        raise TypeError(f"predictor {name!r} declares capability differentiable: it must write torch_mean")

    def torch_noisy(self, model: Model) -> Callable[[Tensor, Tensor], Tensor]:
        """What each of its networks says of noised matrices: x (n, rows, columns) with entries around -1 and 1, and
        times (n,) of its own diffusion, to (networks, n); for capability `noise_aware`."""
        name = registered_name(type(self))
        raise TypeError(f"predictor {name!r} declares capability noise_aware: it must write torch_noisy")

    # -- what the base gives

    def generator(self) -> np.random.Generator:
        """A generator for one fit: a function of the seed."""
        return np.random.default_rng(self.seed)

    @staticmethod
    def rows_of(configs: Sequence[Configuration]) -> NDArray[Any]:
        """The configurations themselves as an array (n,) of objects: `inputs` of a predictor that builds modules."""
        rows = np.empty(len(configs), object)
        rows[:] = list(configs)
        return rows

    def encoded(self, configs: Sequence[Configuration]) -> NDArray[Any]:
        """`inputs`, also of configurations that are silent about what is inactive. Raises ConfigurationError."""
        try:
            return self.inputs(configs)
        except KeyError:
            return self.inputs([self.search_space.canonicalise(config) for config in configs])

    def out_of_fold(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Floats:
        """Means (n,) for the rows by models of five folds that had not seen them; costs five fits."""
        guess = np.empty(len(y))
        for train, held in folds(len(y)):
            fitted = self.fit_metric(inputs[train], y[train], None if weights is None else weights[train])
            guess[held] = self.predict_metric(fitted.model, inputs[held])[0]
        return guess

    @classmethod
    def parameters(cls) -> dict[str, Argument]:
        """The predictor's own parameters: the keyword-only arguments of its `__init__`s."""
        return arguments_of(cls, Predictor)

    @property
    def metrics(self) -> list[str]:
        """Metrics that `predict` knows, sorted."""
        return sorted({**self.untrained(), **self._models})

    @final
    def fit(
        self,
        configs: Sequence[Configuration],
        targets: Mapping[str, ArrayLike],
        *,
        weights: ArrayLike | None = None,
        kinds: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ) -> FitReport:
        """Learn each metric of `targets` (n values each) from n complete legal configurations; forgets earlier fits.

        Rows of weight 0 and rows whose kind is predicted or proxy are left out (`kinds`: n for all metrics, or n by
        metric); duplicates are welcome. The order of the rows matters only to how they fall into folds. Raises
        TooFewPointsError when fewer than `minimum` rows are left; UsageError for lengths that differ and for values
        that are not finite; ConfigurationError for a configuration that is not legal. The earlier fit then stands.
        """
        started = time.perf_counter()
        if not targets:
            raise UsageError("a fit needs at least one metric", "targets={metric: values}")
        heavy = self._weights(weights, len(configs))
        tables = {metric: self._rows(metric, y, heavy, kinds, len(configs)) for metric, y in targets.items()}
        inputs = self.encoded(configs)
        fits = {}
        for metric, (y, rows) in tables.items():
            fits[metric] = self.fit_of(metric, inputs[rows], y[rows], None if heavy is None else heavy[rows])
        self._models = {metric: fitted.model for metric, fitted in fits.items()}
        return FitReport(
            n=min(len(rows) for _, rows in tables.values()),
            scores={
                metric: scores_of(fitted.out_of_fold, tables[metric][0][tables[metric][1]])
                for metric, fitted in fits.items()
                if fitted.out_of_fold is not None and len(fitted.out_of_fold)
            },
            chosen={metric: dict(fitted.chosen) for metric, fitted in fits.items()},
            seconds=time.perf_counter() - started,
        )

    @final
    def predict(self, configs: Sequence[Configuration], metrics: Sequence[str] | None = None) -> dict[str, Prediction]:
        """Guesses for complete legal configurations, by metric (default: all known ones).

        Raises UsageError before a fit, UnknownNameError for a metric the fit did not have.
        """
        models = {**self.untrained(), **self._models}
        if not models:
            raise UsageError(f"predictor {registered_name(type(self))!r} has learned nothing", "call fit first")
        wanted = list(self.metrics if metrics is None else metrics)
        for metric in wanted:
            if metric not in models:
                raise UnknownNameError.of("metric of this predictor", metric, models)
        guesses: dict[str, list[tuple[Floats, Floats | None]]] = {metric: [] for metric in wanted}
        for start in range(0, len(configs), CHUNK):
            inputs = self.encoded(configs[start : start + CHUNK])
            for metric, parts in guesses.items():
                parts.append(self.predict_metric(models[metric], inputs))
        return {metric: self._prediction(parts) for metric, parts in guesses.items()}

    def improvement(self, configs: Sequence[Configuration], metric: str, best: float, direction: Direction) -> Floats:
        """Expected improvement (n,) of a new measurement over `best`, in the metric's unit; of a normal distribution
        where the predictor has none of its own. Raises what `predict` raises, UsageError without uncertainty."""
        from scipy.special import ndtr

        guess = self.predict(configs, [metric])[metric]
        if guess.std is None:
            raise UsageError(f"predictor {registered_name(type(self))!r} does not say how sure it is")
        std = np.maximum(guess.std, 1e-12)
        ahead = guess.mean - best if direction == "max" else best - guess.mean
        z = ahead / std
        return np.asarray(std * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) + ahead * ndtr(z))

    @final
    def score(self, configs: Sequence[Configuration], targets: Mapping[str, ArrayLike]) -> dict[str, Scores]:
        """How good the guesses are against true values, by metric. Raises what `predict` raises."""
        guesses = self.predict(configs, list(targets))
        return {metric: scores_of(guesses[metric], np.asarray(y, np.float64)) for metric, y in targets.items()}

    @final
    def differentiable(self, metric: str) -> Callable[[Tensor], Tensor]:
        """The mean of a metric as a torch function from float64 features (n, features), relaxed ones too, to (n,);
        autograd goes through it. Raises UsageError without capability `differentiable`."""
        if not self.capabilities.differentiable:
            raise UsageError(f"predictor {registered_name(type(self))!r} has no gradient", "choose e.g. mlp or ridge")
        if metric not in self._models:
            raise UnknownNameError.of("metric of this predictor", metric, self._models)
        return self.torch_mean(self._models[metric])

    @final
    def noisy(self, metric: str) -> Callable[[Tensor, Tensor], Tensor]:
        """`torch_noisy` of a metric that was learned. Raises UsageError without capability `noise_aware`."""
        if not self.capabilities.noise_aware:
            raise UsageError(f"predictor {registered_name(type(self))!r} knows no noise", "choose noise_aware")
        if metric not in self._models:
            raise UnknownNameError.of("metric of this predictor", metric, self._models)
        return self.torch_noisy(self._models[metric])

    @final
    def gradient(self, features: Floats, metric: str) -> Floats:
        """Derivative (n, features) of the mean by each row's features. Raises what `differentiable` raises."""
        mean = self.differentiable(metric)
        import torch

        relaxed = torch.tensor(features, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(mean(relaxed).sum(), relaxed)
        return np.asarray(slope.numpy(), np.float64)

    @final
    def state_dict(self) -> dict[str, Any]:
        """JSON, but for `blobs`, which maps names to arrays: what reproduces the predictions exactly."""
        blobs: dict[str, NDArray[Any]] = {}
        models = {metric: separated(model, metric, blobs) for metric, model in self._models.items()}
        return {
            "format": 1,
            "predictor": registered_name(type(self)),
            "space": self.search_space.id,
            "seed": self.seed,
            "models": models,
            "blobs": blobs,
        }

    @final
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Predict as the predictor that wrote `state` did. Raises StoreError for one of another predictor or space."""
        here = {"format": 1, "predictor": registered_name(type(self)), "space": self.search_space.id}
        for name, value in here.items():
            if state[name] != value:
                raise StoreError(f"the stored state is of {name} {state[name]!r}, this is {value!r}")
        self._models = {metric: joined(model, state["blobs"]) for metric, model in state["models"].items()}

    # -- how

    def _prediction(self, parts: Sequence[tuple[Floats, Floats | None]]) -> Prediction:
        mean = np.concatenate([np.empty(0), *(mean for mean, _ in parts)])
        if not self.capabilities.uncertainty:
            return Prediction(mean)
        return Prediction(mean, np.concatenate([np.empty(0), *(std for _, std in parts if std is not None)]))

    @staticmethod
    def _weights(weights: ArrayLike | None, n: int) -> Floats | None:
        if weights is None:
            return None
        given = np.asarray(weights, np.float64)
        if given.shape != (n,) or not np.isfinite(given).all() or (given < 0).any():
            raise UsageError(f"weights of shape {given.shape}", f"give {n} finite ones, none below 0")
        return given

    def _rows(
        self,
        metric: str,
        values: ArrayLike,
        weights: Floats | None,
        kinds: Sequence[str] | Mapping[str, Sequence[str]] | None,
        n: int,
    ) -> tuple[Floats, NDArray[np.int64]]:
        """A metric's labels (n,) and which of them are learned from."""
        y = np.asarray(values, np.float64)
        own = kinds.get(metric) if isinstance(kinds, Mapping) else kinds
        for what, length in (("values", y.shape), ("kinds", (n,) if own is None else (len(own),))):
            if length != (n,):
                raise UsageError(f"{metric}: {what} of shape {length} for {n} configurations", "give one each")
        learned = np.ones(n, bool) if own is None else np.array([kind not in GUESSED_KINDS for kind in own], bool)
        if weights is not None:
            learned &= weights > 0
        rows = np.flatnonzero(learned)
        if not np.isfinite(y[rows]).all():
            at = rows[~np.isfinite(y[rows])][0]
            raise UsageError(f"{metric}: value {at} is {y[at]}", "leave failed evaluations out")
        if len(rows) < (least := self.minimum_of(metric)):
            raise TooFewPointsError(
                f"predictor {registered_name(type(self))!r} needs {least} points, {metric!r} has {len(rows)}",
                "evaluate more configurations, or choose a predictor with a smaller minimum",
            )
        return y, rows
