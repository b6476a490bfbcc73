"""How much archfront moves, beside Ray Tune and Optuna: evaluations through the whole path, what is lost to overhead,
results into the store, the front's upkeep, reports, and what a million evaluations change.

Each part measures ours and its peer in one run; `--parts` names those to run. Rows of other parts stay in the result.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # read when ray is first imported
sys.path.insert(0, str(Path(__file__).parents[1]))

from _scale_page import Row, keep
from _scale_path import reproducible, sleep_overhead, whole_path
from _scale_size import million, queries
from _scale_store import front_upkeep, reports, writer

PARTS: dict[str, Callable[[Path, bool], Iterator[Row]]] = {
    "path": whole_path,
    "sleep": sleep_overhead,
    "writer": writer,
    "front": front_upkeep,
    "reports": reports,
    "million": million,
    "queries": queries,
    "reproducible": reproducible,
}


def main() -> None:
    """Run parts and print their rows; with --out, put them into docs/results/scale.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="few of everything: does it run at all?")
    parser.add_argument("--out", action="store_true")
    asked = parser.parse_args()
    for part in asked.parts.split(","):
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for line in PARTS[part](Path(folder), asked.quick):
                rows.append(line)
                print(line, flush=True)
        if asked.out:
            keep(part, rows, f"python benchmarks/scale.py --parts {part} --out")


if __name__ == "__main__":
    main()
