"""Bayesian optimisation with `pfn` on Branin and Hartmann-6: simple regret beside BoTorch's processes, TPE and random.

python benchmarks/pfn_regret.py [--seeds 5] [--trials 40]
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from _results import write
from pfn_against_gp import hartmann

from archfront import search
from archfront.predictors.pfn import Pfn
from archfront.search._types import Evaluation, Objective, SearchBudget, Value
from archfront.spaces import Real, Repeated, SearchSpace
from archfront.spaces._parameter import Floats

Row = dict[str, Any]
SHOWN = (10, 20, 30, 40)
STRATEGIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "bayesian(predictor=pfn)": ("bayesian", {"predictor": "pfn"}),
    "bayesian": ("bayesian", {}),
    "optuna(variant=tpe)": ("optuna", {"variant": "tpe"}),
    "random": ("random", {}),
}
TOLD, ASKED = 50, 2000


def branin(x: Floats) -> Floats:
    """Minus Branin's function of rows (n, 2) in 0..1, which stand for -5..10 and 0..15."""
    a, b = 15 * x[:, 0] - 5, 15 * x[:, 1]
    hill = (b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6) ** 2
    return -(hill + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10)


@dataclass(frozen=True)
class Problem:
    """A function to be maximised over the unit cube, and its largest value."""

    function: Callable[[Floats], Floats]
    dimensions: int
    best: float


PROBLEMS: Mapping[str, Problem] = {
    "Branin": Problem(branin, 2, -0.397887),
    "Hartmann-6": Problem(hartmann, 6, 3.32237),
}


def regrets(problem: Problem, name: str, seed: int, trials: int) -> list[float]:
    """Simple regret after each evaluation, proposals one at a time."""
    kind, parameters = STRATEGIES[name]
    space = SearchSpace(Repeated(Real("x", 0.0, 1.0), problem.dimensions))
    objectives, budget = [Objective("loss", "min")], SearchBudget(trials)
    strategy = search.load(kind)(space, objectives, budget=budget, seed=seed, **parameters)
    left: list[float] = []
    best = -np.inf
    while len(left) < trials:
        for proposal in strategy.ask(1).proposals:
            x = np.array([[proposal.config[p.name] for p in space]])
            value = float(problem.function(x)[0])
            told = {"loss": Value(-value, "measured")}
            strategy.tell([Evaluation(proposal.config, proposal.key, "ok", told, proposal.id)])
            best = max(best, value)
            left.append(problem.best - best)
    return left


def fit_quality(problem: Problem, rotations: int, seed: int) -> tuple[float, float]:
    """Negative log-likelihood (as if normal, labels standardised) and correlation of predictions on unseen points."""
    space = SearchSpace(Repeated(Real("x", 0.0, 1.0), problem.dimensions))
    rng = np.random.default_rng(seed)
    x, at = rng.random((TOLD, problem.dimensions)), rng.random((ASKED, problem.dimensions))
    truth = problem.function(at)
    predictor = Pfn(space, rotations=rotations)
    mean, std = predictor.predict_metric(predictor.fit_metric(x, problem.function(x), None).model, at)
    z = (truth - mean) / std
    nll = np.mean(0.5 * np.log(2 * np.pi * std**2) + 0.5 * z**2) - np.log(truth.std())
    return float(nll), float(np.corrcoef(mean, truth)[0, 1])


def main() -> None:
    """Runs, page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # BoTorch's, of standardised data
    rows: list[Row] = []
    facts: Row = {}
    for called, problem in PROBLEMS.items():
        for name in STRATEGIES:
            runs = np.array([regrets(problem, name, seed, asked.trials) for seed in range(asked.seeds)])
            shown = {f"at {n}": float(np.median(runs[:, n - 1])) for n in SHOWN if n <= asked.trials}
            rows.append({"problem": called, "strategy": name, **shown, "worst at the end": float(runs[:, -1].max())})
            print(rows[-1], flush=True)
        for rotations in (1, 4):
            if rotations > 1 and rotations > problem.dimensions:
                continue
            found = [fit_quality(problem, rotations, seed) for seed in range(asked.seeds)]
            nll, correlation = (statistics.mean(values) for values in zip(*found, strict=True))
            facts[f"{called}, {rotations} rotations"] = f"nll {nll:.3f}, correlation {correlation:.3f}"
    text = (
        f"Simple regret, median of {asked.seeds} seeds, one proposal at a time. Below: predictions of {ASKED} unseen "
        f"points from {TOLD} random ones by `pfn`, with its columns in one or several cyclic orders; negative "
        "log-likelihood as if normal, of labels in units of their spread."
    )
    write("pfn_regret", "Prior-data fitted networks in Bayesian optimisation", text, rows, facts)


if __name__ == "__main__":
    main()
