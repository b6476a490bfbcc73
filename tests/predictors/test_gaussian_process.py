"""The Gaussian process: one lengthscale per parameter, right gradients, the textbook's posterior."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from archfront.predictors._folds import folds
from archfront.predictors.gaussian_process import GaussianProcess, _Kernel
from archfront.predictors.testing import ADDITIVE, CONDITIONAL, toy_latency
from archfront.spaces import Categorical, Equals, Ordinal, Real, SearchSpace
from archfront.spaces._errors import UsageError


def test_one_lengthscale_per_parameter_tells_what_matters() -> None:
    space = SearchSpace(
        Categorical("op", ("a", "b", "c", "d")),
        Categorical("idle", ("a", "b", "c", "d")),
        Real("rate", 0.0, 1.0),
        Real("unused", 0.0, 1.0),
    )
    configs = space.sample(np.random.default_rng(0), 80)
    y = np.array([np.sin(5 * c["rate"]) + {"a": 0, "b": 1, "c": 1.5, "d": 3}[c["op"]] for c in configs])
    predictor = GaussianProcess(space)
    lengths = predictor.fit(configs, {"loss": y}).chosen["loss"]["lengthscales"]
    assert list(lengths) == space.names
    assert lengths["op"] < 0.2 * lengths["idle"]
    assert lengths["rate"] < 0.2 * lengths["unused"]


@pytest.mark.parametrize("space", [ADDITIVE, CONDITIONAL], ids=["additive", "conditional"])
def test_the_gradient_of_the_likelihood(space: SearchSpace) -> None:
    kernel = _Kernel(GaussianProcess(space))
    rng = np.random.default_rng(1)
    configs = space.sample(rng, 30)
    x = kernel.coordinates(space.to_features(configs))
    t, unsure = rng.normal(size=30), rng.uniform(0.5, 2, 30)
    for _ in range(3):
        theta = kernel.centre + 0.5 * rng.normal(size=len(kernel.centre))
        error = check_grad(
            lambda at: kernel.loss(at, x, t, unsure)[0], lambda at: kernel.loss(at, x, t, unsure)[1], theta
        )
        assert error < 1e-4 * np.linalg.norm(kernel.loss(theta, x, t, unsure)[1])


def test_distances_are_hamming_and_rank() -> None:
    space = SearchSpace(
        Categorical("kind", ("a", "b", "c")),
        Ordinal("width", (8, 16, 128)),
        Categorical("act", ("relu", "gelu"), when=(Equals("kind", "a"),)),
    )
    kernel = _Kernel(GaussianProcess(space))
    base = {"kind": "a", "width": 8, "act": "relu"}
    others = [
        base,
        {**base, "kind": "b"},  # two differences: act is inactive, which differs from both of its values
        {**base, "act": "gelu"},
        {**base, "width": 16},
    ]
    x = kernel.coordinates(space.to_features(others))
    theta = np.zeros(5)
    r = np.sqrt(5) * 0.5  # ranks, so that 16 is half way
    matern = (1 + r + r**2 / 3) * np.exp(-r)
    assert kernel.between(theta, x[:1], x)[0] == pytest.approx([1, np.exp(-2), np.exp(-1), matern])


def test_the_posterior_is_scikit_learns() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    space = SearchSpace(Real("x", 0.0, 1.0), Real("y", 0.0, 1.0))
    rng = np.random.default_rng(0)
    configs = space.sample(rng, 45)
    x = space.to_features(configs)
    y = 50 + 5 * np.sin(6 * x[:, 0]) + x[:, 1]
    predictor = GaussianProcess(space)
    chosen = predictor.fit(configs[:40], {"loss": y[:40]}).chosen["loss"]
    theta = predictor._models["loss"]["theta"]
    assert chosen["scale"] == pytest.approx(np.exp(theta[2]), rel=1e-3)
    kernel = ConstantKernel(np.exp(theta[2])) * Matern(np.exp(theta[:2]), nu=2.5)
    reference = GaussianProcessRegressor(kernel, alpha=np.exp(theta[3]), optimizer=None, normalize_y=True)
    mean, std = reference.fit(x[:40], y[:40]).predict(x, return_std=True)
    guess = predictor.predict(configs)["loss"]
    assert guess.mean == pytest.approx(mean, rel=1e-6)
    assert guess.std is not None
    noise = np.exp(theta[3]) * y[:40].var()
    assert guess.std**2 == pytest.approx(std**2 + noise, rel=1e-4, abs=1e-9)


def test_out_of_fold_means_are_those_of_conditioning_again() -> None:
    configs = ADDITIVE.sample(np.random.default_rng(0), 30)
    predictor = GaussianProcess(ADDITIVE)
    x, y = predictor.inputs(configs), toy_latency(configs)
    fitted = predictor.fit_metric(x, y, None)
    assert fitted.out_of_fold is not None
    theta, level = fitted.model["theta"], fitted.model["level"]
    for train, held in folds(30):
        covariance = predictor._kernel.between(theta, x[train], x[train]) + np.exp(theta[-1]) * np.eye(len(train))
        cross = predictor._kernel.between(theta, x[held], x[train])
        again = level + cross @ np.linalg.solve(covariance, y[train] - level)
        assert fitted.out_of_fold[held] == pytest.approx(again, rel=1e-6)


def test_hyperparameters_of_some_rows_condition_on_all() -> None:
    configs = ADDITIVE.sample(np.random.default_rng(0), 60)
    predictor = GaussianProcess(ADDITIVE, tuned_on=20)
    predictor.fit(configs, {"latency_ms": toy_latency(configs)})
    assert len(predictor._models["latency_ms"]["x"]) == 60
    with pytest.raises(UsageError, match="tuned_on=2"):
        GaussianProcess(ADDITIVE, tuned_on=2)
