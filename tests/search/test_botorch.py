"""The parts of `bayesian`: the model is BoTorch's, the acquisition is BoTorch's, the climber finds its maximum."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from archfront.search._botorch import Processes, Samples
from archfront.search._botorch_climb import Climber
from archfront.search._botorch_fit import Hyperparameters, fitted, log_posterior
from archfront.search._botorch_model import Model, _normals, reference_point, tamed
from archfront.search._botorch_space import Embedding
from archfront.spaces import (
    Integer,
    SearchSpace,
)
from tests.search.test_bayesian import MIXED, PLANE

Floats = NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True)
def _botorch() -> Iterator[None]:
    """BoTorch without its C++ kernel, which takes 22 s to compile and can leave a lock behind; only the tests that
    compare with its own acquisition functions would start it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BoTorch's import says that torch.jit.script is deprecated
        import botorch

    assert botorch.__version__.startswith("0."), "is `_load_attempted` still what switches the C++ kernel off?"
    from botorch.acquisition.multi_objective import logei

    assert hasattr(logei, "_load_attempted")
    before, logei._load_attempted = logei._load_attempted, True
    yield
    assert logei._C is None
    logei._load_attempted = before


# -- the columns of a space


def test_distances_are_hamming_and_ignore_what_is_inactive() -> None:
    embedding = Embedding(MIXED)

    def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
        configs = [MIXED.canonicalise({**MIXED.default, **c}) for c in (one, other)]
        a, b = embedding.columns(MIXED.encode(configs))
        return float(((a - b) ** 2).sum())

    assert distance({"kind": None}, {"kind": None, "drop": 0.5}) == 0  # inactive in both
    assert distance({"depth": 1}, {"depth": 1, "width[2]": 32}) == 0
    options = [distance({"kind": a}, {"kind": b}) for a, b in (("conv", None),)]
    assert options[0] == pytest.approx(1 + 1 + (np.log(8) / np.log(64) - 0.5) ** 2)  # kind, and heads goes
    for drop in (0.1, 0.3, 0.5):  # an active and an inactive number: 1 to 1.25 apart, beside the 1 of kind
        assert 2 - 1e-9 < distance({"kind": None}, {"kind": True, "drop": drop}) < 2.25 + 1e-9
    assert distance({"decay": 0.0}, {"decay": 1e-6}) == pytest.approx(1.25)
    assert embedding.columns(MIXED.encode([MIXED.default])).shape[1] == len(embedding.groups)
    assert "one" not in [MIXED.names[i] for i in embedding.varied]


def test_columns_lie_in_the_unit_cube_and_reals_come_back() -> None:
    embedding = Embedding(MIXED)
    codes = MIXED.encode(MIXED.sample(np.random.default_rng(0), 200))
    columns = embedding.columns(codes)
    assert ((columns >= 0) & (columns <= 1)).all()
    back = embedding.with_reals(codes, columns[:, embedding.real_columns])
    np.testing.assert_allclose(back, codes, rtol=1e-12)
    moved = MIXED.decode(embedding.with_reals(codes, np.full((200, len(embedding.reals)), 1.0)))
    assert all(MIXED.canonicalise(c) == c for c in moved)
    assert all(c["decay"] in (0.0, 1e-1) and c["rate"] == 1.0 for c in moved)


# -- the model


def data(n: int, d: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, d))
    y = np.stack([np.sin(4 * x[:, 0]) + x[:, 1], x[:, 0] ** 2 - x[:, -1] + 0.05 * rng.normal(size=n)], 1)
    return x, (y - y.mean(0)) / y.std(0, ddof=1)


def test_the_gradient_of_the_fit_is_right() -> None:
    from scipy.optimize import check_grad

    from archfront.search import _botorch_fit

    x, y = data(25, 4)
    groups = np.array([0, 1, 1, 2])
    theta = np.log([0.3, 0.7, 1.5, 0.02])
    arguments = (x, groups, y[:, 0])
    error = check_grad(
        lambda t: _botorch_fit._loss(t, *arguments)[0], lambda t: _botorch_fit._loss(t, *arguments)[1], theta
    )
    assert error < 1e-5


def botorch_model(x: Floats, y: Floats, hyperparameters: Sequence[Hyperparameters]) -> Any:
    """BoTorch's SingleTaskGP with our hyperparameters."""
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import RBFKernel

    kernel = RBFKernel(ard_num_dims=x.shape[1], batch_shape=torch.Size([y.shape[1]]))
    model = SingleTaskGP(torch.from_numpy(x), torch.from_numpy(y), outcome_transform=None, covar_module=kernel)
    kernel.lengthscale = torch.tensor([h.lengthscales for h in hyperparameters])[:, None]
    model.likelihood.noise = torch.tensor([[h.noise] for h in hyperparameters])
    model.mean_module.constant.data = torch.tensor([h.mean for h in hyperparameters], dtype=torch.float64)
    return model.eval()


@pytest.mark.parametrize("d", [2, 6])
def test_the_fit_is_as_good_as_botorchs(d: int) -> None:
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    x, y = data(40, d)
    model = SingleTaskGP(torch.from_numpy(x), torch.from_numpy(y[:, :1]), outcome_transform=None)
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    fit_gpytorch_mll(mll)
    mine = fitted(x, np.arange(d), y[:, 0])
    lengthscales = tuple(model.covar_module.lengthscale.flatten().tolist())
    theirs = Hyperparameters(lengthscales, model.likelihood.noise.item(), model.mean_module.constant.item())
    groups = np.arange(d)
    assert log_posterior(x, groups, y[:, 0], mine) > log_posterior(x, groups, y[:, 0], theirs) - 1e-3
    model.train()
    value = mll(model(*model.train_inputs), model.train_targets).item()  # the same objective, not just the same winner
    assert value == pytest.approx(log_posterior(x, groups, y[:, 0], theirs), abs=1e-3)


def test_predictions_are_botorchs() -> None:
    x, y = data(30, 3)
    hyperparameters = [fitted(x, np.arange(3), column) for column in y.T]
    new = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, std = Processes(x, y, np.arange(3), hyperparameters).predict(new)
    with torch.no_grad():
        posterior = botorch_model(x, y, hyperparameters).posterior(new)
    torch.testing.assert_close(mean, posterior.mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(std, posterior.variance.sqrt(), rtol=1e-4, atol=1e-6)


def normals(samples: int, points: int, outcomes: int) -> Tensor:
    from botorch.utils.sampling import draw_sobol_normal_samples

    drawn: Tensor = draw_sobol_normal_samples(points * outcomes, samples, seed=3, dtype=torch.float64)
    return drawn.view(samples, points, outcomes)


@pytest.mark.parametrize("case", ["two", "two-constrained", "one", "one-constrained", "three", "pending"])
def test_the_acquisition_is_botorchs(case: str) -> None:
    """Up to Monte Carlo error: the same expectation over the same posterior, with 512 samples each."""
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
    from botorch.acquisition.objective import GenericMCObjective
    from botorch.sampling.normal import SobolQMCNormalSampler

    x, y = data(14, 2)
    m = {"one": 1, "three": 3}.get(case.partition("-")[0], 2)
    constrained, count = case.endswith("constrained"), 512 if m < 3 else 48
    y = np.concatenate([y, -y[:, :1] * y[:, 1:]], axis=1)[:, : m + constrained]
    groups = np.arange(2)
    hyperparameters = [Hyperparameters((0.5, 0.8), 0.05, 0.1)] * y.shape[1]
    reference = torch.full((m,), float(y.min()) - 0.5, dtype=torch.float64)
    limits = torch.tensor([0.3] if constrained else [], dtype=torch.float64)
    baseline = torch.from_numpy(x)
    pending = torch.tensor([[0.3, 0.9], [0.35, 0.8]], dtype=torch.float64) if case == "pending" else None
    ours = Samples(Processes(x, y, groups, hyperparameters), normals(count, 17, y.shape[1]), reference, limits)
    ours.add(baseline)
    if pending is not None:
        for point in pending:  # one by one, as a batch grows
            ours.add(point[None])
    ours.prepare()
    given: dict[str, Any] = {"sampler": SobolQMCNormalSampler(torch.Size([count]), seed=4), "X_pending": pending}
    if constrained:
        given["constraints"] = [lambda z: z[..., m] - 0.3]
    model = botorch_model(x, y, hyperparameters)
    if m == 1:
        first = GenericMCObjective(lambda z, X=None: z[..., 0])
        theirs = qLogNoisyExpectedImprovement(model, baseline, objective=first, prune_baseline=False, **given)
    else:
        only = IdentityMCMultiOutputObjective(outcomes=list(range(m)))
        theirs = qLogNoisyExpectedHypervolumeImprovement(model, reference, baseline, objective=only, **given)
    new = torch.rand(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mine, other = ours.acquisition(new), theirs(new[:, None])
    good = other > other.max() - 3  # where it matters; far below, single samples decide
    assert good.sum() >= 3
    torch.testing.assert_close(mine[good], other[good], rtol=0, atol=0.2 if m < 3 else 0.35)


def test_sampling_one_by_one_is_sampling_together() -> None:
    x, y = data(12, 2)
    processes = Processes(x, y, np.arange(2), [Hyperparameters((0.5, 0.8), 0.05, 0.1)] * 2)
    points = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    arguments = (normals(8, 6, 2), torch.zeros(2, dtype=torch.float64), torch.empty(0, dtype=torch.float64))
    together, singly = Samples(processes, *arguments), Samples(processes, *arguments)
    together.add(points)
    for point in points:
        singly.add(point[None])
    torch.testing.assert_close(together.values, singly.values, rtol=1e-6, atol=1e-8)


def test_large_tables_are_cut_and_the_value_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data(20, 2)
    model = Model(PLANE, x, -y, np.zeros(20), np.empty((20, 0)), np.empty(0))
    acquisition = model.acquisition(16, 3, None, seed=0)
    new = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    whole = acquisition.value(new)
    monkeypatch.setattr("archfront.search._botorch.ELEMENTS", 1)
    torch.testing.assert_close(acquisition.value(new), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("points", [50, 12_000])  # the second has more dimensions than a Sobol sequence
def test_normals_are_normal_and_repeatable(points: int) -> None:
    drawn = _normals(16, points, 2, seed=5)
    assert drawn.shape == (16, points, 2)
    assert abs(drawn.mean().item()) < 0.05
    assert drawn.std().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(drawn, _normals(16, points, 2, seed=5))


def test_reference_point_and_taming() -> None:
    losses = np.array([[0.0, 3.0], [1.0, 1.0], [2.0, 0.0], [9.0, 9.0]])
    feasible = np.zeros(4)
    np.testing.assert_allclose(reference_point(losses, feasible), [5.5, 6.0])
    np.testing.assert_allclose(reference_point(losses[:3], feasible[:3]), [2.2, 3.3])  # all on the front
    np.testing.assert_allclose(reference_point(losses, np.array([1.0, 0, 1, 1])), [1.9, 1.9])  # a single point
    np.testing.assert_allclose(reference_point(losses, np.ones(4)), [9.9, 9.9])
    np.testing.assert_allclose(tamed(np.array([[0.0], [1.0], [2.0], [1e9]])), [[0], [1], [2], [9]])
    np.testing.assert_allclose(tamed(np.array([[1.0], [1.0], [7.0]])), [[1], [1], [7]])


def test_the_climber_finds_a_known_maximum_of_a_mixed_space() -> None:
    """The acquisition is minus the distance to a configuration: what is found differs from it in no decision."""
    wanted = MIXED.canonicalise({**MIXED.default, "depth": 2, "kind": True, "drop": 0.42, "decay": 0.0, "rate": 0.03})
    embedding = Embedding(MIXED)
    target = torch.from_numpy(embedding.columns(MIXED.encode([wanted])))
    climber = Climber(embedding, np.random.default_rng(0), lambda key: False, restarts=3)
    found = climber.best(lambda x: -((x - target) ** 2).sum(-1), [], set())
    assert found is not None
    for name, value in wanted.items():
        assert found[name] == (pytest.approx(value, rel=1e-3) if isinstance(value, float) else value), name


def test_the_climber_returns_nothing_that_was_seen() -> None:
    space = SearchSpace(Integer("k", 1, 6))
    keys = {space.key({"k": k}) for k in (5, 6)}
    climber = Climber(Embedding(space), np.random.default_rng(0), keys.__contains__, restarts=2)

    def value(x: Tensor) -> Tensor:
        return x[:, 0]

    assert climber.best(value, [], set()) == {"k": 4}
    assert climber.best(value, [], {space.key({"k": 4})}) == {"k": 3}
    assert climber.best(value, [], {space.key({"k": k}) for k in range(1, 7)}) is None


# -- the search
