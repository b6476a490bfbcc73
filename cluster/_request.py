"""What a user asks for, checked and completed into the record of a study: nothing runs before this has passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archfront import search, spaces, trainers
from archfront.cluster._device import Device, cpu_model
from archfront.cluster._goals import goals_of, parsed_constraints, refuse_too_many
from archfront.cluster._history import Past, lessons_of
from archfront.cluster._known_datasets import Earlier
from archfront.cluster._leases import PATIENCE_SECONDS
from archfront.cluster._protocol import protocol_of, protocol_of_function
from archfront.cluster.store import Store, StudyRecord
from archfront.predictors._context import Context
from archfront.predictors._datasets import KnownDataSets
from archfront.search._auto import AUTO, choose
from archfront.search._popdb import THRESHOLD
from archfront.search._strategy import Strategy, checked_configuration
from archfront.search._types import Constraint, Objective, SearchBudget
from archfront.spaces._arguments import check_arguments
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._lookup import LookupSpace
from archfront.spaces._metric import METRICS
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._registry import registered_name
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.trainers._slice import sliced_space
from archfront.trainers._types import Budget
from archfront.trainers._union import Setting, applied, default_trainer, searched_space

__all__ = ["FUNCTION_AND_MODEL", "Request", "located", "record_of", "seconds_of"]

FUNCTION_AND_MODEL = (
    "a model space is evaluated by training its networks, not by a function",
    "leave evaluate out, or give a bare search space (pkg.mod:SPACE)",
)
SUPERNET = "supernet"


@dataclass(frozen=True)
class Request:
    """One search as the user writes it. Names are strings as on the command line; `space` and `strategy` may be
    objects, `evaluate` a function or its dotted path; a `foreign` study begins with results found elsewhere.
    `settings` are (name, (value,)) or (name, (low, high)). `start` are configurations to try first, `start_from` names
    a study whose front is tried next; `popdb` names one whose history reduces the space (the studies as read from the
    store stand there when a record is made). A configuration that kills its worker is tried `max_failures` more times;
    a worker that was not heard for `patience` seconds loses its work to another one. `start_weights` are the
    (hash, path) of a supernet: each training begins with its slice. `schedule` is one as JSON: each training follows
    its values, epoch by epoch. What studies on other tasks found is read from the store `earlier`."""

    name: str
    space: str | SearchSpace | ModelSpace
    objectives: Sequence[str | Objective] = ()
    constraints: Sequence[str | Constraint] = ()
    devices: Sequence[str] = ()
    task: str | None = None
    data: str | None = None
    strategy: str | type[Strategy] = AUTO
    parameters: Mapping[str, Any] = field(default_factory=dict)
    trainer: str | None = None
    supernet: str | None = None
    start_weights: tuple[str, str] | None = None
    schedule: str | None = None
    epochs: int | None = None
    data_fraction: float = 1.0
    validation_fraction: float = 1.0
    settings: Mapping[str, Setting] = field(default_factory=dict)
    trials: int | None = None
    minutes: float | None = None
    seed: int = 0
    train_seed: int = 0
    start: Sequence[Configuration] = ()
    start_from: str | Past | None = None
    popdb: str | Past | None = None
    earlier: Store | None = None
    popdb_threshold: float = THRESHOLD
    default: bool = True
    evaluate: str | Callable[..., Any] | None = None
    foreign: bool = False
    reference: Mapping[str, float] = field(default_factory=dict)
    scheduler: str = "none"
    reproducible: bool = False
    lookahead: int = 8
    fresh: bool = False
    keep: str = "front"
    max_failures: int = 1
    patience: float = PATIENCE_SECONDS


SCHEDULERS = ("none", "asha", "moasha", "median")
KEEP = ("all", "front", "none")


def record_of(request: Request, stored: Mapping[str, Device]) -> StudyRecord:
    """The study's record. `stored` are the devices the store knows.

    Raises UnknownNameError, UsageError, DataError, ConfigurationError: all before anything is launched.
    """
    _check_choices(request)
    model_space = _model_space(request)
    if model_space is None:
        return _own_record(request)
    if request.evaluate is not None:
        raise UsageError(*FUNCTION_AND_MODEL)
    trainer_name, searched = _searched(request, model_space)
    searched, lessons = _lessons(request, searched, model_space.full_name)
    task = model_space.task()
    goals = goals_of(model_space, request.objectives, request.constraints, request.devices, stored)
    epochs = Budget(model_space.epochs if request.epochs is None else request.epochs, request.data_fraction).epochs
    protocol = protocol_of(request, model_space, trainer_name, epochs)
    options = {**_options(request), **lessons, "epochs": epochs, "space": _loadable(model_space, request.space)}
    options["why"] = _why(request, searched, goals.objectives)
    elsewhere = Earlier.before(request.earlier, model_space, searched, protocol)
    strategy = _strategy(request, searched, goals.objectives, goals.constraints, KnownDataSets(known=elsewhere))
    if elsewhere.asked:
        options["other_tasks"] = elsewhere.listed
    return StudyRecord(
        request.name,
        model_space.full_name,
        model_space.search_space.identity,
        goals.objectives,
        searched.to_dict(),
        model_space.search_space.to_dict(),
        task.name,
        task.identity,
        model_space.signature.hash,
        protocol,
        trainer_name,
        *strategy,
        constraints=goals.constraints,
        devices={name: device.identity for name, device in goals.devices.items()},
        budget=_budget(request),
        seed=request.seed,
        train_seed=request.train_seed,
        options=options,
        reference=tuple(_reference(request, o, task.reference) for o in goals.objectives),
    )


def _own_record(request: Request) -> StudyRecord:
    """A study of a user's own function over a bare search space: its facts are private."""
    space = request.space
    if isinstance(space, str):
        space = _own_space(space)
    assert isinstance(space, SearchSpace)
    if request.evaluate is None and not request.foreign:
        raise UsageError("a bare search space says nothing about evaluating", "give evaluate= (--evaluate pkg.mod:fn)")
    if not request.objectives:
        raise UsageError("a study of your own function needs objectives", "e.g. --objective loss:min")
    for name in ("supernet", "trainer", "task", "data"):
        if getattr(request, name) is not None:
            raise UsageError(f"--{name} has no meaning for a study of your own function")
    named = request.space if isinstance(request.space, str) else "own"
    searched, lessons = _lessons(request, applied(space, request.settings), named)
    objectives = tuple(o if isinstance(o, Objective) else Objective.parse(o) for o in request.objectives)
    refuse_too_many(objectives)
    constraints = tuple(parsed_constraints(request.constraints))
    names = {o.device for o in objectives if o.device} | set(request.devices)
    epochs = Budget(1 if request.epochs is None else request.epochs).epochs
    options = {**_options(request), **lessons, "epochs": epochs, "space": None}
    return StudyRecord(
        request.name,
        named,
        searched.identity,
        objectives,
        searched.to_dict(),
        space.to_dict(),
        "own",
        "",
        "",
        protocol_of_function(request.evaluate, epochs),
        "",
        *_strategy(request, searched, objectives, constraints),
        constraints=constraints,
        devices={name: name for name in sorted(n for n in names if n)},
        budget=_budget(request),
        seed=request.seed,
        train_seed=request.train_seed,
        options={**options, "why": _why(request, searched, objectives)},
        private=True,
        reference=tuple(_reference(request, o, lambda _: None) for o in objectives),
    )


def _check_choices(request: Request) -> None:
    for name, known in (("scheduler", SCHEDULERS), ("keep", KEEP)):
        if getattr(request, name) not in known:
            raise UnknownNameError.of(name, getattr(request, name), known)
    for name in ("objectives", "constraints", "devices"):
        if isinstance(text := getattr(request, name), str):
            raise UsageError(f"{name}={text!r} is one string", f"give a list: {name}={text.split(',')!r}")
    if request.lookahead < 1:
        raise UsageError(f"lookahead={request.lookahead} must be at least 1")
    if request.max_failures < 0:
        raise UsageError(f"max_failures={request.max_failures} must be at least 0")
    if not request.patience > 0:
        raise UsageError(f"patience={request.patience:g} seconds must be above 0")
    if not 0 < request.validation_fraction <= 1:
        raise UsageError(f"validation_fraction={request.validation_fraction:g} must lie in (0, 1]")
    if request.validation_fraction < 1 and request.supernet is None:
        raise UsageError("--validation-fraction is of slices: a training is scored on all rows", "give --supernet")
    if request.scheduler != "none" and request.reproducible:
        raise UsageError(f"--scheduler {request.scheduler} depends on timing", "leave --reproducible out")
    if request.scheduler != "none" and request.supernet is not None:
        raise UsageError(f"--scheduler {request.scheduler} stops trainings, and a slice has none", "leave it out")


def _model_space(request: Request) -> ModelSpace | None:
    if isinstance(request.space, ModelSpace):
        return request.space
    if isinstance(request.space, SearchSpace):
        return None
    if ":" in request.space and request.space.partition(":")[0] not in spaces.names():
        found = spaces.registry.attribute(request.space)
        if isinstance(found, SearchSpace):
            return None
    return spaces.load(request.space, task=request.task, data=request.data)


def _own_space(path: str) -> SearchSpace:
    found = spaces.registry.attribute(path)
    if not isinstance(found, SearchSpace):
        raise UsageError(f"{path!r} is no SearchSpace")
    return found


def _loadable(space: ModelSpace, given: Any) -> str | None:
    """The name under which a resume finds the space again, None for a class that lives in a script."""
    if isinstance(given, str):
        return given
    nameless = isinstance(space, LookupSpace) and not space.loadable
    return None if nameless or type(space).__module__ == "__main__" else space.full_name


def _presupposed(request: Request) -> str | None:
    """The trainer that the strategy brings."""
    return None if request.strategy == AUTO else _named(request.strategy, {})[0].trainer


def _refuse_untrained(request: Request, what: str) -> None:
    if (trainer := _presupposed(request)) is not None:
        raise UsageError(
            f"strategy {request.strategy!r} brings trainer {trainer!r}, and a {what} trains nothing",
            "choose another --strategy",
        )


def _trainer_of(request: Request, space: ModelSpace) -> str:
    """As asked for, else what the strategy presupposes, else the space's own. Raises UsageError."""
    presupposed = _presupposed(request)
    if request.trainer is not None and presupposed is not None and not trainers.load(request.trainer).self_tunes:
        raise UsageError(
            f"strategy {request.strategy!r} presupposes trainer {presupposed!r}, not {request.trainer!r}",
            "choose another --strategy, or leave --trainer out",
        )
    return request.trainer or presupposed or default_trainer(space)


def _searched(request: Request, space: ModelSpace) -> tuple[str, SearchSpace]:
    """The trainer's name (none for a table) and what is searched."""
    if isinstance(space, LookupSpace):
        return "", _looked_up(request, space)
    if request.supernet is None:
        name = _trainer_of(request, space)
        trainer = trainers.load(name)
        if (refusal := trainer.supports(space)) is not None:
            raise UsageError(f"trainer {name!r}: {refusal}")
        searched = searched_space(space, trainer, request.settings)
        if (refused := trainer.refusal(space, searched.default)) is not None:
            raise UsageError(f"trainer {name!r}: {refused.message}", refused.hint)
        return registered_name(trainer), searched
    trainer = trainers.load(request.trainer or SUPERNET)
    if (refusal := trainer.supports(space)) is not None:
        raise UsageError(f"--supernet: {refusal}")
    own = {n: s for n, s in request.settings.items() if not n.startswith("trainer.")}
    fixed = {n: s[0] for n, s in own.items() if len(s) == 1 and n in space.search_space and n not in space.elastic}
    ranges = {n: s for n, s in own.items() if n not in fixed}
    unelastic = [n for n in ranges if n in space.search_space and n not in space.elastic]
    if unelastic:
        raise UsageError(
            f"{unelastic[0]!r} is not elastic: a supernet has one value of it", f"--set {unelastic[0]}=VALUE"
        )
    searched_space(space, trainer, {n: s for n, s in request.settings.items() if n.startswith("trainer.")})  # checks
    return registered_name(trainer), applied(sliced_space(space, fixed), ranges)


def _looked_up(request: Request, space: LookupSpace) -> SearchSpace:
    """The searched space of a table. Raises UsageError for a sample, and for what only trainings have."""
    if space.refusal is not None:
        raise UsageError(space.refusal, "search a complete table: nasbench201, nasbench_macro, nasbench_graph, lcbench")
    for name in ("supernet", "trainer"):
        if getattr(request, name) is not None:
            raise UsageError(f"--{name} has no meaning for the table {space.name!r}", "leave it out")
    _refuse_untrained(request, f"table {space.name!r}")
    if request.scheduler != "none" and not space.stepwise:
        raise UsageError(
            f"--scheduler {request.scheduler}: table {space.name!r} has no learning curves", "leave it out"
        )
    return applied(space.search_space, request.settings)


def _lessons(request: Request, searched: SearchSpace, space: str) -> tuple[SearchSpace, dict[str, Any]]:
    return lessons_of(request.popdb, request.popdb_threshold, request.start_from, searched, space)


def _strategy(
    request: Request,
    searched: SearchSpace,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    context: Context | None = None,
) -> tuple[str, dict[str, Any]]:
    """The strategy's loadable name and its resolved parameters, after a trial construction that checks them."""
    stops = request.scheduler != "none"
    given = (request.strategy, request.parameters, searched, objectives, _budget(request))
    cls, parameters = resolved_strategy(*given, stops=stops)
    check_arguments(f"strategy {registered_name(cls)!r}", cls.parameters(), parameters)
    for config in request.start:
        checked_configuration(searched, config, "--start")
    strategy = cls(
        searched, objectives, constraints=constraints, budget=_budget(request), context=context, **parameters
    )
    resolved = {name: getattr(strategy, name, parameters.get(name)) for name in cls.parameters()}
    return registered_name(cls), {name: value for name, value in resolved.items() if _is_json(value)}


def _why(request: Request, searched: SearchSpace, objectives: Sequence[Objective]) -> str:
    """Why `auto` chose what it chose; nothing for a strategy that was named."""
    if request.strategy != AUTO:
        return ""
    return choose(searched, objectives, _budget(request), stops=request.scheduler != "none")[1]


def resolved_strategy(
    given: str | type[Strategy],
    parameters: Mapping[str, Any],
    searched: SearchSpace,
    objectives: Sequence[Objective],
    budget: SearchBudget,
    *,
    stops: bool = False,
) -> tuple[type[Strategy], dict[str, Any]]:
    """The class and its parameters. "auto" is chosen for the problem; "optuna:tpe" sets `variant` where "optuna" is
    registered."""
    if given == AUTO:
        given, _ = choose(searched, objectives, budget, stops=stops)
    return _named(given, parameters)


def _named(given: str | type[Strategy], parameters: Mapping[str, Any]) -> tuple[type[Strategy], dict[str, Any]]:
    if not isinstance(given, str):
        return given, dict(parameters)
    name, colon, variant = given.partition(":")
    if colon and name in search.names():
        return search.load(name), {**parameters, "variant": variant}
    return search.load(given), dict(parameters)


def _is_json(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None)


def _budget(request: Request) -> SearchBudget:
    if request.trials is None and request.minutes is None:
        raise UsageError("a search needs an end", "give --trials N or --minutes M")
    return SearchBudget(request.trials, None if request.minutes is None else seconds_of(request.minutes))


def seconds_of(minutes: float) -> float:
    """Raises UsageError."""
    if not minutes > 0:
        raise UsageError(f"minutes={minutes:g} must be above 0")
    return 60 * minutes


def located(supernet: str | None) -> str | None:
    """A bank's file as every process finds it; "train" and URLs as they are."""
    if supernet is None or supernet == "train" or "://" in supernet:
        return supernet
    return str(Path(supernet).absolute())


def _options(request: Request) -> dict[str, Any]:
    """What the engine wants back on resume."""
    return {
        "data": request.data if request.data is None else str(Path(request.data).absolute()),
        "supernet": located(request.supernet),
        "start_weights": None if request.start_weights is None else list(request.start_weights),
        "schedule": request.schedule,
        "data_fraction": request.data_fraction,
        "validation_fraction": request.validation_fraction,
        "settings": {name: list(setting) for name, setting in request.settings.items()},
        "start": [dict(config) for config in request.start],
        "default": request.default,
        "evaluate": request.evaluate if isinstance(request.evaluate, str) else None,
        "scheduler": request.scheduler,
        "reproducible": request.reproducible,
        "lookahead": request.lookahead,
        "fresh": request.fresh,
        "keep": request.keep,
        "max_failures": request.max_failures,
        "patience": request.patience,
        "hardware": cpu_model(),
    }


def _reference(request: Request, objective: Objective, declared: Callable[[str], float | None]) -> float | None:
    for name in (objective.name, objective.metric):
        if name in request.reference:
            return float(request.reference[name])
    metric = METRICS.get(objective.metric)
    quality = objective.device is None if metric is None else metric.source == "quality"
    if not quality:
        return None
    return declared(objective.metric)
