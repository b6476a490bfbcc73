"""Channels of a bank that may change places: the largest network stays the same function."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Axis", "Channels"]

Axis = tuple[str, int]
"""A tensor's name and one of its axes."""


@dataclass(frozen=True)
class Channels:
    """Channels of which smaller values of the parameter group `group` keep the first ones.

    How important a channel is says the sum of the absolute weights along `importance`; `members` are all axes on which
    these channels lie, that one among them.
    """

    group: str
    importance: Axis
    members: tuple[Axis, ...]

    def __post_init__(self) -> None:
        if self.importance not in self.members:
            raise ValueError(f"{self.importance} is not among {self.members}: its own channels would not move")
