"""Zero-cost proxies against their formulas, written out, on networks of a few weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from archfront import spaces
from archfront.predictors import Context, Predictor
from archfront.predictors._proxies import Batch, Probe, weights_of
from archfront.predictors._proxies_of_samples import epe_nas, jacov, nwot, zen
from archfront.predictors._proxies_of_weights import fisher, grad_norm, grasp, l2_norm, plain, snip, synflow
from archfront.predictors._scores import kendall_tau
from archfront.predictors.testing import ADDITIVE, PredictorContract
from archfront.predictors.zero_cost import PROXIES, ZeroCost, batch_of
from archfront.spaces import Integer, ModelSpace, SearchSpace, TableSpace, analytic_costs
from archfront.spaces._errors import DataError, UnknownNameError, UsageError
from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Signature, Task, TensorSpec
from archfront.spaces._toy import ToyImages

PER_WEIGHT = (grad_norm, snip, plain, grasp, fisher)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def probe(net: nn.Module, *shape: int, seed: int = 0, classes: int = 3) -> Probe:
    """Normal inputs of `shape`, labels 0, 1, 2, 0, ..."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return of_inputs(net, x, classes)


def of_inputs(net: nn.Module, x: Tensor, classes: int = 3) -> Probe:
    batch = Batch((x,), torch.arange(len(x)) % classes, None, functional.cross_entropy)
    return Probe(net, batch.inputs, batch)


def chain() -> nn.Module:
    """Rectified layers without biases."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(4, 3, 3, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12, 5, bias=False),
            nn.ReLU(),
            nn.Linear(5, 3, bias=False),
        )
    )


class TestZeroCost(PredictorContract):
    @pytest.fixture(params=["synflow", "all"])
    def test_parameters(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ZeroCost, "test_parameters", {"proxy": request.param, "batch": 8})

    @pytest.fixture
    def predictor_class(self, test_parameters: None) -> type[Predictor]:
        return ZeroCost

    @pytest.fixture
    def context(self) -> Context:
        return Context(model_space=ToyImages.bind())

    @pytest.fixture
    def space(self) -> SearchSpace:
        return ToyImages.bind().search_space


# -- saliencies of weights


def test_saliencies_are_their_formulas() -> None:
    net = chain()
    case = probe(net, 8, 2, 4, 4)
    loss = functional.cross_entropy(net(*case.inputs), case.batch.target)
    weights = list(net.parameters())
    pairs = [(w.detach(), g) for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)]
    assert grad_norm(case) == pytest.approx(sum(float(g.norm()) for _, g in pairs), rel=1e-5)
    assert snip(case) == pytest.approx(sum(float((g * w).abs().sum()) for w, g in pairs), rel=1e-5)
    assert plain(case) == pytest.approx(sum(float((g * w).sum()) for w, g in pairs), rel=1e-4, abs=1e-7)
    assert l2_norm(case) == pytest.approx(sum(float(w.norm()) for w, _ in pairs), rel=1e-6)


def test_biases_and_norms_are_no_weights() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    net[3].weight.requires_grad_(False)
    assert [tuple(w.shape) for w in weights_of(net)] == [(2, 1, 3, 3)]


def test_scale_laws() -> None:
    """A loss c times as large: saliencies of first order times c, Hessian times gradient and squares times c^2."""

    def scaled(score: Callable[[Probe], float], factor: float) -> float:
        case = probe(chain(), 8, 2, 4, 4)
        batch = Batch(case.inputs, case.batch.target, None, lambda y, t: factor * functional.cross_entropy(y, t))
        return score(Probe(case.net, batch.inputs, batch))

    for score, power in zip(PER_WEIGHT, (1, 1, 1, 2, 2), strict=True):
        assert scaled(score, 3.0) == pytest.approx(3**power * scaled(score, 1.0), rel=1e-4)


def test_a_norm_makes_the_gradient_inversely_proportional_to_the_weights() -> None:
    """Behind a batch norm the scale of weights is lost: snip stays, the gradient's norm is divided."""

    def net(factor: float) -> nn.Module:
        made = seeded(lambda: nn.Sequential(nn.Linear(6, 3, bias=False), nn.BatchNorm1d(3, eps=1e-12)))
        with torch.no_grad():
            made[0].weight.mul_(factor)
        return made

    assert snip(probe(net(4.0), 9, 6)) == pytest.approx(snip(probe(net(1.0), 9, 6)), rel=1e-4)
    assert grad_norm(probe(net(4.0), 9, 6)) == pytest.approx(grad_norm(probe(net(1.0), 9, 6)) / 4, rel=1e-4)
    assert plain(probe(net(1.0), 9, 6)) == pytest.approx(0, abs=1e-6)  # Euler: homogeneous of degree 0


def test_grasp_is_minus_the_dense_hessian_times_the_gradient() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    case = probe(net, 7, 4)
    fixed = {name: p.detach() for name, p in net.named_parameters()}
    names = [name for name, p in fixed.items() if p.ndim > 1]
    sizes = [fixed[name].numel() for name in names]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(names, flat.split(sizes), strict=True)
        output = functional_call(
            net, {**fixed, **{name: part.view_as(fixed[name]) for name, part in parts}}, case.inputs
        )
        return functional.cross_entropy(output, case.batch.target)

    w = torch.cat([fixed[name].flatten() for name in names])
    hessian = torch.autograd.functional.hessian(loss, w)
    gradient = torch.func.grad(loss)(w)
    assert grasp(case) == pytest.approx(-float((hessian @ gradient) @ w), rel=1e-4)


def test_grasp_of_a_loss_without_curvature_is_zero() -> None:
    net = seeded(lambda: nn.Linear(4, 3, bias=False))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch((x,), torch.zeros(5), None, lambda y, t: y.sum())
    assert grasp(Probe(net, (x,), batch)) == 0


def test_fisher_by_hand() -> None:
    """A convolution and a linear layer: for each channel half the mean square of the activation times its gradient."""
    net = seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8, 3)))
    case = probe(net, 6, 1, 3, 3)
    a = functional.conv2d(case.inputs[0], net[0].weight, net[0].bias).detach().requires_grad_()
    z = functional.linear(a.relu().flatten(1), net[3].weight, net[3].bias)
    g, h = torch.autograd.grad(functional.cross_entropy(z, case.batch.target), [a, z])
    convolution = sum(sum(float((a.detach()[n, c] * g[n, c]).sum()) ** 2 for n in range(6)) / (2 * 6) for c in range(2))
    linear = sum(sum(float(z[n, c].detach() * h[n, c]) ** 2 for n in range(6)) / (2 * 6) for c in range(3))
    assert fisher(case) == pytest.approx(convolution + linear, rel=1e-4)


def test_synflow_is_conserved() -> None:
    """Tanaka et al., 2020, theorem 1: every layer of a rectified chain has the same sum, that of the outputs."""
    net = chain()
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    total = synflow(probe(net, 4, 2, 4, 4))
    assert all(bool((layer.weight >= 0).all()) for layer in layers)
    flow = float(net(torch.ones(1, 2, 4, 4, dtype=torch.float64)).detach().sum())
    assert total == pytest.approx(len(layers) * flow, rel=1e-12)


def test_synflow_sees_neither_the_batch_nor_the_signs_of_weights() -> None:
    plus, minus = chain(), chain()
    with torch.no_grad():
        for p in minus.parameters():
            p.neg_()
    assert synflow(probe(plus, 4, 2, 4, 4)) == synflow(probe(minus, 9, 2, 4, 4, seed=7))


def test_synflow_of_a_deep_network_does_not_overflow_single_precision() -> None:
    net = seeded(lambda: nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(80))))
    assert 1e38 < synflow(probe(net, 2, 64)) < math.inf


# -- comparisons of samples


def test_nwot_by_hand() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        net[0].bias.zero_()
    x = torch.tensor([[1.0, 1.0], [1.0, -2.0], [-1.0, -1.0]])  # codes 111, 100, 000
    kernel = np.array([[3, 1, 0], [1, 3, 2], [0, 2, 3]])
    assert nwot(of_inputs(net, x)) == pytest.approx(math.log(np.linalg.det(kernel)))


def test_nwot_is_lower_for_rows_that_are_alike() -> None:
    net = chain()
    x = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    twice = torch.cat([x[:4], x[:4]])
    assert -math.inf < nwot(of_inputs(net, x[:1].repeat(8, 1, 1, 1))) < nwot(of_inputs(net, twice))
    assert nwot(of_inputs(net, twice)) < nwot(of_inputs(net, x))


def test_nwot_counts_functions_as_well_as_modules() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 9)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.layer(x))

    functions = seeded(Functional)
    modules = nn.Sequential(functions.layer, nn.ReLU(inplace=True))
    assert nwot(probe(functions, 6, 4)) == nwot(probe(modules, 6, 4))
    assert nwot(probe(nn.Linear(4, 9), 6, 4)) < nwot(probe(functions, 6, 4))


def test_jacov_of_a_linear_network_is_that_of_equal_rows() -> None:
    """Its Jacobian is the same everywhere: eigenvalues N, 0, 0, ..."""
    net = seeded(lambda: nn.Linear(6, 3))
    k = 1e-5
    alike = -(math.log(5 + k) + 1 / (5 + k)) - 4 * (math.log(k) + 1 / k)
    assert jacov(probe(net, 5, 6)) == pytest.approx(alike, rel=1e-4)
    assert jacov(probe(nn.Sequential(net, nn.Threshold(1e9, 0.0)), 5, 6)) == pytest.approx(alike)  # ignores its input


def test_jacov_by_hand() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))
    case = probe(net, 4, 6)
    rows = torch.stack([torch.func.grad(lambda x: net(x).sum())(x) for x in case.inputs[0]]).detach()
    values = np.linalg.eigvalsh(np.corrcoef(rows.double().numpy())) + 1e-5
    assert jacov(case) == pytest.approx(-float((np.log(values) + 1 / values).sum()), rel=1e-3)


@pytest.mark.parametrize("classes", [3, 120])
def test_epe_nas_by_hand(classes: int) -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, classes)))
    case = probe(net, 2 * classes, 6, classes=classes)
    rows = torch.stack([torch.func.grad(lambda x: net(x).sum())(x) for x in case.inputs[0]]).detach().double().numpy()
    logs = [np.log(np.abs(np.corrcoef(rows[label::classes])) + 1e-5) for label in range(classes)]
    if classes <= 100:
        expected = sum(abs(entry.sum()) for entry in logs)
    else:
        e = [entry.mean() for entry in logs]
        expected = sum(abs(e[i] - e[j]) for i in range(classes) for j in range(i + 1, classes)) / classes
    assert epe_nas(case) == pytest.approx(expected, rel=1e-3)


def test_zen_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)
    )
    found = zen(probe(net, 5, 1, 6, 6))
    g = torch.Generator().manual_seed(0)
    draw: Callable[..., Tensor] = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)  # noqa: E731
    weight, _ = draw(2, 1, 3, 3), draw(3, 2)
    x = draw(5, 1, 6, 6)
    clean, moved = (functional.conv2d(v, weight) for v in (x, x + 0.01 * draw(5, 1, 6, 6)))
    normed = [functional.batch_norm(v, None, None, training=True).relu() for v in (clean, moved)]
    difference = np.mean([float((normed[0][n] - normed[1][n]).square().sum().sqrt()) for n in range(5)])
    spread = clean.transpose(0, 1).flatten(1).var(dim=1, correction=0).mean() + 1e-5
    assert found == pytest.approx(math.log(difference) + 0.5 * math.log(float(spread)), rel=1e-6)


def test_zen_does_not_depend_on_initial_values() -> None:
    make = lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))  # noqa: E731
    assert zen(probe(seeded(make, 1), 4, 2, 4, 4)) == zen(probe(seeded(make, 2), 4, 2, 4, 4))


# -- the predictor


def toy(**parameters: Any) -> ZeroCost:
    space = ToyImages.bind()
    return ZeroCost(space.search_space, Context(space, space.task()), **parameters)


def some(space: ModelSpace, n: int = 3) -> list[Configuration]:
    return space.search_space.sample(np.random.default_rng(0), n)


def test_sizes_are_the_analytic_costs() -> None:
    space = ToyImages.bind()
    guess = toy(proxy="params, flops").predict(some(space))
    for i, config in enumerate(some(space)):
        costs = analytic_costs(space, config)
        assert guess["params"].mean[i] == costs["params_m"]
        assert guess["flops"].mean[i] == costs["macs_m"]


def test_every_proxy_has_its_metric_and_is_deterministic() -> None:
    configs = some(ToyImages.bind())
    predictor = toy(proxy="all", batch=12)
    assert predictor.metrics == sorted(PROXIES)
    once, again = predictor.predict(configs), toy(proxy="all", batch=12).predict(configs[::-1])
    for name in PROXIES:
        assert np.array_equal(once[name].mean, again[name].mean[::-1]), name
        assert len(set(once[name].mean)) > 1, name
    other = toy(proxy="snip,params", batch=12, seed=1).predict(configs)
    assert (other["snip"].mean != once["snip"].mean).all()
    assert (other["params"].mean == once["params"].mean).all()


def test_what_it_must_not_touch() -> None:
    space = ToyImages.bind()
    before = [x.clone() for x in (*space.task().split("train").inputs, torch.get_rng_state())]
    with torch.inference_mode():
        guess = ZeroCost(space.search_space, Context(space), proxy="all", batch=8).predict(some(space))
        assert torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    after = (*space.task().split("train").inputs, torch.get_rng_state())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert set(guess) == set(PROXIES)


def test_trainers_parameters_are_not_the_networks() -> None:
    space = ToyImages.bind()
    wider = space.search_space.extended([Integer("trainer.epochs", 1, 3)])
    predictor = ZeroCost(wider, Context(space), proxy="l2_norm")
    config = wider.default
    assert predictor.predict([config, {**config, "trainer.epochs": 3}])["l2_norm"].mean.std() == 0


def test_the_batch_has_the_first_rows_of_every_class() -> None:
    task = ToyImages.bind().task()
    batch = batch_of(task, 12, 0)
    train = task.split("train")
    assert torch.equal(batch.inputs[0], train.inputs[0][:12])  # labels 0, 1, 2, 0, 1, 2, ...
    assert batch.target.bincount().tolist() == [4, 4, 4]
    assert batch_of(task, 8, 0).target.bincount().tolist() == [4, 4]


class Nothing(ToyImages):
    """Networks for a signature of another kind, without data."""

    registered_as = "tests.predictors.test_zero_cost:Nothing"


def test_without_data_there_are_random_rows_and_labels() -> None:
    signature = Signature("classification", (TensorSpec((1, 4, 4)),), 3)
    space = ToyImages.of_signature(signature)
    predictor = ZeroCost(space.search_space, Context(space), proxy="all", batch=12)
    assert all(np.isfinite(guess.mean).all() for guess in predictor.predict(some(space)).values())
    other = Nothing.of_signature(Signature("regression", (TensorSpec((1, 4, 4)),), 3))
    predictor = ZeroCost(other.search_space, Context(other), proxy="all")
    assert "epe_nas" not in predictor.metrics
    assert predictor.predict(some(other), ["jacov"])["jacov"].mean.shape == (3,)
    with pytest.raises(UsageError, match=r"no loss to guess: choose .*synflow"):
        predictor.predict(some(other), ["snip"])
    with pytest.raises(UsageError, match="compares classes, and the task is of kind 'regression'"):
        ZeroCost(other.search_space, Context(other), proxy="epe_nas")


def test_a_graph_is_its_own_batch() -> None:
    space = spaces.load("dagnn", task="karate")
    predictor = ZeroCost(space.search_space, Context(space, space.task()), proxy="all")
    assert predictor.metrics == sorted(set(PROXIES) - {"epe_nas", "jacov", "nwot", "zen"})
    before = space.task().split("train").inputs[0].clone()
    guess = predictor.predict(some(space, 2))
    assert all((values.mean != 0).all() for values in guess.values())
    assert torch.equal(space.task().split("train").inputs[0], before)
    with pytest.raises(UsageError, match=r"'nwot' cannot be used here: .*nodes of a graph"):
        ZeroCost(space.search_space, Context(space), proxy="nwot")


def test_requests_that_cannot_be_met() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'synflow'"):
        toy(proxy="snyflow")
    with pytest.raises(UsageError, match="batch=2"):
        toy(batch=2)
    with pytest.raises(UsageError, match="learns nothing"):
        toy().fit([ToyImages.search_space.default] * 3, {"error": [1.0, 2.0, 3.0]})
    assert "has none" in str(ZeroCost.supports(Context()))
    import pandas as pd

    frame = pd.DataFrame({"op": ["a", "b"], "err": [0.1, 0.2]})
    table = TableSpace(frame, ["op"], {"error": "err"})
    assert "table of values" in str(ZeroCost.supports(Context(table)))
    with pytest.raises(UsageError, match="has none"):
        ZeroCost(ADDITIVE)


class Words(ModelSpace):
    """Token counts: an input of whole numbers."""

    registered_as = "tests.predictors.test_zero_cost:Words"
    search_space = SearchSpace(Integer("width", 2, 4))

    def build(self, config: Configuration) -> nn.Module:
        return nn.Sequential(nn.EmbeddingBag(7, config["width"]), nn.ReLU(), nn.Linear(config["width"], 3))

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        raise DataError("none")


def test_tokens_cannot_be_perturbed() -> None:
    space = Words.of_signature(Signature("classification", (TensorSpec((5,), "int64", 7),), 3))
    predictor = ZeroCost(space.search_space, Context(space), proxy="all", batch=8)
    assert set(PROXIES) - set(predictor.metrics) == {"epe_nas", "jacov", "synflow", "zen"}
    guesses: Mapping[str, Any] = predictor.predict(some(space), ["nwot", "snip"])
    assert all(np.isfinite(guess.mean).all() for guess in guesses.values())
    with pytest.raises(UsageError, match="none of the inputs is real"):
        ZeroCost(space.search_space, Context(space), proxy="synflow")


def test_cells_are_ranked() -> None:
    """NAS-Bench-201: better than nothing on sixty cells (the published values lie near 0.55)."""
    try:
        space = spaces.load("nasbench201")
    except DataError as error:
        pytest.skip(f"ARCHFRONT_DATA has no nasbench201: {error.message}")
    configs = space.search_space.sample(np.random.default_rng(0), 60, distinct=True)
    accuracy = np.array([1 - space.look_up(c, "cifar100", "test_acc_ep200").quality["error"] for c in configs])
    guess = ZeroCost(space.search_space, Context(space), proxy="synflow,nwot", batch=8).predict(configs)
    for name in ("synflow", "nwot"):
        assert kendall_tau(guess[name].mean, accuracy) > 0.3


def test_a_sentence_has_no_class_of_its_own() -> None:
    """Its words have: proxies that compare classes or change the input say so, the others take the first sentences."""
    space = spaces.load("transformer")
    context = Context(space, space.task())
    assert "'token_classification'" in str(PROXIES["epe_nas"].reason_against(space.signature))
    predictor = ZeroCost(space.search_space, context, proxy="all", batch=12)
    assert {"snip", "grad_norm", "nwot"} <= set(predictor.proxies)
    guess = predictor.predict([space.search_space.default])
    assert all(np.isfinite(guess[proxy].mean).all() for proxy in predictor.proxies)
    assert torch.equal(batch_of(space.task(), 12, 0).target, space.task().split("train").target[:12])
