"""Independent pieces of work, in this process or as Ray tasks, handed back as they finish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["finished"]

T = TypeVar("T")
R = TypeVar("R")


def finished(work: Callable[[T], R], pieces: Sequence[T], workers: int, address: str | None) -> Iterator[tuple[T, R]]:
    """(piece, result) in the order of finishing. 0 workers and no address: one after the other, here."""
    if workers == 0 and address is None:
        for piece in pieces:
            yield piece, work(piece)
        return
    from archfront.cluster.engine import RayOptions, ray_cluster

    with ray_cluster(RayOptions(workers, address)) as slots:
        import ray

        task: Any = ray.remote(num_cpus=1, max_retries=1)(work)
        waiting = list(reversed(pieces))
        running: dict[Any, T] = {}
        while waiting or running:
            while waiting and len(running) < 2 * slots:
                piece = waiting.pop()
                running[task.remote(piece)] = piece
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            yield running.pop(done), ray.get(done)
