"""Both kinds of self-tuning on ridge regression, where the best response is known: five seeds, all figures."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from _results import write
from _ridge import Problem, tuned

START = -4.0
SIGMA0 = {False: 0.5, True: 1.0}
"""Each paper's own."""


def solved(seed: int, *, centred: bool, steps: int) -> dict[str, Any]:
    """One run beside the closed form."""
    problem = Problem(seed)
    started = time.process_time()
    found = tuned(problem, seed=seed, centred=centred, steps=steps, sigma0=SIGMA0[centred])
    spent_s = time.process_time() - started
    w, best = problem.best_response(found.lam), problem.grid_optimum()
    slope = problem.best_response(found.lam + 0.01) - problem.best_response(found.lam - 0.01)
    losses = (problem.val_loss(v) for v in (w, problem.best_response(best), problem.best_response(START)))
    return {
        "mode": "delta" if centred else "stn",
        "seed": seed,
        "grid-optimal lambda": round(best, 2),
        "lambda": round(found.lam, 2),
        "final sigma": round(found.sigma, 3),
        "relative error of w": round(float((found.w - w).norm() / w.norm()), 4),
        "cosine of the response": round(float(torch.cosine_similarity(found.direction, slope, dim=0)), 3),
        "val loss there / best / at the start": " / ".join(f"{loss:.2f}" for loss in losses),
        "CPU s": round(spent_s, 1),
    }


def main() -> None:
    """Tune lambda on every seed and write docs/results/self_tuning_ridge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [solved(seed, centred=centred, steps=asked.steps) for centred in SIGMA0 for seed in range(asked.seeds)]
    write(
        "self_tuning_ridge",
        "Self-tuning on a problem with a known answer",
        "Ridge regression (20 inputs, 40 training and 200 validation rows, noise 3), its weight e^lambda tuned from "
        f"{START}: 300 steps of warm-up, then two weight steps to one hyperparameter step, {asked.steps} in all; SGD "
        "0.02 with momentum 0.9, clipped at 5, Adam 0.01, entropy weight 1e-3. Asked for: lambda within 0.4 of the "
        "grid's, weights within 2 % of the closed form, cosine of the response with the true derivative at least 0.9.",
        rows,
    )


if __name__ == "__main__":
    main()
