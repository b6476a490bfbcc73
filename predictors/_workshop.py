"""Where heavy work of a strategy is done: here when its result is wanted, or beside, in a process of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

__all__ = ["InProcess", "Kept", "Workshop"]

Kept = dict[str, Any]
"""What one piece of work leaves for the next: trained networks by their identity."""


@runtime_checkable
class Workshop(Protocol):
    """Pieces of work are pure functions of their arguments and may run again when a process dies."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        """Begin `work(kept, *arguments)`; calling the answer waits for the result."""


class InProcess:
    """The work is done here, when its result is asked for."""

    def __init__(self) -> None:
        self.kept: Kept = {}

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        """As the protocol says."""
        return lambda: work(self.kept, *arguments)
