"""Hourglass against conventional: fronts of quality and trained parameters at equal numbers of evaluations.

For each task and seed, random configurations of either shape are trained for the same epochs; compared is the
hypervolume of (psnr_db, params_m) on the validation split against one reference point per task and seed (the worst of
both shapes). Beside it the change in PSNR when a fixed projection is replaced by a trained one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
from _results import write

from archfront.cluster._front import hypervolume
from archfront.cluster.store import Store
from archfront.cluster.study import Study

SHAPES = ("hourglass", "conventional")


def main() -> None:
    """Measure and write docs/results/hourglass_fronts and hourglass_projection."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", default="sr2,denoise")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Store(str(Path(folder) / "archfront.db")) as store:
        rows = [row(store, task, seed, asked) for task in asked.tasks.split(",") for seed in range(asked.seeds)]
        write(
            "hourglass_fronts",
            "Hourglass and conventional fronts",
            f"{asked.trials} random configurations per shape, {asked.epochs} epochs, digits. Asked: hourglass not "
            "below conventional (not guaranteed on 8x8 digits; both are reported).",
            rows,
            {"hourglass ahead": sum(r["hourglass"] >= r["conventional"] for r in rows), "of": len(rows)},
        )
        projections(store, asked)


def row(store: Store, task: str, seed: int, asked: argparse.Namespace) -> dict[str, object]:
    """Both hypervolumes of one task and seed, as shares of the box between the best point and the reference."""
    points = {}
    for shape in SHAPES:
        study = Study(
            f"{task}-{shape}-{seed}",
            store=store,
            space="hourglass_mlp",
            task=task,
            objectives=["psnr_db", "params_m"],
            strategy="random",
            settings={"shape": (shape,)},
            epochs=asked.epochs,
            seed=seed,
            train_seed=seed,
        )
        study.run(trials=asked.trials, workers=asked.workers)
        told = [e for _, _, e in store.told(study.name) if e.status == "ok"]
        values = [(-e.values["psnr_db"].value, np.log10(e.values["params_m"].value)) for e in told]
        points[shape] = np.array(values)
    together = np.concatenate(list(points.values()))
    reference = together.max(axis=0)
    box = float(np.prod(reference - together.min(axis=0)))
    volumes = {shape: hypervolume(points[shape], reference) / box for shape in SHAPES}
    best = {f"best psnr_db {shape}": float(-points[shape][:, 0].min()) for shape in SHAPES}
    return {"task": task, "seed": seed, **volumes, **best}


def projections(store: Store, asked: argparse.Namespace) -> None:
    """The default hourglass with each kind of projection."""
    rows = []
    for task in asked.tasks.split(","):
        for kind in ("fixed_gauss", "fixed_orth", "fixed_sign", "trained"):
            values = []
            for seed in range(asked.seeds):
                study = Study(
                    f"{task}-{kind}-{seed}",
                    store=store,
                    space="hourglass_mlp",
                    task=task,
                    objectives=["psnr_db", "params_m"],
                    settings={"w_in": (kind,)},
                    epochs=2 * asked.epochs,
                    train_seed=seed,
                )
                study.run(trials=1)
                values.append(store.told(study.name)[0][2].values["psnr_db"].value)
            rows.append(
                {"task": task, "w_in": kind, "psnr_db": statistics.mean(values), "sd": statistics.pstdev(values)}
            )
    write(
        "hourglass_projection",
        "Fixed and trained projections",
        f"The default hourglass, {2 * asked.epochs} epochs, {asked.seeds} seeds. Asked: less than 0.3 dB apart.",
        rows,
    )


if __name__ == "__main__":
    main()
