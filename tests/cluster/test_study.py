"""Studies in this process: what is told, stored, reused, refused and resumed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from archfront import search
from archfront.cluster.front import Front
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces import Real, SearchSpace
from archfront.spaces._errors import ArchfrontError, ExistsError, UnknownNameError, UsageError
from archfront.spaces._toy import ToyImages
from tests.cluster import toys
from tests.cluster.studies import own

TOY = "archfront.spaces._toy:ToyImages"


def toy(store: Store, name: str = "toy", **options: Any) -> Study:
    given = {"space": TOY, "objectives": ["error", "params_m"], "epochs": 2, **options}
    return Study(name, store=store, **given)


def keys(store: Store, name: str) -> list[str]:
    return [record.proposal.key for record in store.proposals(name)]


class TestOwnFunction:
    def test_a_function_is_minimised(self, store: Store) -> None:
        study = Study("mine", space=SearchSpace(Real("x", 0, 1)), objectives=["loss:min"], store=store)
        summary = study.run(
            trials=50, evaluate=lambda config, *, seed, budget, report: {"loss": (config["x"] - 0.3) ** 2}
        )
        assert summary["told"] == summary["proposed"] == 50
        assert summary["status"] == "done"
        assert study.front()[0].config["x"] == pytest.approx(0.3, abs=0.05)

    def test_failures_are_recorded_and_the_study_goes_on(self, store: Store) -> None:
        summary = own(store, evaluate="tests.cluster.toys:evaluate", strategy="random").run(trials=40)
        assert summary["told"] == 40
        told = [e for _, _, e in store.told("own")]
        errors = {e.config["depth"]: e for e in told if e.status == "failed"}
        assert set(errors) == {3, 4, 5}
        assert "depth 3 does not work" in errors[3].error
        assert "toys.py" in errors[3].error
        assert "'error' is nan" in errors[4].error
        assert "'error' was not returned" in errors[5].error
        assert summary["failed"] == sum(e.status == "failed" for e in told)
        assert all(member.config["depth"] not in (3, 4, 5) for member in own_front(store))

    def test_learning_curves_are_stored(self, store: Store) -> None:
        own(store, evaluate="tests.cluster.toys:evaluate").run(trials=3)
        proposal = store.proposals("own")[0].proposal
        assert [r.step for r in store.reports(proposal.id)] == [1, 2]

    def test_private_facts_stay_private(self, store: Store) -> None:
        own(store, "one").run(trials=5)
        assert own(store, "two").run(trials=5)["reused"] == 0

    @pytest.mark.parametrize("name", ["objectives", "constraints", "devices"])
    def test_a_string_in_place_of_a_list_is_refused(self, store: Store, name: str) -> None:
        with pytest.raises(UsageError, match=rf"give a list: {name}=\['error', 'params_m'\]"):
            toy(store, **{name: "error,params_m"}).run(trials=1)

    def test_a_function_for_a_model_space_is_refused(self, store: Store) -> None:
        with pytest.raises(UsageError, match="not by a function"):
            toy(store, evaluate="tests.cluster.toys:two").run(trials=1)
        toy(store).run(trials=1)
        with pytest.raises(UsageError, match="not by a function"):
            Study.open("toy", store=store).run(trials=2, evaluate=toys.two)

    def test_a_function_without_objectives_or_a_function_is_refused(self, store: Store) -> None:
        with pytest.raises(UsageError, match="objectives"):
            own(store, objectives=[]).run(trials=2)
        with pytest.raises(UsageError, match="evaluate"):
            own(store, evaluate=None).run(trials=2)
        with pytest.raises(UsageError, match="no direction"):
            own(store, objectives=["speed"]).run(trials=2)
        assert store.studies() == []


def own_front(store: Store) -> list[Any]:
    from archfront.cluster.front import Front

    front = Front(store.front(study="own"), store)
    return [front[i] for i in range(len(front))]


class TestModelSpace:
    def test_values_of_every_kind(self, store: Store) -> None:
        study = toy(store)
        study.run(trials=6)
        told = [e for _, _, e in store.told("toy")]
        assert {v.kind for e in told for v in e.values.values()} == {"trained", "analytic"}
        assert all("test_error" not in e.values for e in told), "test metrics are never told"
        front = study.front()
        assert all("test_error" in front[i].metrics for i in range(len(front)))
        assert store.proposals("toy")[0].proposal.origin == "default"

    def test_the_papers_own_setting_is_that_of_the_fronts_protocol(self, store: Store) -> None:
        told = {}
        for epochs in (1, 3, 2):
            study = toy(store, f"{epochs} epochs", epochs=epochs)
            study.run(trials=2)
            told[epochs] = store.told(study.name)[0][2]
        assert len({evaluation.values["error"].value for evaluation in told.values()}) > 1
        for epochs, evaluation in told.items():
            record = store.study(f"{epochs} epochs")
            facts = store.front(space=record.identity, protocol=record.protocol)
            assert facts.study == ""
            for front in (facts, store.front(study=record.name)):
                default = Front(front, store).default
                assert default is not None
                assert default.config == evaluation.config
                assert default.values == {name: evaluation.values[name].value for name in ("error", "params_m")}

    def test_only_the_front_keeps_its_weights(self, store: Store) -> None:
        study = toy(store)
        study.run(trials=8)
        on_front = {point.key for point in store.front(study="toy", device="*").points}
        kept = {key for key in keys(store, "toy") if store.artefact(key, "weights") is not None}
        assert kept == on_front
        net = study.front()[0].load()
        assert not net.training
        trials = Path(store.files_url) / "trials"
        assert not trials.exists() or not list(trials.iterdir())

    @pytest.mark.parametrize(("keep", "share"), [("all", 1.0), ("none", 0.0)])
    def test_keep(self, store: Store, keep: str, share: float) -> None:
        toy(store, keep=keep).run(trials=4)
        assert sum(store.artefact(k, "weights") is not None for k in keys(store, "toy")) == 4 * share

    def test_facts_are_reused_at_no_cost(self, store: Store) -> None:
        toy(store, "one").run(trials=6)
        again = toy(store, "two").run(trials=6)
        assert again["reused"] == 6
        assert keys(store, "one") == keys(store, "two")
        values = [[e.values["error"].value for _, _, e in store.told(name)] for name in ("one", "two")]
        assert values[0] == values[1]
        assert toy(store, "three", fresh=True).run(trials=3)["reused"] == 0
        assert toy(store, "four", epochs=3).run(trials=3)["reused"] == 0, "another protocol"
        assert toy(store, "five", train_seed=1).run(trials=3)["reused"] == 0, "another train seed"

    def test_settings_fix_and_narrow(self, store: Store) -> None:
        toy(store, settings={"width": (4,), "depth": (1, 2), "trainer.lr": (0.02,)}).run(trials=6)
        configs = [r.proposal.config for r in store.proposals("toy")]
        assert {c["width"] for c in configs} == {4}
        assert {c["depth"] for c in configs} <= {1, 2}
        assert {c["trainer.lr"] for c in configs} == {0.02}

    def test_the_users_configurations_come_after_the_default(self, store: Store) -> None:
        toy(store, start=[{"width": 6}, {"depth": 1}], strategy="random").run(trials=4)
        first = [(r.proposal.origin, r.proposal.config) for r in store.proposals("toy")][:3]
        assert [origin for origin, _ in first] == ["default", "user", "user"]
        assert (first[1][1]["width"], first[2][1]["depth"]) == (6, 1)
        toy(store, "bare", default=False).run(trials=2)
        assert store.proposals("bare")[0].proposal.origin == "random"

    def test_constraints_bound_the_front(self, store: Store) -> None:
        study = toy(store, constraints=["params_m<=0.0001"])
        study.run(trials=10)
        assert all(point.values["params_m"].value <= 1e-4 for point in store.front(study="toy").points)

    def test_a_long_training_reports_a_hundred_times(self, store: Store) -> None:
        toy(store, epochs=205, settings={"width": (2,), "depth": (1,)}).run(trials=1)
        steps = [r.step for r in store.reports(store.proposals("toy")[0].proposal.id)]
        assert steps == [*range(2, 205, 2), 205]

    def test_data_fraction_is_another_protocol(self, store: Store) -> None:
        toy(store, "one").run(trials=2)
        assert toy(store, "two", data_fraction=0.5).run(trials=2)["reused"] == 0


class TestSupernet:
    def test_slices_are_scored_on_a_part_of_the_validation_rows(self, store: Store) -> None:
        given = {"supernet": "train", "epochs": 2, "settings": {"dropout": (0.0,)}}
        toy(store, "whole", **given).run(trials=4)
        again = toy(store, "part", **given, validation_fraction=0.25)
        assert again.run(trials=4)["reused"] == 0
        rows = 0.25 * len(again._own_space().task().split("val"))  # type: ignore[union-attr]
        errors = [e.values["error"].value * rows for _, _, e in store.told("part")]
        assert errors == pytest.approx([round(error) for error in errors])
        with pytest.raises(UsageError, match="--validation-fraction is of slices"):
            toy(store, "none", validation_fraction=0.5).run(trials=1)
        with pytest.raises(UsageError, match=r"validation_fraction=1.5 must lie in \(0, 1\]"):
            toy(store, "none", supernet="train", validation_fraction=1.5).run(trials=1)

    def test_a_trained_bank_serves_every_configuration(self, store: Store) -> None:
        study = toy(store, supernet="train", epochs=3, settings={"dropout": (0.0,)})
        study.run(trials=6)
        told = [e for _, _, e in store.told("toy")]
        assert {e.values["error"].kind for e in told} == {"sliced"}
        assert all(set(c["proposal"]) <= {"width", "depth", "dropout"} for c in _configs(store))
        assert study.front()[0].load() is not None
        again = toy(store, "again", supernet="train", epochs=3, settings={"dropout": (0.0,)})
        assert again.run(trials=6)["reused"] == 6

    def test_a_bank_in_a_remote_file_store(self, tmp_path: Path) -> None:
        """fsspec's memory stands for s3://: workers read the bank by its URL."""
        with Store(f"sqlite:///{tmp_path}/remote.db", files=f"memory://{tmp_path.name}") as store:
            study = toy(store, supernet="train", epochs=2)
            assert (study.run(trials=3)["failed"], study.summary()["told"]) == (0, 3)
            assert study.front()[0].load() is not None

    def test_a_bank_file(self, store: Store, tmp_path: Path) -> None:
        from archfront.spaces import Supernet
        from archfront.trainers import save_bank

        save_bank(Supernet(ToyImages.bind()), tmp_path / "bank.pt")
        assert toy(store, supernet=str(tmp_path / "bank.pt")).run(trials=3)["told"] == 3
        (tmp_path / "bad.pt").write_bytes(b"nonsense")
        with pytest.raises(ArchfrontError, match="not a supernet file"):
            toy(store, "bad", supernet=str(tmp_path / "bad.pt")).run(trials=3)


def _configs(store: Store) -> list[dict[str, Any]]:
    return [{"proposal": r.proposal.config} for r in store.proposals("toy")]


class TestRefusedBeforeLaunch:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"strategy": "nsga"}, UnknownNameError, "did you mean 'nsga2'"),
            ({"space": "pflayr"}, UnknownNameError, "did you mean 'pflayer'"),
            ({"objectives": ["eror:min", "params_m"]}, UnknownNameError, "did you mean 'error'"),
            ({"objectives": ["error", "latency_ms@cpuu"]}, UnknownNameError, "did you mean 'cpu'"),
            ({"objectives": ["error"], "devices": ["cpu"]}, UsageError, "no objective is measured"),
            ({"objectives": ["error@cpu", "params_m"]}, UsageError, "does not depend on a device"),
            ({"objectives": ["error", "energy_mj@cpu"]}, UsageError, "not energy_mj"),
            ({"objectives": ["error", "nll", "params_m", "macs_m", "memory_mb"]}, UsageError, "more than 4"),
            ({"task": "strips"}, UnknownNameError, "did you mean 'stripes'"),
            ({"trainer": "backprp"}, UnknownNameError, "did you mean 'backprop'"),
            ({"settings": {"widht": (4,)}}, UnknownNameError, "did you mean 'width'"),
            ({"settings": {"width": (5,)}}, UsageError, "5 is not one of 2, 4, 6"),
            ({"settings": {"trainer.rl": (0.1,)}}, UnknownNameError, "did you mean 'trainer.lr'"),
            ({"strategy": "nsga2", "parameters": {"popluation": 5}}, UnknownNameError, "did you mean 'population'"),
            ({"strategy": "nsga2", "parameters": {"population": 1}}, UsageError, "population=1"),
            ({"strategy": "tests.cluster.toys:NoReals"}, UsageError, "1 objective"),
            ({"strategy": "tests.cluster.toys:NoReals", "objectives": ["error"]}, UsageError, "real parameter"),
            ({"strategy": "tests.cluster.nowhere:X"}, UnknownNameError, "no module named"),
            ({"strategy": "tests.cluster.toys:Gredy"}, UnknownNameError, "did you mean 'Greedy'"),
            ({"strategy": "tests.cluster.toys:SPACE"}, UsageError, "must be a subclass of Strategy"),
            ({"constraints": ["latency_ms@cpu=5"]}, UsageError, "is not METRIC"),
            ({"constraints": ["latncy_ms<=5"]}, UnknownNameError, "unknown constraint.*did you mean 'latency_ms'"),
            ({"constraints": ["test_error<=0.5"]}, UnknownNameError, "unknown constraint"),
            ({"constraints": ["params_m@cpu<=5"]}, UsageError, "does not depend on a device"),
            ({"constraints": ["energy_mj<=5"]}, UsageError, "not energy_mj"),
            (
                {"constraints": ["latency_ms<=5"], "objectives": ["error", "latency_ms"], "devices": ["cpu", "cuda"]},
                UsageError,
                "on which device.*known: cpu, cuda",
            ),
            ({"start": [{"width": 7}]}, ArchfrontError, "--start"),
            ({"scheduler": "asha"}, UsageError, "--workers 2"),
            ({"keep": "some"}, UnknownNameError, "unknown keep 'some'"),
            ({"data": "/no/such/file.npz"}, UsageError, "no file or folder"),
            ({"epochs": 0}, UsageError, "epochs=0"),
        ],
        ids=lambda value: str(next(iter(value.items())))[:50] if isinstance(value, dict) else "",
    )
    def test_says_what_and_the_way_out(
        self, store: Store, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            toy(store, **options).run(trials=4)
        assert store.studies() == [], "the name is still free"

    @pytest.mark.parametrize("devices", [[], ["cpu"]])
    def test_a_bound_alone_has_its_metric_measured(self, store: Store, devices: list[str]) -> None:
        study = toy(store, constraints=["latency_ms<=1000"], devices=devices)
        assert study.run(trials=2)["front_size"] >= 1
        assert [str(c) for c in study.record.constraints] == ["latency_ms@cpu<=1000"]
        assert all("latency_ms@cpu" in e.values for _, _, e in store.told("toy"))

    def test_a_search_needs_an_end(self, store: Store) -> None:
        with pytest.raises(UsageError, match="--trials N or --minutes M"):
            toy(store).run()

    def test_two_studies_of_one_name(self, store: Store) -> None:
        own(store).run(trials=3)
        with pytest.raises(ExistsError, match=r"archfront resume own.*another --study name"):
            own(store).run(trials=3)

    def test_an_unknown_study(self, store: Store) -> None:
        own(store).run(trials=3)
        with pytest.raises(UnknownNameError, match="did you mean 'own'"):
            Study.open("onw", store=store)

    def test_an_unknown_option(self, store: Store) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'epochs'"):
            toy(store, epoch=3)


class TestResume:
    @pytest.mark.parametrize("strategy", search.names())
    @pytest.mark.parametrize("told", [1, 5, 11])
    def test_same_keys_after_an_interruption(self, store: Store, strategy: str, told: int) -> None:
        own(store, "straight", strategy=strategy).run(trials=16)

        def interrupt(progress: Any) -> None:
            if progress.told == told:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            own(store, "broken", strategy=strategy).run(trials=16, watch=interrupt)
        assert store.study("broken").status == "interrupted"
        summary = Study.open("broken", store=store).run()
        assert summary["told"] == 16
        assert keys(store, "broken") == keys(store, "straight")

    def test_a_finished_study_is_left_as_it_is(self, store: Store) -> None:
        own(store).run(trials=4)
        summary = Study.open("own", store=store).run()
        assert summary["told"] == 4
        assert store.study("own").run_epoch == 1

    def test_an_interrupted_training_continues_from_its_checkpoint(self, store: Store) -> None:
        study = toy(store, epochs=6)
        seen: list[int] = []
        add = store.add_reports

        def reports(rows: Any) -> None:
            add(rows)
            seen.extend(r.step for r in rows)
            if seen == [1, 2, 3]:
                raise KeyboardInterrupt

        store.add_reports = reports  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            study.run(trials=1)
        Study.open("toy", store=store).run()
        assert seen == [1, 2, 3, 4, 5, 6], "epochs before the checkpoint are not trained again"
        straight = toy(store, "straight", epochs=6, fresh=True)
        straight.run(trials=1)
        values = [store.told(n)[0][2].values["nll"].value for n in ("toy", "straight")]
        assert values[0] == values[1], "resumed training is bit-exact"

    def test_a_function_from_a_script_is_asked_for(self, store: Store) -> None:
        study = own(store, evaluate=toys.two)
        with pytest.raises(KeyboardInterrupt):
            study.run(trials=5, watch=_interrupt)
        with pytest.raises(UsageError, match="evaluate"):
            Study.open("own", store=store).run()
        assert Study.open("own", store=store).run(evaluate=toys.two)["told"] == 5
        again = Study.open("own", store=store).run(trials=7, evaluate="tests.cluster.toys:two")
        assert (again["told"], again["failed"]) == (7, 0)

    def test_a_larger_total_goes_on(self, store: Store) -> None:
        own(store).run(trials=5)
        study = Study.open("own", store=store)
        assert study.run(trials=9)["told"] == 9
        assert study.record.parameters["population"] == 4, "resolved once, when the study was created"
        with pytest.raises(UsageError, match="9 trials in all"):
            study.run(trials=3)


def _interrupt(_: Any) -> None:
    raise KeyboardInterrupt


def test_a_front_prints_short(store: Store) -> None:
    toy(store).run(trials=4)
    front = Study.open("toy", store=store).front()
    lines = repr(front).splitlines()
    assert lines[0] == f"<front of {TOY} / stripes: {len(front)} points>"
    assert [line.split()[0] for line in lines[1:]] == [f"<{member.key[:12]}:" for member in front]
    assert all("error=0" in line and "params_m=" in line and len(line) < 100 for line in lines[1:])


class TestTell:
    def test_foreign_results_join_the_study(self, store: Store) -> None:
        study = own(store)
        study.tell({"depth": 8, "width": 64, "lr": 1.0}, {"error": 0.0, "cost": 1.0})
        assert study.summary()["told"] == 1
        assert store.proposals("own")[0].proposal.origin == "foreign"
        with pytest.raises(UsageError, match="already"):
            study.tell({"depth": 8, "width": 64, "lr": 1.0}, {"error": 0.0, "cost": 1.0})
        with pytest.raises(ArchfrontError, match="depth"):
            study.tell({"depth": 99, "width": 64, "lr": 1.0}, {"error": 0.0, "cost": 1.0})

    def test_a_study_may_begin_with_them(self, store: Store) -> None:
        study = own(store)
        for depth in (7, 8):
            study.tell({"depth": depth, "width": 64, "lr": 1.0}, {"error": 0.0, "cost": 1.0})
        assert study.run(trials=6)["told"] == 6

    def test_a_function_may_come_later(self, store: Store) -> None:
        study = own(store, evaluate=None)
        study.tell({"depth": 7, "width": 64, "lr": 1.0}, {"error": 0.0, "cost": 1.0})
        with pytest.raises(UsageError, match="evaluate"):
            study.run(trials=3)
        assert Study.open("own", store=store).run(trials=3, evaluate=toys.two)["told"] == 3

    def test_a_model_space_takes_them(self, store: Store) -> None:
        study, default = toy(store), ToyImages.search_space.default
        study.tell({**default, "width": 2}, {"error": 0.25, "params_m": 1e-6})
        assert study.front()[0].metrics["error"] == 0.25
        assert study.run(trials=3)["told"] == 3
        assert store.told("toy")[0][2].values["params_m"].value == 1e-6, "as it was told"

    def test_a_result_without_an_objective_is_a_failure_that_says_so(self, store: Store) -> None:
        study = own(store)
        study.tell({"depth": 8, "width": 64, "lr": 1.0}, {"eror": 0.0, "cost": 1.0})
        (_, _, evaluation), *_ = store.told("own")
        assert evaluation.status == "failed"
        assert "'error' was not returned" in evaluation.error

    def test_a_running_study_takes_them_too(self, store: Store) -> None:
        study = own(store)
        with pytest.raises(KeyboardInterrupt):
            study.run(trials=6, watch=_interrupt)
        study.tell({"depth": 8, "width": 64, "lr": 0.5}, {"error": 0.0, "cost": 1.0})
        assert study.run()["told"] == 6
        assert study.front().best("error").metrics["error"] == 0.0


class TestBudget:
    def test_time_ends_a_search(self, store: Store) -> None:
        summary = own(store, evaluate="tests.cluster.toys:slow").run(minutes=0.02)
        assert 1 <= summary["told"] < 20
        assert summary["status"] == "done"

    def test_a_small_space_is_exhausted(self, store: Store) -> None:
        study = own(store, space=toys.CHOICES, objectives=["loss:min"], evaluate=None)
        summary = study.run(trials=50, evaluate=lambda config: {"loss": float(config["a"] == "x")})
        assert summary["told"] == 9
        assert summary["status"] == "done"

    def test_a_strategy_that_only_waits_is_an_error(self, store: Store) -> None:
        with pytest.raises(ArchfrontError, match="waits although nothing is running"):
            own(store, strategy=_Waits, default=False).run(trials=3)
        assert store.study("own").status == "failed"


class _Waits(search.Strategy):
    def propose(self, n: int) -> list[Any]:
        return []


def test_summary_numbers_are_finite(store: Store) -> None:
    summary = own(store).run(trials=25)
    assert math.isfinite(summary["hypervolume"])
    assert summary["front_size"] == len(store.front(study="own", device="*"))
