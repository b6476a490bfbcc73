"""Prior-data fitted networks against Gaussian processes: the default training against the exact posterior, and what a
posterior of 100 observations at 10,000 candidates costs.

    python benchmarks/pfn_against_gp.py [--repeats 5] [--threads 2] [--part training | cost]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from _results import write
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from torch import Tensor, nn

from archfront import spaces, trainers
from archfront.predictors.pfn import Pfn
from archfront.spaces import Real, Repeated, SearchSpace
from archfront.spaces._parameter import Floats
from archfront.spaces.inference._bar_distribution import BarDistribution
from archfront.spaces.inference._prior_gp import FixedGp
from archfront.spaces.inference._prior_task import PriorTask, hidden

Row = dict[str, Any]
Posterior = tuple[Floats, Floats]

KNOWN = (1, 3, 5, 10, 15)
DATA_SETS = 1000
OBSERVATIONS, CANDIDATES, DIMENSIONS = 100, 10_000, 6
SPACE = SearchSpace(Repeated(Real("x", 0.0, 1.0), DIMENSIONS))
WARM_UP, KEPT, THINNED = 512, 256, 16
"""Steps of the Markov chain, as BoTorch's fully Bayesian processes take them."""

HARTMANN_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
HARTMANN_C = np.array([1.0, 1.2, 3.0, 3.2])


# -- the default training


def trained() -> tuple[nn.Module, PriorTask, float]:
    """The default network after the default recipe, its task, and the seconds it took."""
    space = spaces.load("pfn")
    task = space.task()
    assert isinstance(task, PriorTask)
    trainer = trainers.load("backprop")(space, space.search_space.default, budget=trainers.Budget(space.epochs), seed=0)
    started = time.perf_counter()
    for report in trainer.run():
        print(f"epoch {report.step}: nll {report.metrics['nll']:.3f}", flush=True)
    return trainer.export(), task, time.perf_counter() - started


def exact(prior: FixedGp, x: Tensor, y: Tensor, p: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of a new measurement at the points after the first p (data sets, points - p)."""
    x, y = x.double(), y.double()
    among = prior.covariance(x[:, :p], x[:, :p]) + prior.noise * torch.eye(p)
    cross = prior.covariance(x[:, p:], x[:, :p])
    weights = torch.linalg.solve(among, cross.mT).mT
    variance = prior.outputscale + prior.noise - (weights * cross).sum(-1)
    return (weights @ y[:, :p, None])[..., 0], variance


def gap(net: nn.Module, task: PriorTask, p: int) -> Row:
    """How far the network is from the exact posterior with p known points, over data sets that it has not seen."""
    prior = task.prior
    assert isinstance(prior, FixedGp)
    x, _, y = prior.raw(DATA_SETS, task.points, torch.Generator().manual_seed(1000 + p))
    inputs, _ = hidden((x - 0.5) * 12**0.5, y, torch.full((DATA_SETS,), p))
    with torch.no_grad():
        posterior = BarDistribution.of_output(net(*inputs)[:, p:].double(), task.borders)
    mean, variance = exact(prior, x, y, p)
    asked = y[:, p:].double()
    ours = posterior.nll(asked).mean()
    best = 0.5 * ((2 * torch.pi * variance).log() + (asked - mean).square() / variance).mean()
    low, high = (posterior.icdf(torch.full_like(asked, q)) for q in (0.16, 0.84))
    return {
        "known": p,
        "nll pfn": float(ours),
        "nll exact": float(best),
        "gap": float(ours - best),
        "correlation of means": float(torch.corrcoef(torch.stack([posterior.mean.flatten(), mean.flatten()]))[0, 1]),
        "68 % interval holds": float(((asked > low) & (asked < high)).double().mean()),
    }


# -- what a posterior costs


def hartmann(x: Floats) -> Floats:
    """Minus Hartmann's function of six variables (n, 6) in 0..1."""
    distance = (HARTMANN_A * (x[:, None] - HARTMANN_P) ** 2).sum(-1)
    return np.asarray((HARTMANN_C * np.exp(-distance)).sum(-1))


def by_pfn(x: Floats, y: Floats, at: Floats) -> Posterior:
    """The predictor, features in, mean and standard deviation out."""
    predictor = Pfn(SPACE)
    return predictor.predict_metric(predictor.fit_metric(x, y, None).model, at)


def by_likelihood(x: Floats, y: Floats, at: Floats) -> Posterior:
    """BoTorch's SingleTaskGP, fitted by maximum likelihood (its own priors included), and its posterior."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    model = SingleTaskGP(torch.from_numpy(x), torch.from_numpy(y)[:, None])
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    parts = []
    with torch.no_grad():
        for chunk in torch.from_numpy(at)[:, None].split(1000):  # as points, not jointly
            posterior = model.posterior(chunk, observation_noise=True)
            parts.append(torch.cat([posterior.mean.flatten(1), posterior.variance.flatten(1).sqrt()], 1))
    mean, std = torch.cat(parts).numpy().T
    return mean, std


def by_chain(x: Floats, y: Floats, at: Floats) -> Posterior:
    """A fully Bayesian process. Without pyro, which BoTorch's needs: slice sampling (Neal, 2003, stepping out and
    shrinkage) over the same hyperparameters: Matérn-5/2 with a lengthscale per column, output scale, noise."""
    level, spread = y.mean(), y.std()
    t = (y - level) / spread
    rng = np.random.default_rng(0)
    theta = np.array([*np.full(DIMENSIONS, np.log(0.5)), 0.0, np.log(1e-2)])
    means, squares = np.zeros(len(at)), np.zeros(len(at))
    kept = 0
    for step in range(WARM_UP + KEPT):
        theta = _swept(theta, lambda value: _log_posterior(value, x, t), rng)
        if step < WARM_UP or (step - WARM_UP) % THINNED:
            continue
        mean, variance = _conditioned(theta, x, t, at)
        means, squares, kept = means + mean, squares + variance + mean**2, kept + 1
    mean = means / kept
    return level + spread * mean, spread * np.sqrt(squares / kept - mean**2)


def _kernel(theta: Floats, one: Floats, other: Floats) -> Floats:
    scale = np.exp(-theta[:-2])
    a, b = one * scale, other * scale
    squared = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
    r = np.sqrt(5 * squared)
    return np.asarray(np.exp(theta[-2]) * (1 + r + r**2 / 3) * np.exp(-r))


def _log_posterior(theta: Floats, x: Floats, t: Floats) -> float:
    if (np.abs(theta) > 12).any():
        return -np.inf
    covariance = _kernel(theta, x, x) + (np.exp(theta[-1]) + 1e-6) * np.eye(len(t))
    lower = cholesky(covariance, lower=True, check_finite=False)
    white = solve_triangular(lower, t, lower=True, check_finite=False)
    # weak log-normal priors: lengthscales around 0.5, scale around 1, noise around 0.01
    centre = np.array([*np.full(DIMENSIONS, np.log(0.5)), 0.0, np.log(1e-2)])
    width = np.array([*np.full(DIMENSIONS, 1.0), 1.0, 2.0])
    prior = 0.5 * (((theta - centre) / width) ** 2).sum()
    return float(-0.5 * white @ white - np.log(np.diagonal(lower)).sum() - prior)


def _swept(theta: Floats, density: Callable[[Floats], float], rng: np.random.Generator) -> Floats:
    """One slice-sampling step of each coordinate."""
    theta = theta.copy()
    here = density(theta)
    for i in range(len(theta)):
        level = here + np.log(rng.random())
        low = theta[i] - rng.random()
        ends = [low, low + 1.0]
        for side, direction in ((0, -1), (1, 1)):
            for _ in range(8):
                if density(_moved(theta, i, ends[side])) <= level:
                    break
                ends[side] += direction
        while True:
            value = rng.uniform(*ends)
            found = density(_moved(theta, i, value))
            if found > level:
                break
            ends[int(value > theta[i])] = value
        theta[i], here = value, found
    return theta


def _moved(theta: Floats, i: int, value: float) -> Floats:
    moved = theta.copy()
    moved[i] = value
    return moved


def _conditioned(theta: Floats, x: Floats, t: Floats, at: Floats) -> Posterior:
    noise = np.exp(theta[-1])
    lower = cholesky(_kernel(theta, x, x) + (noise + 1e-6) * np.eye(len(t)), lower=True)
    cross = _kernel(theta, x, at)
    explained = solve_triangular(lower, cross, lower=True)
    mean = cho_solve((lower, True), t) @ cross
    return mean, np.maximum(np.exp(theta[-2]) - (explained**2).sum(0), 0) + noise


WAYS: dict[str, Callable[[Floats, Floats, Floats], Posterior]] = {
    "pfn": by_pfn,
    "SingleTaskGP, maximum likelihood": by_likelihood,
    "fully Bayesian GP, slice sampling": by_chain,
}


def timed(repeats: int, ways: dict[str, Callable[[Floats, Floats, Floats], Posterior]]) -> Iterator[Row]:
    """A row per way: the same data for each, the ways taking turns; data differ from turn to turn."""
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    errors: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):  # the first one warms up
        x, at = rng.random((OBSERVATIONS, DIMENSIONS)), rng.random((CANDIDATES, DIMENSIONS))
        y = hartmann(x) + rng.normal(0, 0.02, OBSERVATIONS)
        truth = hartmann(at) + rng.normal(0, 0.02, CANDIDATES)
        for name, way in ways.items():
            if turn == 0 and way is by_chain:
                continue
            started = time.perf_counter()
            mean, std = way(x, y, at)
            spent = time.perf_counter() - started
            print(f"{name}: {spent:.3f} s", flush=True)
            if turn:
                seconds[name].append(spent)
                errors[name].append(float(np.sqrt(np.mean((mean - truth) ** 2)) / truth.std()))
                losses[name].append(_nll(mean, std, truth))
    for name in ways:
        yield {
            "way": name,
            "median s": statistics.median(seconds[name]),
            "least s": min(seconds[name]),
            "most s": max(seconds[name]),
            "rmse / std": statistics.mean(errors[name]),
            "nll, as if normal": statistics.mean(losses[name]),
        }


def _nll(mean: Floats, std: Floats, y: NDArray[np.float64]) -> float:
    return float(np.mean(0.5 * np.log(2 * np.pi * std**2) + 0.5 * ((y - mean) / std) ** 2))


def main() -> None:
    """Both parts, and docs/results/pfn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=("both", "training", "cost"), default="both", help="one part writes no page")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    warnings.simplefilter("ignore")  # BoTorch would rather have labels standardised, which it does itself
    facts: Row = {}
    if asked.part != "cost":
        net, task, spent_s = trained()
        gaps = [gap(net, task, p) for p in KNOWN]
        facts = {
            f"known {row['known']}": ", ".join(f"{k} {v:.3f}" for k, v in row.items() if k != "known") for row in gaps
        }
        facts["seconds of the default training"] = spent_s
        print(*(f"{name}: {value}" for name, value in facts.items()), sep="\n")
    if asked.part == "training":
        return
    rows = list(timed(asked.repeats, WAYS))
    if asked.part == "cost":
        print(*rows, sep="\n")
        return
    checkpoint = Pfn(SPACE)._checkpoint
    facts["checkpoint"] = (
        f"{checkpoint.hash[:12]}, {checkpoint.about['trained_steps']} steps of {checkpoint.about['batch']}"
    )
    text = (
        f"**What a posterior costs.** {OBSERVATIONS} observations of Hartmann-6 with noise of .02, mean and standard "
        f"deviation at {CANDIDATES} candidates, fit included; {asked.repeats} turns of all ways on data of their own, "
        f"{asked.threads} threads. The chain is of {WARM_UP} + {KEPT} sweeps, every {THINNED}th kept, as BoTorch's "
        "are; it samples slices over the same hyperparameters, as pyro, which BoTorch's needs, is no dependency. "
        "Errors are relative to the standard deviation of the truth.\n\n"
        f"**The default training.** 1,200 steps of 64 data sets of the RBF process (one feature, lengthscale .6, noise "
        f".01, 20 points) against the exact posterior on {DATA_SETS} new data sets, by the number of known points: the "
        "list below the table."
    )
    write("pfn", "Prior-data fitted networks against Gaussian processes", text, rows, facts)


if __name__ == "__main__":
    main()
