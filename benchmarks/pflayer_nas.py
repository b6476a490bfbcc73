"""pflayer's two outcomes to check (papers' parity list): pools lower measured time, and a search finds a mixed network.

1. In the default network with a 3x3 convolution in every block, each convolution is replaced by a 3x3 max-pool:
   measured latency and multiply-accumulates of both.
2. NSGA-II over the `small` space for error and parameters; asked is a network that mixes trainable and parameter-free
   layers, no worse than the all-convolution one at 70 % of its parameters or fewer, trained for the same epochs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from _results import write

from archfront.cluster._device import cpu
from archfront.cluster._measure import Measurer
from archfront.cluster._timing import Timing
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces import Configuration, analytic_costs, load

TRAINABLE = {"conv3", "dw3", "dw5", "conv3s2", "avg2+conv3"}


def main() -> None:
    """Measure and write docs/results/pflayer_latency and pflayer_nas."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=("latency", "search"))
    asked = parser.parse_args()
    space = load("pflayer").search_space
    convolutions = space.fix({"spatial_op": "conv3", "down_op": "conv3s2"}).default
    if asked.only != "search":
        replacements(convolutions)
    if asked.only != "latency":
        search(convolutions, asked.trials, asked.epochs, asked.workers)


def replacements(convolutions: Configuration) -> None:
    """Each convolution in turn, and all of them, become a max-pool."""
    space = load("pflayer")
    blocks = [n for n in space.search_space.active_names(convolutions) if n.startswith("spatial_op")]
    changed = {"all convolutions": convolutions}
    changed |= {f"{name} -> max3": {**convolutions, name: "max3"} for name in blocks}
    changed["every spatial_op -> max3"] = {**convolutions, **dict.fromkeys(blocks, "max3")}
    measurer = Measurer(space, cpu())
    timings = measurer.measure(list(changed.values()))
    measurer.close()
    rows = []
    for (name, config), timing in zip(changed.items(), timings, strict=True):
        assert isinstance(timing, Timing), timing
        costs = analytic_costs(space, config)
        values = {"latency_ms": timing.value, "spread": timing.spread, "drift": timing.drift}
        rows.append({"network": name, **values, "macs_m": costs["macs_m"], "params_m": costs["params_m"]})
    faster = sum(row["latency_ms"] < rows[0]["latency_ms"] for row in rows[1:])
    write(
        "pflayer_latency",
        "Replacing a convolution by a max-pool, measured",
        "`pflayer/small` on digits at 32 pixels, batch 1, one thread. Asked: at least one replacement is faster.",
        rows,
        {"replacements": len(rows) - 1, "faster": faster},
    )


def search(convolutions: Configuration, trials: int, epochs: int, workers: int) -> None:
    """NSGA-II, the all-convolution network among its first proposals."""
    with tempfile.TemporaryDirectory() as folder, Store(str(Path(folder) / "archfront.db")) as store:
        options = {"space": "pflayer", "objectives": ["error", "params_m"], "epochs": epochs, "start": [convolutions]}
        study = Study("nas", store=store, **options)
        study.run(trials=trials, workers=workers)
        front = study.front()
        told = {e.key: e for _, _, e in store.told("nas")}
        baseline = told[study.store.proposals("nas")[1].proposal.key].values
        rows = [_row("all convolutions", baseline["error"].value, baseline["params_m"].value, convolutions)]
        for i in range(len(front)):
            metrics = front[i].metrics
            rows.append(_row(front[i].key[:12], metrics["error"], metrics["params_m"], dict(front[i].config)))
    base = rows[0]
    good = [r for r in rows[1:] if r["error"] <= base["error"] and r["params_m"] <= 0.7 * base["params_m"]]
    mixed = [r for r in good if r["trainable"] and r["parameter-free"]]
    write(
        "pflayer_nas",
        "A search over pflayer finds mixed networks",
        f"NSGA-II, {trials} trials of {epochs} epochs. Asked: a mixed network no worse than all convolutions at "
        "70 % of their parameters or fewer.",
        rows,
        {"no worse at <= 70 % of the parameters": len(good), "of these mixed": len(mixed)},
    )


def _row(name: str, error: float, params_m: float, config: Configuration) -> dict[str, object]:
    active = load("pflayer").search_space
    names = active.active_names({n: v for n, v in config.items() if n in active})
    chosen = [config[n] for n in names if n.startswith(("spatial_op", "down_op"))]
    trainable = sum(op in TRAINABLE for op in chosen)
    return {
        "network": name,
        "error": error,
        "params_m": params_m,
        "trainable": trainable,
        "parameter-free": len(chosen) - trainable,
        "operations": " ".join(map(str, chosen)),
    }


if __name__ == "__main__":
    main()
