"""How strategies, predictors, trainers and the store work together: stories that cross their borders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archfront.cluster._schedules import schedule_of
from archfront.cluster._train import train_key
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.search import linas
from archfront.search._proposer import Sampling
from archfront.search._types import Evaluation, Objective, SearchBudget, Value
from archfront.search.diffusion import Diffusion
from archfront.spaces._choices import Categorical
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Repeated
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.trainers._schedule import Schedule
from tests.cluster.command import Command, in_process

TOY = "archfront.spaces._toy:ToyImages"
CELLS = SearchSpace(Repeated(Categorical("op", ("a", "b", "c")), 5))
SMALL: dict[str, Any] = {"training_steps": 40, "steps": 8, "quantiser": "argmax", "guide": "ridge"}


@pytest.fixture
def archfront(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return in_process(monkeypatch, capsys)


def loss(config: Configuration) -> float:
    """The number of letters that are not a."""
    return float(sum(value != "a" for value in config.values()))


def evaluated(config: Configuration, key: str, proposal: str | None = None) -> Evaluation:
    return Evaluation(config, key, "ok", {"loss": Value(loss(config), "trained")}, proposal)


def run(strategy: Any, trials: int) -> list[tuple[str, float]]:
    """(origin, loss) of each proposal in turn."""
    found = []
    for _ in range(trials):
        (proposal,) = strategy.ask(1).proposals
        found.append((proposal.origin, loss(proposal.config)))
        strategy.tell([evaluated(proposal.config, proposal.key, proposal.id)])
    return found


class TestLinasAndDiffusion:
    def test_a_diffusion_as_the_inner_search_has_the_same_beginning_and_another_origin(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(linas, "Sampling", lambda guide: Sampling(**{**SMALL, "guide": guide}))
        given = {"budget": SearchBudget(20), "seed": 3, "population": 6, "predictor": "ridge"}
        aims = [Objective("loss", "min")]
        plain, drawn = (linas.Linas(CELLS, aims, inner=inner, **given) for inner in ("nsga2", "diffusion"))
        one, other = run(plain, 18), run(drawn, 18)
        assert one[:6] == other[:6]
        assert {origin for origin, _ in one[6:]} == {"inner-evolution"}
        assert {origin for origin, _ in other[6:]} <= {"diffusion-guided", "diffusion", "random"}
        assert "diffusion-guided" in {origin for origin, _ in other[6:]}

    def test_a_diffusion_that_knows_the_history_of_linas_begins_better_than_a_cold_one(self) -> None:
        aims = [Objective("loss", "min")]
        history = linas.Linas(CELLS, aims, budget=SearchBudget(30), seed=0, population=6, predictor="ridge")
        run(history, 24)
        given = {"seed": 1, "initial": 12, "batch_size": 4, "pool": 16, "predictor": "ridge", **SMALL}
        cold, warm = (Diffusion(CELLS, aims, **given) for _ in range(2))
        warm.tell([Evaluation(e.config, e.key, "ok", e.values) for e in history.told if loss(e.config) > 1])
        first, other = ([found for _, found in run(strategy, 4)] for strategy in (warm, cold))
        assert np.mean(first) < np.mean(other)


class TestSelfTuning:
    @pytest.fixture
    def tuned(self, store: Store) -> tuple[Study, str]:
        """A study of one run, and its key."""
        study = Study(
            "tuned", space=TOY, objectives=["error", "params_m"], strategy="self_tuning", epochs=4, store=store
        )
        study.run(trials=1)
        (row,) = store.evaluations(study="tuned").to_dict("records")
        return study, str(row["key"])

    def test_the_strategy_brings_its_trainer_and_leaves_a_schedule(
        self, store: Store, tuned: tuple[Study, str]
    ) -> None:
        study, key = tuned
        assert study.record.trainer == "self_tuning"
        schedule = schedule_of(store, key)
        assert schedule.names == ["dropout"]
        assert [row.epoch for row in schedule.rows] == [1, 2, 3, 4]
        assert all(0 < row.values["dropout"] < 0.5 and row.scales["dropout"] > 0 for row in schedule.rows)
        assert store.artefact(key, "weights") is not None

    def test_linas_around_it_searches_fewer_dimensions(self, store: Store) -> None:
        common: dict[str, Any] = {"space": TOY, "objectives": ["error", "params_m"], "store": store, "epochs": 1}
        studies = {
            trainer: Study(trainer, trainer=trainer, strategy="linas", parameters={"population": 3}, **common)
            for trainer in ("self_tuning", "backprop")
        }
        free = {}
        for name, study in studies.items():
            study.run(trials=5)
            space = SearchSpace.from_dict(study.record.searched)
            free[name] = {p.name for p in space if p.size > 1}
        assert "dropout" in free["backprop"]
        assert "dropout" not in free["self_tuning"]
        assert {"width", "depth"} <= free["self_tuning"]
        assert len(store.evaluations(study="self_tuning")) == 5

    def test_another_trainer_is_refused(self, store: Store) -> None:
        with pytest.raises(UsageError, match="presupposes trainer 'self_tuning', not 'backprop'"):
            Study("x", space=TOY, strategy="self_tuning", trainer="backprop", store=store).run(trials=1)

    def test_what_a_network_cannot_do_is_refused_before_anything_is_launched(self, store: Store) -> None:
        """An augmentation that reaches nothing, a network with norms that cannot start at criticality."""
        no_holes: dict[str, Any] = {"trainer.cutout_length": (2,), "trainer.cutout_holes": (0,)}
        with pytest.raises(UsageError, match=r"'self_tuning': trainer\.cutout_length reaches nothing"):
            Study("x", space=TOY, strategy="self_tuning", settings=no_holes, store=store).run(trials=1)
        critical: dict[str, Any] = {"trainer.init": ("critical",)}
        with pytest.raises(UsageError, match=r"'backprop': trainer\.init=critical: layer 'blocks\.0\.norm'"):
            Study("x", space=TOY, strategy="random", settings=critical, store=store).run(trials=1)
        assert store.studies() == []

    def test_its_schedule_is_followed_by_the_plain_trainer(
        self, store: Store, tuned: tuple[Study, str], tmp_path: Path
    ) -> None:
        """Also on another architecture, and from a file; a schedule is part of what makes results comparable."""
        _, key = tuned
        replayed = train_key(store, key, schedule=key, seeds=1, epochs=4)
        record = store.study(replayed.studies[0])
        assert record.trainer == "backprop"
        assert Schedule.from_json(record.options["schedule"]) == schedule_of(store, key)
        plain = Study("plain", space=TOY, objectives=["error", "params_m"], strategy="random", epochs=4, store=store)
        plain.run(trials=2)
        file = tmp_path / "schedule.csv"
        file.write_text(schedule_of(store, key).to_csv())
        other = str(store.evaluations(study="plain")["key"][1])
        on_another = train_key(store, other, schedule=str(file), seeds=1, epochs=4)
        alone = train_key(store, other, seeds=1, epochs=4)
        protocols = {store.study(trained.studies[0]).protocol for trained in (replayed, on_another, alone)}
        assert store.study(on_another.studies[0]).protocol == record.protocol
        assert len(protocols) == 2

    def test_a_schedule_is_shown_plotted_and_written(self, archfront: Command) -> None:
        done = archfront("search", TOY, "--strategy", "self_tuning", "--trials", "1", "--epochs", "3", "--study", "s")
        assert done.code == 0, done.err
        keys = archfront("front", "--study", "s", "--json").json["points"]
        key = keys[0]["key"][:12]
        shown = archfront("show", key, "--schedule", "schedule.png")
        assert shown.code == 0, shown.err
        assert "dropout" in shown.out
        assert Path("schedule.png").stat().st_size > 1_000
        rows = archfront("show", key, "--schedule", "schedule.csv", "--json").json
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        assert Schedule.from_csv(Path("schedule.csv").read_text()).names == ["dropout"]
        assert archfront("train", key, "--schedule", "schedule.csv", "--seeds", "1", "--epochs", "2").code == 0
        refused = archfront("show", "s", "--schedule", "schedule.png")
        assert (refused.code, "a schedule is of a key" in refused.err) == (2, True)
        absent = archfront("train", key, "--schedule", "nothing.csv")
        assert (absent.code, "no schedule file" in absent.err) == (2, True)

    def test_a_key_without_a_schedule_says_so(self, store: Store) -> None:
        study = Study("plain", space=TOY, objectives=["error", "params_m"], strategy="random", epochs=1, store=store)
        study.run(trials=1)
        with pytest.raises(UsageError, match="no self-tuned training"):
            schedule_of(store, str(store.evaluations(study="plain")["key"][0]))


@pytest.mark.ray
def test_a_generator_is_trained_in_an_actor_of_the_cluster(
    ray_cluster: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never in the process of the study: nothing is trained here, the file is there afterwards."""
    from archfront.search import _generator

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("trained in the study's own process")

    monkeypatch.setattr(_generator, "train_score_network", refused)
    parameters = {"initial": 4, "batch_size": 3, "pool": 8, "predictor": "ridge", **SMALL, "training_steps": 41}
    parameters["guide"] = "noise_aware"
    study = Study(
        "drawn",
        space=CELLS,
        objectives=["loss:min"],
        evaluate=f"{__name__}:evaluate",
        strategy="diffusion",
        parameters=parameters,
        store=store,
    )
    summary = study.run(trials=12, workers=2)
    assert (summary["told"], summary["failed"]) == (12, 0)
    origins = set(store.evaluations(study="drawn")["origin"])
    assert "diffusion-guided" in origins


def evaluate(config: Configuration) -> dict[str, float]:
    """For studies."""
    return {"loss": loss(config)}
