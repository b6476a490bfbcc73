"""The engine on Ray Tune: one proposal is one Tune trial, told from `on_trial_complete` only."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from archfront.cluster._loop import StudyLoop
from archfront.cluster._memory import give_memory_back, keep_memory
from archfront.cluster._schedulers import reported_metric, scheduler
from archfront.cluster._trial import Evaluator, TrialResult, run_trial
from archfront.spaces._errors import ArchfrontError, UsageError

__all__ = ["RayOptions", "ray_cluster", "run_on_ray"]

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
os.environ.setdefault("RAY_AUTH_MODE", "token")  # these count only before the first import of ray
os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})


@dataclass(frozen=True)
class RayOptions:
    """Where trials run: a local cluster of `workers` slots, or the cluster at `address`."""

    workers: int
    address: str | None = None
    verbose: bool = False


@contextlib.contextmanager
def ray_cluster(options: RayOptions) -> Iterator[int]:
    """A running Ray; yields the number of slots. A Ray that is already initialised here is used and left running.

    Raises UsageError when the cluster at `address` does not answer.
    """
    import ray

    if ray.is_initialized():
        yield options.workers
        return
    common: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": options.verbose,
        "logging_level": "INFO" if options.verbose else "ERROR",
    }
    try:
        if options.address is not None:
            del common["include_dashboard"]
            ray.init(address=options.address, **common)
        else:
            folder = os.environ.get("ARCHFRONT_RAY_DIR", os.path.join(tempfile.gettempdir(), "ray"))
            ray.init(address="local", num_cpus=options.workers, _temp_dir=folder, **common)
    except (ConnectionError, RuntimeError) as error:
        where = f"at {options.address!r}" if options.address else "on this machine"
        raise UsageError(f"no Ray cluster {where}: {str(error).splitlines()[0]}", "see docs/cluster.md") from error
    try:
        yield options.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


def run_on_ray(loop: StudyLoop, options: RayOptions) -> None:
    """Drive a loop with Tune trials on the Ray that is initialised. Raises what the loop raised."""
    from ray import tune

    quiet = logging.getLogger("ray.tune")
    level = quiet.level
    if not options.verbose:
        quiet.setLevel(logging.CRITICAL)
    adapter = _adapter(loop)
    record = loop.record
    job = _Job(uuid.uuid4().hex, loop.plan.evaluator, reported_metric(record.objectives))
    folder = f"{loop.plan.files.url}/ray/{record.name}"
    _remove(folder)  # of a sitting that was killed
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_trainable, job=job),
            _resources(loop.capacity),
        ),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            max_concurrent_trials=loop.capacity,  # without it Tune starts one worker after the other
            search_alg=adapter,
            scheduler=_scheduler(loop),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"{record.name}-{loop.epoch}-{uuid.uuid4().hex[:6]}",
            storage_path=folder,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=record.options["max_failures"]),
        ),
    )
    try:
        tuner.fit()
    finally:
        quiet.setLevel(level)
        _remove(folder)
    if adapter.error is not None:
        raise adapter.error
    loop.finish()


def _resources(slots: int) -> dict[str, float]:
    """One CPU per trial, and an equal share of the cluster's GPUs where there are any."""
    import ray

    gpus = float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    return {"cpu": 1, "gpu": min(1.0, gpus / slots)} if gpus else {"cpu": 1}


def _remove(url: str) -> None:
    import fsspec

    system, path = fsspec.core.url_to_fs(url)
    if system.exists(path):
        system.rm(path, recursive=True)


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

    def report(epoch: int, metrics: Mapping[str, float]) -> None:
        last.update({job.metric: metrics.get(job.metric, float("nan")), "epoch": epoch})
        tune.report({**last, "metrics": json.dumps(dict(metrics))})

    result = run_trial(job.evaluator, config["proposal"], json.loads(config["config"]), report)
    give_memory_back()
    tune.report({**last, "epoch": last["epoch"] + 1, "final": json.dumps(asdict(result))})


def _scheduler(loop: StudyLoop) -> Any:
    record, plan = loop.record, loop.plan
    costs = None if plan.model_space is None else plan.costs
    return scheduler(record.options["scheduler"], record.objectives, record.options["epochs"], costs)


def _adapter(loop: StudyLoop) -> Any:
    """Tune's Searcher over a study loop (defined here: its base class needs ray)."""
    from ray.tune.search import Searcher

    class StudySearcher(Searcher):  # type: ignore[misc, unused-ignore]
        """Whatever the loop raises is kept: Tune would re-run good trials. Its pickle is empty: nothing is restored."""

        error: BaseException | None = None

        def __init__(self, loop: StudyLoop) -> None:
            super().__init__(metric=reported_metric(loop.record.objectives), mode="min")
            self.loop = loop
            self._proposals: dict[str, str] = {}

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def suggest(self, trial_id: str) -> Any:
            if self.error is not None:
                return Searcher.FINISHED
            try:
                step = self.loop.next()
            except Exception as error:
                self.error = error
                return Searcher.FINISHED
            if isinstance(step, str):
                return None if step == "wait" else Searcher.FINISHED
            (proposal,) = step
            self._proposals[trial_id] = proposal.id
            return {"proposal": proposal.id, "config": json.dumps(proposal.config)}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            if self.error is None and "metrics" in result and "final" not in result:
                self._guarded(
                    lambda: self.loop.reported(
                        self._proposals[trial_id], result["epoch"], json.loads(result["metrics"])
                    )
                )

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            proposal = self._proposals.pop(trial_id, None)
            if self.error is None and proposal is not None:
                self._guarded(lambda: self.loop.completed([_result(proposal, result, error, self.loop)]))

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


def _result(proposal: str, result: dict[str, Any] | None, error: bool, loop: StudyLoop) -> TrialResult:
    """What a Tune trial's end means."""
    if error or result is None:
        deaths = loop.record.options["max_failures"] + 1
        return TrialResult(proposal, "failed", error=f"the worker process died ({deaths} times)")
    if (final := result.get("final")) is not None:
        return TrialResult(**json.loads(final))
    if "metrics" not in result:
        raise ArchfrontError(f"trial of proposal {proposal} ended without a result")
    seconds = float(result.get("time_total_s", 0.0))
    return TrialResult(proposal, "stopped", json.loads(result["metrics"]), epochs=result["epoch"], seconds=seconds)
