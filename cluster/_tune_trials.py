"""Trainings on Ray Tune: one proposal is one Tune trial, told from `on_trial_complete` only."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from archfront.cluster._loop import StudyLoop
from archfront.cluster._memory import give_memory_back, keep_memory
from archfront.cluster._schedulers import reported_metric, scheduler
from archfront.cluster._trial import NOTHING, Evaluator, TrialResult, run_trial
from archfront.cluster.store import Report
from archfront.search._types import Proposal
from archfront.spaces._errors import ArchfrontError

__all__ = ["TuneTrials"]


@dataclass(frozen=True)
class _Job:
    """What every trial of a sitting needs; a re-used worker keeps it."""

    id: str
    evaluator: Evaluator
    metric: str


def _trainable(config: dict[str, Any], job: _Job) -> None:
    """One trial in a worker: reports after each epoch, then once more with the whole result. What is ours travels as
    JSON text: Tune flattens mappings."""
    import torch
    from ray import tune

    torch.set_num_threads(1)
    keep_memory()
    last: dict[str, Any] = {"epoch": 0}

    def report(epoch: int, metrics: Mapping[str, float], attributes: Mapping[str, float] = NOTHING, /) -> None:
        last.update({job.metric: metrics.get(job.metric, float("nan")), "epoch": epoch})
        tune.report({**last, "metrics": json.dumps(dict(metrics)), "attributes": json.dumps(dict(attributes))})

    result = run_trial(job.evaluator, config["proposal"], json.loads(config["config"]), report)
    give_memory_back()
    tune.report({**last, "epoch": last["epoch"] + 1, "final": json.dumps(asdict(result))})


class TuneTrials:
    """Drives a study's loop through a Searcher: Tune asks it for trials and says what became of them."""

    def __init__(self, loop: StudyLoop) -> None:
        self.loop, self.slots = loop, loop.capacity
        self._adapter = _adapter(loop)

    def trainable(self) -> Any:
        """One trial."""
        from ray import tune

        metric = reported_metric(self.loop.record.objectives)
        return tune.with_parameters(_trainable, job=_Job(uuid.uuid4().hex, self.loop.plan.evaluator, metric))

    def tune_options(self) -> dict[str, Any]:
        """Of `TuneConfig`."""
        record, plan = self.loop.record, self.loop.plan
        costs = None if plan.model_space is None else plan.costs
        return {
            "num_samples": -1,
            "max_concurrent_trials": self.slots,  # without it Tune starts one worker after the other
            "search_alg": self._adapter,
            "scheduler": scheduler(record.options["scheduler"], record.objectives, record.options["epochs"], costs),
            "reuse_actors": True,
        }

    def run_options(self) -> dict[str, Any]:
        """Of `RunConfig`. A dead worker's proposal is suggested again: Tune's own retries leave out the deaths of
        workers that were just being handed on from one trial to the next."""
        from ray import tune

        return {"failure_config": tune.FailureConfig(max_failures=0)}

    @contextlib.contextmanager
    def driving(self) -> Iterator[None]:
        """Raises what the loop raised, when Tune has ended."""
        yield
        if self._adapter.error is not None:
            raise self._adapter.error


def _adapter(loop: StudyLoop) -> Any:
    """Tune's Searcher over a study loop (defined here: its base class needs ray)."""
    from ray.tune.search import Searcher

    class StudySearcher(Searcher):  # type: ignore[misc, unused-ignore]
        """Whatever the loop raises is kept: Tune would re-run good trials. Its pickle is empty: nothing is restored."""

        error: BaseException | None = None

        def __init__(self, loop: StudyLoop) -> None:
            super().__init__(metric=reported_metric(loop.record.objectives), mode="min")
            self.loop = loop
            self._limit = loop.record.options["max_failures"] + 1
            self._proposals: dict[str, Proposal] = {}
            self._deaths: Counter[str] = Counter()
            self._again: deque[Proposal] = deque()

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def suggest(self, trial_id: str) -> Any:
            if self.error is not None:
                return Searcher.FINISHED
            if self._again:
                proposal = self._again.popleft()
            else:
                try:
                    step = self.loop.next()
                except Exception as error:
                    self.error = error
                    return Searcher.FINISHED
                if isinstance(step, str):
                    return Searcher.FINISHED if step == "done" and not self.loop.running else None
                (proposal,) = step
            self._proposals[trial_id] = proposal
            return {"proposal": proposal.id, "config": json.dumps(proposal.config)}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            if self.error is None and "metrics" in result and "final" not in result:
                metrics, attributes = json.loads(result["metrics"]), json.loads(result["attributes"])
                report = Report(self._proposals[trial_id].id, result["epoch"], metrics, attributes)
                self._guarded(lambda: self.loop.reported([report]))

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            proposal = self._proposals.pop(trial_id, None)
            if self.error is not None or proposal is None:
                return
            if error or result is None:
                self._deaths[proposal.id] += 1
                if self._deaths[proposal.id] < self._limit:
                    self._again.append(proposal)
                    return
            ended = _result(proposal.id, None if error else result, self._deaths.pop(proposal.id, 0))
            self._guarded(lambda: self.loop.completed([ended]))

        def _guarded(self, call: Any) -> None:
            try:
                call()
            except Exception as raised:
                self.error = raised

        def save(self, checkpoint_path: str) -> None:
            """The store is the truth: nothing to save."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing is ever restored from Tune's files."""

    return StudySearcher(loop)


def _result(proposal: str, result: dict[str, Any] | None, deaths: int) -> TrialResult:
    """What a Tune trial's end means."""
    if result is None:
        return TrialResult(proposal, "failed", error=f"the worker process died ({deaths} times)")
    if (final := result.get("final")) is not None:
        return TrialResult(**json.loads(final))
    if "metrics" not in result:
        raise ArchfrontError(f"trial of proposal {proposal} ended without a result")
    seconds = float(result.get("time_total_s", 0.0))
    return TrialResult(proposal, "stopped", json.loads(result["metrics"]), epochs=result["epoch"], seconds=seconds)
