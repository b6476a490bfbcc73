"""A new device from a handful of measurements and what other devices are known to take.

Ours; the setting (a device from ten measured architectures, the others' tables at hand) is that of HELP (Lee et al.,
2021), which trains a meta-learned network for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._context import Context
from archfront.predictors._few_shot_devices import TRANSFORMS, Devices, Known, OtherDevices, checked, tabulated
from archfront.predictors._few_shot_prior import farthest, posterior
from archfront.predictors._prediction import Fitted, Model, PredictorCapabilities
from archfront.predictors._predictor import Predictor
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration, SearchSpace

__all__ = ["FewShot", "Known", "OtherDevices", "tabulated"]

POOL = 2000
"""Samples of the space from which it is learned how the devices vary."""
UNLIKELY = 1e-3
"""A scale of less evidence than this is left out."""


class FewShot(Predictor):
    """label = level + factor * (mean of z + w z + v x) + noise, on some scale: z are the values on other devices,
    standardised over `pool`, and x the space's features.

    Without measurements the new device is the mean of the others; the weights w and v say how it differs, are normal
    around 0, and are learned by Bayesian linear regression. The scale (logarithm, root, or none), the width of the
    prior, that of the features in it and the noise are averaged over by evidence. Labels that are not all positive are
    learned on no other scale than their own. A device's missing values are filled in from the same configuration's
    values on the others.

    `known` tells the other devices' values (so does a context that is an `OtherDevices`); when judging the predictor,
    leave out other settings of the same chip. `pool`: the configurations that `known` knows, where it does not know
    random ones. Raises UsageError where `known` gives what is no positive number, or nothing at all for a
    configuration.
    """

    capabilities = PredictorCapabilities(uncertainty=True)
    minimum = 3

    def __init__(
        self,
        search_space: SearchSpace,
        context: Context | None = None,
        *,
        known: Known | None = None,
        pool: Sequence[Configuration] | None = None,
        **rest: Any,
    ) -> None:
        if known is not None:
            given = context or Context()
            context = OtherDevices(given.model_space, given.task, given.exact, known=known)
        super().__init__(search_space, context, **rest)
        self._pool = pool

    @classmethod
    def supports(cls, context: Context) -> str | None:
        if isinstance(context, OtherDevices) and context.known is not None:
            return None
        return "no other device's values are known here: give known=, a function from configurations to them"

    def inputs(self, configs: Sequence[Configuration]) -> Floats:
        """(n, features + m): the features and the other devices' values, NaN where one has none."""
        space = self.search_space
        features = space.to_features(configs)
        configs = space.decode(space.settled(space.encode(configs)))  # whoever knows them knows the canonical ones
        values = self._values(configs)
        if (empty := np.isnan(values).all(axis=1)).any():
            at = int(np.flatnonzero(empty)[0])
            raise UsageError(f"no other device has a value for {configs[at]}", "leave it out")
        return np.concatenate([features, values], axis=1)

    def choose(self, configs: Sequence[Configuration], n: int) -> list[int]:
        """Positions of n of `configs` to measure on the new device, those first that say most about it.

        Raises UsageError when there are fewer than n.
        """
        if not 0 <= n <= len(configs):
            raise UsageError(f"n={n} of {len(configs)} configurations", "give more of them")
        name, devices = next(iter(self._devices.items()))
        return [int(i) for i in farthest(_rows(name, devices, self.encoded(configs)), len(devices.centre), n)]

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        names = [name for name in TRANSFORMS if name == "none" or (y > 0).all()]
        fits = {name: _fitted(name, self._devices[name], inputs, y, weights) for name in names}
        evidence = np.array([fits[name][1] for name in names])
        likely = np.exp(evidence - evidence.max())
        likely = np.where(likely < UNLIKELY * likely.sum(), 0.0, likely)
        likely /= likely.sum()
        left_out = sum(p * fits[name][2] for p, name in zip(likely, names, strict=True))
        scales = {name: float(p) for p, name in zip(likely, names, strict=True) if p}
        models = {name: {"probability": p, **fits[name][0]} for name, p in scales.items()}
        return Fitted(models, {"scale": scales}, np.asarray(left_out))

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, Floats]:
        guesses = [(part["probability"], *_guessed(name, part, inputs)) for name, part in model.items()]
        mean = sum((p * own for p, own, _ in guesses), np.zeros(len(inputs)))
        variance = sum((p * (own + (at - mean) ** 2) for p, at, own in guesses), np.zeros(len(inputs)))
        return mean, np.sqrt(variance)

    def _values(self, configs: Sequence[Configuration]) -> Floats:
        assert isinstance(self.context, OtherDevices)  # `supports` has looked
        assert self.context.known is not None
        return checked(self.context.known(configs), len(configs))

    @cached_property
    def _devices(self) -> dict[str, Devices]:
        """How the other devices vary over the pool, by scale."""
        pool = self.search_space.sample(self.generator(), POOL) if self._pool is None else self._pool
        values, features = self._values(pool), self.search_space.to_features(pool)
        return {name: Devices.of(transform.apply(values), features) for name, transform in TRANSFORMS.items()}


def _rows(name: str, devices: Devices, inputs: Floats) -> Floats:
    features, m = len(devices.features), len(devices.centre)
    if inputs.shape[1] != features + m:
        raise UsageError(f"known gives {inputs.shape[1] - features} devices, it was {m} before", "always give the same")
    return devices.rows(TRANSFORMS[name].apply(inputs[:, features:]), inputs[:, :features])


def _fitted(
    name: str, devices: Devices, inputs: Floats, y: Floats, weights: Floats | None
) -> tuple[Model, float, Floats]:
    """A scale's model, its evidence, and what is guessed for each row without it (n,)."""
    transform, rows = TRANSFORMS[name], _rows(name, devices, inputs)
    labels, mean = transform.apply(y), devices.mean(rows)
    level, centre = float(np.average(labels, weights=weights)), float(np.average(mean, weights=weights))
    factor = float(labels.std() / (mean.std() or 1.0)) if np.ptp(labels) else 0.0
    root = np.ones(len(y)) if weights is None else np.sqrt(weights / weights.mean())
    t = (labels - level) / (factor or 1.0) - (mean - centre)
    learned = posterior(rows, t, root, len(devices.centre))
    evidence = learned.evidence - len(y) * np.log(factor or 1.0) + transform.log_slope(y).sum()
    left_out = level + factor * (mean - centre + learned.left_out)
    model = {
        "devices": vars(devices),
        "level": level - factor * centre,
        "factor": factor,
        "weight": learned.weight,
        "covariance": learned.covariance,
        "noise": learned.noise,
    }
    return model, float(evidence), transform.moments(left_out, np.zeros(len(y)))[0]


def _guessed(name: str, model: Model, inputs: Floats) -> tuple[Floats, Floats]:
    """Mean and variance (n,) in the metric's unit, by the model of one scale."""
    devices = Devices(**model["devices"])
    rows = _rows(name, devices, inputs)
    mean = model["level"] + model["factor"] * (devices.mean(rows) + rows @ model["weight"])
    unsure = np.einsum("nd,de,ne->n", rows, model["covariance"], rows, optimize=True)
    return TRANSFORMS[name].moments(mean, model["factor"] ** 2 * (np.maximum(unsure, 0) + model["noise"]))
