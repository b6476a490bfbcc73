"""Predictions against what was found: the store's rows, their agreement, and what the command prints."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from archfront import search
from archfront.cluster._calibration import Agreement, agreement, newest_half
from archfront.cluster.store import CalibrationRow, ProposalRecord, Store
from archfront.cluster.study import Study
from archfront.search import Strategy, Suggestion
from archfront.search._types import Proposal, Value
from archfront.spaces._errors import UnknownNameError, UsageError
from tests.cluster import toys
from tests.cluster.command import Command, in_process
from tests.cluster.store import conftest as databases
from tests.cluster.studies import own

url, store, lab = databases.url, databases.store, databases.lab  # each test here runs on both databases
Lab = databases.Lab
SPREAD = 0.01


class Prophet(Strategy):
    """Knows `toys.two`: says the error with a known mistake, one in five times outside its interval, and a cost that is
    always 2 too high, without a spread. Its first five proposals come without a prediction."""

    def propose(self, n: int) -> Sequence[Suggestion]:
        (config,) = self.space.sample(self.rng, 1)
        if self.asked < 5:
            return [Suggestion(config, "random")]
        truth = toys.two(config)
        mistake = (2.0 if self.asked % 5 == 0 else 1.0) * SPREAD
        said = {"cost": (truth["cost"] + 2, 0.0), "error": (truth["error"] + mistake, SPREAD)}
        return [Suggestion(config, "prophecy", predicted=said)]


PROPHET = "tests.cluster.test_calibration:Prophet"


def prophesied(store: Store, trials: int = 25, **options: Any) -> Study:
    study = own(store, strategy=PROPHET, default=False, **options)
    study.run(trials=trials)
    return study


def predict(lab: Lab, study: str, key: str, **predicted: tuple[float, float]) -> ProposalRecord:
    """A stored proposal with predictions; "at" in a name stands for "@"."""
    said = {name.replace("_at_", "@"): pair for name, pair in predicted.items()}
    proposal = Proposal(uuid.uuid4().hex, lab.asked[study], {"x": key}, key, "acquisition", (), 3, said)
    lab.asked[study] += 1
    record = ProposalRecord(proposal, key)
    lab.store.insert_proposals(study, lab.epochs[study], [record])
    return record


def record(lab: Lab, study: str, proposal: ProposalRecord, values: dict[str, float | Value], **fields: Any) -> None:
    lab.store.record(study, lab.epochs[study], [lab.outcome(proposal, values, **fields)])


class TestRows:
    def test_every_prediction_meets_its_value(self, store: Store) -> None:
        prophesied(store)
        told = {e.proposal: e for _, _, e in store.told("own")}
        expected = [
            CalibrationRow(
                *(p.number, p.key, p.iteration, p.origin), metric, mean, std, told[p.id].values[metric].value
            )
            for p in (r.proposal for r in store.proposals("own"))
            for metric, (mean, std) in p.predicted.items()
        ]
        assert store.calibration("own") == expected
        assert len(expected) == 2 * 20
        assert {row.origin for row in expected} == {"prophecy"}

    def test_a_row_says_what_was_predicted(self, lab: Lab) -> None:
        study = lab.study()
        proposal = predict(lab, study, "a", error=(0.3, 0.1), latency_ms_at_cpu=(4.0, 0.5))
        record(lab, study, proposal, {"error": 0.25, "latency_ms@cpu": 5.0})
        assert lab.store.calibration(study) == [
            CalibrationRow(0, "a", 3, "acquisition", "error", 0.3, 0.1, 0.25),
            CalibrationRow(0, "a", 3, "acquisition", "latency_ms@cpu", 4.0, 0.5, 5.0),
        ]

    def test_what_is_not_known_makes_no_row(self, lab: Lab) -> None:
        study = lab.study()
        predict(lab, study, "still running", error=(0.3, 0.1))
        for status in ("failed", "stopped", "invalid"):
            record(lab, study, predict(lab, study, status, error=(0.3, 0.1)), {"error": 0.2}, status=status)
        record(lab, study, predict(lab, study, "nan", error=(0.3, 0.1)), {"error": math.nan, "latency_ms@cpu": 1.0})
        record(lab, study, predict(lab, study, "a guess", error=(0.3, 0.1)), {"error": Value(0.3, "predicted")})
        record(lab, study, predict(lab, study, "another metric", error=(0.3, 0.1)), {"latency_ms@cpu": 1.0})
        record(lab, study, predict(lab, study, "no number", error=(math.nan, 0.1)), {"error": 0.2})
        assert lab.store.calibration(study) == []
        record(lab, study, predict(lab, study, "no spread", error=(0.3, math.inf)), {"error": 0.2})
        assert [(row.key, row.std) for row in lab.store.calibration(study)] == [("no spread", 0.0)]

    def test_values_are_the_present_ones(self, lab: Lab) -> None:
        study = lab.study()
        proposal = predict(lab, study, "a", latency_ms_at_cpu=(4.0, 0.5), error=(0.3, 0.1))
        outcome = lab.outcome(proposal, {"error": 0.25, "latency_ms@cpu": 5.0}, sessions=(lab.session("a", 5.0),))
        lab.store.record(study, lab.epochs[study], [outcome])
        lab.store.add_device_sessions([lab.session("a", 7.0), lab.session("a", 9.0)])
        latency, error = lab.store.calibration(study)
        assert (latency.value, error.value) == (7.0, 0.25), "the median over all sessions"
        fact = lab.store.fact(lab.identity, "digits-1", "a", protocol="p1", train_seed=0)
        assert fact is not None
        lab.store.withdraw(fact.observation)
        assert lab.store.calibration(study) == []

    def test_studies_do_not_mix(self, lab: Lab) -> None:
        one, other = lab.study("one"), lab.study("other")
        for study, mean in ((one, 0.3), (other, 0.4)):
            record(lab, study, predict(lab, study, "a", error=(mean, 0.1)), {"error": mean - 0.1})
        assert [(row.mean, row.value) for row in lab.store.calibration(other)] == [(0.4, pytest.approx(0.3))]
        with pytest.raises(UnknownNameError, match="did you mean 'other'"):
            lab.store.calibration("othr")


def rows(*triples: tuple[float, float, float]) -> list[CalibrationRow]:
    return [CalibrationRow(i, str(i), 0, "x", "error", *triple) for i, triple in enumerate(triples)]


class TestAgreement:
    def test_a_known_mistake(self, store: Store) -> None:
        cost, error = sorted(prophesied(store).calibration(), key=lambda found: found.metric)
        assert (cost.metric, error.metric) == ("cost", "error")
        assert error.whole.n == 20
        assert error.whole.coverage == 0.8
        assert error.whole.bias == pytest.approx(SPREAD * (0.8 + 0.2 * 2))
        assert error.whole.rmse == pytest.approx(SPREAD * math.sqrt(0.8 + 0.2 * 4))
        assert error.whole.unsure == 0
        assert cost.whole == Agreement(20, 1.0, pytest.approx(2), pytest.approx(2), None, 20)
        pairs = [(row.mean, row.value) for row in error.rows]
        assert error.whole.kendall == pytest.approx(kendalltau(*zip(*pairs, strict=True)).statistic)
        assert error.newest == agreement(error.rows[10:])
        assert [row.number for row in error.rows] == list(range(5, 25))

    def test_metrics_stand_in_the_order_of_the_objectives(self, store: Store) -> None:
        found = prophesied(store, trials=8).calibration()
        assert [one.metric for one in found] == ["error", "cost"], "as asked for, not as predicted"
        assert [one.unit for one in found] == ["fraction", ""]

    def test_what_is_maximised_stays_raw(self, store: Store) -> None:
        prophesied(store, trials=8, objectives=["error:max", "cost:max"])
        assert all(row.mean > row.value > 0 for row in store.calibration("own"))

    def test_the_interval_holds_90_percent_of_normal_values(self) -> None:
        values = np.random.default_rng(0).normal(3.0, 2.0, 4000)
        found = agreement(rows(*((3.0, 2.0, float(value)) for value in values)))
        assert found.coverage == pytest.approx(0.9, abs=0.015)
        assert found.rmse == pytest.approx(2.0, rel=0.05)

    def test_only_predictions_with_a_spread_have_an_interval(self) -> None:
        found = agreement(rows((1.0, 0.0, 5.0), (1.0, 1.0, 2.6), (1.0, 1.0, 2.7)))
        assert (found.coverage, found.unsure, found.n) == (0.5, 1, 3)

    def test_one_prediction_is_its_own_newest_half(self) -> None:
        one = rows((1.0, 0.5, 2.0))
        assert newest_half(one) == one
        assert agreement(one) == Agreement(1, 0.0, 1.0, -1.0, 0.0, 0)
        assert [row.number for row in newest_half(rows(*[(0.0, 0.0, 0.0)] * 5))] == [2, 3, 4]


@pytest.mark.parametrize("name", search.names())
def test_what_says_that_it_predicts_does(tmp_path: Path, name: str) -> None:
    cls = search.load(name)
    with Store(f"sqlite:///{tmp_path}/archfront.db") as here:
        study = own(here, strategy=name, parameters=dict(cls.test_parameters))
        study.run(trials=16)
        assert {found.metric for found in study.calibration()} == (
            {"error", "cost"} if cls.capabilities.predicts else set()
        )


class TestCommand:
    @pytest.fixture
    def run(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str) -> Command:
        monkeypatch.setenv("ARCHFRONT_STORE", url)
        return in_process(monkeypatch, capsys)

    def test_a_table_of_all_and_of_the_newest_half(self, run: Command, store: Store) -> None:
        prophesied(store)
        done = run("show", "own", "--calibration")
        assert done.code == 0, done.err
        cells = [line.split() for line in done.out.splitlines()]
        assert ["error", "all", "20", *_agreement_cells(store), "fraction", "80", "%"] in cells
        assert [line[:4] for line in cells if line[:1] == ["cost"]] == [
            ["cost", "all", "20", "1"],
            ["cost", "newest", "half", "10"],
        ]
        assert "cost: 20 of 20 predictions have no std" in done.out
        assert "error: " not in done.out

    def test_the_document(self, run: Command, store: Store) -> None:
        study = prophesied(store)
        document = run("show", "own", "--calibration", "--json").json
        assert set(document) == {"study", "calibration", "rows"}
        for shown, found in zip(document["calibration"], study.calibration(), strict=True):
            assert (shown["metric"], shown["unit"]) == (found.metric, found.unit)
            assert (shown["all"], shown["newest_half"]) == (asdict(found.whole), asdict(found.newest))
        by_metric = sorted(store.calibration("own"), key=lambda row: (row.metric == "cost", row.number))
        assert document["rows"] == json.loads(json.dumps([asdict(row) for row in by_metric]))

    @pytest.mark.parametrize("ending", ["png", "html"])
    def test_a_picture(self, run: Command, store: Store, tmp_path: Path, ending: str) -> None:
        prophesied(store)
        file = tmp_path / f"calibration.{ending}"
        done = run("show", "own", "--calibration", str(file))
        assert done.code == 0, done.err
        assert f"wrote {file}" in done.out.replace("\n", "")
        assert file.stat().st_size > 10_000

    def test_a_study_that_predicts_nothing_says_which_strategies_do(
        self, run: Command, store: Store, tmp_path: Path
    ) -> None:
        own(store, strategy="random").run(trials=4)
        done = run("show", "own", "--calibration")
        assert done.code == 0
        said = " ".join(done.out.split())
        assert said.startswith("study 'own': strategy 'random' has predicted nothing so far. Strategies that do")
        assert all(name in said for name in ("ehvi", "linas", "bayesian"))
        assert "Kendall" not in said
        document = run("show", "own", "--calibration", "--json").json
        assert document == {"study": "own", "calibration": [], "rows": []}
        file = tmp_path / "nothing.png"
        assert run("show", "own", "--calibration", str(file)).code == 2
        assert not file.exists()

    def test_predictions_whose_values_are_not_known_yet(self, run: Command, lab: Lab) -> None:
        predict(lab, lab.study(), "a", error=(0.3, 0.1))
        done = run("show", "one", "--calibration")
        assert "study 'one': none of its 1 predictions has an ok evaluation yet" in " ".join(done.out.split())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("own", "--calibration", "--importance"), "--importance and --calibration are 2 questions"),
            (("own", "--calibration", "--curve", "x.png"), "--calibration and --curve are 2 questions"),
            (("own", "x.png"), "archfront show own --calibration x.png"),
            (("own", "--calibration", "x.bmp"), "cannot plot to 'x.bmp'"),
            (("onw", "--calibration"), "did you mean 'own'"),
        ],
    )
    def test_errors(self, run: Command, store: Store, arguments: tuple[str, ...], message: str) -> None:
        prophesied(store, trials=8)
        done = run("show", *arguments)
        assert done.code == 2
        assert message in " ".join(done.err.split())


def _agreement_cells(store: Store) -> list[str]:
    """Kendall, RMSE and bias of the error, as the table writes them."""
    found = next(one for one in Study.open("own", store=store).calibration() if one.metric == "error")
    return [f"{number:.4g}" for number in (found.whole.kendall, found.whole.rmse, found.whole.bias)]


def test_a_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    from archfront.cluster._plot import plot_calibration

    with pytest.raises(UsageError, match="no prediction whose value is known"):
        plot_calibration([], tmp_path / "x.png", "own")
