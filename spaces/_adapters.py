"""A search space in the domains of Optuna and Ray Tune: conditions are dropped, so canonicalise what comes back."""

from __future__ import annotations

from typing import Any

from archfront.spaces._choices import Choice
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._search_space import SearchSpace

__all__ = ["to_optuna", "to_ray"]


def to_optuna(space: SearchSpace) -> dict[str, Any]:
    """Parameter name to optuna distribution. "Log or zero" reals become linear: Optuna has no such domain."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    domains: dict[str, Any] = {}
    for p in space:
        if isinstance(p, Choice):
            domains[p.name] = CategoricalDistribution(p.options)
        elif isinstance(p, Integer):
            log = p.log and p.step == 1
            domains[p.name] = IntDistribution(p.low, p.high, log=log, step=p.step)
        elif isinstance(p, Real):
            domains[p.name] = FloatDistribution(0.0 if p.zero else p.low, p.high, log=p.log and not p.zero)
    return domains


def to_ray(space: SearchSpace) -> dict[str, Any]:
    """Parameter name to ray.tune domain."""
    from ray import tune

    domains: dict[str, Any] = {}
    for p in space:
        if isinstance(p, Choice):
            domains[p.name] = tune.choice(list(p.options))
        elif isinstance(p, Integer) and p.log:
            domains[p.name] = tune.qlograndint(p.low, p.high + p.step, p.step)
        elif isinstance(p, Integer):
            domains[p.name] = tune.choice(range(p.low, p.high + 1, p.step))
        elif isinstance(p, Real):
            number = tune.loguniform(p.low, p.high) if p.log else tune.uniform(p.low, p.high)
            domains[p.name] = tune.choice([number, 0.0]) if p.zero else number
    return domains
