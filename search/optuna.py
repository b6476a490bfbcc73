"""Any Optuna sampler as a strategy: the study is rebuilt from the archive whenever something is asked."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from archfront.search._population import default_population
from archfront.search._strategy import Capabilities, Strategy, Suggestion
from archfront.search._types import Configuration, Constraint, Evaluation
from archfront.spaces._adapters import to_optuna
from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._numbers import Real
from archfront.spaces._search_space import SearchSpace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial, TrialState

__all__ = ["Optuna"]

VARIANTS = {
    "brute_force": "BruteForceSampler",
    "cmaes": "CmaEsSampler",
    "gp": "GPSampler",
    "nsgaii": "NSGAIISampler",
    "nsgaiii": "NSGAIIISampler",
    "qmc": "QMCSampler",
    "random": "RandomSampler",
    "tpe": "TPESampler",
}
REFUSED = {
    "grid": ("needs a grid laid by hand", "optuna:brute_force lists every configuration of a finite space"),
    "partial_fixed": ("is no search of its own", "fix parameters with --set NAME=VALUE"),
}
"""Optuna's other samplers: why not, and what instead."""

UNCONDITIONAL = ("cmaes", "gp", "qmc")
"""Samplers that draw whatever is not in every trial at random (Optuna warns): refused where that would happen."""

GENETIC = ("nsgaii", "nsgaiii")
GENERATIONS = ("cmaes", *GENETIC)
"""Samplers that go by generations."""
STUDY = "archive"
REPEATS = 4
"""How many suggestions beyond those wanted a study is asked for, when it gives what was seen already."""

ZERO = "=0"
"""Ending of the flag that stands beside the logarithm of a "log or zero" real."""


class Optuna(Strategy):
    """`variant` names the sampler: brute_force, cmaes, gp, nsgaii, nsgaiii, qmc, random or tpe (Optuna 5).

    Nothing is kept but the archive. At every ask a sampler, seeded by one draw of `self.rng` (so that a second try
    differs and a resumed study does not), meets a study rebuilt in memory: told evaluations are COMPLETE trials with
    minimised values and signed relative excesses as constraints, pending ones RUNNING (the liars of TPE and GP), all
    others FAIL. Parameters are suggested in the order of the space, only active ones; ordinals by their rank, "log or
    zero" reals as a flag and, where it is off, a logarithm.

    - tpe: multivariate (by groups where parameters are conditional and there is one objective), which does better on
      tables of architectures than one parameter at a time. `startup` random configurations come first (gp: too).
    - nsgaii, nsgaiii: the generation of an evaluation is its place among the told, divided by `population` (default:
      a fifth of the trials within 4..50). One after another this is Optuna's own rule; with several pending, a late
      one counts for the next generation. Optuna draws conditional parameters of children at random.
    - cmaes: generations likewise (`population`: by default 4 + 3 ln d, Hansen's). Its distribution, which Optuna keeps
      as a pickle in its storage, is found again by telling a new one generation after generation. One objective,
      numbers and ordinals only, no constraints.
    - gp, qmc: no conditional parameters. qmc is a scrambled Sobol sequence; its position is the only state.
    - brute_force: finite spaces, every configuration once.
    """

    capabilities = Capabilities(determinism="order")
    test_parameters = {"startup": 8, "population": 4}

    def __init__(
        self, *base: Any, variant: str = "tpe", startup: int = 10, population: int | None = None, **rest: Any
    ) -> None:
        if variant in REFUSED:
            reason, hint = REFUSED[variant]
            raise UsageError(f"optuna:{variant} {reason}", hint)
        if variant not in VARIANTS:
            raise UnknownNameError.of("Optuna sampler", variant, VARIANTS)
        super().__init__(*base, **rest)
        self.variant, self.startup = variant, startup
        self.population = self._usual_population() if population is None else population
        if startup < 1:
            raise UsageError(f"startup={startup} must be at least 1")
        if self.population < 2:
            raise UsageError(f"population={population} must be at least 2")
        self._conditional = [p.name for p in self.space if p.when or (isinstance(p, Real) and p.zero)]
        self._check_space()
        self._domains = domains_of(self.space)
        self._complete: list[FrozenTrial] = []
        """Of `told`, by key within a batch: the order inside a batch must not matter."""
        self._attributes: dict[str, Any] = {}
        """What samplers keep on the study: the position of qmc (state), parents by generation (found again)."""
        self._distribution: dict[str, str] = {}
        """What cmaes keeps on a trial: its distribution after `_generations` of them (found again)."""
        self._generations = 0

    def _usual_population(self) -> int:
        if self.variant == "cmaes":
            return 4 + int(3 * math.log(len(self.space)))
        return default_population(self.budget.trials, 50)

    def _check_space(self) -> None:
        name = f"optuna:{self.variant}"
        if self.variant == "cmaes" and len(self.objectives) > 1:
            raise UsageError(f"{name} has one objective, not {len(self.objectives)}", "use optuna:tpe")
        categorical = [p.name for p in self.space if isinstance(p, Categorical)]
        if self.variant == "cmaes" and categorical:
            raise UsageError(f"{name} cannot search the categorical parameter {categorical[0]!r}", "use optuna:tpe")
        if self.variant in UNCONDITIONAL and self._conditional:
            raise UsageError(
                f"{name} cannot search the conditional or log-or-zero parameter {self._conditional[0]!r}",
                "use optuna:tpe",
            )
        continuous = [p.name for p in self.space if isinstance(p, Real) and p.low < p.high]
        if self.variant == "brute_force" and continuous:
            raise UsageError(f"{name} cannot list the values of the real parameter {continuous[0]!r}", "use optuna:tpe")
        if self.variant in ("cmaes", "qmc") and self.constraints:
            raise UsageError(f"{name} knows no constraints", "use optuna:tpe")

    def learn(self, evaluations: Sequence[Evaluation]) -> None:
        from optuna.trial import TrialState

        first = len(self.told) - len(evaluations)
        positions = sorted(range(first, len(self.told)), key=lambda i: self.told[i].key)
        losses, _ = self.rows_of(positions)
        for i, row in zip(positions, losses, strict=True):
            trial = self._frozen(self.told[i].config, TrialState.COMPLETE, row)
            for constraint in self.constraints:
                trial.set_constraint(str(constraint), _excess(self.told[i], constraint))
            self._complete.append(trial)

    def propose(self, n: int) -> Sequence[Suggestion]:
        seed = int(self.rng.integers(2**31))
        with _quiet():
            study = self._rebuilt(seed)
            suggestions = self._suggestions(study, n)
            if self.variant == "qmc":
                self._attributes = dict(study._storage.get_study_system_attrs(study._study_id))
        return suggestions

    def _suggestions(self, study: Study, n: int) -> list[Suggestion]:
        """At most n that are new. When the sampler only repeats itself: neighbours of what it repeats, and draws.

        Asked trials stay RUNNING in the rebuilt study: a sampler with liars moves away from them, repeated ones too.
        """
        new: dict[str, Suggestion] = {}
        for _ in range(n + REPEATS):
            config = configuration_of(self.space, self._chooser(study.ask()))
            key = self.space.key(config)
            if not self.seen(key):
                new.setdefault(key, Suggestion(config, self.variant))
            if len(new) == n:
                break
        return list(new.values()) or self._elsewhere(config)

    def _chooser(self, trial: Trial) -> Callable[[str], Any]:
        return lambda name: _suggest(trial, name, self._domains[name])

    def _elsewhere(self, repeated: Configuration) -> list[Suggestion]:
        near = self.space.neighbours(self.space.canonicalise(repeated), self.rng)
        unseen = [c for c, key in zip(near, self.space.keys_of(near), strict=True) if not self.seen(key)]
        if unseen:
            return [Suggestion(unseen[0], "neighbour")]
        return [Suggestion(config, "random") for config in self.space.sample(self.rng, 20)]

    def state(self) -> dict[str, Any] | None:
        return {"attributes": self._attributes} if self.variant == "qmc" else None

    def restore_state(self, state: Mapping[str, Any]) -> None:
        self._attributes = dict(state["attributes"])

    # -- the study

    def _rebuilt(self, seed: int) -> Study:
        """A study in memory that knows what the archive knows, with its sampler."""
        import optuna

        storage = optuna.storages.InMemoryStorage()
        study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE] * len(self.objectives), STUDY)
        for trial in self._trials():
            storage.create_new_trial(study_id, template_trial=trial)
        for name, value in self._attributes.items():
            storage.set_study_system_attr(study_id, name, value)
        if self.variant in GENETIC:
            self._select_parents(storage)
        if self.variant == "cmaes" and self._adapted():
            return self._rebuilt(seed)
        return optuna.load_study(study_name=STUDY, storage=storage, sampler=self._sampler(seed))

    def _trials(self) -> Iterator[FrozenTrial]:
        from optuna.trial import TrialState

        if self.variant == "qmc":  # takes the domains of the first trial that is complete, and nothing else
            yield self._frozen(self.space.default, TrialState.COMPLETE, [0.0] * len(self.objectives))
            return
        for trial in self._complete[:1]:
            yield _with_attributes(trial, self._distribution)
        yield from self._complete[1:]
        yield from (self._frozen(e.config, TrialState.FAIL) for e in self.unusable)
        yield from (self._frozen(p.config, TrialState.RUNNING) for p in self.pending)

    def _select_parents(self, storage: BaseStorage) -> None:
        """The parents of each generation up to the present one: a function of the told, kept because it costs time."""
        import optuna

        for generation in range(len(self._attributes) + 1, len(self._complete) // self.population + 1):
            sampler = self._sampler(int(np.random.default_rng([self.seed, generation]).integers(2**31)))
            study = optuna.load_study(study_name=STUDY, storage=storage, sampler=sampler)
            sampler.get_parent_population(study, generation)
            self._attributes = dict(storage.get_study_system_attrs(study._study_id))

    def _adapted(self) -> bool:
        """Tell the distribution of cmaes the generations that are complete; whether there were any it did not know."""
        import optuna

        generations, before = max(0, len(self._complete) - 1) // self.population, self._generations
        while self._generations < generations:
            storage = optuna.storages.InMemoryStorage()
            study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], STUDY)
            first = 1 + self._generations * self.population  # the very first says what there is to search, no more
            for i, trial in enumerate(self._complete[first : first + self.population]):
                kept = self._distribution if i == 0 else {}
                storage.create_new_trial(study_id, template_trial=_with_attributes(trial, kept))
            sampler = self._sampler(int(np.random.default_rng([self.seed, self._generations]).integers(2**31)))
            study = optuna.load_study(study_name=STUDY, storage=storage, sampler=sampler)
            study.ask(self._domains)
            attributes = storage.get_all_trials(study_id)[-1].system_attrs
            self._distribution = {n: v for n, v in attributes.items() if n.startswith(sampler._attr_key_optimizer)}
            self._generations += 1
        return self._generations > before

    def _sampler(self, seed: int) -> Any:
        from optuna import samplers

        settings: dict[str, dict[str, Any]] = {
            "cmaes": {"popsize": self.population, "warn_independent_sampling": False},
            "gp": {"n_startup_trials": self.startup, "warn_independent_sampling": False},
            "nsgaii": {"population_size": self.population},
            "nsgaiii": {"population_size": self.population},
            "qmc": {"seed": self.seed, "scramble": True, "warn_independent_sampling": False},  # one sequence per study
            "tpe": {
                "n_startup_trials": self.startup,
                "multivariate": True,
                "group": bool(self._conditional) and len(self.objectives) == 1,
            },
        }
        return getattr(samplers, VARIANTS[self.variant])(**{"seed": seed, **settings.get(self.variant, {})})

    def _frozen(self, config: Configuration, state: TrialState, values: Sequence[float] | None = None) -> FrozenTrial:
        """A trial as a storage takes it; its number and id are set there."""
        from optuna import samplers
        from optuna.trial import FrozenTrial

        parameters = parameters_of(self.space, config)
        attributes: dict[str, Any] = {}
        if values is not None and self.variant in GENERATIONS:
            cls = getattr(samplers, VARIANTS[self.variant])
            late = self.variant == "cmaes"
            key = cls()._attr_key_generation if late else cls._get_generation_key()
            attributes[key] = (len(self._complete) - late) // self.population
        trial = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=None,
            datetime_complete=None,
            params=parameters,
            distributions={name: self._domains[name] for name in parameters},
            user_attrs={},
            system_attrs=attributes,
            intermediate_values={},
        )
        # a storage copies its templates; what they hold never changes, and a deep copy costs a hundred times more
        vars(trial)["__deepcopy__"] = lambda memo: copy.copy(trial)
        return trial


def _with_attributes(trial: FrozenTrial, attributes: Mapping[str, str]) -> FrozenTrial:
    if not attributes:
        return trial
    other = copy.copy(trial)
    other.system_attrs = {**trial.system_attrs, **attributes}
    vars(other)["__deepcopy__"] = lambda memo: copy.copy(other)
    return other


def domains_of(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Optuna's distribution of every parameter; a "log or zero" real has a second one, of its flag."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    domains: dict[str, BaseDistribution] = to_optuna(space)
    for p in space:
        if isinstance(p, Ordinal):
            domains[p.name] = IntDistribution(0, len(p.options) - 1)
        elif isinstance(p, Real) and p.zero:
            domains[p.name + ZERO] = CategoricalDistribution((False, True))
            domains[p.name] = FloatDistribution(p.low, p.high, log=p.log)
    return domains


def configuration_of(space: SearchSpace, choose: Callable[[str], Any]) -> Configuration:
    """The active part of a configuration, each value asked from `choose` (by name in `domains_of`) in order."""
    config: Configuration = {}
    for p in space:
        if not all(c.parent in config and c.holds(config[c.parent]) for c in p.when):
            continue
        if isinstance(p, Real) and p.zero and choose(p.name + ZERO):
            config[p.name] = 0.0
        else:
            value = choose(p.name)
            config[p.name] = p.options[value] if isinstance(p, Ordinal) else value
    return config


def parameters_of(space: SearchSpace, config: Configuration) -> dict[str, Any]:
    """Optuna's parameters of a canonical configuration: the inverse of `configuration_of`."""
    parameters: dict[str, Any] = {}
    for name in space.active_names(config):
        p, value = space[name], config[name]
        if isinstance(p, Real) and p.zero:
            parameters[name + ZERO] = value == 0
            if value == 0:
                continue
        parameters[name] = p.position(value) if isinstance(p, Ordinal) else value
    return parameters


def _suggest(trial: Trial, name: str, domain: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(domain, CategoricalDistribution):
        return trial.suggest_categorical(name, domain.choices)
    if isinstance(domain, IntDistribution):
        return trial.suggest_int(name, domain.low, domain.high, step=domain.step, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, log=domain.log)


def _excess(evaluation: Evaluation, constraint: Constraint) -> float:
    """How far beyond its bound, relative to the bound's size: negative inside, infinite where nothing is known."""
    value = evaluation.values.get(constraint.name)
    if value is None or not math.isfinite(value.value):
        return math.inf
    excess = value.value - constraint.bound
    return (excess if constraint.operator == "<=" else -excess) / (abs(constraint.bound) or 1.0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's log lines, and its warnings that a sampler or an argument is experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
