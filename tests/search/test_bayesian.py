"""Bayesian optimisation: the model is BoTorch's, the acquisition is BoTorch's, the proposals are legal and good."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from archfront.search import Evaluation, Objective, Proposal, SearchBudget, Strategy, Value
from archfront.search._botorch import Processes, Samples
from archfront.search._botorch_climb import Climber
from archfront.search._botorch_fit import Hyperparameters, fitted, log_posterior
from archfront.search._botorch_model import Model, _normals, reference_point, tamed
from archfront.search._botorch_space import Embedding
from archfront.search._types import Constraint
from archfront.search.bayesian import BATCH, Bayesian
from archfront.spaces import (
    Categorical,
    Configuration,
    Equals,
    IndexBelow,
    Integer,
    Ordinal,
    Real,
    Repeated,
    SearchSpace,
)
from archfront.spaces._errors import UsageError

LINE = SearchSpace(Real("x", 0, 1))
PLANE = SearchSpace(Real("x", 0, 1), Real("y", 0, 1))
MIXED = SearchSpace(
    Integer("depth", 1, 3),
    Categorical("kind", ("conv", None, True)),
    Repeated(Ordinal("width", (8, 16.5, 32)), 3, when=IndexBelow("depth")),
    Integer("heads", 1, 64, log=True, when=Equals("kind", "conv")),
    Real("decay", 1e-6, 1e-1, log=True, zero=True),
    Real("drop", 0.1, 0.5, when=Equals("kind", True)),
    Real("rate", 1e-4, 1.0, log=True),
    Real("one", 0.25, 0.25),
)
LOSS, SIZE = Objective("loss", "min"), Objective("size", "min")
Floats = NDArray[np.float64]
Metrics = Callable[[Configuration], dict[str, float]]


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


def make(space: SearchSpace, objectives: Sequence[Objective] = (LOSS,), **given: Any) -> Bayesian:
    return Bayesian(space, objectives, **{"budget": SearchBudget(200), "initial": 5, "restarts": 2, **given})


def told(strategy: Strategy, proposals: Sequence[Proposal], metrics: Metrics) -> list[Evaluation]:
    evaluations = [
        Evaluation(p.config, p.key, "ok", {k: Value(v, "trained") for k, v in metrics(p.config).items()}, p.id)
        for p in proposals
    ]
    strategy.tell(evaluations)
    return evaluations


def run(strategy: Strategy, trials: int, metrics: Metrics, batch: int = 1) -> list[Proposal]:
    proposals: list[Proposal] = []
    while len(proposals) < trials:
        asked = strategy.ask(batch).proposals
        assert asked
        proposals += asked
        told(strategy, asked, metrics)
    return proposals


def two(config: Configuration) -> dict[str, float]:
    """The front is the segment from (0.2, 0.2) to (0.8, 0.8)."""
    x, y = config["x"], config["y"]
    return {"loss": (x - 0.2) ** 2 + (y - 0.2) ** 2, "size": (x - 0.8) ** 2 + (y - 0.8) ** 2, "ms": 10 * x}


def mixed(config: Configuration) -> dict[str, float]:
    """Least at depth 2, kind True, drop 0.3, decay 0."""
    drop = (config["drop"] - 0.3) ** 2 if config["kind"] is True else 0.3
    loss = abs(config["depth"] - 2) + drop + 3 * config["decay"] + (np.log10(config["rate"]) + 2) ** 2 / 4
    return {"loss": loss, "size": float(config["depth"] + config["width[0]"] / 8)}


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


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_of_a_quadratic_is_found_in_twelve_evaluations(seed: int) -> None:
    strategy = make(LINE, seed=seed)
    run(strategy, 12, lambda c: {"loss": (c["x"] - 0.3) ** 2})
    assert abs(strategy.best(1)[0].config["x"] - 0.3) < 0.01


def test_the_front_of_two_quadratics_is_covered() -> None:
    strategy = make(PLANE, (LOSS, SIZE), seed=1)
    run(strategy, 25, two)
    front = strategy.best(25)
    assert all(abs(e.config["x"] - e.config["y"]) < 0.15 for e in front)
    along = sorted(e.config["x"] for e in front)
    assert along[0] < 0.3
    assert along[-1] > 0.7
    assert max(np.diff(along)) < 0.2


def test_mixed_and_conditional_proposals_are_legal_and_better() -> None:
    strategy = make(MIXED, initial=8, seed=3)
    proposals = run(strategy, 26, mixed)
    for proposal in proposals:
        assert MIXED.validate(proposal.config) == []
        assert MIXED.canonicalise(proposal.config) == proposal.config
    assert [p.origin for p in proposals] == ["random"] * 8 + ["acquisition"] * 18
    best = strategy.best(1)[0].config
    assert (best["depth"], best["kind"]) == (2, True)
    assert strategy.losses.min() < 0.1


def test_a_constraint_is_respected() -> None:
    """ms = 10 x <= 4 where the optimum lies at x = 0.8: the best is at the bound, most of what is tried feasible."""
    strategy = make(PLANE, (SIZE,), constraints=[Constraint("ms", "<=", 4.0)], seed=2)
    run(strategy, 18, two)
    best = strategy.best(1)[0].config
    assert best["x"] == pytest.approx(0.4, abs=0.03)
    assert best["x"] <= 0.4
    assert best["y"] == pytest.approx(0.8, abs=0.1)
    assert (strategy.violations[8:] == 0).mean() > 0.5


def test_a_lower_bound_and_a_missing_metric() -> None:
    strategy = make(PLANE, (LOSS, SIZE), constraints=[Constraint("ms", ">=", 5.0)], seed=2)
    run(strategy, 5, lambda c: {k: v for k, v in two(c).items() if k != "ms" or c["y"] < 0.6})
    run(strategy, 9, two)
    late = strategy.violations[-8:] == 0
    assert late.mean() > 0.5


def test_predictions_are_in_the_metrics_own_unit_and_sign() -> None:
    """Accuracy 90 + 8 x is maximised: a prediction is near the value that then comes, not near minus it."""
    strategy = make(LINE, (Objective("accuracy", "max"), Objective("loss", "min")), seed=0)
    metrics: Metrics = lambda c: {"accuracy": 90 + 8 * c["x"], "loss": 100 * (c["x"] - 0.3) ** 2}  # noqa: E731
    run(strategy, 9, metrics)
    for proposal in strategy.ask(2).proposals:
        assert set(proposal.predicted) == {"accuracy", "loss"}
        for name, true in metrics(proposal.config).items():
            mean, std = proposal.predicted[name]
            assert 0 <= std < 3
            assert mean == pytest.approx(true, abs=max(4 * std, 1.0))


# -- batches and pending proposals


def test_a_batch_and_what_is_pending_keep_apart() -> None:
    strategy = make(LINE, seed=0)
    run(strategy, 8, lambda c: {"loss": (c["x"] - 0.3) ** 2 + 0.1 * np.sin(25 * c["x"])})
    points = [p.config["x"] for _ in range(3) for p in strategy.ask(2).proposals]
    assert len(set(np.round(points, 3))) == 6


def test_a_batch_as_large_as_the_space_is_the_space() -> None:
    space = SearchSpace(Repeated(Categorical("op", ("a", "b", "c")), 4))
    strategy = make(space, (LOSS, SIZE), samples=4)
    count: Metrics = lambda c: {"loss": sum(v == "a" for v in c.values()), "size": sum(v == "b" for v in c.values())}  # noqa: E731
    run(strategy, 6, count)
    asked = strategy.ask(100)
    assert asked.reason == "exhausted"
    assert len(asked.proposals) == 81 - 6 > BATCH


# -- resume, failures, manners


def test_resume_gives_the_same_keys() -> None:
    straight = make(PLANE, (LOSS, SIZE), seed=4)
    keys = [p.key for p in run(straight, 12, two, batch=2)]
    strategy, proposals, batches = make(PLANE, (LOSS, SIZE), seed=4), [], []
    for _ in range(4):
        asked = strategy.ask(2).proposals
        stored = json.dumps(strategy.state_dict())
        proposals += asked
        batches.append(told(strategy, asked, two))
    resumed = make(PLANE, (LOSS, SIZE), seed=4)
    resumed.load_state_dict(json.loads(stored), proposals, batches)
    for _ in range(2):
        asked = resumed.ask(2).proposals
        proposals += asked
        told(resumed, asked, two)
    assert [p.key for p in proposals] == keys


SCRIPT = """
import torch
torch.set_num_threads(1)
from tests.search.test_bayesian import LOSS, MIXED, SIZE, make, mixed, run
for proposal in run(make(MIXED, (LOSS, SIZE), seed=7), 10, mixed):
    print(proposal.key)
"""


def test_a_fresh_process_proposes_the_same() -> None:
    here = [p.key for p in run(make(MIXED, (LOSS, SIZE), seed=7), 10, mixed)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONHASHSEED": "5", "PATH": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == here


def test_data_beyond_the_limit_keeps_the_best() -> None:
    strategy = make(PLANE, (LOSS, SIZE), points=12)
    run(strategy, 5, two)
    for config in PLANE.sample(np.random.default_rng(0), 40):
        values = {k: Value(v, "trained") for k, v in two(config).items()}
        strategy.tell([Evaluation(config, "", "ok", values)])
    codes, losses, *_ = strategy._data()
    assert len(codes) == len(losses) == 12
    assert strategy.losses[:, 0].min() in losses[:, 0]
    assert strategy.ask(1).proposals[0].origin == "acquisition"


def test_a_constant_objective_and_a_diverged_one_do_no_harm() -> None:
    strategy = make(LINE, (LOSS, SIZE), seed=0)
    metrics: Metrics = lambda c: {"loss": 1.0, "size": 1e12 if c["x"] > 0.9 else (c["x"] - 0.3) ** 2}  # noqa: E731
    proposals = run(strategy, 14, metrics)
    assert proposals[-1].origin == "acquisition"
    assert strategy.losses[:, 1].min() < 0.001


def test_a_numerical_failure_is_logged_and_proposes_at_random(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = make(PLANE, (LOSS, SIZE))
    run(strategy, 6, two)
    strategy.learn([])  # as if something had been told: the model is made again

    def failing(*_: Any) -> None:
        raise np.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr("archfront.search._botorch_model.fitted", failing)
    with caplog.at_level(logging.WARNING, logger="archfront"):
        (proposal,) = strategy.ask(1).proposals
    assert proposal.origin == "random"
    assert "not positive definite" in caplog.text


def test_torch_is_left_as_it_was() -> None:
    torch.manual_seed(11)
    state, threads, dtype = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    run(make(PLANE, (LOSS, SIZE)), 8, two)
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)


def test_nothing_is_compiled() -> None:
    """BoTorch's class compiles a C++ kernel when it is first made; our acquisition never makes it."""
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from tests.search.test_bayesian import LOSS, PLANE, SIZE, make, run, two\n"
        "run(make(PLANE, (LOSS, SIZE)), 7, two)\n"
        "from botorch.acquisition.multi_objective import logei\n"
        "print(logei._load_attempted, logei._C)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False", "None"]


def test_loading_it_imports_no_torch() -> None:
    code = "import sys; from archfront import search; search.load('bayesian'); print('botorch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("given", [{"initial": 0}, {"points": 1}, {"samples": 0}, {"restarts": 0}])
def test_nonsense_is_refused(given: dict[str, int]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(UsageError, match=f"{name}={value}"):
        make(LINE, **given)
