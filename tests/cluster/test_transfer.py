"""A front's networks on another device, and what is lost by not searching for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from archfront.cluster._remeasure import measure_studies
from archfront.cluster._transfer import transferred
from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._toy import ToyImages
from tests.cluster.command import in_process
from tests.cluster.test_lookup import made

TOY = "archfront.spaces._toy:ToyImages"


@pytest.fixture
def tables(store: Store) -> Store:
    """On `pi` small is fast, on `gpu` large is: all of the one's front but the largest is of no use on the other."""
    Study("pi", space=made(), devices=["pi"], store=store, strategy="random").run(trials=27)
    Study("gpu", space=made(), devices=["gpu"], store=store, strategy="random").run(trials=27)
    return store


def test_the_loss_is_the_share_of_the_other_devices_hypervolume(tables: Store) -> None:
    moved = transferred(tables, "pi", "gpu")
    assert (moved.source, moved.missing) == ("pi", ())
    own = tables.front(study="gpu", device="gpu")
    assert len(own.points) == 1  # the largest is the best in both
    assert len(moved.dominated) == len(moved.result.points) - 1
    assert moved.loss == pytest.approx(0.0)  # the largest was on the first front too
    back = transferred(tables, "gpu", "pi")
    assert [point.key for point in back.result.points] == [point.key for point in own.points]
    assert back.loss is not None
    assert 0.3 < back.loss <= 1
    assert back.volume == pytest.approx((1 - back.loss) * (back.best or 0))


def test_what_has_no_value_there_is_listed_until_it_is_measured(store: Store) -> None:
    study = Study("s", space=TOY, store=store, strategy="random", epochs=1, devices=["cpu"])
    study.run(trials=3)
    from archfront.cluster._device import cpu

    later = cpu(name="later", batch=4)
    store.put_devices([later.record()])
    front = {point.key for point in store.front(study="s").points}
    before = transferred(store, "s", "later")
    assert set(before.missing) == front
    assert before.loss is None
    measure_studies(store, later, ["s"])
    after = transferred(store, "s", "later")
    assert (after.missing, after.loss) == ((), pytest.approx(0.0))  # nothing else is known there
    assert {point.key for point in after.result.points} == front
    assert ToyImages.registered_as == TOY


def test_another_study_may_know_the_device(store: Store) -> None:
    """Its own network and error there included."""
    from archfront.cluster._device import Device, cpu

    int8 = Device("int8", "cpu", cpu().hardware, precision="int8", runtime="onnxruntime")
    store.put_devices([int8.record()])
    options = {"space": TOY, "store": store, "strategy": "random", "epochs": 1}
    Study("one", devices=["cpu"], **options).run(trials=3)
    assert transferred(store, "one", "int8").missing
    Study("other", devices=["int8"], start_from="one", **options).run(trials=4)
    moved = transferred(store, "one", "int8")
    assert moved.missing == ()
    assert moved.loss is not None
    assert {o.name for o in moved.result.objectives} == {"error@int8", "latency_ms@int8"}


def test_bad_input(tables: Store) -> None:
    with pytest.raises(UsageError, match="on 'pi' already"):
        transferred(tables, "pi", "pi")
    with pytest.raises(UnknownNameError, match="'gpx'"):
        transferred(tables, "pi", "gpx")
    Study("sizes", space=made(devices=False), store=tables).run(trials=3)
    with pytest.raises(UsageError, match="no objective on a device"):
        transferred(tables, "sizes", "gpu")


def test_the_command(
    tables: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = in_process(monkeypatch, capsys)
    where = ("--store", f"sqlite:///{tmp_path}/archfront.db")
    done = command("front", "--study", "gpu", "--under-device", "pi", *where)
    assert done.code == 0, done.err
    assert "% lost" in done.out
    shown = command("front", "--study", "gpu", "--under-device", "pi", "--json", *where).json
    assert 0 < shown["loss"] <= 1
    assert command("front", "table", "--under-device", "pi", *where).code == 2
