"""DiffusionNAG on NAS-Bench-201, CIFAR-100: what the generator makes, what guidance changes, and what it is worth as a
proposer of Bayesian optimisation.

    python benchmarks/diffusion_nasbench201.py --rows FILE.jsonl --workers 2      # hours on two cores; continues

The guide learns the 12-epoch validation accuracy of `LABELLED` random cells; every accuracy shown is the 200-epoch test
accuracy, which nothing learns from. Generators other than the shipped one are trained on first use (minutes each).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import RESULTS, write
from numpy.typing import NDArray

from archfront import predictors, spaces
from archfront.predictors._context import Context
from archfront.predictors._relaxation import Relaxation
from archfront.predictors._sde import sde_of
from archfront.search._diffusion import Sampler, sampled
from archfront.search._generator import Generator
from archfront.search._guidance import Desire, Guidance, opinions_of
from archfront.search._score_training import ScoreRecipe
from archfront.search._types import Evaluation, Objective, SearchBudget, Value
from archfront.search.diffusion import Diffusion

Floats = NDArray[np.float64]
Row = dict[str, Any]

LABELLED, SAMPLES, SEEDS = 200, 512, 5
SCALE = 20.0
TRIALS, SHOWN, RUNS = 100, (50, 100), 10
KINDS = ("diffusion", "unguided", "mutation", "random", "diffusion:voice=its", "diffusion:guidance=5")
"""Candidates, and after a colon a parameter that is not as usual."""


class Cells:
    """All cells with both accuracies in percent."""

    def __init__(self) -> None:
        self.space = spaces.load("nasbench201", task="cifar100")
        self.search_space, self.context = self.space.search_space, Context(self.space)
        self.relaxation = Relaxation.of(self.search_space, self.context)
        self.configs = self.search_space.enumerate()
        protocol = self.space.protocol_of(12)
        found = [self.space.look_up(config, "cifar100", protocol) for config in self.configs]
        self.validation = np.array([100 * (1 - f.quality["error"]) for f in found])
        self.test = np.array([100 * (1 - f.test["error"]) for f in found])
        self.at = {tuple(config.values()): i for i, config in enumerate(self.configs)}

    def of(self, config: dict[str, Any]) -> int:
        """The number of a cell."""
        return self.at[tuple(config.values())]


@lru_cache(maxsize=1)
def cells() -> Cells:
    """Loaded once per process."""
    torch.set_num_threads(1)
    return Cells()


def generation(what: str, seed: int) -> Row:
    """One set of samples: valid and unique shares, mean and best test accuracy, CPU seconds per sample."""
    known = cells()
    kind, _, option = what.partition(":")
    sde = option if kind == "process" else "ve"
    steps = int(option) if kind == "steps" else 30
    generator = Generator(known.relaxation, sde_of(sde), ScoreRecipe())
    if kind == "random":
        configs, asked, seconds = known.search_space.sample(np.random.default_rng(seed), SAMPLES), SAMPLES, 0.0
    else:
        net = generator.network()
        guide = _guide(known, kind, option, seed)
        started = time.process_time()
        corrector = "none" if kind == "no corrector" else "langevin"
        sampler = Sampler(steps, corrector=corrector)
        matrices = sampled(net, known.relaxation, SAMPLES, sampler, torch.Generator().manual_seed(seed), guide)
        seconds, asked = time.process_time() - started, SAMPLES
        configs = [config for config in known.relaxation.decode(matrices) if config is not None]
    numbers = [known.of(config) for config in configs]
    accuracy = known.test[numbers]
    return {
        "valid": len(numbers) / asked,
        "unique": len(set(numbers)) / max(1, len(numbers)),
        "accuracy": float(accuracy.mean()),
        "best": float(accuracy.max()),
        "seconds": seconds / asked,
    }


def _guide(known: Cells, kind: str, option: str, seed: int) -> Guidance | None:
    if kind not in ("guided", "shuffled", "clean-trained", "scale", "guide", "voice"):
        return None
    rng = np.random.default_rng(1000 + seed)
    rows = rng.choice(len(known.configs), LABELLED, replace=False)
    labels = known.validation[rows]
    if kind == "shuffled":
        labels = rng.permutation(labels)
    name = option if kind == "guide" else "noise_aware"
    given = {"noisy": False} if kind == "clean-trained" else {}
    predictor = predictors.load(name)(known.search_space, known.context, seed=seed, **given)
    predictor.fit([known.configs[i] for i in rows], {"accuracy": labels})
    desire = Desire(opinions_of(predictor, "accuracy", known.relaxation), -1.0, float(labels.std()))
    scale = float(option) if kind in ("scale", "clean-trained") and option else SCALE
    chosen = torch.from_numpy(rng.integers(2**31, size=SAMPLES))
    voice = option if kind == "voice" else "mean"
    return Guidance([desire], [], torch.ones(SAMPLES, 1), chosen, scale, voice)


def optimisation(kind: str, seed: int) -> Row:
    """One search for the 12-epoch validation error, candidates by `kind`: the test accuracy of the incumbent, and the
    best validation accuracy, by evaluations; where proposals came from; CPU seconds."""
    known = cells()
    kind, _, changed = kind.partition(":")
    given: dict[str, Any] = {"guidance": SCALE}
    if changed:
        name, _, value = changed.partition("=")
        given[name] = float(value) if name == "guidance" else value
    strategy = Diffusion(
        known.search_space,
        [Objective("error", "min")],
        budget=SearchBudget(TRIALS),
        seed=seed,
        context=known.context,
        candidates=kind,
        **given,
    )
    best, incumbent = -np.inf, 0
    row: Row = {}
    origins: dict[str, int] = {}
    started = time.process_time()
    for i in range(TRIALS):
        (proposal,) = strategy.ask(1).proposals
        origins[proposal.origin] = origins.get(proposal.origin, 0) + 1
        number = known.of(proposal.config)
        if known.validation[number] > best:
            best, incumbent = known.validation[number], number
        error = Value(1 - known.validation[number] / 100, "looked_up")
        strategy.tell([Evaluation(proposal.config, proposal.key, "ok", {"error": error}, proposal.id)])
        if i + 1 in SHOWN:
            row[f"validation@{i + 1}"] = float(best)
            row[f"test@{i + 1}"] = float(known.test[incumbent])
    return {**row, "origins": origins, "seconds": time.process_time() - started}


def pieces(ablations: bool) -> Iterator[tuple[str, str, int]]:
    """(part, what, seed), the longest first."""
    for seed in range(RUNS):
        for kind in KINDS:
            yield "optimisation", kind, seed
    whats = ["random", "unguided", "guided", "shuffled", "clean-trained"]
    if ablations:
        whats += ["scale:5", "clean-trained:5", "scale:50", "clean-trained:50", "steps:200", "no corrector"]
        whats += ["guide:mlp", "guide:ridge", "voice:its", "voice:ucb", "process:vp", "process:subvp"]
    for what in whats:
        for seed in range(SEEDS):
            yield "generation", what, seed


def work(piece: tuple[str, str, int]) -> Row:
    """One piece, with its name."""
    part, what, seed = piece
    made: Callable[[str, int], Row] = optimisation if part == "optimisation" else generation
    return {"part": part, "what": what, "seed": seed, **made(what, seed)}


def main() -> None:
    """Run what is missing, then write the page of what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=RESULTS / "diffusion_rows.jsonl", help="kept; a run continues it")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--only", help="pieces whose name has this in it")
    parser.add_argument("--page-only", action="store_true")
    asked = parser.parse_args()
    done = [json.loads(line) for line in asked.rows.read_text().splitlines()] if asked.rows.exists() else []
    known = {(row["part"], row["what"], row["seed"]) for row in done}
    missing = (
        [] if asked.page_only else [p for p in pieces(asked.ablations) if p not in known and (asked.only or "") in p[1]]
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, mp_context=context) as pool:
        for future in as_completed([pool.submit(work, piece) for piece in missing]):
            row = future.result()
            done.append(row)
            with asked.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
    page(done)


def page(done: Sequence[Row]) -> None:
    """docs/results/diffusion.md and .json."""
    rows = []
    for what in dict.fromkeys(row["what"] for row in done if row["part"] == "generation"):
        own = [row for row in done if row["part"] == "generation" and row["what"] == what]
        rows.append(
            {
                "part": f"samples: {what}",
                "runs": len(own),
                "valid": _mean(own, "valid"),
                "unique": _mean(own, "unique"),
                "test accuracy": _shown(own, "accuracy"),
                "best": _mean(own, "best"),
                "50 evaluations": "",
                "100 evaluations": "",
            }
        )
    for kind in KINDS:
        own = [row for row in done if row["part"] == "optimisation" and row["what"] == kind]
        if own:
            shown = {f"{n} evaluations": _shown(own, f"validation@{n}") for n in SHOWN}
            final = _shown(own, f"test@{SHOWN[-1]}")
            common = {"part": f"optimisation: {kind}", "runs": len(own), "valid": "", "unique": ""}
            rows.append({**common, "test accuracy": final, "best": "", **shown})
    write("diffusion", "DiffusionNAG on NAS-Bench-201", TEXT, rows)


TEXT = f"""
CIFAR-100. Samples: {SAMPLES} each, means over seeds (standard error over seeds); the guide learned the 12-epoch
validation accuracy of {LABELLED} random cells, a new draw for each seed; scale {SCALE:g} where nothing else is said;
what is shown is the 200-epoch test accuracy. Optimisation: the same loop, ranking predictor and acquisition, only the
candidates differ; the best 12-epoch validation accuracy after 50 and 100 evaluations, and the test accuracy of the
incumbent at the end.
"""


def _mean(rows: Sequence[Row], name: str) -> float:
    return statistics.mean(row[name] for row in rows)


def _shown(rows: Sequence[Row], name: str) -> str:
    values = [row[name] for row in rows]
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.2f} +- {error:.2f}"


if __name__ == "__main__":
    main()
