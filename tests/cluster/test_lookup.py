"""Searches of tables: devices are columns, what a device cannot run is invalid, nothing is trained."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from archfront.cluster.store import Store
from archfront.cluster.study import Study
from archfront.spaces import TableSpace
from archfront.spaces._errors import UnknownNameError, UsageError


def made(*, devices: bool = True, rows: int = 27) -> TableSpace:
    """27 configurations with a conflict between error and latency; the cells of three `none` vanish on `pi`."""
    configs = list(itertools.product(("none", "conv", "pool"), repeat=3))[:rows]
    frame = pd.DataFrame(configs, columns=["a", "b", "c"])
    size = np.array([sum({"none": 0, "pool": 1, "conv": 3}[op] for op in config) for config in configs], float)
    frame["err"], frame["lat"], frame["gpu"], frame["size"] = 1 / (1 + size), size, 10 - size / 2, size
    frame.loc[size == 0, "lat"] = np.nan
    columns = {"pi": {"latency_ms": "lat"}, "gpu": {"latency_ms": "gpu"}} if devices else {}
    return TableSpace(
        frame, ["a", "b", "c"], {"error": "err"}, devices=columns, analytic={"params_m": "size"}, name="toy"
    )


def test_by_default_error_against_latency_on_the_first_device(store: Store) -> None:
    study = Study("one", space=made(), store=store)
    summary = study.run(trials=27)
    assert [o.name for o in study.record.objectives] == ["error", "latency_ms@pi"]
    assert (summary["told"], summary["failed"]) == (27, 1)
    front = study.front()
    assert len(front) == 26  # every size is a compromise of its own, and equal ones stay
    assert {point.kind for point in store.front(study="one", device="pi").points} == {"looked_up"}


def test_what_a_device_cannot_run_is_invalid_there_and_fine_elsewhere(store: Store) -> None:
    Study("pi", space=made(), devices=["pi"], store=store).run(trials=27)
    told = {e.key: e for _, _, e in store.told("pi")}
    (invalid,) = [e for e in told.values() if e.status != "ok"]
    assert invalid.status == "invalid"
    assert set(invalid.config.values()) == {"none"}
    assert "pi" in invalid.error
    summary = Study("gpu", space=made(), devices=["gpu"], store=store).run(trials=27)
    assert summary["failed"] == 0


def test_facts_are_shared_between_devices(store: Store) -> None:
    Study("pi", space=made(), devices=["pi"], store=store).run(trials=27)
    second = Study("gpu", space=made(), devices=["gpu"], store=store).run(trials=27)
    assert second["reused"] == 26


def test_without_devices_the_table_has_its_sizes(store: Store) -> None:
    study = Study("sizes", space=made(devices=False), store=store)
    study.run(trials=5)
    assert [o.name for o in study.record.objectives] == ["error", "params_m"]


def test_what_the_table_does_not_have_is_refused(store: Store) -> None:
    for options, words in (
        ({"devices": ["phone"]}, "phone"),
        ({"objectives": ["error", "macs_m"]}, "has no macs_m"),
        ({"objectives": ["error", "energy_mj@pi"]}, "latency_ms of 'pi', not energy_mj"),
        ({"epochs": 3}, "--epochs 3"),
        ({"supernet": "train"}, "--supernet"),
        ({"trainer": "backprop"}, "--trainer"),
        ({"strategy": "self_tuning"}, "brings trainer 'self_tuning', and a table 'toy' trains nothing"),
    ):
        with pytest.raises((UsageError, UnknownNameError), match=words):
            Study("no", space=made(), store=store, **options).run(trials=3)
    with pytest.raises(UsageError, match="no learning curves"):
        Study("no", space=made(), store=store, scheduler="asha").run(trials=3, workers=2)
    with pytest.raises(UsageError, match="sample of 20"):
        Study("no", space=made(rows=20), store=store).run(trials=3)


def test_it_is_continued_with_the_object(store: Store) -> None:
    Study("table", space=made(), store=store).run(trials=6)
    again = Study.open("table", store=store, space=made()).run(trials=12)
    straight = Study("straight", space=made(), store=store, fresh=True).run(trials=12)
    assert again["told"] == straight["told"] == 12
    keys = [[e.key for _, _, e in store.told(name)] for name in ("table", "straight")]
    assert keys[0] == keys[1]
    with pytest.raises(UsageError, match="script"):
        Study.open("table", store=store).run(trials=14)
