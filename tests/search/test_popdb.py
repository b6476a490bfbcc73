"""PopDB: what leaves a space, what never does, and that a smaller space stays a legal one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from archfront.cluster._front import nondominated
from archfront.search import Reduction, reduce
from archfront.search._popdb import carried
from archfront.spaces import (
    AtLeast,
    Categorical,
    Configuration,
    Equals,
    IndexBelow,
    Integer,
    Ordinal,
    Real,
    Repeated,
    SearchSpace,
)
from archfront.spaces._errors import ConfigurationError, UsageError

GENES = 7
OPTIONS = ("a", "b", "c", "d")
LETTERS = SearchSpace(*(Categorical(f"g{i}", OPTIONS) for i in range(GENES)))


def names(space: SearchSpace) -> dict[str, list[Any]]:
    return {p.name: p.decode(p.enumerate()) for p in space if not isinstance(p, Real)}


def words_of(letters: str) -> list[Configuration]:
    return [dict(zip(LETTERS.names, word, strict=True)) for word in itertools.product(letters, repeat=GENES)]


def two_regions(seed: int, gene: str = "g0", value: str = "b", *, everywhere: bool = False) -> list[Configuration]:
    """Two dense regions, all words of a and b and all of c and d, but those with `value` of `gene` (unless
    `everywhere`); and 16 words of a and d, with `value` there, that are far from both."""
    rng = np.random.default_rng(seed)
    dense = [*words_of("ab"), *words_of("cd")]
    others = [name for name in LETTERS.names if name != gene]
    mixed = [word for word in itertools.product("ad", repeat=GENES - 1) if word.count("d") == GENES // 2]
    far = [{gene: value, **dict(zip(others, mixed[i], strict=True))} for i in rng.permutation(len(mixed))[:16]]
    history = [*(config for config in dense if everywhere or config[gene] != value), *far]
    return [{name: history[i][name] for name in LETTERS.names} for i in rng.permutation(len(history))]


class TestLaws:
    """Parity check 5."""

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("gene", ["g0", "g3", "g6"])
    @pytest.mark.parametrize("value", OPTIONS)
    def test_what_dense_regions_never_use_is_removed_and_nothing_else(self, seed: int, gene: str, value: str) -> None:
        history = two_regions(seed, gene, value)
        losses = np.random.default_rng(seed).random((len(history), 2))
        front = [config for config, on in zip(history, nondominated(losses), strict=True) if on]
        found = reduce(LETTERS, history, front=front)
        assert found.removed == {gene: (value,)}
        assert found.clustered + found.noise == len(history)
        assert found.noise > 0
        kept, before = names(found.space), names(LETTERS)
        assert all(set(kept[name]) <= set(before[name]) for name in before), "a subset"
        assert found.space.size < LETTERS.size, "a strict one"
        assert found.space.parent == LETTERS.id
        assert found.space.identity == LETTERS.identity
        legal = [config for config in front if not found.space.validate(config)]
        assert len(legal) + len(found.lost) == len(front)
        assert all(config[gene] == value for config in found.lost)
        assert all(found.space.key(config) == LETTERS.key(config) for config in legal)

    def test_every_value_that_is_common_stays(self) -> None:
        found = reduce(LETTERS, two_regions(0, everywhere=True))
        assert found.removed == {}
        assert found.space.size == LETTERS.size
        assert found.space.parent == LETTERS.id

    def test_the_threshold_counts_the_share_in_dense_regions(self) -> None:
        history = two_regions(0, everywhere=True)
        shares = [reduce(LETTERS, history, threshold=t).removed for t in (0.0, 0.1, 0.3, 0.99)]
        counts = [sum(map(len, removed.values())) for removed in shares]
        assert counts == sorted(counts)
        assert counts[0] == 0
        assert counts[-1] == GENES * (len(OPTIONS) - 1), "the last value never goes"
        assert reduce(LETTERS, history, threshold=0.99).space.size == 1

    def test_the_same_history_in_another_order_gives_the_same_space(self) -> None:
        history = two_regions(3, "g2", "c")
        assert reduce(LETTERS, history).removed == reduce(LETTERS, history[::-1]).removed


class TestDefaults:
    def test_a_removed_default_is_replaced_by_a_value_that_stays(self) -> None:
        space = LETTERS.with_defaults({"g1": "c"})
        found = reduce(space, two_regions(1, "g1", "c"))
        assert found.removed == {"g1": ("c",)}
        assert found.space.default["g1"] in ("a", "b", "d")
        assert SearchSpace.from_dict(found.space.to_dict()).default == found.space.default

    def test_integers_that_lose_their_middle(self) -> None:
        space = SearchSpace(Integer("n", 1, 4, default=2), *list(LETTERS)[1:])
        of_letter = {"a": 1, "b": 2, "c": 3, "d": 4}
        history = [
            {"n": of_letter[config["g0"]], **{name: config[name] for name in LETTERS.names[1:]}}
            for config in two_regions(2, "g0", "b")
        ]
        found = reduce(space, history)
        assert found.removed == {"n": (2,)}
        assert names(found.space)["n"] == [1, 3, 4]
        assert found.space.default["n"] in (1, 3)


CONDITIONAL = SearchSpace(
    Categorical("kind", ("plain", "gated", "linear"), default="gated"),
    Categorical("gate", ("relu", "tanh", "silu"), default="tanh", when=Equals("kind", "gated")),
    Integer("depth", 1, 3, default=3),
    Repeated(Ordinal("width", (8, 16, 32, 64), default=64), 3, when=IndexBelow("depth")),
    Ordinal("skip", (1, 2), when=AtLeast("depth", 3)),
)


def conditional_history(gated: int = 0, seed: int = 0) -> list[Configuration]:
    """Dense around shallow plain networks of small width, `gated` of them gated by silu; the rest are far and few."""
    rng = np.random.default_rng(seed)
    found: list[Configuration] = []
    for depth in (1, 2):
        for _ in range(150):
            widths = {f"width[{i}]": int(rng.choice([8, 16], p=[0.7, 0.3])) for i in range(depth)}
            kind = "plain" if rng.random() < 0.6 else "linear"
            found.append({"kind": kind, "depth": depth, **widths})
    for config in found[::2][:gated]:
        config.update(kind="gated", gate="silu")
    far = [c for c in CONDITIONAL.sample(rng, 60) if c["depth"] == 3]
    return found + far


class TestConditions:
    def test_the_only_trigger_of_a_child_may_go(self) -> None:
        found = reduce(CONDITIONAL, conditional_history())
        assert set(found.removed) == {"kind", "depth", "width[0]", "width[1]"}
        assert found.removed["kind"] == ("gated",)
        assert found.removed["depth"] == (3,)
        assert found.removed["width[0]"] == (32, 64)
        check_legal(found.space)
        assert "gate" not in {n for c in found.space.enumerate() for n in found.space.active_names(c)}
        assert "skip" not in {n for c in found.space.enumerate() for n in found.space.active_names(c)}

    def test_a_parameter_that_is_never_active_there_keeps_its_values(self) -> None:
        """Its default, which stands for "inactive", says nothing about it."""
        found = reduce(CONDITIONAL, conditional_history())
        for name in ("gate", "skip", "width[2]"):
            assert names(found.space)[name] == names(CONDITIONAL)[name]

    def test_one_that_is_seldom_active_there_keeps_them_too(self) -> None:
        found = reduce(CONDITIONAL, conditional_history(gated=20))
        assert "gated" not in found.removed.get("kind", ())
        assert "gate" not in found.removed

    def test_one_that_is_often_active_is_judged_by_where_it_is(self) -> None:
        found = reduce(CONDITIONAL, conditional_history(gated=100))
        assert found.removed["gate"] == ("relu", "tanh")
        check_legal(found.space)

    def test_a_member_whose_inactive_parameter_lost_its_default_is_not_lost(self) -> None:
        plain = CONDITIONAL.canonicalise({"kind": "plain", "depth": 1, "width[0]": 8})
        assert plain["gate"] == "tanh"
        found = reduce(CONDITIONAL, conditional_history(gated=100), front=[plain])
        assert found.lost == ()
        assert found.space.key(carried(plain, CONDITIONAL, found.space)) == CONDITIONAL.key(plain)


def check_legal(space: SearchSpace) -> None:
    """It samples, mutates, crosses, lists and travels."""
    rng = np.random.default_rng(0)
    drawn = space.sample(rng, 50)
    varied = [*space.mutate_all(drawn, rng), *space.crossover_all(drawn[::2], drawn[1::2], rng)]
    listed = space.enumerate()
    assert all(not space.validate(config) for config in (*drawn, *varied, *listed, space.default))
    assert len(listed) == space.size
    assert SearchSpace.from_dict(space.to_dict()) == space


class TestOthers:
    MIXED = SearchSpace(
        *LETTERS, Real("lr", 1e-4, 1.0, log=True), Real("decay", 1e-3, 1.0, zero=True), Integer("hidden", 1, 200)
    )

    def mixed(self, seed: int = 0) -> list[Configuration]:
        rng = np.random.default_rng(seed)
        return [
            {**config, "lr": float(10 ** rng.uniform(-2, -1.9)), "decay": 0.5, "hidden": int(rng.integers(40, 60))}
            for config in two_regions(seed, "g3", "c")
        ]

    def test_reals_and_long_ranges_are_left_alone(self) -> None:
        found = reduce(self.MIXED, self.mixed())
        assert found.removed == {"g3": ("c",)}
        for name in ("lr", "decay", "hidden"):
            assert found.space[name] == self.MIXED[name]

    def test_only_reals(self) -> None:
        space = SearchSpace(Real("x", 0, 1), Real("y", 0, 1))
        points = np.random.default_rng(0).normal(0.5, 0.01, (200, 2)).clip(0, 1).tolist()
        found = reduce(space, [{"x": x, "y": y} for x, y in points])
        assert found.removed == {}

    def test_repeated_configurations_are_welcome(self) -> None:
        """Warnings are errors here: rows of distance zero must not be divided by."""
        history = two_regions(0, "g0", "b")
        dense = [config for config in history if config["g0"] != "b"]
        found = reduce(LETTERS, [*history, *dense, *[dense[0]] * 100])
        assert found.clustered >= 100
        assert "b" in found.removed["g0"]

    def test_fixed_parameters_stay(self) -> None:
        fixed = LETTERS.extended([Ordinal("one", (3,))])
        found = reduce(fixed, [{**config, "one": 3} for config in two_regions(0, "g0", "b")])
        assert found.removed == {"g0": ("b",)}


class TestOneRegion:
    """HDBSCAN as the paper sets it finds at least two regions or none."""

    def test_one_region_that_is_denser_than_chance_counts(self) -> None:
        far = [config for config in two_regions(0, "g4", "b") if config["g4"] == "b"]
        found = reduce(LETTERS, [*(config for config in words_of("ab") if config["g4"] == "a"), *far])
        assert found.clustered == 64
        assert found.removed == dict.fromkeys(LETTERS.names, ("c", "d")) | {"g4": ("b", "c", "d")}

    @pytest.mark.parametrize("seed", range(5))
    def test_a_random_history_is_noise(self, seed: int) -> None:
        space = SearchSpace(*(Categorical(f"g{i}", OPTIONS) for i in range(20)))
        history = space.sample(np.random.default_rng(seed), 300)
        with pytest.raises(UsageError, match=r"no dense region in 300 configurations.*noise.*more trials"):
            reduce(space, history)


class TestOrigin:
    def test_what_the_history_could_not_try_stays(self) -> None:
        space = LETTERS.extended([Categorical("more", ("x", "y", "z"))])
        history = [{**config, "more": "x"} for config in two_regions(0, "g1", "b")]
        assert reduce(space, history).removed == {"g1": ("b",), "more": ("y", "z")}
        held = space.fix({"more": "x"})
        found = reduce(space, history, origin=held, front=history[:5])
        assert found.removed == {"g1": ("b",)}
        assert found.lost == tuple(config for config in history[:5] if config["g1"] == "b")

    def test_the_last_value_of_a_narrowed_space_stays(self) -> None:
        history = two_regions(0, "g1", "b")
        narrow = LETTERS.fix({"g1": "b"})
        found = reduce(narrow, history, origin=LETTERS)
        assert "g1" not in found.removed
        assert found.space.default["g1"] == "b"

    def test_other_trainers_parameters(self) -> None:
        """They are no part of what is carried; what is new takes its default."""
        one = LETTERS.extended([Real("trainer.lr", 0, 1)])
        other = LETTERS.extended([Categorical("trainer.optimizer", ("adam", "sgd"))])
        config = carried({**LETTERS.default, "trainer.lr": 0.3}, one, other)
        assert config == {**LETTERS.default, "trainer.optimizer": "adam"}
        history = [{**c, "trainer.lr": 0.5} for c in two_regions(0, "g0", "c")]
        assert reduce(other, history, origin=one).removed == {"g0": ("c",)}

    def test_what_is_illegal_is_not_carried(self) -> None:
        with pytest.raises(ConfigurationError, match="g0"):
            carried({**LETTERS.default, "g0": "b"}, LETTERS, LETTERS.restrict({"g0": ["b"]}))


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "history", "message"),
        [
            ({}, LETTERS.sample(np.random.default_rng(0), 49), "needs a history of 50 configurations, this one has 49"),
            ({}, [], "this one has 0"),
            ({"min_cluster_size": 2, "min_samples": 30}, [LETTERS.default] * 30, "31 configurations"),
            ({"threshold": 1.0}, [], r"threshold=1.0 must lie in \[0, 1\)"),
            ({"threshold": -0.1}, [], "threshold=-0.1"),
            ({"min_cluster_size": 1}, [], "min_cluster_size=1 must be at least 2"),
            ({"min_samples": 0}, [], "min_samples=0 at least 1"),
        ],
    )
    def test_messages(self, options: dict[str, Any], history: Sequence[Configuration], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            reduce(LETTERS, history, **options)

    def test_an_illegal_member(self) -> None:
        with pytest.raises(ConfigurationError, match="g0"):
            reduce(LETTERS, [{**LETTERS.default, "g0": "z"}] * 60)


def test_a_reduction_is_a_value() -> None:
    found = reduce(LETTERS, two_regions(0, "g0", "b"))
    assert isinstance(found, Reduction)
    with pytest.raises(AttributeError):
        found.clustered = 3  # type: ignore[misc]
