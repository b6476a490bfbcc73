"""pflayer's differentiable variant: what first-order DARTS chooses, trained beside the default and all convolutions.

Every network is trained alone for the same epochs and seeds through a study; errors are on the validation split.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from _results import write

from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces import Configuration, load
from archfront.trainers import choose_operations


def main() -> None:
    """Measure and write docs/results/pflayer_darts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--search-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    space = load("pflayer")
    started = time.process_time()
    chosen = choose_operations(space, space.search_space.default, epochs=asked.search_epochs)  # type: ignore[arg-type]
    seconds = time.process_time() - started
    networks: dict[str, Configuration] = {
        "chosen by DARTS": chosen,
        "the paper's hybrid (default)": space.search_space.default,
        "all convolutions": space.search_space.fix({"spatial_op": "conv3", "down_op": "conv3s2"}).default,
    }
    networks = {name: space.search_space.canonicalise(config) for name, config in networks.items()}
    rows = []
    with tempfile.TemporaryDirectory() as folder, Store(str(Path(folder) / "archfront.db")) as store:
        told = {}
        for seed in range(asked.seeds):
            options = {"space": "pflayer", "objectives": ["error", "params_m"], "epochs": asked.epochs}
            study = Study(
                f"seed-{seed}", store=store, start=list(networks.values()), train_seed=seed, default=False, **options
            )
            study.run(trials=len(networks), workers=asked.workers)
            told[seed] = {e.key: e.values for _, _, e in store.told(study.name)}
        keys = {record.proposal.key: record.proposal.config for record in store.proposals("seed-0")}
    for name, config in networks.items():
        key = next(k for k, c in keys.items() if all(c[n] == v for n, v in config.items()))
        errors = [values[key]["error"].value for values in told.values()]
        operations = [config[n] for n in space.search_space.active_names(config) if "_op" in n]
        rows.append(
            {
                "network": name,
                "error": statistics.mean(errors),
                "params_m": told[0][key]["params_m"].value,
                "operations": " ".join(map(str, operations)),
            }
        )
    write(
        "pflayer_darts",
        "Operations chosen by gradient",
        f"`pflayer/small` on digits; {asked.search_epochs} epochs of first-order DARTS ({seconds:.0f} CPU s), then "
        f"{asked.epochs} epochs each, {asked.seeds} seeds.",
        rows,
    )


if __name__ == "__main__":
    main()
