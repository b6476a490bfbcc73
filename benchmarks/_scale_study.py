"""The study that the scale benchmark moves: a trivial function, random proposals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from archfront.cluster.store import Outcome, ProposalRecord, Store
from archfront.cluster.study import Study
from archfront.search import Objective
from archfront.search._types import Evaluation, Proposal, Value
from archfront.spaces import Real, SearchSpace

__all__ = ["SPACE", "begun", "outcome", "proposed", "study", "trivial"]

SPACE = SearchSpace(*(Real(f"x{i}", 0, 1) for i in range(6)))
OBJECTIVES = ("error:min", "cost:min")


def trivial(config: Mapping[str, Any]) -> dict[str, float]:
    """Two conflicting objectives, in microseconds."""
    x = list(config.values())
    return {"error": sum(x[:3]) / 3, "cost": 1 - x[0] * x[3]}


def study(
    store: Store, name: str, function: Callable[..., Mapping[str, float]], strategy: str = "random", **options: Any
) -> Study:
    """A study of the function, by default of random proposals."""
    goals = [Objective.parse(o) for o in OBJECTIVES]
    return Study(name, store=store, space=SPACE, objectives=goals, evaluate=function, strategy=strategy, **options)


def begun(made: Study, trials: int) -> int:
    """Store the study; the number of its trials."""
    made._begin(trials, None, None)
    return trials


def proposed(store: Store, name: str, epoch: int, number: int) -> list[Proposal]:
    """Random proposals, stored as running."""
    configs = SPACE.sample(np.random.default_rng(0), number)
    keys = SPACE.keys_of(configs)
    prefix = f"{abs(hash((name, number))):024x}"[-24:]
    made = [Proposal(f"{prefix}{i:08x}", i, c, k, "random") for i, (c, k) in enumerate(zip(configs, keys, strict=True))]
    for at in range(0, number, 5000):
        store.insert_proposals(name, epoch, [ProposalRecord(p, "", "running") for p in made[at : at + 5000]])
    return made


def outcome(proposal: Proposal) -> Outcome:
    """What a trivial evaluation gave."""
    values = {name: Value(value, "trained") for name, value in trivial(proposal.config).items()}
    return Outcome(Evaluation(proposal.config, proposal.key, "ok", values, proposal.id, {"epochs": 1.0}, 0.0, ""))
