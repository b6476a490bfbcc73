"""Train in full: a space's supernet into a file, or one configuration with several seeds, as facts."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archfront import trainers
from archfront.cluster._bank import BankWatch, bank_of, kept_bank
from archfront.cluster._plan import bound_space
from archfront.cluster._request import Request, record_of
from archfront.cluster._schedules import schedule_text
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster.store import Fact, Store, StudyRecord
from archfront.cluster.study import Study
from archfront.search._strategy import checked_configuration
from archfront.spaces._errors import ArchfrontError, UsageError
from archfront.spaces._lookup import LookupSpace
from archfront.spaces._search_space import SearchSpace
from archfront.trainers._slice import bank_hash, evaluate_slice, load_bank, sliced_space
from archfront.trainers._trainer import PREFIX

__all__ = ["TrainedBank", "TrainedKey", "train_bank", "train_key"]

REPLAYER = "backprop"
"""Follows schedules."""


@dataclass(frozen=True)
class TrainedBank:
    """A supernet in a file, and what its extremes are worth on the validation split. `reused`: the store had it."""

    path: Path
    hash: str
    epochs: int
    reused: bool
    largest: Mapping[str, float]
    smallest: Mapping[str, float]


@dataclass(frozen=True)
class TrainedKey:
    """A configuration trained for `epochs` with each of `seeds`: (mean, standard deviation) of each metric over them,
    `test_` metrics among them. `key` is that of the configuration with the trainer's own parameters, `source` the one
    that was asked for. The weights of seed `best` are kept: the best in the first metric on the validation split."""

    key: str
    source: str
    epochs: int
    seeds: tuple[int, ...]
    studies: tuple[str, ...]
    metrics: Mapping[str, tuple[float, float]]
    best: int


def train_bank(store: Store, options: Mapping[str, Any], output: Path, watch: BankWatch) -> TrainedBank:
    """Train the supernet of `options` (those of a Request) and write it to `output`. The store keeps it too: the same
    recipe is not trained twice, and a training that was interrupted continues. Raises UsageError, DataError,
    TrainingError."""
    if not output.parent.is_dir():
        raise UsageError(f"cannot write {str(output)!r}: there is no folder {str(output.parent)!r}")
    record = record_of(Request("supernet", **options, supernet="train", trials=1), {})
    space = bound_space(record)
    reused = kept_bank(record, store) is not None
    bank_of(record, space, store, TrialFiles(f"{store.files_url}/trials"), watch)
    kept = kept_bank(record, store)
    assert kept is not None
    try:
        output.write_bytes(store.read_artefact(kept))
    except OSError as error:
        raise UsageError(f"cannot write {str(output)!r}: {error.strerror}") from error
    bank = load_bank(space, output)
    sliced = sliced_space(bank.space, bank.fixed)
    extremes = [{p.name: getattr(p, which)() for p in sliced} for which in ("largest", "smallest")]
    largest, smallest = (evaluate_slice(bank, sliced.canonicalise(config)) for config in extremes)
    return TrainedBank(output, bank_hash(bank), record.options["epochs"], reused, largest, smallest)


def train_key(
    store: Store,
    key: str,
    *,
    epochs: int | None = None,
    seeds: int = 3,
    train_seed: int = 0,
    data: str | None = None,
    from_supernet: bool = False,
    schedule: str | None = None,
    study: str | None = None,
    watch: Callable[[int, int, int], None] = lambda seed, epoch, epochs: None,
) -> TrainedKey:
    """Train the configuration of a key (a unique prefix will do) as its study did, or for a slice by the recipe of its
    space, for `epochs` or as long as the recipe says. `from_supernet` begins with its slice of the study's supernet;
    `schedule`, the key of a self-tuned training or a CSV file, is followed epoch by epoch by the plain trainer.

    Each seed is a study of its own: what was interrupted continues, what is done is not done again. `watch` hears
    (seed, epoch, epochs). Raises UnknownNameError, UsageError, and ArchfrontError for a training that failed.
    """
    if seeds < 1:
        raise UsageError(f"seeds={seeds} must be at least 1")
    source, whole = _source(store, key, study, from_supernet)
    options = {**_options(store, source, whole, from_supernet), "epochs": epochs}
    if data is not None:
        options["data"] = data
    if schedule is not None:
        options |= _replaying(store, options, schedule)
    numbers = range(train_seed, train_seed + seeds)
    trained = [_trained(store, options, seed, watch) for seed in numbers]
    best = _keep_best(store, trained)
    record = trained[0][0]
    return TrainedKey(
        trained[0][1].key,
        whole,
        record.options["epochs"],
        tuple(numbers),
        tuple(record.name for record, _ in trained),
        _over_seeds([fact for _, fact in trained]),
        numbers[best],
    )


def _source(store: Store, key: str, study: str | None, from_supernet: bool) -> tuple[StudyRecord, str]:
    """The newest study with the key, one of slices where its supernet is wanted, and the whole key."""
    records = [(store.study(match.study), match.key) for match in store.find_key(key, study)]
    for record, whole in records:
        if record.options.get("supernet") is not None or not from_supernet:
            return record, whole
    raise UsageError(
        f"--from-supernet: no study with key {records[0][1][:12]} has a supernet", "leave it out: train from scratch"
    )


def _options(store: Store, source: StudyRecord, key: str, from_supernet: bool) -> dict[str, Any]:
    """Of the studies that train the key."""
    space = bound_space(source)
    if isinstance(space, LookupSpace):
        raise UsageError(f"{space.name!r} is a table: its configurations are not trained", "search a model space")
    sliced = source.options["supernet"] is not None
    settings = {n: tuple(s) for n, s in source.options["settings"].items() if n.startswith(PREFIX)}
    aims = [objective.name for objective in source.objectives if objective.device is None]
    options = {
        "space": source.options["space"],
        "task": source.task,
        "data": source.options["data"],
        "objectives": aims or [space.task().metrics[0].name],
        "strategy": "random",
        "default": False,
        "start": [store.proposal_of(source.name, key).proposal.config],
        "trainer": None if sliced else source.trainer,
        "settings": {} if sliced else settings,
    }
    if from_supernet:
        options["start_weights"] = bank_of(source, space, store, TrialFiles(f"{store.files_url}/trials"))
    return options


def _replaying(store: Store, options: Mapping[str, Any], schedule: str) -> dict[str, Any]:
    """The options that follow a schedule: a trainer that moves nothing itself, and the configuration without values
    that only the other one knows."""
    name = options["trainer"]
    if name is None or trainers.load(name).self_tunes:
        own = {n: v for n, v in options["start"][0].items() if not n.startswith(PREFIX)}
        return {"trainer": REPLAYER, "settings": {}, "start": [own], "schedule": schedule_text(store, schedule)}
    return {"schedule": schedule_text(store, schedule)}


def _trained(
    store: Store, options: Mapping[str, Any], seed: int, watch: Callable[[int, int, int], None]
) -> tuple[StudyRecord, Fact]:
    """The study of one seed, and what it found."""
    record = record_of(Request("train", **options, train_seed=seed, trials=1), {})
    searched = SearchSpace.from_dict(record.searched)
    key = searched.key(checked_configuration(searched, options["start"][0], "--start"))
    what = hashlib.sha256(f"{record.protocol} {record.task_identity}".encode()).hexdigest()[:6]
    name = f"train-{key[:12]}-{what}-seed{seed}"
    if name in {known.name for known in store.studies()}:
        study = Study.open(name, store=store)
    else:
        fresh = store.artefact(key, "weights") is None  # a fact alone cannot be exported
        study = Study(name, store=store, **options, train_seed=seed, fresh=fresh)
    study.run(trials=1, watch=lambda progress: watch(seed, progress.epoch, record.options["epochs"]))
    where = {"protocol": record.protocol, "train_seed": seed, "study": name}
    fact = store.facts(record.identity, record.task_identity, [key], **where).get(key)  # type: ignore[arg-type]
    if fact is None:
        errors = [evaluation.error for _, _, evaluation in store.told(name)]
        raise ArchfrontError(
            f"training {key[:12]} with seed {seed} failed: {(errors or ['it was interrupted'])[0]}",
            f"to try again: archfront studies rm {name}",
        )
    return study.record, fact


def _keep_best(store: Store, trained: Sequence[tuple[StudyRecord, Fact]]) -> int:
    """Make the best seed's weights those of the key. Its place among the seeds; a seed whose training was not repeated
    because another study had its result may have no weights of its own, and is then not chosen."""
    objective = trained[0][0].objectives[0]
    order = sorted(range(len(trained)), key=lambda i: objective.loss(trained[i][1].values[objective.metric].value))
    key = trained[0][1].key
    for place in order:
        record, _ = trained[place]
        kept = store.artefact(key, "weights", record.name)
        if kept is None:
            continue
        newest = store.artefact(key, "weights")
        if newest is None or newest.sha256 != kept.sha256:
            store.put_artefact(key, "weights", store.read_artefact(kept), study=record.name, proposal=kept.proposal)
        return place
    return order[0]


def _over_seeds(facts: Sequence[Fact]) -> dict[str, tuple[float, float]]:
    names = [name for name in facts[0].values if all(name in fact.values for fact in facts)]
    numbers = {name: [fact.values[name].value for fact in facts] for name in names}
    return {
        name: (statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
        for name, values in numbers.items()
    }
