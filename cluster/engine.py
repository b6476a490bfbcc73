"""The engine on Ray Tune."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from archfront.cluster._loop import StudyLoop
from archfront.cluster._pilots import Pilots
from archfront.cluster._tune_trials import TuneTrials
from archfront.spaces._errors import UsageError

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


class Way(Protocol):
    """How a study's evaluations become Tune trials. The options are those that differ between the ways."""

    def trainable(self) -> Any:
        """What Tune runs in each slot."""

    def tune_options(self) -> dict[str, Any]:
        """Of `TuneConfig`."""

    def run_options(self) -> dict[str, Any]:
        """Of `RunConfig`."""

    def driving(self) -> contextlib.AbstractContextManager[None]:
        """Around `Tuner.fit`. Raises what the study's loop raised."""


def run_on_ray(loop: StudyLoop, options: RayOptions) -> None:
    """Drive a loop on the Ray that is initialised: trainings, and whatever a scheduler may stop, as one Tune trial
    each; everything else through pilots. Raises what the loop raised."""
    from ray import tune

    trials = loop.plan.evaluator.trains or loop.record.options["scheduler"] != "none"
    way: Way = TuneTrials(loop) if trials else Pilots(loop)
    quiet = logging.getLogger("ray.tune")
    level = quiet.level
    if not options.verbose:
        quiet.setLevel(logging.CRITICAL)
    name = loop.record.name
    folder = f"{loop.plan.files.url}/ray/{name}"
    _remove(folder)  # of a sitting that was killed
    tuner = tune.Tuner(
        tune.with_resources(way.trainable(), _resources(loop.capacity)),
        tune_config=tune.TuneConfig(trial_dirname_creator=lambda trial: trial.trial_id, **way.tune_options()),
        run_config=tune.RunConfig(
            name=f"{name}-{loop.epoch}-{uuid.uuid4().hex[:6]}", storage_path=folder, verbose=0, **way.run_options()
        ),
    )
    try:
        with way.driving():
            tuner.fit()
    finally:
        quiet.setLevel(level)
        _remove(folder)
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
