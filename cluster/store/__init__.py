"""The SQL store."""

from archfront.cluster.store._calibration import CalibrationRow
from archfront.cluster.store._front_result import FrontPoint, FrontResult, cheapest_first
from archfront.cluster.store._front_spec import ALL_DEVICES
from archfront.cluster.store._records import (
    ArtefactRecord,
    Ask,
    Counts,
    DeviceRecord,
    DeviceSession,
    Fact,
    KeyMatch,
    NoFrontError,
    NoStoreError,
    Outcome,
    ProposalRecord,
    Report,
    Snapshot,
    StudyRecord,
)
from archfront.cluster.store._store import Store

__all__ = [
    "ALL_DEVICES",
    "ArtefactRecord",
    "Ask",
    "CalibrationRow",
    "Counts",
    "DeviceRecord",
    "DeviceSession",
    "Fact",
    "FrontPoint",
    "FrontResult",
    "KeyMatch",
    "NoFrontError",
    "NoStoreError",
    "Outcome",
    "ProposalRecord",
    "Report",
    "Snapshot",
    "Store",
    "StudyRecord",
    "cheapest_first",
]
