"""The sum of a network's blocks, each timed alone, beside the time of the whole network, on this machine."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
from _results import write
from scipy.stats import kendalltau, spearmanr

from archfront import spaces
from archfront.cluster._block_tables import block_latency, measured_table
from archfront.cluster._device import named_device
from archfront.cluster._measure import Measurer
from archfront.cluster._timing import Timing


def row(device: str, space: str, networks: int, seed: int) -> dict[str, Any]:
    """A table of blocks and so many whole networks on one device."""
    bound = spaces.load(space)
    measurer = Measurer(bound, named_device(device))
    try:
        table = measured_table(bound, measurer, lambda done, of: print(device, done, "of", of, flush=True))
        drawn = bound.search_space.sample(np.random.default_rng(seed), networks)
        timings = [t.value if isinstance(t, Timing) else float("nan") for t in measurer.measure(drawn, seed)]
    finally:
        measurer.close()
    whole, sums = np.array(timings), np.array([block_latency(table, bound, config) for config in drawn])
    ratio = sums / whole
    return {
        "device": device,
        "space": space,
        "blocks": len(table.blocks),
        "networks": networks,
        "median ms": round(statistics.median(whole), 3),
        "sum over whole, median": round(float(np.median(ratio)), 3),
        "spread of the ratio (90 %)": f"{np.quantile(ratio, 0.05):.2f} to {np.quantile(ratio, 0.95):.2f}",
        "Spearman": round(float(spearmanr(whole, sums)[0]), 3),
        "Kendall": round(float(kendalltau(whole, sums)[0]), 3),
    }


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", default="cpu,cpu-onnxruntime")
    parser.add_argument("--spaces", default="mobilenet_v3,resnet50")
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="block_table")
    arguments = parser.parse_args()
    rows = [
        row(device, space, arguments.networks, arguments.seed)
        for space in arguments.spaces.split(",")
        for device in arguments.devices.split(",")
    ]
    write(
        arguments.out,
        "The sum of blocks beside the whole network",
        "Every block that the space's networks may have is timed alone (`archfront devices blocks`), then random "
        "networks are timed whole and looked up as the sums of their blocks.",
        rows,
    )


if __name__ == "__main__":
    main()
