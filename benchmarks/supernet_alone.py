"""A super-network beside its largest sub-network trained alone for the same time, and by either rule."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from _results import write

from archfront import spaces, trainers
from archfront.spaces import Configuration, ModelSpace
from archfront.spaces._supernet import Supernet
from archfront.trainers._slice import evaluate_slice
from archfront.trainers._types import Budget
from archfront.trainers._union import searched_space
from archfront.trainers.supernet import SupernetTrainer

SAMPLED = 16
"""Random sub-networks that are scored."""
TRIED = 2
"""Epochs from which it is known how long one takes alone."""


def supernet(space: ModelSpace, rule: str, epochs: int, seed: int) -> tuple[SupernetTrainer, float]:
    """Trained by a rule, and the CPU seconds it took."""
    config = {**searched_space(space, SupernetTrainer).default, "trainer.rule": rule}
    trainer = SupernetTrainer(space, config, budget=Budget(epochs), seed=seed)
    started = time.process_time()
    for report in trainer.run():
        print(rule, report.step, f"{time.process_time() - started:.0f} CPU s", report.metrics, flush=True)
    return trainer, time.process_time() - started


def alone(space: ModelSpace, config: Configuration, seconds: float, seed: int) -> tuple[dict[str, Any], int, float]:
    """Scores of a configuration trained by itself for so many CPU seconds, the epochs these were, and what it took."""
    cls = trainers.load("backprop")
    whole = {**searched_space(space, cls).default, **config}
    started = time.process_time()
    for _ in cls(space, whole, budget=Budget(TRIED), seed=seed).run():
        pass
    epochs = max(1, round(seconds / ((time.process_time() - started) / TRIED)))
    trainer = cls(space, whole, budget=Budget(epochs), seed=seed)
    started = time.process_time()
    for report in trainer.run():
        print("alone", report.step, f"{time.process_time() - started:.0f} CPU s", report.metrics, flush=True)
    spent = time.process_time() - started
    return {split: trainer.evaluate(split) for split in ("val", "test")}, epochs, spent  # type: ignore[arg-type]


def scored(bank: Supernet, config: Configuration) -> dict[str, Mapping[str, float]]:
    """A slice on both splits."""
    return {split: evaluate_slice(bank, config, split) for split in ("val", "test")}  # type: ignore[arg-type]


def row(training: str, network: str, epochs: int, seconds: float, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Of the table."""
    errors = {f"{split} error": scores[split]["error"] for split in ("val", "test")}
    return {"training": training, "network": network, "epochs": epochs, "CPU s": round(seconds), **errors}


def main() -> None:
    """Train all and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet_v3")
    parser.add_argument("--task", default=None)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", default="progressive,sandwich")
    parser.add_argument("--out", default="supernet_alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space = spaces.load(arguments.space, task=arguments.task)
    rows, first_seconds, largest = [], 0.0, {}
    for rule in arguments.rules.split(","):
        trainer, seconds = supernet(space, rule, arguments.epochs, arguments.seed)
        first_seconds, largest = first_seconds or seconds, trainer.largest
        drawn = trainer.sliced.sample(np.random.default_rng(arguments.seed), SAMPLED)
        parts = [scored(trainer.bank, config) for config in drawn]
        mean = {s: {"error": statistics.fmean(part[s]["error"] for part in parts)} for s in ("val", "test")}
        for network, scores in (
            ("largest", scored(trainer.bank, trainer.largest)),
            ("smallest", scored(trainer.bank, trainer.smallest)),
            (f"mean of {SAMPLED} random ones", mean),
        ):
            rows.append(row(f"supernet, {rule}", network, arguments.epochs, seconds, scores))
    scores, epochs, spent = alone(space, largest, first_seconds, arguments.seed)
    rows.append(row("alone", "largest", epochs, spent, scores))
    task = space.task()
    sizes = ", ".join(f"{len(split)} {name}" for name, split in task.splits.items())
    write(
        arguments.out,
        "A super-network beside its largest sub-network trained alone",
        f"`{space.full_name}` on `{task.name}` ({sizes} rows), {arguments.threads} threads, seed {arguments.seed}. "
        "`alone` is the largest sub-network trained by itself, by the recipe of the space, for as many CPU seconds as "
        "the first supernet took. Slices have their batch norm recalibrated; nothing else is trained.",
        rows,
    )


if __name__ == "__main__":
    main()
