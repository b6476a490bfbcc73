"""The store: everything archfront remembers, in one SQL database."""

from __future__ import annotations

from archfront.cluster.store._artefacts import ArtefactMethods
from archfront.cluster.store._bench import BenchMethods
from archfront.cluster.store._calibration import CalibrationMethods
from archfront.cluster.store._driving import DrivingMethods
from archfront.cluster.store._front_query import FrontMethods
from archfront.cluster.store._proposals import ProposalMethods
from archfront.cluster.store._record import RecordMethods
from archfront.cluster.store._studies import StudyMethods
from archfront.cluster.store._tables import TableMethods
from archfront.cluster.store._values import ValueMethods

__all__ = ["Store"]


class Store(
    StudyMethods,
    DrivingMethods,
    ProposalMethods,
    RecordMethods,
    ValueMethods,
    FrontMethods,
    TableMethods,
    ArtefactMethods,
    BenchMethods,
    CalibrationMethods,
):
    """Studies, proposals, evaluations, predictions, facts, device values, fronts and files.

    `url` is sqlite:///FILE, postgresql://..., or the path of an SQLite file; by default $ARCHFRONT_STORE, else
    archfront.db in the working folder. `files` is a folder or fsspec URL for weights and exports; by default
    $ARCHFRONT_FILES, else `<name>.files/` beside the SQLite file. A new store is created, an older one upgraded.

    One process at a time writes a study; several may share a store. A store may be used from several threads, but
    not after a fork. Every method that writes is one transaction. Raises StoreError whenever the database cannot do
    what was asked; what was committed before stays.
    """
