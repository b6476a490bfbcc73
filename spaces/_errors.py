"""Every exception archfront raises on purpose, in one tree.

ArchfrontError
├── UnknownNameError       a name nobody registered (carries a did-you-mean)
├── UsageError             a request that cannot be met as written: refused before anything runs
│   └── ExistsError        two things of one name
├── ConfigurationError     a configuration that is not legal in its space (carries the problems)
├── DataError              a data file that is not what its format says
├── TrainingError          a training that diverged or cannot go on
├── StoreError             the store cannot be opened, written, or understood
├── MeasurementError       a device that could not measure
└── ExportError            a file that does not agree with the model it was made from
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "ArchfrontError",
    "ConfigurationError",
    "DataError",
    "ExistsError",
    "ExportError",
    "MeasurementError",
    "StoreError",
    "TrainingError",
    "UnknownNameError",
    "UsageError",
    "did_you_mean",
]


class ArchfrontError(Exception):
    """Base of all. `message` says what was wrong, `hint` says the way out."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        self.message, self.hint = message, hint

    def __reduce__(self) -> tuple[type[ArchfrontError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class UsageError(ArchfrontError, ValueError):
    """A request that cannot be met as written."""

    code = "usage"
    exit_code = 2


class ExistsError(UsageError):
    """A name that is taken."""

    code = "exists"


class UnknownNameError(ArchfrontError, LookupError):
    """A name that nobody registered."""

    code = "unknown_name"
    exit_code = 2

    @classmethod
    def of(cls, what: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """The error for `name`, an unknown `what` ("space", "device" ...), with the closest of `known`."""
        known = sorted(known)
        shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        close = did_you_mean(name, known)
        hint = (f"did you mean {close!r}? " if close else "") + f"known: {shown or 'none'}"
        return cls(f"unknown {what} {name!r}", hint)


class ConfigurationError(ArchfrontError, ValueError):
    """A configuration that is not legal."""

    code = "configuration"
    exit_code = 2


class DataError(ArchfrontError, ValueError):
    """A data file that is not what its format says."""

    code = "data"
    exit_code = 2


class TrainingError(ArchfrontError):
    """A training that diverged or cannot go on."""

    code = "training"


class StoreError(ArchfrontError):
    """The store cannot be opened, written or understood; what was committed stays."""

    code = "store"


class MeasurementError(ArchfrontError):
    """A device that could not measure."""

    code = "measurement"


class ExportError(ArchfrontError):
    """A file that could not be written or does not agree with its model."""

    code = "export"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The member of `known` that looks most like `name`, or None."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None
