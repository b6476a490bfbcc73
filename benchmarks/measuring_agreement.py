"""Do two studies agree on the latency of the same architectures while something trains on the other core?

Two studies measure the same configurations of `mlp` afresh (no stored value is taken), while another process trains a
network on one thread from beginning to end. Compared are the values that both studies tell, and for the record the
medians and minima that are stored beside them.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from _results import write

from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces import load

TRAINING = """
import torch
torch.set_num_threads(1)
net = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(6)))
optimiser = torch.optim.Adam(net.parameters())
x = torch.randn(256, 512)
while True:
    optimiser.zero_grad()
    net(x).square().mean().backward()
    optimiser.step()
"""


def statistic(folder: str, column: str) -> int:
    """For how many architectures the first sessions of both studies agree within 10 % in a stored column."""
    query = f"select architecture_key, study_id, {column} from device_value order by id"
    first: dict[tuple[str, int], float] = {}
    with closing(sqlite3.connect(Path(folder) / "archfront.db")) as connection:
        for architecture, study, value in connection.execute(query):
            first.setdefault((architecture, study), value)
    pairs = [[v for (a, _), v in first.items() if a == key] for key in {a for a, _ in first}]
    return sum(max(pair) / min(pair) <= 1.1 for pair in pairs)


def main() -> None:
    """Measure and write docs/results/measuring_agreement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--space", default="mlp")
    parser.add_argument("--architectures", type=int, default=24)
    asked = parser.parse_args()
    space = load(asked.space)
    configs = space.search_space.sample(np.random.default_rng(1), asked.architectures, distinct=True)
    told: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, Store(str(Path(folder) / "archfront.db")) as store:
        training = subprocess.Popen([sys.executable, "-c", TRAINING])
        try:
            for name in ("one", "two"):
                options = {"space": asked.space, "fresh": True, "default": False, "start": configs, "epochs": 1}
                Study(name, store=store, **options).run(trials=asked.architectures)
                told.append({e.key: e.values["latency_ms@cpu"].value for _, _, e in store.told(name)})
        finally:
            training.kill()
            training.wait()
        others = {name: statistic(folder, name) for name in ("minimum", "median")}
    keys = sorted(set(told[0]) & set(told[1]), key=lambda key: told[0][key])
    one, two = (np.array([values[key] for key in keys]) for values in told)
    difference = np.abs(one - two) / np.minimum(one, two)
    rows = [
        {"architecture": key[:12], "study one [ms]": a, "study two [ms]": b, "difference": f"{d:.1%}"}
        for key, a, b, d in zip(keys, one.tolist(), two.tolist(), difference.tolist(), strict=True)
    ]
    rank = float(np.corrcoef(one.argsort().argsort(), two.argsort().argsort())[0, 1])
    write(
        "measuring_agreement" if asked.space == "mlp" else f"measuring_agreement_{asked.space}",
        "Two studies measure the same architectures while a training runs on the other core",
        f"`{asked.space}`, batch 1, one thread. Asked: agreement within 10 %.",
        rows,
        {
            "architectures": len(keys),
            "largest difference": float(difference.max()),
            "median difference": float(np.median(difference)),
            "within 10 %": int((difference <= 0.10).sum()),
            "rank correlation": rank,
            **{f"within 10 % by the {name}": f"{n} of {len(keys)}" for name, n in others.items()},
        },
    )


if __name__ == "__main__":
    main()
