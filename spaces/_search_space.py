"""The typed domain of a search: ordered parameters with conditions, immutable, vectorised over populations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces import _encodings, _vary
from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._condition import Condition, Scalar
from archfront.spaces._count import count_configurations
from archfront.spaces._errors import ConfigurationError, UnknownNameError, UsageError
from archfront.spaces._numbers import Real
from archfront.spaces._parameter import Floats, Parameter, Repeated

__all__ = ["Configuration", "Problem", "SearchSpace"]

Configuration = dict[str, Any]
"""Parameter name to JSON scalar. A value: no identity beyond its key."""

ENUMERABLE = 200_000
"""Largest finite space whose configurations are listed in memory."""


@dataclass(frozen=True)
class Problem:
    """One reason why a configuration is not legal. Codes: missing, unknown, type, range, step, choice."""

    path: str
    code: str
    message: str


_SORTED = json.JSONEncoder(sort_keys=True)  # `json.dumps` would make one for each key


class SearchSpace:
    """Ordered parameters; a parameter's conditions name earlier ones.

    `identity` is what keys are made with. A bare space's identity is its own content hash; a space derived from
    another one (`extended`, `fix`, `narrow`, `restrict`) carries the identity of its origin unchanged, so that the
    same configuration keeps its key. `unkeyed` maps names to a value at which they are left out of keys (the
    trainers' own defaults).
    """

    def __init__(
        self,
        *parameters: Parameter | Repeated,
        identity: str | None = None,
        unkeyed: Mapping[str, Scalar] | None = None,
        parent: str | None = None,
    ) -> None:
        flat: list[Parameter] = []
        for entry in parameters:
            flat.extend(entry.expand() if isinstance(entry, Repeated) else [entry])
        self.parameters: tuple[Parameter, ...] = tuple(flat)
        self.unkeyed: dict[str, Scalar] = dict(unkeyed or {})
        self.parent = parent
        self._column = {parameter.name: i for i, parameter in enumerate(flat)}
        self._identity = identity
        self._check()

    def _check(self) -> None:
        if not self.parameters:
            raise ValueError("a search space needs at least one parameter")
        if len(self._column) != len(self.parameters):
            names = [p.name for p in self.parameters]
            raise ValueError(f"parameter names are not distinct: {sorted({n for n in names if names.count(n) > 1})}")
        for i, parameter in enumerate(self.parameters):
            for condition in parameter.when:
                at = self._column.get(condition.parent)
                if at is None or at >= i:
                    raise ValueError(
                        f"{parameter.name}: its condition names {condition.parent!r}, no earlier parameter"
                    )
                if self.parent is None:  # a narrowed parent may leave its children without a way to be active
                    _check_predicate(parameter, condition, self.parameters[at])

    # -- what it is

    @property
    def names(self) -> list[str]:
        """Parameter names in order."""
        return list(self._column)

    def __getitem__(self, name: str) -> Parameter:
        """The parameter called `name`. Raises UnknownNameError with the closest name."""
        if name not in self._column:
            raise UnknownNameError.of("parameter", name, self._column)
        return self.parameters[self._column[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._column

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"SearchSpace({', '.join(self.names)})"

    @cached_property
    def id(self) -> str:
        """Content hash: parameters, domains, conditions."""
        content = json.dumps([p.to_dict() for p in self.parameters], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def identity(self) -> str:
        """What keys are made with: the origin's identity, or the content hash of a bare space."""
        return self._identity or self.id

    @cached_property
    def varied(self) -> list[str]:
        """Names of the parameters that are decided: with more than one value, and active for some value of each parent
        (a narrowed parent may leave its children without one)."""
        able: set[str] = set()
        for parameter in self.parameters:
            parents = [(condition, self[condition.parent]) for condition in parameter.when]
            if all(parent.name in able and _possible(condition, parent) for condition, parent in parents):
                able.add(parameter.name)
        return [p.name for p in self.parameters if p.size > 1 and p.name in able]

    @cached_property
    def size(self) -> float:
        """Number of canonical configurations, math.inf with an active continuum."""
        return count_configurations(self.parameters)

    @cached_property
    def default(self) -> Configuration:
        """The configuration of all defaults, canonical."""
        return self.canonicalise({p.name: p.default for p in self.parameters})

    # -- populations as codes (n, parameters)

    def encode(self, configs: Sequence[Mapping[str, Any]]) -> Floats:
        """Codes (n, parameters) of complete legal configurations: positions for choices, values for numbers."""
        columns = [p.encode([config[p.name] for config in configs]) for p in self.parameters]
        return np.stack(columns, axis=1) if columns else np.empty((len(configs), 0))

    def decode(self, codes: Floats) -> list[Configuration]:
        """Inverse of `encode`."""
        names = self.names
        columns = [p.decode(codes[:, i]) for i, p in enumerate(self.parameters)]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def active(self, codes: Floats) -> NDArray[np.bool_]:
        """Which parameters decide anything (n, parameters). A child of an inactive parent is inactive."""
        active = np.ones(codes.shape, bool)
        for i, parameter in enumerate(self.parameters):
            for condition in parameter.when:
                at = self._column[condition.parent]
                parent = self.parameters[at]
                if isinstance(parent, Categorical | Ordinal):
                    table = np.array([condition.holds(option) for option in parent.options])
                    holds = table[codes[:, at].astype(np.int64)]
                else:
                    holds = condition.holds_all(codes[:, at])
                active[:, i] &= active[:, at] & holds
        return active

    @cached_property
    def _defaults(self) -> Floats:
        return np.array([p.encode([p.default])[0] for p in self.parameters])

    def settled(self, codes: Floats) -> Floats:
        """Canonical codes: inactive parameters at their default."""
        return np.where(self.active(codes), codes, self._defaults)

    # -- configurations

    def validate(self, config: Mapping[str, Any]) -> list[Problem]:
        """Why `config` is not legal; empty iff it is. Parameters that cannot be active may be absent."""
        problems = [
            Problem(name, "unknown", str(UnknownNameError.of("parameter", name, self._column)))
            for name in config
            if name not in self._column
        ]
        complete = dict(config)
        activity: dict[str, bool] = {}
        for p in self.parameters:
            active = all(activity[c.parent] and c.holds(complete[c.parent]) for c in p.when)
            if p.name not in config:
                if active:
                    problems.append(Problem(p.name, "missing", f"{p.name} is missing (default {p.default!r})"))
                complete[p.name] = p.default
            elif (found := p.problem(config[p.name])) is not None:
                problems.append(Problem(p.name, found[0], f"{p.name}: {found[1]}"))
                active, complete[p.name] = False, p.default
            activity[p.name] = active
        return problems

    def canonicalise(self, config: Mapping[str, Any]) -> Configuration:
        """`config` with plain Python scalars, complete, inactive parameters at their default. Idempotent.

        Raises ConfigurationError that lists every problem.
        """
        return self.canonicalise_all([config])[0]

    def canonicalise_all(self, configs: Sequence[Mapping[str, Any]]) -> list[Configuration]:
        """`canonicalise` of many, which costs less for each."""
        for config in configs:
            if problems := self.validate(config):
                raise ConfigurationError(
                    "not a legal configuration: " + "; ".join(p.message for p in problems),
                    "see `archfront spaces NAME` for the parameters and their values",
                )
        complete = [{p.name: p.normalise(c.get(p.name, p.default)) for p in self.parameters} for c in configs]
        return self.decode(self.settled(self.encode(complete))) if complete else []

    def active_names(self, config: Mapping[str, Any]) -> list[str]:
        """Names of the parameters that decide anything in a complete legal configuration."""
        mask = self.active(self.encode([config]))[0]
        return [name for name, on in zip(self.names, mask, strict=True) if on]

    def key(self, config: Mapping[str, Any]) -> str:
        """sha256 (64 hexadecimal digits) of identity and canonical form: the configuration's name everywhere.

        Inactive parameters, and `unkeyed` ones at their value, are left out. Independent of the order of names and of
        3, 3.0 and numpy's 3.
        """
        return self.keys_of([self.canonicalise(config)])[0]

    def keys_of(self, configs: Sequence[Configuration]) -> list[str]:
        """Keys of configurations that are already canonical."""
        return self._hashes(configs, [True] * len(self.parameters))

    def architecture_key(self, config: Mapping[str, Any]) -> str:
        """Key over the parameters that `build` or `prepare` may read: all but role hyperparameter and `trainer.`."""
        return self.architecture_keys_of([self.canonicalise(config)])[0]

    def architecture_keys_of(self, configs: Sequence[Configuration]) -> list[str]:
        """Architecture keys of configurations that are already canonical."""
        relevant = [p.role != "hyperparameter" and not p.name.startswith("trainer.") for p in self.parameters]
        return self._hashes(configs, relevant)

    def _hashes(self, configs: Sequence[Configuration], relevant: Sequence[bool]) -> list[str]:
        hashes = []
        for config, active in zip(configs, self.active(self.encode(configs)), strict=True):
            kept = {
                p.name: config[p.name]
                for p, on, wanted in zip(self.parameters, active, relevant, strict=True)
                if on and wanted and not (p.name in self.unkeyed and self.unkeyed[p.name] == config[p.name])
            }
            text = self.identity + _SORTED.encode(kept)
            hashes.append(hashlib.sha256(text.encode()).hexdigest())
        return hashes

    # -- drawing and varying

    def sample(self, rng: np.random.Generator, n: int, *, distinct: bool = False) -> list[Configuration]:
        """n canonical configurations, uniform over the active decisions; `distinct`: at most `size` different."""
        if not distinct:
            return self.decode(self._draw(rng, n))
        if self.size <= min(ENUMERABLE, 4 * n):
            everything = self.enumerate()
            return [everything[i] for i in rng.permutation(len(everything))[:n]]
        found: dict[bytes, Floats] = {}
        while len(found) < n:
            found.update((row.tobytes(), row) for row in self._draw(rng, n - len(found)))
        return self.decode(np.stack(list(found.values())[:n])) if n else []

    def _draw(self, rng: np.random.Generator, n: int) -> Floats:
        return self.settled(np.stack([p.draw(rng, n) for p in self.parameters], axis=1))

    def enumerate(self) -> list[Configuration]:
        """Every canonical configuration, the first parameter slowest. ValueError above 200,000 or with a continuum."""
        if self.size > ENUMERABLE:
            raise ValueError(f"a space of {self.size:g} configurations is not listed (limit {ENUMERABLE})")
        codes = self._defaults[None, :]
        for i, parameter in enumerate(self.parameters):
            on = self.active(codes)[:, i]
            values = parameter.enumerate()
            counts = np.where(on, len(values), 1)
            codes = np.repeat(codes, counts, axis=0)
            codes[np.repeat(on, counts), i] = np.tile(values, int(on.sum()))
        return self.decode(codes)

    def mutate(self, config: Configuration, rng: np.random.Generator, rate: float | None = None) -> Configuration:
        """Another canonical configuration near this one; `rate` per active parameter, default 1 / their number."""
        return self.mutate_all([config], rng, rate)[0]

    def mutate_all(
        self, configs: Sequence[Configuration], rng: np.random.Generator, rate: float | None = None
    ) -> list[Configuration]:
        """`mutate` for a population."""
        return self.decode(_vary.mutate(self, self.encode(configs), rng, rate))

    def crossover(self, one: Configuration, other: Configuration, rng: np.random.Generator) -> Configuration:
        """A canonical child that takes every decision from one of its two canonical parents."""
        return self.crossover_all([one], [other], rng)[0]

    def crossover_all(
        self, ones: Sequence[Configuration], others: Sequence[Configuration], rng: np.random.Generator
    ) -> list[Configuration]:
        """`crossover` for a population of pairs."""
        return self.decode(_vary.crossover(self, self.encode(ones), self.encode(others), rng))

    def neighbours(self, config: Configuration, rng: np.random.Generator) -> list[Configuration]:
        """Canonical configurations one decision away, in random order: every other option, the adjacent numbers."""
        codes = _vary.neighbours(self, self.encode([config])[0], rng)
        return self.decode(codes[rng.permutation(len(codes))])

    # -- encodings

    @property
    def cardinalities(self) -> list[int]:
        """How many integers each gene of `to_ints` uses. ValueError names a continuum without bins."""
        return [p.cardinality for p in self.parameters]

    def to_ints(self, configs: Sequence[Configuration]) -> NDArray[np.int64]:
        """Genomes (n, parameters) of canonical configurations."""
        return _encodings.to_ints(self, configs)

    def from_ints(self, ints: NDArray[np.int64]) -> list[Configuration]:
        """Canonical configurations of genomes (n, parameters); exact inverse of `to_ints` up to the bins of reals.

        Raises ConfigurationError for a gene outside of its `cardinalities`.
        """
        return _encodings.from_ints(self, ints)

    @cached_property
    def feature_names(self) -> list[str]:
        """Column names of `to_features`."""
        return [name for p in self.parameters for name in _encodings.feature_names(p)]

    def to_features(self, configs: Sequence[Configuration]) -> Floats:
        """Columns (n, features) in 0..1: one-hot choices, ranks, scaled numbers, all zero when inactive."""
        return _encodings.to_features(self, configs)

    def to_graph(self, config: Configuration) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
        """Nodes (N, F), mask (N, N), positions (N): one node per parameter that holds its features, all connected."""
        return _encodings.to_graph(self, config)

    # -- derived spaces

    def _derived(self, parameters: Iterable[Parameter], unkeyed: Mapping[str, Scalar] | None = None) -> SearchSpace:
        return SearchSpace(
            *parameters, identity=self.identity, unkeyed={**self.unkeyed, **(unkeyed or {})}, parent=self.id
        )

    def identified(self, identity: str) -> SearchSpace:
        """The same parameters under another identity (a model space's)."""
        return SearchSpace(*self.parameters, identity=identity, unkeyed=self.unkeyed, parent=self.parent)

    def extended(self, parameters: Iterable[Parameter], unkeyed: Mapping[str, Scalar] | None = None) -> SearchSpace:
        """With further parameters at the end; `unkeyed` names values at which they are left out of keys."""
        return self._derived((*self.parameters, *parameters), unkeyed)

    def fix(self, values: Mapping[str, Any]) -> SearchSpace:
        """With these parameters at one value. The name of a repeated group stands for all its members."""
        return self._changed({name: [value] for name, value in values.items()}, lambda p, v: p.fixed(v[0]))

    def narrow(self, ranges: Mapping[str, tuple[Any, Any]]) -> SearchSpace:
        """With these parameters between two legal values, both included."""
        return self._changed(ranges, lambda p, v: p.narrowed(v[0], v[1]))

    def restrict(self, removed: Mapping[str, Sequence[Any]]) -> SearchSpace:
        """Without these values; `parent` then holds the id of this space."""
        return self._changed(removed, lambda p, v: p.without(v))

    def binned(self, bins: int) -> SearchSpace:
        """With `bins` declared by the real parameters that have none."""
        return self._derived(
            replace(p, bins=bins) if isinstance(p, Real) and p.bins is None and p.size > 1 else p for p in self
        )

    def _changed(self, changes: Mapping[str, Any], change: Any) -> SearchSpace:
        parameters = list(self.parameters)
        for name, values in changes.items():
            for i in self._columns(name):
                try:
                    parameters[i] = change(parameters[i], values)
                except ValueError as error:
                    raise UsageError(f"cannot set {name} to {values!r}", str(error)) from error
        return self._derived(parameters)

    def _columns(self, name: str) -> list[int]:
        if name in self._column:
            return [self._column[name]]
        members = [i for i, p in enumerate(self.parameters) if p.group == name]
        if not members:
            groups = {p.group for p in self.parameters if p.group}
            raise UnknownNameError.of("parameter", name, {*self._column, *groups})
        return members

    def where(self, *, elastic: bool | None = None, role: str | None = None) -> list[str]:
        """Names of the parameters with these properties."""
        return [
            p.name
            for p in self.parameters
            if (elastic is None or p.elastic == elastic) and (role is None or p.role == role)
        ]

    # -- JSON

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "parameters": [p.to_dict() for p in self.parameters],
            "identity": self._identity,
            "unkeyed": self.unkeyed,
            "parent": self.parent,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchSpace:
        """Inverse of `to_dict`, also after a trip through JSON."""
        parameters = [Parameter.from_dict(p) for p in data["parameters"]]
        return cls(*parameters, identity=data["identity"], unkeyed=data["unkeyed"], parent=data["parent"])

    def with_defaults(self, values: Mapping[str, Any]) -> SearchSpace:
        """With other defaults for these parameters."""
        return self._derived(replace(p, default=values[p.name]) if p.name in values else p for p in self.parameters)


def _check_predicate(parameter: Parameter, condition: Condition, parent: Parameter) -> None:
    """A predicate must be able to hold for some value of its parent: a typing error would hide a parameter for ever."""
    if not _possible(condition, parent):
        raise ValueError(
            f"{parameter.name}: {condition} holds for no value of {parent.name!r}: it could never be active"
        )


def _possible(condition: Condition, parent: Parameter) -> bool:
    """Whether the predicate holds for some value of the parent."""
    if isinstance(parent, Categorical | Ordinal):
        return any(condition.holds(option) for option in parent.options)
    ends = np.array([parent.smallest(), parent.largest()], np.float64)
    inside = [v for v in condition.compared if isinstance(v, int | float) and parent.problem(v) is None]
    return bool(condition.holds_all(ends).any()) or any(condition.holds(v) for v in inside)
