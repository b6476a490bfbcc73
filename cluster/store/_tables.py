"""What is in the store, as a table and by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, or_, select

from archfront.cluster.store._core import Opened
from archfront.cluster.store._front_result import FrontResult
from archfront.cluster.store._models import EvaluationRow, ProposalRow, StudyRow
from archfront.cluster.store._record import evaluation_of
from archfront.cluster.store._records import KeyMatch
from archfront.cluster.store._studies import study_id
from archfront.search._types import Evaluation
from archfront.spaces._errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableMethods"]

_COLUMNS = ("sequence", "batch", "status", "seconds", "reused", "error")


class TableMethods(Opened):
    """The store's methods that look at everything."""

    def evaluations(self, space: str | None = None, study: str | None = None) -> pd.DataFrame:
        """One row per evaluation of a space (name or identity), a study, or the whole store.

        Columns: study, space, number, key, architecture_key, origin, iteration, sequence, batch, status, seconds,
        reused, error, one `config.NAME` per parameter, and one per value name, as told and raw.
        """
        import pandas as pd

        def read(connection: Connection) -> list[dict[str, Any]]:
            query = (
                select(ProposalRow.__table__, EvaluationRow.__table__, StudyRow.name.label("study"), StudyRow.space)
                .join(EvaluationRow, EvaluationRow.proposal_id == ProposalRow.id)
                .join(StudyRow, StudyRow.id == ProposalRow.study_id)
                .order_by(StudyRow.id, EvaluationRow.sequence)
            )
            if study is not None:
                query = query.where(StudyRow.id == study_id(connection, study))
            if space is not None:
                bare = StudyRow.space.startswith(space + "/", autoescape=True)
                query = query.where(or_(StudyRow.space == space, StudyRow.identity == space, bare))
            return [_line(row) for row in connection.execute(query).mappings()]

        rows = self._read(read)
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(_FIXED))

    def newest_default(self, front: FrontResult) -> tuple[str, str, Evaluation] | None:
        """The newest ok evaluation of the paper's own setting (proposal 0) in the study of a front, or in any study of
        its space, task and protocol: the study's name, the architecture key and the evaluation."""
        own = StudyRow.name == front.study
        any_of_them = and_(
            StudyRow.identity == front.identity,
            StudyRow.task_identity == front.task_identity,
            StudyRow.protocol == front.protocol,
        )

        def read(connection: Connection) -> tuple[str, str, Evaluation] | None:
            query = (
                select(
                    *(EvaluationRow.__table__, ProposalRow.config, ProposalRow.key, ProposalRow.architecture_key),
                    StudyRow.name.label("study"),
                )
                .join(ProposalRow, ProposalRow.id == EvaluationRow.proposal_id)
                .join(StudyRow, StudyRow.id == ProposalRow.study_id)
                .where(own if front.study else any_of_them, ProposalRow.number == 0)
                .where(ProposalRow.origin == "default", EvaluationRow.status == "ok")
                .order_by(StudyRow.id.desc())
                .limit(1)
            )
            row = connection.execute(query).mappings().first()
            return None if row is None else (row["study"], row["architecture_key"], evaluation_of(row))

        return self._read(read)

    def find_key(self, prefix: str, study: str | None = None) -> list[KeyMatch]:
        """Where the one key that begins with `prefix` occurs, newest study first.

        Raises UnknownNameError when there is none, UsageError when several keys begin so.
        """

        def read(connection: Connection) -> list[KeyMatch]:
            query = (
                select(StudyRow.identity, StudyRow.space, StudyRow.name, ProposalRow.key)
                .join(ProposalRow, ProposalRow.study_id == StudyRow.id)
                .where(ProposalRow.key >= prefix, ProposalRow.key < prefix + _BEYOND)  # an index serves no LIKE
                .order_by(StudyRow.id.desc())
            )
            if study is not None:
                query = query.where(StudyRow.id == study_id(connection, study))
            return [KeyMatch(*row) for row in connection.execute(query) if row.key.startswith(prefix)]

        matches = self._read(read)
        keys = sorted({match.key for match in matches})
        if not keys:
            raise UnknownNameError(
                f"no key begins with {prefix!r}" + (f" in study {study!r}" if study else ""),
                "see `archfront show STUDY` for the keys of a study",
            )
        if len(keys) > 1:
            shown = ", ".join(key[: max(12, len(prefix) + 4)] for key in keys[:8]) + (", ..." if len(keys) > 8 else "")
            raise UsageError(f"{len(keys)} keys begin with {prefix!r}: {shown}", "give more digits")
        return matches


_BEYOND = "g"
"""Above every hexadecimal digit."""
_FIXED = ("study", "space", "number", "key", "architecture_key", "origin", "iteration", *_COLUMNS)


def _line(row: Any) -> dict[str, Any]:
    return {
        **{name: row[name] for name in _FIXED},
        **{f"config.{name}": value for name, value in row["config"].items()},
        **{name: float(value["value"]) for name, value in row["values"].items()},
    }
