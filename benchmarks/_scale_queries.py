"""The questions of the scale benchmark, 200 times each, in a process that has imported nothing but the store: prints
milliseconds by question as JSON. One that holds Ray and torch pays their share of the garbage collector's time."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cluster.large import device_study

from archfront.cluster.store import Store
from archfront.search._types import Constraint

LIMIT = [Constraint.parse("latency_ms@d1<=15")]
QUESTIONS: dict[str, Callable[[Store], Any]] = {
    "best error under 15 ms": lambda s: s.front(space="large", device="d1", where=LIMIT).best("error"),
    "front of a device": lambda s: s.front(space="large", device="d1"),
    "front of a study": lambda s: s.front(study=device_study(1)),
    "hypervolume history": lambda s: s.hypervolume_history(device_study(1)),
    "counts of a study": lambda s: s.counts(device_study(1)),
}


def main() -> None:
    """Ask the store at the address given."""
    asked = {}
    with Store(sys.argv[1]) as store:
        for name, ask in QUESTIONS.items():
            milliseconds = []
            for _ in range(200):
                started = time.perf_counter()
                ask(store)
                milliseconds.append(1000 * (time.perf_counter() - started))
            asked[name] = milliseconds
    print(json.dumps(asked))


if __name__ == "__main__":
    main()
