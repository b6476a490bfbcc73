"""Give memory back between trials: a re-used worker would otherwise grow with every network it trains."""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["give_memory_back"]


def give_memory_back() -> None:
    """Collect cycles, then let glibc return its free heap (seen: 0.5 instead of 0.9 GB after eight small networks)."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            return  # another C library, which has no such call
