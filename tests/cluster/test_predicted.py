"""Fronts of a device on which little is measured: what is predicted is right about right, and always marked."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archfront.cluster._block_tables import block_latency, keep_table
from archfront.cluster._predicted import predicted_front
from archfront.cluster._remeasure import measure_studies
from archfront.cluster.store import DeviceSession, Store
from archfront.cluster.study import Study
from archfront.predictors.latency import LatencyTable
from archfront.spaces import Configuration, Integer, Ordinal, Real, SearchSpace
from archfront.spaces._blocks import Block, block_key
from archfront.spaces._errors import UsageError
from archfront.spaces._toy import ToyImages
from tests.cluster.command import Command, in_process

SPACE = "tests.cluster.test_predicted:ManyBlocks"
WIDTHS, MOST, TRIALS = (2, 3, 4, 5, 6, 7, 8, 9), 4, 30
MS = {"a": (1.0, 1.0), "b": (0.2, 1.6), "c": (3.0, 0.7), "new": (0.8, 1.3)}
"""By device: milliseconds of a stem, and how much more a wider block takes."""


class ManyBlocks(ToyImages):
    """Enough architectures to learn from."""

    registered_as = SPACE
    search_space = SearchSpace(
        Ordinal("width", WIDTHS, elastic=True),
        Integer("depth", 1, MOST, elastic=True),
        Real("dropout", 0.0, 0.5, default=0.1, bins=5, role="hyperparameter"),
    )

    def blocks(self, config: Configuration) -> Sequence[Block]:
        """The stem, and the blocks."""
        inner = [Block(f"blocks.{i}", block_key("block", width=config["width"])) for i in range(config["depth"])]
        return [Block("stem", block_key("stem", width=config["width"])), *inner]


def table(device: str) -> LatencyTable:
    stem, power = MS[device]
    blocks = {block_key("block", width=w): 0.1 * w**power for w in WIDTHS}
    return LatencyTable({**{block_key("stem", width=w): stem for w in WIDTHS}, **blocks})


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a study on device a, all of it known on b and c, ten architectures on the new device."""
    folder = tmp_path_factory.mktemp("predicted")
    with Store(f"sqlite:///{folder}/archfront.db") as store:
        for name in MS:
            table(name).write(folder / "table.csv")
            store.put_devices([keep_table(store, name, folder / "table.csv").record()])
        study = Study("s", space=SPACE, store=store, strategy="random", epochs=1, devices=["a"])
        study.run(trials=TRIALS)
        known = {d.name: d for d in store.devices()}
        assert len(known) == 4
        for name, sample in (("b", TRIALS), ("c", TRIALS), ("new", 6)):
            measure_studies(store, name, ["s"], study._stored_devices(), sample=sample)
    return folder


@pytest.fixture
def archfront(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], searched: Path) -> Command:
    monkeypatch.chdir(searched)
    return in_process(monkeypatch, capsys)


def test_a_planned_sample_is_measured_beside_the_front(searched: Path) -> None:
    with Store(f"sqlite:///{searched}/archfront.db") as store:
        every = store.known_points(study="s", device="new")
        measured = [point for point in every.points if "latency_ms@new" in point.values]
        members = {p.key for p in store.front(study="s", device="a").points}
        assert len(every.points) == TRIALS
        assert members <= {p.key for p in measured}
        keys = {p.architecture_key for p in measured} - {p.architecture_key for p in every.points if p.key in members}
        assert len(keys) <= 6
        assert len(measured) < TRIALS


def test_predicted_values_are_near_the_truth_and_marked(searched: Path) -> None:
    with Store(f"sqlite:///{searched}/archfront.db") as store:
        found = predicted_front(store, study="s", device="new")
        real = store.front(study="s", device="new")
        space, truth = ManyBlocks.bind(), table("new")
        assert set(found.others) == {"a", "b", "c"}
        assert found.unknown == 0
        assert found.result.hypervolume is None
        guessed = [p for p in found.result.points if p.kind == "predicted"]
        assert all(value.kind not in ("predicted", "proxy") for p in real.points for value in p.values.values())
        for point in found.result.points:
            own = {name: point.config[name] for name in space.search_space.names}
            value = point.values["latency_ms@new"]
            assert value.value == pytest.approx(block_latency(truth, space, own), rel=0.1)
            assert (point.kind == "predicted") == (value.kind == "predicted") == bool(point.guessed)
        every = [p.values["error"].value for p in store.known_points(study="s", device="new").points]
        assert min(p.values["error"].value for p in found.result.points) == min(every), "all of the study stands for it"
        assert found.learned + len(guessed) <= TRIALS


def test_what_cannot_run_there_is_not_predicted(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path / "copy")
    with Store(f"sqlite:///{tmp_path}/copy/archfront.db") as store:
        every = store.known_points(study="s", device="new")
        found = predicted_front(store, study="s", device="new")
        victim = next(p for p in found.result.points if p.kind == "predicted")
        device = next(d.identity for d in store.devices() if d.name == "new")
        place = (every.identity, every.signature, victim.architecture_key, device, "latency_ms")
        store.add_device_sessions([DeviceSession(*place, math.nan, "cannot", study="s")])
        after = predicted_front(store, study="s", device="new")
        assert victim.architecture_key not in {p.architecture_key for p in after.result.points}
        assert after.unknown == 0


def test_another_predictor_needs_no_other_device(searched: Path) -> None:
    with Store(f"sqlite:///{searched}/archfront.db") as store:
        found = predicted_front(store, study="s", device="new", predictor="gaussian_process")
        assert found.others == ()
        assert len(found.result.points) > 0


def test_everywhere_it_is_shown_it_says_so(archfront: Command) -> None:
    front = ("front", "--study", "s", "--device", "new", "--predicted")
    shown = archfront(*front, "--csv", "front.csv", "--plot", "front.png")
    assert shown.code == 0, shown.err
    document: Any = archfront(*front, "--json").json
    guessed = [point for point in document["points"] if point["kind"] == "predicted"]
    assert guessed
    assert all(point["std"]["latency_ms"] > 0 for point in guessed)
    assert all("std" not in point for point in document["points"] if point not in guessed)
    assert shown.out.count("~") == len(guessed) + 1
    assert f"{len(guessed)} of {len(document['points'])} points are predicted by few_shot" in shown.out
    with Path("front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] == "predicted" for row in rows] == [bool(row["latency_ms.std"]) for row in rows]
    assert Path("front.png").stat().st_size > 10_000
    space = archfront("front", SPACE, "--device", "new", "--predicted", "--where", "latency_ms<=1.5", "--json").json
    assert "error" not in space, space
    assert all(point["metrics"]["latency_ms"] <= 1.5 for point in space["points"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("front", "--study", "s", "--predicted"), "--predicted is for a device"),
        (("front", "--study", "s", "--device", "nwe", "--predicted"), "did you mean 'new'"),
        (
            ("front", "--study", "s", "--device", "new", "--predicted", "--predictor", "few_shto"),
            "did you mean 'few_shot'",
        ),
    ],
)
def test_what_cannot_be_is_refused(archfront: Command, arguments: tuple[str, ...], said: str) -> None:
    done = archfront(*arguments)
    assert done.code == 2
    assert said in done.err.replace("\n", " ")


def test_without_measurements_it_says_how_to_make_some(store: Store, tmp_path: Path) -> None:
    for name in MS:
        table(name).write(tmp_path / "table.csv")
        store.put_devices([keep_table(store, name, tmp_path / "table.csv").record()])
    study = Study("t", space=SPACE, store=store, strategy="random", epochs=1, devices=["a"])
    study.run(trials=4)
    with pytest.raises(UsageError, match="no other device"):
        predicted_front(store, study="t", device="new")
    with pytest.raises(UsageError, match=r"0 architectures are measured on new.*--sample 20"):
        predicted_front(store, study="t", device="new", predictor="gaussian_process")
    one = measure_studies(store, "new", ["t"], study._stored_devices(), sample=2)[0]
    assert one.measured == len(store.front(study="t", device="a")) + min(2, 4 - len(store.front(study="t", device="a")))
    assert np.isfinite([p.metrics["latency_ms"] for p in store.front(study="t", device="new").points]).all()
