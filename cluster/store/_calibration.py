"""What strategies predicted, against what was found: joined when asked, never a second copy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from archfront.cluster.store._candidates import Scope, Slot
from archfront.cluster.store._core import Opened
from archfront.cluster.store._models import ProposalRow, StudyRow
from archfront.cluster.store._studies import study_id
from archfront.predictors._prediction import GUESSED_KINDS

__all__ = ["CalibrationMethods", "CalibrationRow"]


@dataclass(frozen=True)
class CalibrationRow:
    """One prediction and what became of it. `metric` as objectives are named ("latency_ms@pi"); `mean`, `std` and
    `value` in the metric's unit, raw (not minimised). `std` is 0 where the strategy gave none."""

    number: int
    key: str
    iteration: int
    origin: str
    metric: str
    mean: float
    std: float
    value: float


class CalibrationMethods(Opened):
    """The store's methods about predictions."""

    def calibration(self, study: str) -> list[CalibrationRow]:
        """One row per proposal and predicted metric whose value is known now, in the order of the proposals.

        The values are those a front of the study takes: of ok evaluations, not withdrawn, device values as the present
        median over all sessions. What is missing, not finite, or itself a guess makes no row. Raises UnknownNameError.
        """

        def read(connection: Connection) -> list[CalibrationRow]:
            here = study_id(connection, study)
            predicted = _predicted(connection, here)
            names = {metric for row in predicted for metric in row.predicted}
            if not names:
                return []
            scope, devices = _scope(connection, here)
            slots = {name: _slot(name, devices) for name in sorted(names)}
            found = {c.key: c.values for c in scope.candidates(connection, slots)}
            rows = []
            for row in predicted:
                for metric, (mean, std) in row.predicted.items():
                    value = found.get(row.key, {}).get(slots[metric])
                    if value is None or value.kind in GUESSED_KINDS:
                        continue
                    if math.isfinite(float(mean)) and math.isfinite(value.value):
                        spread = float(std) if 0 < float(std) < math.inf else 0.0
                        place = (row.number, row.key, row.iteration, row.origin)
                        rows.append(CalibrationRow(*place, metric, float(mean), spread, value.value))
            return rows

        return self._read(read)


@dataclass(frozen=True)
class _Predicted:
    """A proposal with a prediction: (mean, std) by metric, as stored."""

    number: int
    key: str
    iteration: int
    origin: str
    predicted: Mapping[str, tuple[float | str, float | str]]


def _predicted(connection: Connection, study: int) -> list[_Predicted]:
    """In the order of their numbers."""
    columns = (ProposalRow.number, ProposalRow.key, ProposalRow.iteration, ProposalRow.origin, ProposalRow.predicted)
    query = select(*columns).where(ProposalRow.study_id == study).order_by(ProposalRow.number)
    return [_Predicted(*row) for row in connection.execute(query) if row.predicted]


def _scope(connection: Connection, study: int) -> tuple[Scope, Mapping[str, str]]:
    """Where the study's values are, and the identities of its devices by name."""
    columns = (StudyRow.identity, StudyRow.signature, StudyRow.task_identity, StudyRow.protocol, StudyRow.devices)
    *where, devices = connection.execute(select(*columns).where(StudyRow.id == study)).one()
    return Scope(study, *where), devices


def _slot(name: str, devices: Mapping[str, str]) -> Slot:
    metric, _, device = name.partition("@")
    return metric, devices.get(device, device)
