"""The supernet of a slice study: loaded from the user's file, or trained before proposal 0 and kept in the store."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from archfront import trainers
from archfront.cluster._threads import one_thread
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster._turns import TrainingTurns
from archfront.cluster.store import ArtefactRecord, Store, StudyRecord
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._supernet import Supernet
from archfront.trainers._slice import bank_hash, load_bank, save_bank
from archfront.trainers._trainer import derived_seed
from archfront.trainers._types import Budget, Report
from archfront.trainers._union import applied, searched_space
from archfront.trainers.supernet import SupernetTrainer

__all__ = ["BankWatch", "bank_of", "bank_trainer", "kept_bank"]

KIND = "bank"
BankWatch = Callable[[Report, int], None]
"""Called with each report of a bank's training and the planned epochs."""


def _nobody(report: Report, epochs: int) -> None:
    return None


def bank_of(
    record: StudyRecord, space: ModelSpace, store: Store, files: TrialFiles, watch: BankWatch = _nobody
) -> tuple[str, str] | None:
    """(hash, path or URL) of the study's bank; None for a study that trains each configuration.

    A bank this study trains is kept under the recipe that makes it: another study with the same recipe loads it. A
    training that was interrupted continues from its last epoch. Raises DataError for a file of another space.
    """
    wanted = record.options["supernet"]
    if wanted is None:
        return None
    if wanted != "train":
        return bank_hash(load_bank(space, wanted)), wanted
    name = _recipe_key(record)
    kept = kept_bank(record, store)
    if kept is None:
        bank = _trained(record, space, files, name, watch)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bank.pt"
            save_bank(bank, path, epochs=record.options["epochs"])
            kept = store.put_artefact(name, KIND, path)
        files.remove(f"{name[:32]}.checkpoint")
    return kept.sha256, kept.location


def kept_bank(record: StudyRecord, store: Store) -> ArtefactRecord | None:
    """The bank that a study with the same recipe has trained."""
    return store.artefact(_recipe_key(record), KIND)


def _recipe_key(record: StudyRecord) -> str:
    content = [record.identity, record.task_identity, record.protocol]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def bank_trainer(record: StudyRecord, space: ModelSpace, epochs: int) -> SupernetTrainer:
    """What trains the study's bank; of a narrowed space nothing is trained that is not searched."""
    make = trainers.load(record.trainer)
    settings = {n: tuple(s) for n, s in record.options["settings"].items()}
    trainer_settings = {n: s for n, s in settings.items() if n.startswith("trainer.")}
    own = {n: s for n, s in settings.items() if n not in trainer_settings}
    space = space.narrowed(applied(space.search_space, own))
    config = searched_space(space, make, trainer_settings).default
    budget = Budget(epochs, record.options["data_fraction"])
    trainer = make(space, config, budget=budget, seed=derived_seed(record.train_seed, "bank"))
    assert isinstance(trainer, SupernetTrainer)
    return trainer


def _trained(record: StudyRecord, space: ModelSpace, files: TrialFiles, name: str, watch: BankWatch) -> Supernet:
    """Train the bank, with a checkpoint after each epoch."""
    epochs = record.options["epochs"]
    with one_thread():  # the same bank on every machine of one kind; two on a busy machine wait for each other
        trainer = bank_trainer(record, space, epochs)
        checkpoint = f"{name[:32]}.checkpoint"
        if (saved := files.load(checkpoint)) is not None:
            trainer.load_state_dict(saved)
        turns = TrainingTurns()
        trainer.pause = turns.pause
        for report in turns.paced(trainer.run()):
            files.save(checkpoint, trainer.state_dict())
            watch(report, epochs)
    return trainer.bank
