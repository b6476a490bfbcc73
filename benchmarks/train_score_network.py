"""The generator of NAS-Bench-201's cells that comes with the package, trained by the default recipe.

    python benchmarks/train_score_network.py                # some 4 minutes on one core

Writes search/checkpoints/ID.pt in half precision, ID being the content hash of matrices, process and recipe; the same
seed gives the same tensors on the same version of torch with one thread. Needs the table's files (ARCHFRONT_DATA).
"""

from __future__ import annotations

import argparse
import time
from collections import deque

import torch

from archfront import spaces
from archfront.predictors._context import Context
from archfront.predictors._relaxation import Relaxation
from archfront.predictors._sde import sde_of
from archfront.search._generator import SHIPPED, Generator
from archfront.search._score_training import ScoreRecipe
from archfront.spaces._cache import write_tensors


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="nasbench201")
    space = spaces.load(parser.parse_args().space)
    torch.set_num_threads(1)
    generator = Generator(Relaxation.of(space.search_space, Context(space)), sde_of("ve"), ScoreRecipe())
    started, recent = time.process_time(), deque[float](maxlen=200)

    def watch(step: int, loss: float) -> None:
        recent.append(loss)
        if step % 200 == 0:
            mean, seconds = sum(recent) / len(recent), time.process_time() - started
            print(f"{step:6d}  loss {mean:.4f}  {seconds:.0f} CPU s", flush=True)

    tensors = generator.trained(watch)
    path = SHIPPED / f"{generator.id[:16]}.pt"
    write_tensors(path, generator.id, {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()})
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {time.process_time() - started:.0f} CPU s")


if __name__ == "__main__":
    main()
