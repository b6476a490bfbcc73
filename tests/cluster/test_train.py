"""`train`: supernets into files, configurations in full over several seeds."""

from __future__ import annotations

import hashlib
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from archfront.cluster._train import train_bank, train_key
from archfront.cluster.export import export, load_network
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces._errors import ArchfrontError, ExportError, UnknownNameError, UsageError
from archfront.spaces._toy import ToyImages
from archfront.trainers._slice import bank_hash, calibrated_subnet, load_bank
from archfront.trainers._types import Budget
from archfront.trainers._union import searched_space
from archfront.trainers.backprop import Backprop
from tests.cluster.command import Command, in_process

TOY = "archfront.spaces._toy:ToyImages"
OPTIONS: dict[str, Any] = {"space": TOY, "objectives": ["error", "params_m"], "strategy": "random"}


@pytest.fixture
def archfront(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return in_process(monkeypatch, capsys)


class TestBank:
    options: dict[str, Any] = {"space": TOY, "epochs": 4, "settings": {"trainer.random_subnets": (1,)}}

    def test_it_is_the_one_a_search_trains(self, store: Store, tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        done = train_bank(store, self.options, tmp_path / "bank.pt", lambda report, of: seen.append((report.step, of)))
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert not done.reused
        assert done.hash == bank_hash(load_bank(ToyImages.bind(), done.path))
        assert done.largest["error"] <= done.smallest["error"] + 0.2
        study = Study("sliced", store=store, **{**OPTIONS, **self.options, "supernet": "train"})
        heard: list[int] = []
        study.run(trials=3, watch_supernet=lambda report, of: heard.append(report.step))
        assert heard == []  # it was there
        again = train_bank(store, self.options, tmp_path / "again.pt", lambda report, of: seen.append((0, 0)))
        assert (again.reused, again.hash) == (True, done.hash)
        assert len(seen) == 4

    def test_another_recipe_is_another_bank(self, store: Store, tmp_path: Path) -> None:
        first = train_bank(store, self.options, tmp_path / "one.pt", lambda report, of: None)
        changed = {**self.options, "settings": {"trainer.rule": ("progressive",)}}
        assert train_bank(store, changed, tmp_path / "two.pt", lambda report, of: None).hash != first.hash

    def test_what_was_interrupted_continues(self, store: Store, tmp_path: Path) -> None:
        def stopped(report: Any, of: int) -> None:
            if report.step == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_bank(store, self.options, tmp_path / "bank.pt", stopped)
        assert not (tmp_path / "bank.pt").exists()
        seen: list[int] = []
        done = train_bank(store, self.options, tmp_path / "bank.pt", lambda report, of: seen.append(report.step))
        assert seen == [3, 4]
        with Store(f"sqlite:///{tmp_path}/straight.db") as other:
            straight = train_bank(other, self.options, tmp_path / "straight.pt", lambda report, of: None)
        assert straight.hash == done.hash

    def test_a_folder_that_is_not_there_is_said_before_training(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no folder"):
            train_bank(store, self.options, tmp_path / "no" / "bank.pt", lambda report, of: pytest.fail("trained"))

    def test_the_command(self, archfront: Command) -> None:
        arguments = ("train", TOY, "--supernet", "-o", "bank.pt", "--epochs", "2")
        done = archfront(*arguments)
        assert done.code == 0, done.err
        assert "trained for 2 epochs" in done.out
        assert "smallest sub-network" in done.out
        assert f"archfront search {TOY} --supernet bank.pt" in done.out
        assert archfront(*arguments, "--json").json["reused"] is True
        found = archfront("search", TOY, "--supernet", "bank.pt", "--trials", "2", "--workers", "0", "--json")
        assert found.json["told"] == 2
        assert archfront("train", TOY, "--supernet").code == 2
        assert "-o FILE" in archfront("train", TOY, "--supernet").err
        refused = archfront("train", "abc", "-o", "x.pt")
        assert (refused.code, "needs --supernet" in refused.err) == (2, True)


class TestKey:
    @pytest.fixture
    def sliced(self, store: Store) -> str:
        Study("sliced", store=store, **OPTIONS, supernet="train", epochs=2).run(trials=4)
        return store.front(study="sliced").points[0].key

    def test_a_slice_in_full(self, store: Store, sliced: str, tmp_path: Path) -> None:
        heard: list[tuple[int, int, int]] = []
        done = train_key(store, sliced[:12], epochs=3, watch=lambda *news: heard.append(news))
        assert (done.epochs, done.seeds, done.source) == (3, (0, 1, 2), sliced)
        assert {(seed, epoch) for seed, epoch, _ in heard} >= {(s, e) for s in range(3) for e in range(1, 4)}
        assert {"error", "test_error"} <= set(done.metrics)
        config = store.proposal_of("sliced", sliced).proposal.config
        space = ToyImages.bind()
        union = searched_space(space, Backprop).canonicalise({**searched_space(space, Backprop).default, **config})
        errors = []
        for seed in done.seeds:
            trainer = Backprop(space, union, budget=Budget(3), seed=seed)
            *_, last = trainer.run()
            errors.append(last.metrics["error"])
        assert done.metrics["error"] == pytest.approx((statistics.fmean(errors), statistics.stdev(errors)))
        assert done.best == errors.index(min(errors))
        kept = load_network(store, done.key).state_dict()
        trainer = Backprop(space, union, budget=Budget(3), seed=done.best)
        list(trainer.run())
        assert all(torch.allclose(kept[name], tensor) for name, tensor in trainer.export().state_dict().items())
        assert export(store, done.key, tmp_path / "net.pt").path.exists()

    def test_what_is_done_is_not_done_again(self, store: Store, sliced: str) -> None:
        first = train_key(store, sliced, epochs=2, seeds=2)
        number = len(store.studies())
        again = train_key(store, sliced, epochs=2, seeds=3)
        assert again.studies[:2] == first.studies
        assert len(store.studies()) == number + 1

    def test_facts_of_its_protocol(self, store: Store, sliced: str) -> None:
        """A search with the same recipe and epochs takes them."""
        done = train_key(store, sliced, epochs=2, seeds=1)
        config = store.proposal_of(done.studies[0], done.key).proposal.config
        later = Study("later", store=store, **OPTIONS, epochs=2, start=[config], default=False)
        assert later.run(trials=1)["reused"] == 1

    def test_from_the_supernet(self, store: Store, sliced: str) -> None:
        scratch = train_key(store, sliced, epochs=1, seeds=1)
        tuned = train_key(store, sliced, epochs=1, seeds=1, from_supernet=True)
        assert tuned.key == scratch.key
        assert tuned.studies != scratch.studies
        record = store.study(tuned.studies[0])
        assert record.protocol != store.study(scratch.studies[0]).protocol
        digest, path = record.options["start_weights"]
        space = ToyImages.bind()
        bank = load_bank(space, path)
        assert digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()
        config = store.proposal_of("sliced", sliced).proposal.config
        whole = store.proposal_of(tuned.studies[0], tuned.key).proposal.config
        trainer = Backprop(space, whole, budget=Budget(1))
        trainer.start_from(calibrated_subnet(bank, config))
        (report,) = trainer.run()
        assert tuned.metrics["error"][0] == pytest.approx(report.metrics["error"])

    def test_of_a_training_study_with_its_own_settings(self, store: Store) -> None:
        study = Study("trained", store=store, **OPTIONS, epochs=2, keep="none", settings={"trainer.batch_size": (8,)})
        study.run(trials=3)
        key = store.proposals("trained")[1].proposal.key
        with pytest.raises(ExportError, match=f"archfront train {key[:12]}"):
            load_network(store, key)
        done = train_key(store, key, seeds=1, epochs=2)
        assert done.key == key
        assert load_network(store, key) is not None
        told = {e.key: e for _, _, e in store.told("trained")}
        assert done.metrics["error"][0] == pytest.approx(told[key].values["error"].value)  # trained again, the same

    def test_bad_input(self, store: Store, sliced: str) -> None:
        with pytest.raises(UnknownNameError, match="no key begins"):
            train_key(store, "ffff00")
        with pytest.raises(UsageError, match="seeds=0"):
            train_key(store, sliced, seeds=0)
        Study("plain", store=store, **OPTIONS, epochs=1).run(trials=1)
        key = store.proposals("plain")[0].proposal.key
        with pytest.raises(UsageError, match="has a supernet"):
            train_key(store, key, from_supernet=True)

    def test_a_training_that_fails_says_why(self, store: Store, sliced: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ToyImages, "build", lambda self, config: 1 / 0)
        with pytest.raises(ArchfrontError, match="seed 0 failed: ZeroDivisionError") as error:
            train_key(store, sliced, seeds=1)
        assert "studies rm train-" in error.value.hint

    def test_the_command(self, archfront: Command) -> None:
        how = ("--supernet", "train", "--epochs", "1", "--trials", "2", "--workers", "0")
        archfront("search", TOY, "--objective", "error,params_m", *how)
        key = archfront("front", TOY, "--json").json["points"][0]["key"]
        done = archfront("train", key[:12], "--epochs", "1", "--seeds", "2")
        assert done.code == 0, done.err
        assert "±" in done.out
        assert "test_error" in done.out
        shown = archfront("train", key[:12], "--epochs", "1", "--seeds", "2", "--json").json
        assert shown["metrics"]["error"].keys() == {"mean", "std"}
        exported = archfront("export", shown["key"], "-o", "net.pt")
        assert exported.code == 0, exported.err
        assert archfront("train", key, "--supernet", "--from-supernet", "-o", "x.pt").code == 2
        assert "no key begins" in archfront("train", "0123").err
