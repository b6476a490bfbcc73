"""Every operation of a search space keeps its law (search-core §2.1)."""

from __future__ import annotations

import json
import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from archfront.spaces import AtLeast, Categorical, Equals, IndexBelow, Integer, Ordinal, Real, Repeated, SearchSpace
from archfront.spaces._adapters import to_optuna, to_ray
from archfront.spaces._errors import ConfigurationError, UnknownNameError, UsageError
from archfront.spaces._parameter import Parameter, SelfTuned
from tests.spaces.spaces_strategies import finite_spaces, spaces

SEEDS = st.integers(0, 2**32 - 1)
ENOUGH = settings(max_examples=60, deadline=None)

PLAIN = SearchSpace(
    Integer("depth", 1, 3, default=2),
    Categorical("kind", ("conv", "attention")),
    Ordinal("heads", (1, 2, 4), when=Equals("kind", "attention")),
    Real("lr", 1e-4, 1e-1, default=1e-2, log=True, zero=True, bins=4, role="hyperparameter"),
    Repeated(Categorical("op", ("a", "b")), 3, when=IndexBelow("depth")),
)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestSample:
    @ENOUGH
    @given(spaces(), SEEDS)
    def test_samples_are_legal_canonical_and_repeatable(self, space: SearchSpace, seed: int) -> None:
        drawn = space.sample(generator(seed), 20)
        assert drawn == space.sample(generator(seed), 20)
        for config in drawn:
            assert space.validate(config) == []
            assert space.canonicalise(config) == config
            json.dumps(config)

    @ENOUGH
    @given(finite_spaces(), SEEDS)
    def test_distinct_samples_exhaust_a_finite_space(self, space: SearchSpace, seed: int) -> None:
        size = int(space.size)
        keys = space.keys_of(space.sample(generator(seed), size + 3, distinct=True))
        assert len(keys) == len(set(keys)) == size

    def test_uniform_over_active_decisions(self) -> None:
        drawn = PLAIN.sample(generator(0), 6000)
        heads = [c["heads"] for c in drawn if c["kind"] == "attention"]
        assert np.bincount(heads, minlength=5)[[1, 2, 4]] / len(heads) == pytest.approx([1 / 3] * 3, abs=0.04)
        assert np.mean([c["lr"] == 0 for c in drawn]) == pytest.approx(0.2, abs=0.03)

    def test_always_a_list(self) -> None:
        assert PLAIN.sample(generator(0), 0) == []
        assert isinstance(PLAIN.sample(generator(0), 1), list)


class TestSizeAndEnumerate:
    @ENOUGH
    @given(finite_spaces())
    def test_size_counts_what_enumerate_lists(self, space: SearchSpace) -> None:
        listed = space.enumerate()
        assert len(listed) == space.size == len(set(space.keys_of(listed)))
        assert all(space.canonicalise(config) == config for config in listed)

    @ENOUGH
    @given(spaces())
    def test_a_continuum_that_can_be_active_is_infinite(self, space: SearchSpace) -> None:
        reachable = any(
            np.isin(p.name, space.active_names(config)) and p.size == math.inf
            for config in space.sample(generator(0), 200)
            for p in space
        )
        assert not reachable or space.size == math.inf

    def test_a_large_space_is_counted_not_listed(self) -> None:
        space = SearchSpace(
            Integer("depth", 1, 20), Repeated(Categorical("op", tuple("abcde")), 20, when=IndexBelow("depth"))
        )
        assert space.size == sum(5**d for d in range(1, 21))
        with pytest.raises(ValueError, match="not listed"):
            space.enumerate()

    def test_plain(self) -> None:
        assert PLAIN.size == math.inf
        assert PLAIN.fix({"lr": 0}).size == (2 + 4 + 8) * (1 + 3)


class TestCanonicalAndKey:
    @ENOUGH
    @given(spaces(), SEEDS)
    def test_inactive_parameters_never_make_a_new_key(self, space: SearchSpace, seed: int) -> None:
        rng = generator(seed)
        one, other = space.sample(rng, 2)
        active = set(space.active_names(one))
        changed = {
            name: one[name] if name in active else p.draw(rng, 1) for name, p in zip(space.names, space, strict=True)
        }
        legal = {n: v if n in active else space[n].decode(v)[0] for n, v in changed.items()}
        assert space.key(legal) == space.key(one)
        assert space.canonicalise(legal) == one
        assert (space.key(one) == space.key(other)) == (one == other)

    @ENOUGH
    @given(spaces(), SEEDS)
    def test_key_ignores_order_and_number_types(self, space: SearchSpace, seed: int) -> None:
        config = space.sample(generator(seed), 1)[0]
        items = list(config.items())
        dressed = {
            n: np.array(v)[()] if isinstance(v, int | float) and not isinstance(v, bool) else v
            for n, v in reversed(items)
        }
        assert space.key(dressed) == space.key(config)
        floats = {n: float(v) if isinstance(space[n], Integer) else v for n, v in items}
        assert space.key(floats) == space.key(config)

    def test_key_is_the_same_in_every_process(self) -> None:
        import subprocess
        import sys

        code = "from tests.spaces.test_search_space import PLAIN; print(PLAIN.key(PLAIN.default), PLAIN.id)"
        printed = [
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            for _ in range(2)
        ]
        assert printed[0] == printed[1]
        assert printed[0].split() == [PLAIN.key(PLAIN.default), PLAIN.id]

    def test_what_is_not_legal_is_said(self) -> None:
        bad = {"depth": 9, "kind": "convolution", "heads": 3, "lr": "fast", "op[0]": "a", "oq[1]": "b"}
        found = {(p.path, p.code) for p in PLAIN.validate(bad)}
        assert found == {
            ("depth", "range"),
            ("kind", "choice"),
            ("heads", "choice"),
            ("lr", "type"),
            ("oq[1]", "unknown"),
        }
        with pytest.raises(ConfigurationError, match=r"depth: 9 is not in \[1, 3\]"):
            PLAIN.canonicalise(bad)
        assert [p.code for p in PLAIN.validate({"kind": "conv", "lr": 0, "op[0]": "a", "op[1]": "b"})] == ["missing"]

    def test_true_is_not_one(self) -> None:
        space = SearchSpace(Ordinal("n", (0, 1)), Categorical("on", (False, True)))
        assert {p.path for p in space.validate({"n": True, "on": 1})} == {"n", "on"}

    def test_nan_is_not_a_value(self) -> None:
        assert PLAIN.validate({**PLAIN.default, "lr": math.nan})[0].code == "range"


class TestVary:
    @ENOUGH
    @given(spaces(), SEEDS)
    def test_mutants_are_legal_and_different(self, space: SearchSpace, seed: int) -> None:
        rng = generator(seed)
        for config in space.sample(rng, 5):
            mutant = space.mutate(config, rng)
            assert space.canonicalise(mutant) == mutant
            if any(space[name].size > 1 for name in space.active_names(config)):
                assert mutant != config

    @ENOUGH
    @given(spaces(), SEEDS)
    def test_a_child_takes_every_decision_from_a_parent(self, space: SearchSpace, seed: int) -> None:
        rng = generator(seed)
        one, other = space.sample(rng, 2)
        child = space.crossover(one, other, rng)
        assert space.canonicalise(child) == child
        known = [set(space.active_names(one)), set(space.active_names(other))]
        for name in space.active_names(child):
            if name in known[0] | known[1]:
                assert child[name] in [p[name] for p, on in zip((one, other), known, strict=True) if name in on]

    @ENOUGH
    @given(finite_spaces(), SEEDS)
    def test_neighbours_differ_in_one_decision(self, space: SearchSpace, seed: int) -> None:
        rng = generator(seed)
        config = space.sample(rng, 1)[0]
        active = set(space.active_names(config))
        for neighbour in space.neighbours(config, rng):
            assert space.canonicalise(neighbour) == neighbour
            assert sum(neighbour[name] != config[name] for name in active if name in space.active_names(neighbour)) <= 1
            assert neighbour != config

    @ENOUGH
    @given(spaces(), SEEDS)
    def test_populations_vary_like_individuals(self, space: SearchSpace, seed: int) -> None:
        population = space.sample(generator(seed), 8)
        for mutant in space.mutate_all(population, generator(seed), rate=0.5):
            assert space.validate(mutant) == []


class TestEncodings:
    @ENOUGH
    @given(finite_spaces(), SEEDS)
    def test_ints_are_an_exact_inverse(self, space: SearchSpace, seed: int) -> None:
        population = space.sample(generator(seed), 10)
        ints = space.to_ints(population)
        assert space.from_ints(ints) == population
        assert (ints < np.array(space.cardinalities)).all()
        assert (ints >= 0).all()

    def test_genes_that_mean_nothing_are_refused(self) -> None:
        space = SearchSpace(Integer("depth", 1, 3), Categorical("op", ("conv", "pool")))
        for ints, message in (
            ([[0, 2]], "genome 0: op = 2 is not in 0..1"),
            ([[0, 0], [-1, 0]], "genome 1: depth = -1"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                space.from_ints(np.array(ints))
        with pytest.raises(ConfigurationError, match=r"\(n, 2\)"):
            space.from_ints(np.zeros((3, 1), np.int64))

    @ENOUGH
    @given(spaces(), SEEDS)
    def test_bins_of_reals_are_stable(self, space: SearchSpace, seed: int) -> None:
        binned = space.from_ints(space.to_ints(space.sample(generator(seed), 10)))
        assert space.from_ints(space.to_ints(binned)) == binned

    @ENOUGH
    @given(spaces(), SEEDS)
    def test_features_are_scaled_named_and_silent_when_inactive(self, space: SearchSpace, seed: int) -> None:
        population = space.sample(generator(seed), 10)
        features = space.to_features(population)
        assert features.shape == (10, len(space.feature_names))
        assert ((features >= -1e-12) & (features <= 1 + 1e-12)).all()
        for config, row in zip(population, features, strict=True):
            for name in set(space.names) - set(space.active_names(config)):
                columns = [
                    i for i, f in enumerate(space.feature_names) if f.startswith((f"{name}=", f"{name}:")) or f == name
                ]
                assert not row[columns].any()

    @ENOUGH
    @given(spaces(), SEEDS)
    def test_graph_has_a_node_per_parameter(self, space: SearchSpace, seed: int) -> None:
        config = space.sample(generator(seed), 1)[0]
        nodes, mask, positions = space.to_graph(config)
        assert nodes.shape == (len(space), len(space.feature_names))
        assert mask.all()
        assert nodes.sum(axis=0) == pytest.approx(space.to_features([config])[0])
        assert list(positions) == list(range(len(space)))

    def test_a_real_without_bins_has_no_ints(self) -> None:
        space = SearchSpace(Real("lr", 0, 1))
        with pytest.raises(ValueError, match="bins"):
            space.to_ints(space.sample(generator(0), 2))


class TestDerived:
    @ENOUGH
    @given(spaces(), SEEDS)
    def test_json_round_trip(self, space: SearchSpace, seed: int) -> None:
        back = SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())))
        assert back == space
        assert hash(back) == hash(space)
        assert back.sample(generator(seed), 5) == space.sample(generator(seed), 5)

    @ENOUGH
    @given(spaces(), SEEDS)
    def test_fixing_keeps_identity_and_keys(self, space: SearchSpace, seed: int) -> None:
        config = space.sample(generator(seed), 1)[0]
        name = space.names[seed % len(space)]
        fixed = space.fix({name: config[name]})
        assert fixed.identity == space.identity
        assert fixed.key(config) == space.key(config)
        assert {c[name] for c in fixed.sample(generator(seed), 5) if name in fixed.active_names(c)} <= {config[name]}

    def test_restrict_removes_values_and_remembers_its_parent(self) -> None:
        smaller = PLAIN.restrict({"op": ["b"], "depth": [2]})
        assert smaller.parent == PLAIN.id
        assert {c["depth"] for c in smaller.sample(generator(0), 50)} == {1, 3}
        assert smaller.default["depth"] in (1, 3)
        assert smaller["op[2]"].size == 1

    @ENOUGH
    @given(finite_spaces(), SEEDS)
    def test_varied_are_those_that_any_configuration_has_otherwise(self, space: SearchSpace, seed: int) -> None:
        fixed = space.sample(generator(seed), 1)[0]
        for own in (space, space.fix({name: fixed[name] for name in list(fixed)[::2]})):
            found = own.enumerate()
            decided = [n for n in own.names if own[n].size > 1 and any(n in own.active_names(c) for c in found)]
            assert own.varied == decided

    def test_a_narrowed_parent_leaves_children_undecided(self) -> None:
        narrow = PLAIN.narrow({"depth": (1, 2)}).fix({"kind": "conv"})
        assert narrow.varied == ["depth", "lr", "op[0]", "op[1]"]
        assert PLAIN.fix({"kind": "attention"}).varied == ["depth", "heads", "lr", "op[0]", "op[1]", "op[2]"]

    def test_narrow_keeps_a_range(self) -> None:
        narrowed = PLAIN.narrow({"depth": (2, 3), "lr": (1e-3, 1e-2)})
        assert {c["depth"] for c in narrowed.sample(generator(0), 50)} == {2, 3}
        assert all(1e-3 <= c["lr"] <= 1e-2 for c in narrowed.sample(generator(0), 50))

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (lambda: PLAIN.fix({"dept": 2}), UnknownNameError),
            (lambda: PLAIN.fix({"depth": 9}), UsageError),
            (lambda: PLAIN.narrow({"depth": (3, 2)}), UsageError),
            (lambda: PLAIN.restrict({"op": ["a", "b"]}), UsageError),
            (lambda: PLAIN.restrict({"lr": [0.01]}), UsageError),
        ],
    )
    def test_impossible_changes_are_refused(self, change: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            change()

    def test_unkeyed_values_are_left_out_of_keys(self) -> None:
        extended = PLAIN.extended([Real("trainer.lr", 0.001, 1.0, default=0.1)], {"trainer.lr": 0.1})
        config = {**PLAIN.default, "trainer.lr": 0.1}
        assert extended.key(config) == PLAIN.key(PLAIN.default)
        assert extended.key({**config, "trainer.lr": 0.2}) != PLAIN.key(PLAIN.default)

    def test_architecture_key_leaves_hyperparameters_out(self) -> None:
        assert PLAIN.architecture_key(PLAIN.default) == PLAIN.architecture_key({**PLAIN.default, "lr": 0.05})
        assert PLAIN.architecture_key(PLAIN.default) != PLAIN.architecture_key({**PLAIN.default, "depth": 1})


class TestDefinitions:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: Integer("x", 3, 1),
            lambda: Integer("x", 0, 8, log=True),
            lambda: Real("x", 0, 1, log=True),
            lambda: Real("x", 0, math.inf),
            lambda: Ordinal("x", (3, 1)),
            lambda: Ordinal("x", ("a", "b")),
            lambda: Categorical("x", ()),
            lambda: Categorical("x", (1, True)),
            lambda: Categorical("x", ("a", "a")),
            lambda: Integer("x", 1, 5, default=9),
            lambda: Integer("", 1, 5),
            lambda: Real("x", 0, 1, role="colour"),  # type: ignore[arg-type]
            lambda: Repeated(Integer("x", 1, 2), 2, defaults=(1,)).expand(),
            SearchSpace,
            lambda: SearchSpace(Integer("x", 1, 2), Integer("x", 1, 3)),
            lambda: SearchSpace(Integer("x", 1, 2, when=Equals("y", 1))),
            lambda: SearchSpace(Categorical("k", ("a", "b")), Integer("x", 1, 2, when=Equals("k", "c"))),
            lambda: SearchSpace(Integer("n", 1, 4), Integer("x", 1, 2, when=AtLeast("n", 5))),
        ],
    )
    def test_nonsense_is_refused_when_made(self, make: Any) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - the message differs by case
            make()

    def test_flags_survive_json(self) -> None:
        parameter = Real("d", 0, 0.5, self_tuned=SelfTuned("blocks.*", "logit", 0.3), elastic=True, unit="fraction")
        assert Parameter.from_dict(json.loads(json.dumps(parameter.to_dict()))) == parameter


class TestAdapters:
    def test_optuna_samples_canonicalise(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(10):
            trial = study.ask(to_optuna(PLAIN))
            config = {**trial.params, "lr": max(1e-4, trial.params["lr"])}
            assert PLAIN.validate(PLAIN.canonicalise(config)) == []

    def test_ray_domains_sample(self) -> None:
        domains = to_ray(PLAIN)
        config = {name: domain.sample() for name, domain in domains.items() if name != "lr"}
        assert PLAIN.canonicalise({**config, "lr": 0.0})["depth"] in (1, 2, 3)
        assert set(domains) == set(PLAIN.names)
