"""Make the checkpoint of predictor `pfn`: a small network trained on architectures, HEBO+ and random networks.

Needs torch, numpy and scipy only, so that it runs on a bare machine with a GPU:

    python benchmarks/pretrain_pfn.py --device cuda --seconds 540 --output predictors/checkpoints/pfn.pt
"""

from __future__ import annotations

import argparse
import statistics
import sys
import types
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if find_spec("archfront") is None:
    sys.path.insert(0, str(ROOT / "src"))
if find_spec("jaxtyping") is None:  # shapes in annotations, which nothing evaluates here
    shapes = types.ModuleType("jaxtyping")
    shapes.__dict__.update(dict.fromkeys(("Bool", "Float", "Int"), object))
    sys.modules["jaxtyping"] = shapes

import torch  # noqa: E402

from archfront.spaces.inference._checkpoint import save_checkpoint  # noqa: E402
from archfront.spaces.inference._pretraining import Plan, pretrained  # noqa: E402
from archfront.spaces.inference._prior_architectures import Architectures  # noqa: E402
from archfront.spaces.inference._prior_gp import HeboPlus  # noqa: E402
from archfront.spaces.inference._prior_networks import BayesianNetworks  # noqa: E402
from archfront.spaces.inference._transformer import PfnShape  # noqa: E402

COLUMNS, POWER = 64, 0.5
SHAPE = PfnShape(COLUMNS, emsize=96, layers=4, heads=4, nhid=192, buckets=500)
"""Of this size the network alone, 100 observations at 10,000 candidates, took 0.20 s on one core of an AMD EPYC."""
MIXTURE = (
    (Architectures(COLUMNS, POWER), 0.45),
    (HeboPlus(COLUMNS, POWER, most=24, warp=True), 0.2),
    (HeboPlus(COLUMNS, POWER, most=3), 0.2),
    (BayesianNetworks(COLUMNS, POWER, most=18), 0.15),
)
"""The third, of few columns, is to teach the network early to read its context. Tried in single short runs on a CPU;
losses of different mixtures do not compare, so that it helps is not shown."""


def main() -> None:
    """Train and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument(
        "--steps", type=int, default=1_000_000, help="at most; the schedule ends with whichever is first"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=ROOT / "predictors" / "checkpoints" / "pfn.pt")
    parser.add_argument("--batch", type=int, default=None, help="data sets a step; default 128 on a GPU, else 16")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--longest", type=int, default=256, help="largest number of known points")
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    batch = asked.batch or (128 if asked.device.startswith("cuda") else 16)
    plan = Plan(
        SHAPE,
        MIXTURE,
        steps=asked.steps,
        batch=batch,
        lr=asked.lr,
        longest=asked.longest,
        queries=asked.queries,
        seed=asked.seed,
    )
    losses: list[float] = []

    def told(step: int, loss: float, seconds: float) -> None:
        losses.append(loss)
        if step % 100 == 0:
            print(f"step {step}: {statistics.mean(losses[-100:]):.4f} nats, {seconds:.0f} s", flush=True)

    checkpoint = pretrained(plan, device=asked.device, seconds=asked.seconds, progress=told)
    save_checkpoint(checkpoint, asked.output)
    size = asked.output.stat().st_size / 1e6
    last = statistics.mean(losses[-100:])
    print(f"{asked.output}: {size:.2f} MB, {len(losses)} steps, last {last:.4f} nats, hash {checkpoint.hash[:12]}")


if __name__ == "__main__":
    main()
