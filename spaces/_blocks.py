"""What a network is made of, as look-up tables of latencies name it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Block", "block_key"]


class Block(NamedTuple):
    """A module of a network by its name in it, and the key of what it is: modules of one key take equally long."""

    module: str
    key: str


def block_key(kind: str, **properties: object) -> str:
    """ "MBConv inp_h=56 kernel=3": a kind, then what tells it from others of its kind, in the order of a table's
    columns."""
    return " ".join([kind, *(f"{name}={value}" for name, value in properties.items())])
