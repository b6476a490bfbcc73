"""Hundreds of faults in running searches: kills of pilots, workers, drivers, nodes and the database, full disks, torn
writes, jumping clocks and stalled workers, at random moments from a seed. Its log is one line per injection.

Every study is reproducible, so that its table can be compared with the uninterrupted one's. Rows that are in the log
are not injected again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"  # read when ray is first imported
sys.path.insert(0, str(Path(__file__).parents[1]))

from _results import RESULTS, write
from _scale_page import keep
from _scale_page import row as measured
from tests.faults import scenarios
from tests.faults.nodes import Nodes
from tests.faults.scenarios import Injection
from tests.faults.search import PACE_S
from tests.faults.server import server
from tests.faults.toys import DIARY, PACE

SEARCHES = ("pilots", "workers", "drivers", "drivers in process", "raylets", "disks", "torn", "clocks", "databases")
KINDS = ("pilot", "pilot", "stall", "controller", "pilot")
"""Of a running study with pilots, drawn with these frequencies."""
LOG = RESULTS / "chaos_log.json"

Scenario = Callable[[Path, int], list[Injection]]


def searches(nodes: Nodes, database: Any) -> dict[str, Scenario]:
    """Every scenario by name, as a function of its folder and seed."""

    def pilots(folder: Path, seed: int) -> list[Injection]:
        kinds = random.Random(seed).choices(KINDS, k=20)
        return scenarios.pilots(folder, nodes, seed, kinds)

    found: dict[str, Scenario] = {
        "pilots": pilots,
        "workers": lambda folder, seed: scenarios.workers(folder, nodes, seed, 10),
        "drivers": lambda folder, seed: scenarios.drivers(folder, nodes, seed, 6),
        "drivers in process": lambda folder, seed: scenarios.drivers(folder, None, seed, 6),
        "raylets": lambda folder, seed: scenarios.raylets(folder, nodes, seed, 5),
        "disks": lambda folder, seed: scenarios.disks(folder, seed, 6),
        "torn": lambda folder, seed: scenarios.torn(folder, seed, 6),
        "clocks": lambda folder, seed: scenarios.clocks(folder, nodes, seed, 5),
    }
    if database is not None:
        found["databases"] = lambda folder, seed: scenarios.databases(folder, database, seed, 8)
    return found


def rounds(injections: int, log: list[dict[str, Any]], first: int, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(seed, scenario) of what is not in the log, until there are enough."""
    done = {(row["seed"], row["search"]) for row in log}
    seed = first
    while True:
        for name in names:
            if len(log) >= injections:
                return
            if (seed, name) not in done:
                yield seed, name
        seed += 1


def main() -> None:
    """Inject what is missing, one line each; print the table, and write docs/results/chaos with --out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--injections", type=int, default=500)
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--searches", default=",".join(SEARCHES), help="only these")
    parser.add_argument("--out", action="store_true", help="write docs/results/chaos")
    asked = parser.parse_args()
    log: list[dict[str, Any]] = json.loads(asked.log.read_text()) if asked.log.exists() else []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ[DIARY] = str(folder / "diary")
        Path(os.environ[DIARY]).mkdir()
        nodes = Nodes(scenarios.SLOTS, {PACE: str(PACE_S), DIARY: os.environ[DIARY]})
        stack.callback(nodes.close)
        database = server()
        if database is not None:
            stack.callback(database.close)
        known = searches(nodes, database)
        for seed, name in rounds(asked.injections, log, asked.first, asked.searches.split(",")):
            if name not in known:
                continue
            begun = time.monotonic()
            rows = injected(known[name], folder, seed)
            seconds = round((time.monotonic() - begun) / len(rows), 1)
            log += [{"seed": seed, "search": name, **row, "seconds": seconds} for row in rows]
            print(seed, name, len(log), *{row["outcome"] for row in rows}, flush=True)
            asked.log.write_text("[\n" + ",\n".join(json.dumps(row) for row in log) + "\n]\n")
    if asked.out:
        write("chaos", "Faults in running searches", TEXT, summary(log))
        good = sum(line["outcome"] == "good" for line in log)
        name = f"of {len(log)} injections: the study ended, nothing lost or twice, the table of the uninterrupted study"
        keep(
            "faults", [measured("faults", name, f"{len(log)}", good, "injections")], "python benchmarks/chaos.py --out"
        )
        return
    for row in summary(log):
        print(row)


def injected(scenario: Scenario, folder: Path, seed: int) -> list[dict[str, Any]]:
    """The log's rows of one search; a search that did not end as it has to is one row that says why."""
    try:
        found = scenario(folder, seed)
    except (AssertionError, OSError) as error:
        return [{"kind": "search", "told": None, "detail": str(error)[-2000:], "outcome": "not ended"}]
    rows = []
    for one in found:
        outcome = "good" if one.good else "another table" if one.verdict.table != one.expected else "lost or twice"
        facts = asdict(one.verdict)
        row = {"kind": one.kind, "told": one.told, "detail": one.detail, "sittings": facts["sittings"]}
        rows.append({**row, "lost": facts["lost"], "twice": facts["twice"], "outcome": outcome})
    return rows


def summary(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Injections by what was hit, and what became of them."""
    table = []
    for search in dict.fromkeys(row["search"] for row in log):
        for kind in dict.fromkeys(row["kind"] for row in log if row["search"] == search):
            rows = [row for row in log if (row["search"], row["kind"]) == (search, kind)]
            good = sum(row["outcome"] == "good" for row in rows)
            lost, twice = (sum(row.get(name, 0) for row in rows) for name in ("lost", "twice"))
            table.append(
                {
                    "search": search,
                    "hit": kind,
                    "injections": len(rows),
                    "lost": lost,
                    "twice": twice,
                    "same table": good,
                }
            )
    return table


TEXT = """
Searches of their own processes on two Ray nodes, SQLite or PostgreSQL; each injection at a random moment of a running
study. After them the study ends by itself or by `archfront resume`. Lost: evaluations that were told before an
injection and are missing or different in the end. Twice: proposals told twice. Same table: the hash of all keys,
origins, statuses and metrics is that of the uninterrupted study. Trainings repeat at most one epoch, SQLite files pass
their integrity check, and the front is that of all evaluations. Every injection: chaos_log.json.
"""


if __name__ == "__main__":
    main()
