"""What a store knows of a space on other data sets: for a study whose predictor transfers from them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from archfront import spaces
from archfront.cluster.store import Store, StudyRecord
from archfront.predictors._datasets import DataSet, DataSets, Source
from archfront.predictors._prediction import GUESSED_KINDS
from archfront.search._types import Configuration, Evaluation
from archfront.spaces._errors import ArchfrontError, ConfigurationError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import SearchSpace

__all__ = ["Earlier"]

logger = logging.getLogger(__name__)

BY_HAND = "in Python, give a strategy context=KnownDataSets.of(target, sources)"
Listed = Sequence[tuple[str, int]]
"""Names of studies, and how many of their evaluations count: what is told later changes no study that runs."""


@dataclass(frozen=True)
class Earlier:
    """Other data sets by the studies `listed`, read when they are asked for; `space` is bound to the study's own."""

    store: Store | None
    listed: Listed
    space: ModelSpace
    searched: SearchSpace

    @classmethod
    def before(cls, store: Store | None, space: ModelSpace, searched: SearchSpace, protocol: str) -> Earlier:
        """For a study that is to begin: all public ones of the same space and training on other tasks, oldest first."""
        kind, task = (space.search_space.identity, protocol), space.task().identity
        fitting = [
            record
            for record in ([] if store is None else store.studies())
            if (record.identity, record.protocol) == kind and record.task_identity != task and not record.private
        ]
        fitting.sort(key=lambda record: (record.created, record.name))
        counted = [(record.name, store.counts(record.name).told) for record in fitting] if store is not None else []
        return cls(store, [(name, told) for name, told in counted if told], space, searched)

    @classmethod
    def of(cls, store: Store, record: StudyRecord, space: ModelSpace | None) -> Earlier | None:
        """Of a study as it was when it began; None where it knew of nothing."""
        listed = [(str(name), int(told)) for name, told in record.options.get("other_tasks", [])]
        if space is None or not listed:
            return None
        return cls(store, listed, space, SearchSpace.from_dict(record.searched))

    @property
    def asked(self) -> bool:
        """Whether somebody wanted to know."""
        return "_found" in self.__dict__

    def __call__(self) -> DataSets:
        """As `KnownDataSets.known` promises."""
        return self._found

    @cached_property
    def _found(self) -> DataSets:
        if self.store is None or not self.listed:
            return DataSets(
                reason=f"the store has no study of {self.space.full_name!r} on another task with the same training: "
                f"run one first; or, {BY_HAND}"
            )
        records = {record.name: record for record in self.store.studies()}
        by_task: dict[str, list[Evaluation]] = {}
        of_task: dict[str, StudyRecord] = {}
        for name, told in self.listed:
            if (record := records.get(name)) is not None:
                of_task[record.task_identity] = record
                found = [evaluation for _, _, evaluation in self.store.told(name)[:told]]
                by_task.setdefault(record.task_identity, []).extend(e for e in found if e.status == "ok")
        absent = f"the data of task {self.space.task().name!r} is not at hand"
        try:
            target = DataSet.of(self.space.task())
        except ArchfrontError as error:
            return DataSets(reason=f"{absent}: {error.message}; {BY_HAND}")
        sources = [
            source
            for identity, record in of_task.items()
            if (source := self._source(target, _dataset(*_where(record)), by_task[identity])) is not None
        ]
        tasks = ", ".join(sorted(record.task for record in of_task.values()))
        return DataSets(
            target,
            sources,
            reason=f"nothing of the store's other tasks ({tasks}) can be used: their data is not at hand, is described "
            f"by other features, or another part of the space was searched; {BY_HAND}",
        )

    def _source(self, target: DataSet, dataset: DataSet | None, told: Sequence[Evaluation]) -> Source | None:
        """What was found and not guessed, on no device, of configurations that this study could propose."""
        if dataset is None or dataset.width != target.width:
            return None
        own = [(config, _found_of(e)) for e in told if (config := self._legal(e.config)) is not None]
        names = sorted({name for _, found in own for name in found})
        values = {name: np.array([found.get(name, math.nan) for _, found in own]) for name in names}
        return Source(dataset, [config for config, _ in own], values) if own else None

    def _legal(self, config: Configuration) -> Configuration | None:
        try:
            return self.searched.canonicalise(config)
        except (ConfigurationError, KeyError):
            return None


def _found_of(evaluation: Evaluation) -> dict[str, float]:
    """Metrics of no device that were not guessed."""
    found = evaluation.values.items()
    return {name: value.value for name, value in found if value.kind not in GUESSED_KINDS and "@" not in name}


def _where(record: StudyRecord) -> tuple[str, str, str | None, str]:
    """What a task is bound by."""
    return record.options["space"] or "", record.task, record.options["data"], record.task_identity


@lru_cache(maxsize=64)
def _dataset(space: str, task: str, data: str | None, identity: str) -> DataSet | None:
    """The data set of a study's task, None where it is not at hand, which is said once."""
    try:
        if not space:
            raise ConfigurationError("its space was defined in a script")
        found = spaces.load(space, task=task, data=data).task()
        if found.identity == identity:
            return DataSet.of(found)
        why = "its data has changed"
    except ArchfrontError as error:
        why = error.message
    logger.warning("what is known of task %s is left out: %s", task, why)
    return None
