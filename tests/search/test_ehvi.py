"""Expected hypervolume improvement: its parts against definitions, the whole against known optima."""

from __future__ import annotations

import itertools

import moocore
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from archfront.predictors._ensemble import Candidates, Ensemble
from archfront.predictors._process import Coordinates, Process
from archfront.search import Configuration, Constraint, Evaluation, Objective, SearchBudget, Strategy, Value, load
from archfront.search._auto import choose
from archfront.search._improvement import (
    expected_improvement,
    hypervolume_improvement,
    scalarised_improvement,
    sorted_front,
)
from archfront.search._warp import Warp
from archfront.search.ehvi import _doubled
from archfront.spaces import Categorical, Equals, Integer, Ordinal, Real, Repeated, SearchSpace

Floats = NDArray[np.float64]
MIXED = SearchSpace(
    Categorical("a", ("x", "y", "z")),
    Categorical("b", ("x", "y", "z")),
    Integer("n", 1, 9, log=True),
    Real("r", 1e-3, 1, log=True, zero=True),
    Ordinal("o", (1, 2, 4), when=(Equals("a", "x"),)),
    Categorical("c", ("p", "q"), when=(Equals("b", "y"),)),
)
CELLS = SearchSpace(Repeated(Categorical("op", ("none", "pool", "conv")), 5))
ERROR, COST = Objective("error", "min"), Objective("cost", "min")


def values(config: Configuration) -> dict[str, float]:
    """243 cells: what lowers the error costs, and position matters."""
    gain = {"none": 0.0, "pool": 1.0, "conv": 2.5}
    price = {"none": 0.0, "pool": 0.6, "conv": 2.0}
    ops = list(config.values())
    useful = sum(gain[op] * (1 + 0.3 * i) for i, op in enumerate(ops))
    return {"error": 1 / (1 + useful), "cost": 1 + sum(price[op] for op in ops)}


def run(strategy: Strategy, trials: int) -> list[Evaluation]:
    """Ask one, tell one."""
    for _ in range(trials):
        (proposal,) = strategy.ask(1).proposals
        found = {name: Value(value, "looked_up") for name, value in values(proposal.config).items()}
        strategy.tell([Evaluation(proposal.config, proposal.key, "ok", found, proposal.id)])
    return strategy.told


class TestProcess:
    def test_the_gradient_is_that_of_the_loss(self) -> None:
        rng = np.random.default_rng(0)
        coordinates = Coordinates(MIXED)
        design, y = coordinates(MIXED.sample(rng, 25)), rng.normal(size=25)
        process = Process(coordinates)
        theta = process.theta + 0.3 * rng.normal(size=len(process.theta))
        _, gradient = process.loss(theta, design, y)
        numeric = approx_fprime(theta, lambda t: process.loss(t, design, y)[0], 1e-6)
        assert gradient == pytest.approx(numeric, abs=1e-4)

    def test_equal_options_share_their_coordinates(self) -> None:
        coordinates = Coordinates(MIXED)
        assert coordinates.blocks[0].table == coordinates.blocks[1].table is not None
        assert coordinates.blocks[5].table not in (None, coordinates.blocks[0].table)  # other options

    def test_inactive_values_make_no_difference(self) -> None:
        coordinates = Coordinates(MIXED)
        one = {"a": "y", "b": "x", "n": 2, "r": 0.0, "o": 4, "c": "q"}
        other = {**one, "o": 1, "c": "p"}
        assert np.array_equal(*coordinates([one, other]))

    def test_it_learns_and_is_sure_only_where_it_was_told(self) -> None:
        rng = np.random.default_rng(1)
        coordinates = Coordinates(CELLS)
        configs = CELLS.enumerate()
        y = np.array([np.log(values(c)["error"]) for c in configs])
        y = (y - y.mean()) / y.std()
        rows = rng.permutation(len(configs))[:80]
        design = coordinates(configs)
        process = Process(coordinates)
        process.tune(design[rows], y[rows], steps=40)
        posterior = process.conditioned(design[rows], y[rows])
        mean, std = posterior.given(posterior.explained(process.correlations(design[rows], design)))
        others = np.setdiff1d(np.arange(len(configs)), rows)
        assert np.corrcoef(mean[others], y[others])[0, 1] > 0.95
        assert std[rows].mean() < std[others].mean()

    @pytest.mark.parametrize("astray", [True, False])
    def test_a_fit_afresh_leaves_a_corner_and_never_a_better_place(self, astray: bool) -> None:
        coordinates = Coordinates(CELLS)
        configs = CELLS.sample(np.random.default_rng(2), 60)
        design, y = coordinates(configs), np.array([np.log(values(c)["error"]) for c in configs])
        y = (y - y.mean()) / y.std()
        fresh = Process(coordinates)
        fresh.tune(design, y, steps=40)
        other = Process(coordinates)
        if astray:
            other.theta = other._low.copy()
        else:
            other.tune(design, y, steps=200)
        before = other.loss(other.theta, design, y)[0]
        other.tune(design, y, steps=1, afresh=40)
        after = other.loss(other.theta, design, y)[0]
        assert after <= min(before, fresh.loss(fresh.theta, design, y)[0]) + 1e-6

    def test_options_that_make_no_difference_are_one(self) -> None:
        coordinates = Coordinates(CELLS, idle=lambda config: {"op[1]"} if config["op[0]"] == "none" else set())
        one = {f"op[{i}]": "none" for i in range(5)}
        other = {**one, "op[1]": "conv"}
        assert np.array_equal(*coordinates([one, other]))
        assert not np.array_equal(*coordinates([{**one, "op[0]": "conv"}, {**other, "op[0]": "conv"}]))


class TestEnsemble:
    def drawn(self, members: int, n: int) -> tuple[Ensemble, Floats, Floats, Floats]:
        """An ensemble that is tuned on the first n of 60 cells, their design and labels, and the design of all."""
        coordinates = Coordinates(CELLS)
        configs = CELLS.sample(np.random.default_rng(0), 60)
        design = coordinates(configs)
        y = np.array([np.log(values(c)["error"]) for c in configs])
        y = (y - y.mean()) / y.std()
        ensemble = Ensemble(coordinates, members)
        ensemble.tune(design[:n], y[:n], steps=20)
        return ensemble, design, y, coordinates(CELLS.enumerate())

    def test_what_candidates_keep_changes_nothing(self) -> None:
        ensemble, design, y, every = self.drawn(3, 20)
        candidates = Candidates(every)
        for rows in ([*range(20)], [*range(26)], [*range(22), 40, 41], [*range(30)]):
            belief = ensemble.conditioned(design[rows], y[rows])
            for kept, fresh in zip(belief.over(candidates, 0), belief.at(every), strict=True):
                assert kept == pytest.approx(fresh, abs=2e-4)
        fewer = np.arange(len(every)) % 3 == 0
        rest = belief.over(candidates.only(fewer), 0)
        assert rest[0] == pytest.approx(belief.at(every[fewer])[0], abs=2e-4)

    def test_tuning_again_forgets_what_was_kept(self) -> None:
        ensemble, design, y, every = self.drawn(2, 20)
        candidates = Candidates(every)
        ensemble.conditioned(design[:20], y[:20]).over(candidates, 0)
        ensemble.tune(design, y, steps=5)
        belief = ensemble.conditioned(design[:20], y[:20])
        assert belief.over(candidates, 0)[0] == pytest.approx(belief.at(every)[0], abs=2e-4)

    def test_members_disagree_only_where_labels_leave_it_open(self) -> None:
        few, many = (self.drawn(4, n) for n in (8, 60))

        def spread(drawn: tuple[Ensemble, Floats, Floats, Floats], n: int) -> float:
            ensemble, design, y, every = drawn
            belief = ensemble.conditioned(design[:n], y[:n])
            means = [p.given(p.explained(q.correlations(design[:n], every)))[0] for q, p in belief.members]
            return float(np.std(means, axis=0).mean())

        assert spread(many, 60) < 0.5 * spread(few, 8)

    def test_one_member_is_the_process(self) -> None:
        ensemble, design, y, every = self.drawn(1, 20)
        process = ensemble.processes[0]
        posterior = process.conditioned(design[:20], y[:20])
        own = posterior.given(posterior.explained(process.correlations(design[:20], every)))
        assert np.allclose(own, ensemble.conditioned(design[:20], y[:20]).at(every))


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=30), st.sampled_from(["any", "positive", "negative"]))
@example([0.0, 0.0, 2.225073858507203e-309], "any")
def test_warps_ascend_and_come_back(numbers: list[float], sign: str) -> None:
    losses = np.array(numbers)
    if sign != "any":
        losses = (1 if sign == "positive" else -1) * (np.abs(losses) + 0.01)
    warp = Warp.of(losses)
    warped = warp(losses)
    assert np.isfinite(warped).all()
    order = np.argsort(losses, kind="stable")
    assert (np.diff(warped[order]) >= -1e-9).all()
    assert warp.back(warped) == pytest.approx(losses, rel=1e-4, abs=1e-4 * max(1, float(np.abs(losses).max())))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), st.integers(0, 11), st.integers(0, 11))
def test_improvement_is_the_difference_of_hypervolumes(points: list[tuple[int, int]], x: int, y: int) -> None:
    reference = np.array([8.5, 8.5])
    told = np.array(points, np.float64).reshape(-1, 2)
    new = np.array([[x, y]], np.float64)

    def volume(losses: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
        return float(moocore.hypervolume(losses, ref=reference)) if len(losses) else 0.0

    gain = hypervolume_improvement(sorted_front(told, reference), new, reference)
    assert gain[0] == pytest.approx(volume(np.concatenate([told, new])) - volume(told))


def test_expected_improvement_is_the_mean_over_draws() -> None:
    rng = np.random.default_rng(0)
    front = sorted_front(np.array([[0.2, 0.9], [0.5, 0.4], [0.8, 0.1]]), np.array([1.0, 1.0]))
    reference = np.array([1.0, 1.0])
    mean, std = np.array([[0.4, 0.5], [0.1, 0.2], [0.6, 0.6]]), np.array([[0.2, 0.1], [0.05, 0.3], [0.3, 0.2]])
    expected = expected_improvement(mean, std, front, reference)
    draws = mean + std * rng.standard_normal((100_000, 3, 2))
    for i in range(3):
        sampled = hypervolume_improvement(front, draws[:, i], reference)
        assert expected[i] == pytest.approx(sampled.mean(), abs=4 * sampled.std() / 100_000**0.5)
    single = expected_improvement(mean[:, :1], std[:, :1], front[:1, :1], reference[:1])
    assert single[1] == pytest.approx(np.maximum(0.2 - draws[:, 1, 0], 0).mean(), abs=1e-3)
    normals = rng.standard_normal((500, 3))
    cost = np.array([[0.5, 0.5, 0.5]])
    better, worse = (np.full((1, 3), level) for level in (0.2, 0.7))
    gains = [
        scalarised_improvement(m, np.full((1, 3), 0.05), cost, np.ones(3) / 3, normals)[0] for m in (better, worse)
    ]
    assert gains[0] > gains[1] >= 0


def test_it_finds_the_front_of_a_known_table() -> None:
    losses = np.array([list(values(c).values()) for c in CELLS.enumerate()])
    reference = np.quantile(losses, 0.8, axis=0)  # what lies beyond the first proposals' range is not sought
    full = moocore.hypervolume(losses, ref=reference)
    told = run(load("ehvi")(CELLS, [ERROR, COST], budget=SearchBudget(60), seed=0), 60)
    found = np.array([[e.values["error"].value, e.values["cost"].value] for e in told])
    assert moocore.hypervolume(found, ref=reference) > 0.99 * full


def test_one_objective_and_three(subtests: pytest.Subtests) -> None:
    with subtests.test("one"):
        told = run(load("ehvi")(CELLS, [ERROR], budget=SearchBudget(45), seed=1), 45)
        best = min(values(c)["error"] for c in CELLS.enumerate())
        assert min(e.values["error"].value for e in told) == best
    with subtests.test("three"):
        three = [ERROR, COST, Objective("cost", "max")]
        assert len(run(load("ehvi")(CELLS, three, budget=SearchBudget(30), seed=1), 30)) == 30


def test_a_bound_is_learned() -> None:
    bound = Constraint("cost", "<=", 4.0)
    strategy = load("ehvi")(CELLS, [ERROR], constraints=[bound], budget=SearchBudget(60), seed=0)
    told = run(strategy, 60)
    least = min(v["error"] for c in CELLS.enumerate() if (v := values(c))["cost"] <= 4)
    assert min(e.values["error"].value for e in told if e.values["cost"].value <= 4) == least


def test_what_is_proposed_carries_what_was_predicted() -> None:
    strategy = load("ehvi")(CELLS, [ERROR, Objective("cost", "max")], budget=SearchBudget(60), seed=0)
    run(strategy, 30)
    (proposal,) = strategy.ask(1).proposals
    assert proposal.origin == "improvement"
    mean, std = proposal.predicted["cost"]
    assert std > 0
    assert abs(mean - values(proposal.config)["cost"]) < 3


def test_a_study_of_an_earlier_version_goes_on() -> None:
    strategy = load("ehvi")(CELLS, [ERROR, COST], budget=SearchBudget(30), seed=0, initial=5)
    strategy.restore_state({"theta": [[0.0, 1.0]] * 2, "fitted": 3})  # one process per objective, of other parameters
    assert len(run(strategy, 12)) == 12
    assert strategy.pending == []


class TestAuto:
    """The choice is a function of the problem, and says why."""

    @pytest.mark.parametrize(
        ("space", "trials", "chosen"),
        [
            (CELLS, 100, "ehvi"),
            (MIXED, 100, "ehvi"),
            (SearchSpace(Real("x", 0, 1), Integer("n", 1, 50)), 100, "ehvi"),
            (CELLS, 5, "random"),
            (CELLS, 500, "random"),
            (MIXED, 5_000, "nsga2"),
            (MIXED, None, "nsga2"),
        ],
    )
    def test_by_space_and_budget(self, space: SearchSpace, trials: int | None, chosen: str) -> None:
        name, why = choose(space, [ERROR, COST], SearchBudget(trials, None if trials else 60))
        assert name == chosen
        assert len(why) > 10
        load(name).check(space, [ERROR, COST])

    def test_where_trials_are_stopped_early(self) -> None:
        """Those are not told to a model (rule 7)."""
        name, why = choose(MIXED, [ERROR, COST], SearchBudget(100, None), stops=True)
        assert name == "random"
        assert "stopped early" in why


def test_fits_begin_afresh_whenever_the_told_have_doubled() -> None:
    fitted = [*range(20, 400, 5)]
    again = [now for before, now in itertools.pairwise(fitted) if _doubled(before, now, 20)]
    assert again == [40, 80, 160, 320]
    assert not _doubled(0, 20, 20)
    assert not _doubled(5, 25, 20), "the first fits came before the initial ones were all told"
    assert _doubled(30, 95, 20), "many were told at once"
