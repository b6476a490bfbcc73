"""Weights, banks and exports: rows here, content in files named by their hash."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, exists, insert, select

from archfront.cluster.store._codec import chunks
from archfront.cluster.store._core import Opened
from archfront.cluster.store._files import Files
from archfront.cluster.store._models import Artefact, FrontPointRow, FrontRow, ProposalRow, SnapshotRow, StudyRow
from archfront.cluster.store._records import ArtefactRecord
from archfront.cluster.store._studies import study_id

__all__ = ["ArtefactMethods"]

_YOUNG_S = 3600.0
"""A file younger than this may belong to a row that is about to be written: gc leaves it."""


class ArtefactMethods(Opened):
    """The store's methods about files."""

    def put_artefact(
        self,
        key: str,
        kind: str,
        data: bytes | Path,
        *,
        study: str | None = None,
        proposal: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> ArtefactRecord:
        """Keep a file for a key ("weights", "bank", "onnx" ...). A newer one of the same key and kind hides the older.

        Raises StoreError where no file can be kept.
        """
        sha256, size = self._files.put(data)
        row = {
            "proposal_id": proposal,
            "key": key,
            "kind": kind,
            "sha256": sha256,
            "size": size,
            "meta": dict(meta or {}),
            "created": time.time(),
        }

        def put(connection: Connection) -> ArtefactRecord:
            here = None if study is None else study_id(connection, study)
            statement = insert(Artefact).values(study_id=here, **row).returning(Artefact.id)
            new = connection.execute(statement).scalar_one()
            return self._artefact({"id": new, "study": study, **row})

        return self._write(put)

    def artefact(self, key: str, kind: str, study: str | None = None) -> ArtefactRecord | None:
        """The newest file of a key and kind, of one study when given; None when there is none."""
        query = _artefacts().where(Artefact.key == key, Artefact.kind == kind)
        if study is not None:
            query = query.where(StudyRow.name == study)
        newest = query.order_by(Artefact.id.desc()).limit(1)
        row = self._read(lambda connection: connection.execute(newest).mappings().first())
        return None if row is None else self._artefact(row)

    def artefacts(self, study: str) -> list[ArtefactRecord]:
        """Every file of a study, oldest first."""
        query = _artefacts().where(StudyRow.name == study).order_by(Artefact.id)
        rows = self._read(lambda connection: connection.execute(query).mappings().all())
        return [self._artefact(row) for row in rows]

    def read_artefact(self, artefact: ArtefactRecord) -> bytes:
        """The content of a file, checked against its hash. Raises StoreError when it is gone or damaged."""
        return self._files.read(artefact.sha256)

    def drop_artefacts(self, keys: Sequence[str], kind: str | None = None, study: str | None = None) -> int:
        """Forget the files of these keys: how many rows. `gc()` removes the content when nothing else names it."""

        def drop(connection: Connection) -> int:
            here = None if study is None else study_id(connection, study)
            dropped = 0
            for part in chunks(keys):
                statement = delete(Artefact).where(Artefact.key.in_(part))
                if kind is not None:
                    statement = statement.where(Artefact.kind == kind)
                if here is not None:
                    statement = statement.where(Artefact.study_id == here)
                dropped += connection.execute(statement).rowcount
            return dropped

        return self._write(drop)

    def gc(self, *, older_than_s: float = _YOUNG_S) -> list[str]:
        """Forget weights whose finished proposal is on no front of its study, then remove every file no row names.

        Studies with the option keep="all" keep theirs. Files younger than `older_than_s` stay. Returns the sha256 of
        what was removed. The folder of files must belong to this store alone; what else lies there is left alone.
        """

        def sweep(connection: Connection) -> set[str]:
            _drop_weights(connection)
            named = set(connection.scalars(select(Artefact.sha256)))
            for blobs in connection.scalars(select(SnapshotRow.blobs)):
                named.update(blobs.values())
            return named

        named = self._write(sweep)
        return self._files.remove_all_but(named, older_than_s=older_than_s)

    def _put_file(self, data: bytes) -> str:
        return self._files.put(data)[0]

    def _read_file(self, sha256: str) -> bytes:
        return self._files.read(sha256)

    @property
    def files_url(self) -> str:
        """Where files lie: as given, else NAME.files beside NAME.db, else archfront-DATABASE.files here for a server.

        Never a folder that another store takes by default: each sweeps its own.
        """
        if self._files_url is not None:
            return self._files_url
        server = Path(f"archfront-{self._address.database or 'server'}.files").absolute()
        return str(server if self._file is None else self._file.with_suffix(".files"))

    @cached_property
    def _files(self) -> Files:
        return Files(self.files_url)

    def _artefact(self, row: RowMapping | Mapping[str, Any]) -> ArtefactRecord:
        return ArtefactRecord(
            row["id"],
            row["key"],
            row["kind"],
            row["sha256"],
            row["size"],
            self._files.location(row["sha256"]),
            row["study"],
            row["proposal_id"],
            row["meta"],
            row["created"],
        )


def _artefacts() -> Select[Any]:
    names = StudyRow.name.label("study")
    return select(Artefact.__table__, names).outerjoin(StudyRow, StudyRow.id == Artefact.study_id)


def _drop_weights(connection: Connection) -> None:
    keep_all = [
        study
        for study, options in connection.execute(select(StudyRow.id, StudyRow.options))
        if options.get("keep") == "all"
    ]
    done = exists().where(ProposalRow.id == Artefact.proposal_id, ProposalRow.state == "done")
    on_front = (
        exists()
        .where(FrontRow.id == FrontPointRow.front_id, FrontRow.study_id == Artefact.study_id)
        .where(FrontPointRow.key == Artefact.key, FrontPointRow.left_sequence.is_(None))
    )
    statement = delete(Artefact).where(Artefact.kind == "weights", Artefact.study_id.is_not(None), done, ~on_front)
    connection.execute(statement.where(Artefact.study_id.not_in(keep_all)))
