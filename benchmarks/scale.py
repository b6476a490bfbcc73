"""How much archfront moves, beside Ray Tune and Optuna: evaluations through the whole path, what is lost to overhead,
results into the store, the front's upkeep, reports, and what a million evaluations change.

Each part measures ours and its peer in one run; `--parts` names those to run. Rows of other parts stay in the result.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # read when ray is first imported
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import optuna
from _scale_page import Row, keep, row
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from tests.cluster.large import device_study, fill

from archfront.cluster import study as studies
from archfront.cluster._front import Front
from archfront.cluster._loop import StudyLoop
from archfront.cluster._trial import TrialResult, run_trial
from archfront.cluster.store import Outcome, ProposalRecord, Report, Store
from archfront.cluster.study import Study
from archfront.search import Objective
from archfront.search._types import Constraint, Evaluation, Proposal, Value
from archfront.spaces import Real, SearchSpace

SPACE = SearchSpace(*(Real(f"x{i}", 0, 1) for i in range(6)))
OBJECTIVES = ("error:min", "cost:min")
POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"


def trivial(config: Mapping[str, Any]) -> dict[str, float]:
    """Two conflicting objectives, in microseconds."""
    x = list(config.values())
    return {"error": sum(x[:3]) / 3, "cost": 1 - x[0] * x[3]}


def sleeping(config: Mapping[str, Any]) -> dict[str, float]:
    """The same in a second, with the worker and the moment when it began."""
    began = time.time()
    time.sleep(1)
    return {**trivial(config), "worker": float(os.getpid()), "began": began}


# -- the whole path


def whole_path(folder: Path, quick: bool) -> Iterator[Row]:
    """Trivial evaluations through ask, lease, evaluation on Ray, tell, durable store and front, on two slots."""
    trials = 10_000 if quick else 50_000
    rates = []
    with Store(f"sqlite:///{folder}/path.db") as store:
        for turn in range(3):
            made = study(store, f"path {turn}", trivial)
            made.run(trials=trials, workers=2)
            created = times(store, f"path {turn}")
            rates.append((len(created) - 1) / (created[-1] - created[0]))
    peer = ray_tune(100 if quick else 400)
    name = f"{trials} trivial evaluations on 2 slots, median of 3 ({min(rates):.0f} to {max(rates):.0f})"
    yield row("path", name, ">= 5000", statistics.median(rates), "1/s", "Ray Tune, actors reused, no loggers", peer)


def ray_tune(trials: int) -> float:
    """Trials per second of Ray Tune itself with its fastest settings, between the first and the last result."""
    from ray import tune
    from ray.tune import Callback

    from archfront.cluster.engine import RayOptions, ray_cluster

    ended: list[float] = []

    class Clock(Callback):  # type: ignore[misc, unused-ignore]
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            ended.append(time.monotonic())

    def trainable(config: dict[str, Any]) -> dict[str, float]:
        return trivial(config)

    with ray_cluster(RayOptions(workers=2)), tempfile.TemporaryDirectory() as storage:
        space = {f"x{i}": tune.uniform(0, 1) for i in range(6)}
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True, max_concurrent_trials=2),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[Clock()]),
        )
        tuner.fit()
    return (len(ended) - 1) / (ended[-1] - ended[0])


def sleep_overhead(folder: Path, quick: bool) -> Iterator[Row]:
    """Evaluations that sleep for a second on 16 slots: what a slot loses from one to the next."""
    rounds = 10 if quick else 30
    with Store(f"sqlite:///{folder}/sleep.db") as store:
        made = study(store, "sleep", sleeping)
        begun = time.monotonic()
        made.run(trials=16 * rounds, workers=16)
        whole = time.monotonic() - begun
        told = [evaluation.values for _, _, evaluation in store.told("sleep")]
    began: dict[float, list[float]] = defaultdict(list)
    for values in told:
        began[values["worker"].value].append(values["began"].value)
    lost = [max(moments) - min(moments) - (len(moments) - 1) for moments in began.values()]
    share = sum(lost) / sum(len(moments) - 1 for moments in began.values())
    name = f"{16 * rounds} evaluations of 1 s on {len(began)} slots: between two of a slot (whole: {whole:.0f} s)"
    yield row("sleep", name, "<= 3", 100 * share, "% over the ideal", "Ray's own gate", 14.0)


# -- the store


def writer(folder: Path, quick: bool) -> Iterator[Row]:
    """Results of 8 processes to one writer: take what waits, commit, acknowledge. Optuna's on the same disk."""
    peers = {name: optuna_rate(storage, quick) for name, storage in optuna_storages(folder).items()}
    for url, asked in stores(folder):
        kind = url.partition(":")[0]
        for message in (1, 10, 64):
            total = (2_000 if quick else 8_000) * (1 if message == 1 else 4)
            rate, ack = written(url, total, message)
            name = f"{kind}: results of 8 processes, {message} a message, p99 of the answer {ack:.0f} ms"
            for peer, rate_of_peer in peers.items():
                yield row("writer", name, asked, rate, "1/s", peer, rate_of_peer)


def stores(folder: Path) -> Iterator[tuple[str, str]]:
    """Addresses, with what is asked of them."""
    yield f"sqlite:///{folder}/writer.db", ">= 5000"
    try:
        engine = create_engine(POSTGRES.replace("://", "+psycopg://"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("drop database if exists archfront_scale"))
            connection.execute(text("create database archfront_scale"))
        engine.dispose()
    except OperationalError:
        return
    yield POSTGRES.rpartition("/")[0] + "/archfront_scale", ">= 1000"


def written(url: str, total: int, message: int, producers: int = 8) -> tuple[float, float]:
    """Evaluations per second, and the 99th percentile of the milliseconds from sending to the answer."""
    name = f"writer {message}"
    each = total // producers // message * message
    with Store(url) as store:
        trials = begun(study(store, name, trivial), each * producers)
        epoch = store.begin_sitting(name)
        proposals = proposed(store, name, epoch, each * producers)
        pipes, processes = [], []
        for i in range(producers):
            mine = proposals[i * each : (i + 1) * each]
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=produce, args=(theirs, mine, message))
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        for pipe in pipes:
            pipe.recv()  # it is up
        for pipe in pipes:
            pipe.send("go")
        started, acks = time.monotonic(), []
        done = 0
        waiting = selectors.DefaultSelector()
        for pipe in pipes:
            waiting.register(pipe, selectors.EVENT_READ)
        while waiting.get_map():
            came, senders = [], []
            for ready, _ in waiting.select():
                pipe = cast(Connection, ready.fileobj)
                given = pipe.recv()
                if isinstance(given, dict):  # its own times: it has ended
                    acks += given["acks"]
                    waiting.unregister(pipe)
                    continue
                came += given
                senders.append(pipe)
            if came:
                done += store.record(name, epoch, came)
                for pipe in senders:
                    pipe.send("committed")
        rate = done / (time.monotonic() - started)
        for process in processes:
            process.join()
        told = store.told(name)
        assert len({e.proposal for _, _, e in told}) == len(told) == trials
    return rate, 1000 * float(np.percentile(acks, 99))


def begun(made: Study, trials: int) -> int:
    """Store the study; the number of its trials."""
    made._begin(trials, None, None)
    return trials


def proposed(store: Store, name: str, epoch: int, number: int) -> list[Proposal]:
    """Random proposals, stored as running."""
    configs = SPACE.sample(np.random.default_rng(0), number)
    keys = SPACE.keys_of(configs)
    prefix = f"{abs(hash((name, number))):024x}"[-24:]
    made = [Proposal(f"{prefix}{i:08x}", i, c, k, "random") for i, (c, k) in enumerate(zip(configs, keys, strict=True))]
    for at in range(0, number, 5000):
        store.insert_proposals(name, epoch, [ProposalRecord(p, "", "running") for p in made[at : at + 5000]])
    return made


def produce(pipe: Connection, proposals: list[Proposal], message: int) -> None:
    """Hand results over, each message after the answer to the one before."""
    results = [outcome(p) for p in proposals]
    pipe.send("up")
    pipe.recv()
    acks = []
    for at in range(0, len(results), message):
        outcomes = results[at : at + message]
        sent = time.monotonic()
        pipe.send(outcomes)
        pipe.recv()
        acks.append(time.monotonic() - sent)
    pipe.send({"acks": acks})


def outcome(proposal: Proposal) -> Outcome:
    """What a trivial evaluation gave."""
    values = {name: Value(value, "trained") for name, value in trivial(proposal.config).items()}
    return Outcome(Evaluation(proposal.config, proposal.key, "ok", values, proposal.id, {"epochs": 1.0}, 0.0, ""))


def optuna_storages(folder: Path) -> dict[str, Any]:
    """Optuna's two durable ones, made anew."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    return {
        "Optuna, RDB storage (SQLite)": RDBStorage(f"sqlite:///{folder}/optuna.db"),
        "Optuna, journal file": JournalStorage(JournalFileBackend(f"{folder}/optuna.log")),
    }


def optuna_rate(storage: Any, quick: bool) -> float:
    """Trials per second of Optuna's random sampler with the same function, in one process."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(storage=storage, directions=["minimize"] * 2, sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        values = trivial({f"x{i}": trial.suggest_float(f"x{i}", 0, 1) for i in range(6)})
        return values["error"], values["cost"]

    number = 30 if quick else 150
    started = time.monotonic()
    made.optimize(objective, n_trials=number)
    return number / (time.monotonic() - started)


# -- fronts and reports


def front_upkeep(folder: Path, quick: bool) -> Iterator[Row]:
    """A tell with a front of 5,000 points, in memory and through the store."""
    import moocore

    points = 5_000
    rng = np.random.default_rng(0)
    x = np.sort(rng.random(points + 1_000))
    curve = np.stack([x, 1 - x], 1)  # no point dominates another
    kept, new = curve[:points], curve[points:]
    rng.shuffle(new)
    front = Front(2)
    for i, point in enumerate(kept):
        front.add(str(i), point.tolist())
    started = time.process_time()
    for i, point in enumerate(new):
        front.add(f"new {i}", point.tolist())
    ours = 1000 * (time.process_time() - started) / len(new)
    started = time.process_time()
    for _ in range(20):
        moocore.is_nondominated(curve)
    peer = 1000 * (time.process_time() - started) / 20
    yield row("front", "a point that enters a front of 5,000", "<= 1", ours, "ms", "moocore from scratch", peer)
    with Store(f"sqlite:///{folder}/front.db") as store:
        tells = tell_times(store, curve)
    name = "a tell, committed, that enters a kept front of 5,000 (median; alone in its transaction)"
    yield row("front", name, "<= 1", 1000 * statistics.median(tells[:500]), "ms")
    name = "the same, 64 in a transaction, each"
    yield row("front", name, "<= 1", 1000 * tells[-1], "ms")


def tell_times(store: Store, curve: np.ndarray[Any, Any]) -> list[float]:
    """Seconds of 500 single tells beyond the first 5,000 points, and of one among 64 at last."""
    name = "front"
    begun(study(store, name, trivial), len(curve))
    epoch = store.begin_sitting(name)
    proposals = proposed(store, name, epoch, len(curve))

    def told(i: int) -> Outcome:
        values = {n: Value(float(v), "trained") for n, v in zip(("error", "cost"), curve[i], strict=True)}
        p = proposals[i]
        return Outcome(Evaluation(p.config, p.key, "ok", values, p.id, {}, 0.0, ""))

    for at in range(0, 5_000, 1_000):
        store.record(name, epoch, [told(i) for i in range(at, at + 1_000)])
    seconds = []
    for i in range(5_000, 5_500):
        one = [told(i)]
        started = time.perf_counter()
        store.record(name, epoch, one)
        seconds.append(time.perf_counter() - started)
    many = [[told(i) for i in range(at, at + 64)] for at in range(5_500, 5_884, 64)]
    started = time.perf_counter()
    for part in many:
        store.record(name, epoch, part)
    return [*seconds, (time.perf_counter() - started) / (64 * len(many))]


def reports(folder: Path, quick: bool) -> Iterator[Row]:
    """Learning curves into the store, as many in one call as pilots bring together."""
    name, number = "reports", 200
    with Store(f"sqlite:///{folder}/reports.db") as store:
        begun(study(store, name, trivial), number)
        epoch = store.begin_sitting(name)
        proposals = proposed(store, name, epoch, number)
        for together in (1, 16, 256):
            steps = range(together, together + (5 if together == 1 else 100))
            given = [Report(p.id, s + 1000 * together, {"error": 0.5, "nll": 1.0}) for s in steps for p in proposals]
            started = time.monotonic()
            for at in range(0, len(given), together):
                store.add_reports(given[at : at + together])
            rate = len(given) / (time.monotonic() - started)
            yield row("reports", f"reports, {together} in a transaction", ">= 10000", rate, "1/s")


# -- a million


def million(folder: Path, quick: bool) -> Iterator[Row]:
    """Ask and tell, one at a time, with a thousand and a million evaluations stored; the driver's memory between."""
    total = 20_000 if quick else 1_000_000
    seen: dict[str, float] = {}

    def engine(loop: StudyLoop) -> None:
        told = 0
        while (step := loop.next(1 if told < 1_000 else 512)) != "done":
            assert not isinstance(step, str)
            loop.completed([run_trial(loop.plan.evaluator, p.id, p.config, nobody) for p in step])
            told += len(step)
            loop.capacity = 512 if told >= 1_000 else 1
            if told == 1_000:
                seen["few"] = latency(loop)
                told += 200
            elif told >= total // 2 and "half" not in seen:
                gc.collect()
                seen["half"], seen["half told"] = resident(), told
            elif told >= total - 2_000 and "many" not in seen:
                gc.collect()
                seen["end"], seen["end told"] = resident(), told
                seen["many"] = latency(loop)
                told += 200
        loop.finish()

    with Store(f"sqlite:///{folder}/million.db") as store:
        usual = vars(studies)["run_in_process"]
        vars(studies)["run_in_process"] = engine
        try:
            started = time.monotonic()
            study(store, "million", trivial).run(trials=total)
            seconds = time.monotonic() - started
        finally:
            vars(studies)["run_in_process"] = usual
    ratio = seen["many"] / seen["few"]
    name = f"ask and tell at {total:,} evaluations, over the same at 1,000 ({1e3 * seen['few']:.2f} ms, median)"
    yield row("million", name, "<= 1.5", ratio, "ratio")
    grown = (seen["end"] - seen["half"]) / (seen["end told"] - seen["half told"]) / 1e3
    yield row("million", "the driver's memory per evaluation, over the second half", "<= 2", grown, "KB")
    yield row("million", "evaluations through the loop alone, without Ray", "", total / seconds, "1/s")


def latency(loop: StudyLoop) -> float:
    """Median seconds of asking for one proposal and telling its result, 200 times."""
    loop.capacity, seconds = 1, []
    for _ in range(200):
        started = time.perf_counter()
        step = loop.next()
        assert not isinstance(step, str)
        result = TrialResult(step[0].id, "ok", trivial(step[0].config))
        loop.completed([result])
        seconds.append(time.perf_counter() - started)
    loop.capacity = 512
    return statistics.median(seconds)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def nobody(epoch: int, metrics: Mapping[str, float]) -> None:
    """Hears reports."""


def queries(folder: Path, quick: bool) -> Iterator[Row]:
    """What users ask of a store of a million evaluations on ten devices, and the CLI from its start to the front."""
    total, devices = (20_000, 4) if quick else (1_000_000, 10)
    url = f"sqlite:///{folder}/large.db"
    with Store(url) as store:
        fill(store, total, devices)
    size = sum(file.stat().st_size for file in folder.glob("large.db*")) / 1e9
    limit = [Constraint.parse("latency_ms@d1<=15")]
    questions: dict[str, Callable[[Store], Any]] = {
        "best error under 15 ms": lambda s: s.front(space="large", device="d1", where=limit).best("error"),
        "front of a device": lambda s: s.front(space="large", device="d1"),
        "front of a study": lambda s: s.front(study=device_study(1)),
        "hypervolume history": lambda s: s.hypervolume_history(device_study(1)),
        "counts of a study": lambda s: s.counts(device_study(1)),
    }
    with Store(url) as store:
        members = len(store.front(space="large", device="d1"))
        for name, ask in questions.items():
            seconds = []
            for _ in range(200):
                started = time.perf_counter()
                ask(store)
                seconds.append(time.perf_counter() - started)
            where = f"{total:,} evaluations on {devices} devices ({size:.2f} GB)"
            what = f"{name}, {where}, front of {members}: 99th percentile"
            yield row("queries", what, "<= 50", 1000 * float(np.percentile(seconds, 99)), "ms")
    command = [str(Path(sys.executable).with_name("archfront")), "front", "--study", device_study(1), "--store", url]
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    yield row("queries", "archfront front, from its start (median of 7)", "<= 1.5", statistics.median(seconds), "s")


# -- common


def study(store: Store, name: str, function: Callable[..., Mapping[str, float]]) -> Study:
    """A study of random proposals."""
    goals = [Objective.parse(o) for o in OBJECTIVES]
    return Study(name, store=store, space=SPACE, objectives=goals, evaluate=function, strategy="random")


def times(store: Store, name: str) -> list[float]:
    """When each evaluation was committed, in order."""
    query = (
        "select e.created from evaluation e join study s on s.id = e.study_id where s.name = :name order by sequence"
    )
    with store._reader.begin() as connection:
        return [float(created) for (created,) in connection.execute(text(query), {"name": name})]


PARTS: dict[str, Callable[[Path, bool], Iterator[Row]]] = {
    "path": whole_path,
    "sleep": sleep_overhead,
    "writer": writer,
    "front": front_upkeep,
    "reports": reports,
    "million": million,
    "queries": queries,
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
            keep(part, rows, PARTS)


if __name__ == "__main__":
    main()
