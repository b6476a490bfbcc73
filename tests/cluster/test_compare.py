"""Studies side by side, and what their parameters explain: against brute force, and from the command line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archfront.cluster._compare import SHARES, compare_studies
from archfront.cluster._front import hypervolume
from archfront.cluster.store import Store
from archfront.spaces._errors import UnknownNameError, UsageError
from tests.cluster import toys
from tests.cluster.command import Command, in_process
from tests.cluster.studies import own


@pytest.fixture
def searched(store: Store) -> Store:
    """Studies a and b of one function, 25 and 12 evaluations; some of b's fail."""
    own(store, "a", strategy="nsga2", parameters={"population": 6}).run(trials=25)
    own(store, "b", strategy="random", seed=1, evaluate="tests.cluster.toys:evaluate").run(trials=12)
    return store


def losses(store: Store, name: str) -> list[list[float]]:
    """Per told evaluation; infinite where it failed."""
    return [
        [e.values[m].value if e.status == "ok" else math.inf for m in ("error", "cost")] for _, _, e in store.told(name)
    ]


class TestCompareStudies:
    def test_curves_equal_brute_force_from_the_worst_reference(self, searched: Store) -> None:
        found = compare_studies(searched, ["a", "b"])
        own_references = [searched.front(study=name).reference or () for name in "ab"]
        reference = [max(pair) for pair in zip(*own_references, strict=True)]
        assert list(found.reference.values()) == reference
        for study in found.studies:
            points = losses(searched, study.study)
            curve, here = dict(study.curve), 0.0
            assert list(curve)[-1] == study.told == len(points)
            for n in range(1, len(points) + 1):
                here = curve.get(n, here)
                assert here == pytest.approx(hypervolume(np.array(points[:n]), reference))
            assert study.hypervolume == here
            assert study.front_size == len(searched.front(study=study.study))

    def test_one_study_from_its_own_reference_has_the_stored_hypervolume(self, searched: Store) -> None:
        (study,) = compare_studies(searched, ["a"]).studies
        assert study.hypervolume == pytest.approx(searched.front(study="a").hypervolume)
        assert [volume for _, volume in study.curve] == sorted(volume for _, volume in study.curve)

    def test_reached_is_the_first_evaluation_of_a_share_of_the_best(self, searched: Store) -> None:
        found = compare_studies(searched, ["b", "a"])
        best = max(study.hypervolume for study in found.studies)
        for study in found.studies:
            for share in SHARES:
                first = next((n for n, volume in study.curve if volume >= share * best), None)
                assert study.reached[share] == first
        assert any(study.reached[0.99] for study in found.studies)

    def test_constraints_hold(self, store: Store) -> None:
        own(store, "small", constraints=["cost<=100"]).run(trials=25)
        (study,) = compare_studies(store, ["small"]).studies
        front = store.front(study="small")
        assert study.front_size == len(front)
        assert study.hypervolume == pytest.approx(front.hypervolume)

    def test_a_given_reference_and_a_maximised_objective(self, store: Store) -> None:
        own(store, "up", objectives=["error:min", "cost:max"]).run(trials=8)
        found = compare_studies(store, ["up"], {"cost": 4.0})
        assert [(o.name, o.direction) for o in found.objectives] == [("error", "min"), ("cost", "max")]
        assert found.reference["cost"] == 4.0
        points = [[error, -cost] for error, cost in losses(store, "up")]
        expected = hypervolume(np.array(points), [found.reference["error"], -4.0])
        assert found.studies[0].hypervolume == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"objectives": ["error:min"]}, "different objectives: cost:min, error:min and error:min"),
            ({"objectives": ["error:min", "cost:max"]}, "different objectives: .* and cost:max"),
            ({"space": toys.CHOICES, "evaluate": lambda c: {"error": 1.0, "cost": len(c)}}, "different space"),
            ({"constraints": ["cost<=100"]}, "different constraints: none and cost<=100"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_studies_that_mean_something_else_are_refused(
        self, searched: Store, options: dict[str, Any], message: str
    ) -> None:
        own(searched, "other", **options).run(trials=3)
        with pytest.raises(UsageError, match=message):
            compare_studies(searched, ["a", "other"])

    def test_what_cannot_be_asked_is_refused(self, searched: Store) -> None:
        with pytest.raises(UsageError, match="named twice"):
            compare_studies(searched, ["a", "b", "a"])
        with pytest.raises(UnknownNameError, match="unknown study"):
            compare_studies(searched, ["a", "c"])
        with pytest.raises(UnknownNameError, match="did you mean 'cost'"):
            compare_studies(searched, ["a"], {"costs": 1.0})
        with pytest.raises(UsageError, match="not finite"):
            compare_studies(searched, ["a"], {"cost": math.inf})

    def test_a_space_of_the_same_name_is_another(self, searched: Store) -> None:
        from archfront.spaces import Integer, SearchSpace

        other = SearchSpace(Integer("depth", 1, 8), Integer("width", 8, 64))
        own(searched, "other", space=other, evaluate=lambda c: {"error": 1 / c["depth"], "cost": c["width"]}).run(
            trials=3
        )
        with pytest.raises(UsageError, match="different space, both called"):
            compare_studies(searched, ["a", "other"])

    def test_an_order_of_objectives_is_no_difference(self, searched: Store) -> None:
        own(
            searched, "turned", objectives=["cost:min", "error:min"], strategy="nsga2", parameters={"population": 6}
        ).run(trials=25)
        one, two = compare_studies(searched, ["a", "turned"]).studies
        assert two.hypervolume == pytest.approx(hypervolume(np.array(losses(searched, "turned")), _reference(searched)))
        assert one.told == two.told


def _reference(store: Store) -> list[float]:
    return list(compare_studies(store, ["a", "turned"]).reference.values())


@pytest.fixture
def run(
    searched: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    monkeypatch.setenv("ARCHFRONT_STORE", f"sqlite:///{tmp_path}/archfront.db")
    return in_process(monkeypatch, capsys)


class TestCompareCommand:
    def test_table_plot_and_document(self, run: Command, tmp_path: Path) -> None:
        picture = tmp_path / "curves.png"
        done = run("compare", "a", "b", "--plot", str(picture))
        assert done.code == 0, done.err
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert "nsga2" in done.out
        assert "random" in done.out
        document = run("compare", "a", "b", "--reference", "cost=600,error=2", "--json").json
        assert document["reference"] == {"error": 2.0, "cost": 600.0}
        assert [s["told"] for s in document["studies"]] == [25, 12]
        keys = {"study", "strategy", "seed", "told", "front_size", "hypervolume", "reached", "curve"}
        assert all(set(s) == keys for s in document["studies"])
        assert document["studies"][0]["curve"][-1] == [25, document["studies"][0]["hypervolume"]]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("a", "nothing"), "unknown study"),
            (("a", "--reference", "cost"), "METRIC=VALUE"),
            (("a", "--plot", "curves.bmp"), "cannot plot"),
            ((), "Missing argument"),
        ],
    )
    def test_errors(self, run: Command, arguments: tuple[str, ...], message: str) -> None:
        done = run("compare", *arguments)
        assert done.code == 2
        assert message in " ".join(done.err.split())


class TestImportanceCommand:
    def test_per_objective_in_order(self, run: Command) -> None:
        done = run("show", "a", "--importance")
        assert done.code == 0, done.err
        assert "error (25 evaluations)" in done.out
        assert "depth × width" in done.out
        document = run("show", "a", "--importance", "--json").json
        assert set(document) == {"study", "importance", "pairs"}
        cost = {row["parameter"]: row["share"] for row in document["importance"] if row["objective"] == "cost"}
        assert set(cost) == {"depth", "width", "lr"}
        assert min(cost["depth"], cost["width"]) > cost["lr"]
        assert {tuple(sorted(row)) for row in document["pairs"]} == {("objective", "parameters", "share", "std")}

    def test_too_few_evaluations_and_a_key_are_refused(self, run: Command) -> None:
        ok = sum(e.status == "ok" for _, _, e in Store().told("b"))
        failed = run("show", "b", "--importance", "--json")
        assert failed.code == 2
        assert failed.json["error"]["code"] == "too_few_points"
        assert failed.json["error"]["message"].startswith(f"{ok} told evaluations")
        assert run("show", "abc", "--importance").code == 2
        assert run("show", "a", "--importance", "--curve", "x.png").code == 2
