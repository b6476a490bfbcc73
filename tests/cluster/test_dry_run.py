"""What a search is foretold to cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archfront.cluster import _dry_run
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces import Real, SearchSpace
from archfront.spaces._errors import ArchfrontError, DataError
from archfront.trainers.backprop import Backprop

TOY = "archfront.spaces._toy:ToyImages"
SPACE = SearchSpace(Real("x", 0, 1))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


def test_what_only_a_processs_first_trial_costs_is_not_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second to start with, then 20 epochs of at least 0.1 s, more on a busy machine."""
    train = Backprop._train_epoch
    spent: list[float] = []

    def slow(trainer: Backprop) -> float:
        started = time.perf_counter()
        time.sleep(0.1 if spent else 1.0)
        loss = train(trainer)
        spent.append(time.perf_counter() - started)
        return loss

    monkeypatch.setattr(Backprop, "_train_epoch", slow)
    facts = _dry_run.dry_run(store, {"space": TOY, "objectives": ["error", "params_m"], "epochs": 20, "trials": 30}, 2)
    assert len(spent) == 3
    assert 20 * min(spent[1:]) <= facts["seconds_per_trial"] < 20 * sum(spent) / len(spent), "the first one counts"
    assert facts["expected_minutes"] == pytest.approx(30 * facts["seconds_per_trial"] / 2 / 60, rel=0.01)


CALLS: list[float] = []


def cost(config: dict[str, Any]) -> dict[str, float]:
    CALLS.append(config["x"])
    time.sleep(0.2)
    return {"cost": 1.0}


def fails(config: dict[str, Any]) -> dict[str, float]:
    raise RuntimeError("no such file: prices.csv")


def own(function: str) -> dict[str, Any]:
    return {"space": SPACE, "evaluate": f"{__name__}:{function}", "objectives": ["cost:min"], "trials": 10}


def test_a_users_function_is_called_once(store: Store) -> None:
    CALLS.clear()
    facts = _dry_run.dry_run(store, own("cost"), 1)
    assert len(CALLS) == 1
    assert 0.2 <= facts["seconds_per_trial"] < 1.0
    assert store.studies() == []


def test_a_default_that_fails_is_said_before_the_search(store: Store) -> None:
    with pytest.raises(ArchfrontError, match=r"the default configuration fails.*prices\.csv"):
        _dry_run.dry_run(store, own("fails"), 1)


def test_a_supernet_is_trained_once_and_sliced(store: Store, tmp_path: Path) -> None:
    options = {"space": TOY, "objectives": ["error", "params_m"], "supernet": "train", "epochs": 100, "trials": 10}
    facts = _dry_run.dry_run(store, options, 1)
    assert facts["seconds_of_supernet"] > 20 * facts["seconds_per_trial"] > 0
    total_s = facts["seconds_of_supernet"] + 10 * facts["seconds_per_trial"]
    assert facts["expected_minutes"] == pytest.approx(total_s / 60, rel=0.02)
    assert store.studies() == []
    with pytest.raises(DataError, match="no supernet file"):
        _dry_run.dry_run(store, {**options, "supernet": str(tmp_path / "none.pt")}, 1)
    (tmp_path / "some.pt").write_text("no bank")
    with pytest.raises(DataError, match="give one that archfront has written"):
        _dry_run.dry_run(store, {**options, "supernet": str(tmp_path / "some.pt")}, 1)


def test_a_supernet_that_is_there_costs_nothing(store: Store) -> None:
    options = {"space": TOY, "objectives": ["error", "params_m"], "supernet": "train", "epochs": 2}
    Study("sliced", store=store, **options).run(trials=2)
    assert _dry_run.dry_run(store, {**options, "trials": 10}, 1)["seconds_of_supernet"] == 0
