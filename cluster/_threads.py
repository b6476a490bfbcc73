"""A fixed number of torch's threads: results depend on it, and a worker has one core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_thread", "threads"]


@contextmanager
def threads(number: int) -> Iterator[None]:
    """torch computes on so many threads meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes on one thread meanwhile."""
    with threads(1):
        yield
