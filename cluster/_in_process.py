"""The engine without Ray: one trial after another in the caller's process."""

from __future__ import annotations

from collections.abc import Mapping

from archfront.cluster._loop import StudyLoop
from archfront.cluster._threads import one_thread
from archfront.cluster._trial import NOTHING, run_trial
from archfront.cluster.store import Report
from archfront.spaces._errors import ArchfrontError

__all__ = ["run_in_process"]


def run_in_process(loop: StudyLoop) -> None:
    """Drive a loop of capacity 1 until it is done, on one thread."""
    with one_thread():
        _run(loop)


def _run(loop: StudyLoop) -> None:
    while (step := loop.next()) != "done":
        if isinstance(step, str):
            raise ArchfrontError("the study loop waits although nothing runs in this process")
        (proposal,) = step

        def report(
            epoch: int,
            metrics: Mapping[str, float],
            attributes: Mapping[str, float] = NOTHING,
            /,
            identity: str = proposal.id,
        ) -> None:
            loop.reported([Report(identity, epoch, metrics, attributes)])

        loop.completed([run_trial(loop.plan.evaluator, proposal.id, proposal.config, report)])
    loop.finish()
