"""A strategy's heavy work in an actor of the cluster, so that the study's own process only waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archfront.predictors._workshop import Kept

__all__ = ["RayWorkshop"]

RESTARTS = 3


class _Bench:
    """What is kept between pieces of work lives here."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)  # results depend on their number
        self.kept: Kept = {}

    def do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """One piece of work."""
        return work(self.kept, *arguments)


class RayWorkshop:
    """One actor, started with the first piece of work; work that dies with it is done again in a new one.

    It takes no slot: a training that waits for a proposal, and a proposal that waits for a slot, would wait for ever.
    """

    def __init__(self) -> None:
        self._actor: Any = None

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        """As the protocol says. Raises whatever the work raised."""
        import ray

        if self._actor is None:
            made: Any = ray.remote(num_cpus=0, max_restarts=RESTARTS, max_task_retries=RESTARTS)
            self._actor = made(_Bench).remote()
        reference = self._actor.do.remote(work, *arguments)
        return lambda: ray.get(reference)
