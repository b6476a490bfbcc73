"""Early stopping by name, as Ray Tune asks for it: stopped trials are told with the epochs they reached."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from archfront.cluster._moasha import Rungs, milestones
from archfront.search._types import Configuration, Objective

__all__ = ["reported_metric", "scheduler"]

REDUCTION = 3
"""Of successive halving: one in so many trials goes on at each milestone."""
Costs = Callable[[Configuration], Mapping[str, float]]
"""The metrics of a configuration that are known before it trains."""


def reported_metric(objectives: Sequence[Objective]) -> str:
    """The metric that a rule of one metric looks at: the first objective that is reported while training."""
    return next((o.metric for o in objectives if o.device is None), objectives[0].metric)


def scheduler(name: str, objectives: Sequence[Objective], epochs: int, costs: Costs | None = None) -> Any:
    """Tune's scheduler for `none`, `asha`, `median` or `moasha`, over trials of `epochs` epochs. `costs` is asked for
    objectives that no report holds."""
    from ray.tune.schedulers import FIFOScheduler

    if name == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return _moasha(objectives, epochs, costs) if name == "moasha" else _of_one_metric(name, objectives, epochs)


def _of_one_metric(name: str, objectives: Sequence[Objective], epochs: int) -> Any:
    from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler

    metric = reported_metric(objectives)
    objective = next(o for o in objectives if o.metric == metric)
    common: dict[str, Any] = {"time_attr": "epoch", "metric": metric, "mode": objective.direction}
    rule: Any = ASHAScheduler if name == "asha" else MedianStoppingRule
    if name == "asha":
        own = {"max_t": epochs + 2, "grace_period": max(1, epochs // 9), "reduction_factor": REDUCTION}
    else:
        own = {"grace_period": max(1, epochs // 3), "min_samples_required": 3}

    class Patient(rule):
        """A trial that has trained to the end is never stopped: only its result is still to come."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if result["epoch"] >= epochs:
                return str(TrialScheduler.CONTINUE)
            return str(super().on_trial_result(tune_controller, trial, result))

    return Patient(**own, **common)


def _moasha(objectives: Sequence[Objective], epochs: int, costs: Costs | None) -> Any:
    """Stopping over all objectives that are reported while training or known beforehand."""
    from ray.tune.schedulers import FIFOScheduler

    rungs = Rungs(milestones(max(1, epochs // REDUCTION**3), epochs, REDUCTION), REDUCTION)
    aims = [o for o in objectives if o.device is None]

    class Moasha(FIFOScheduler):  # type: ignore[misc, unused-ignore]
        """Asked after every report of a trial. Its pickle is empty: nothing is restored."""

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if "metrics" not in result or "final" in result:
                return str(FIFOScheduler.CONTINUE)
            known = json.loads(result["metrics"])
            if costs is not None and any(o.metric not in known for o in aims):
                known = {**costs(json.loads(trial.config["config"])), **known}
            losses = np.array([o.loss(known[o.metric]) for o in aims if o.metric in known], np.float64)
            goes_on = len(losses) == 0 or rungs.goes_on(trial.trial_id, result["epoch"], losses)
            return str(FIFOScheduler.CONTINUE if goes_on else FIFOScheduler.STOP)

    return Moasha()  # type: ignore[no-untyped-call]
