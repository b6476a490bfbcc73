"""One evaluation, wherever it runs: in the study's process or in a Ray worker."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, runtime_checkable

from archfront.search._types import Kind, Status
from archfront.spaces._errors import ArchfrontError
from archfront.spaces._search_space import Configuration

__all__ = ["NOTHING", "Evaluator", "ReportCallback", "Stopped", "TrialResult", "run_trial"]

NOTHING: Mapping[str, float] = MappingProxyType({})


@runtime_checkable
class ReportCallback(Protocol):
    """Called after each epoch; may raise `Stopped`."""

    def __call__(self, epoch: int, metrics: Mapping[str, float], attributes: Mapping[str, float] = NOTHING, /) -> None:
        """Validation metrics, and what else is worth keeping of the epoch: losses, rates, a schedule's values."""


class Stopped(Exception):
    """A scheduler ends this trial early."""


@dataclass(frozen=True)
class TrialResult:
    """What a trial gave. `quality` by metric, `test` likewise with the prefix `test_`, `analytic` by metric; device
    values that a user's own function or table knows stand in `quality` under "metric@device"."""

    proposal: str
    status: Status
    quality: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)
    analytic: Mapping[str, float] = field(default_factory=dict)
    kind: Kind = "trained"
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""
    weights: str = ""


class Evaluator(Protocol):
    """How a study evaluates a configuration. Travels to workers by cloudpickle. `trains`: long, with checkpoints,
    so that each evaluation is worth a Tune trial of its own."""

    trains: ClassVar[bool]

    def evaluate(self, proposal: str, config: Configuration, report: ReportCallback) -> TrialResult:
        """Evaluate; exceptions become failures."""


def run_trial(evaluator: Evaluator, proposal: str, config: Configuration, report: ReportCallback) -> TrialResult:
    """`evaluator.evaluate`, with every exception turned into a failed result that says what and where."""
    started = time.perf_counter()
    last: dict[str, Any] = {"epoch": 0, "metrics": {}}

    def remember(epoch: int, metrics: Mapping[str, float], attributes: Mapping[str, float] = NOTHING, /) -> None:
        last.update(epoch=epoch, metrics=dict(metrics))
        report(epoch, metrics, attributes)

    try:
        return evaluator.evaluate(proposal, config, remember)
    except Stopped:
        seconds = time.perf_counter() - started
        return TrialResult(proposal, "stopped", last["metrics"], epochs=last["epoch"], seconds=seconds)
    except Exception as error:
        seconds = time.perf_counter() - started
        return TrialResult(proposal, "failed", epochs=last["epoch"], seconds=seconds, error=_told(error))


def _told(error: Exception) -> str:
    """The message; for errors that are not ours also where they come from."""
    if isinstance(error, ArchfrontError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
