"""The side of an image as a network's blocks make it smaller, and these blocks named for look-up tables."""

from __future__ import annotations

from archfront.spaces._blocks import Block, block_key

__all__ = ["Shrinking"]


class Shrinking:
    """Square images of `side` pixels with so many `channels`; each block that is added reads what the last one gave."""

    def __init__(self, side: int, channels: int) -> None:
        self.side, self.channels = side, channels
        self.blocks: list[Block] = []

    def add(self, module: str, kind: str, channels: int, *, by: int = 1, **properties: int) -> None:
        """A block that gives so many channels and a side smaller `by` this, rounded up."""
        before = {"inp_h": self.side, "inp_w": self.side, "inp_c": self.channels}
        self.side, self.channels = -(-self.side // by), channels
        after = {"out_h": self.side, "out_w": self.side, "out_c": channels}
        self.blocks.append(Block(module, block_key(kind, **before, **after, **properties)))

    def pooled(self) -> None:
        """All pixels become one."""
        self.side = 1
