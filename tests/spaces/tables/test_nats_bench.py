"""Releases of the official structure, five cells large, become the tidy files that the space reads."""

from __future__ import annotations

import bz2
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archfront.spaces._data import find
from archfront.spaces._errors import DataError, ExistsError
from archfront.spaces.tables import _nats_bench
from archfront.spaces.tables._nats_bench import HW_NAS_BENCH, META, NATS_BENCH, convert
from archfront.spaces.tables.nasbench201 import EDGES, NasBench201, arch_string, table_of

SPACE = NasBench201.search_space.fix(dict.fromkeys(EDGES[:5], "nor_conv_3x3"))
CELLS = [arch_string(config) for config in SPACE.enumerate()][::-1]  # the official order is another one than ours


def result(data: str, seed: int, epochs: int, index: int) -> dict[str, Any]:
    """One training, as `ResultsCount.state_dict` writes it: accuracies grow with the cell and the seed."""
    names = {"cifar10-valid": ("x-valid", "ori-test"), "cifar10": ("ori-test",)}.get(
        data, ("x-valid", "x-test", "ori-test")
    )
    accuracy = OrderedDict(
        (f"{name}@{epoch}", 10.0 * place + index + seed / 1000 + epoch / 10)
        for place, name in enumerate(names, 1)
        for epoch in range(epochs)
    )
    return {
        "name": "infer.tiny",
        "net_state_dict": None,
        "arch_config": {"channel": 16, "num_cells": 5},
        "eval_names": list(names),
        "eval_acc1es": accuracy,
        "eval_times": {},
        "params": np.float64(0.1 * (index + 1)),
        "flop": 10.0 * (index + 1),
        "seed": seed,
        "epochs": epochs,
        "latency": [0.01, 0.02],
    }


def cell(index: int) -> dict[str, Any]:
    """A cell's file."""
    content: dict[str, Any] = OrderedDict()
    for epochs, seeds in ((12, (777,)), (200, (777, 888))):
        runs = {
            (data, seed): result(data, seed, epochs, index)
            for data in ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120")
            for seed in seeds
        }
        content[str(epochs)] = {
            "arch_index": index,
            "arch_str": CELLS[index],
            "all_results": runs,
            "dataset_seed": defaultdict(list, {data: list(seeds) for data, _ in runs}),
            "clear_net_done": True,
        }
    return content


def pack(file: Path, content: Any) -> None:
    file.write_bytes(bz2.compress(pickle.dumps(content, 4)))


def write_nats(folder: Path, cells: list[str] = CELLS) -> None:
    folder.mkdir(parents=True)
    pack(folder / META, {"meta_archs": cells, "total_archs": len(cells), "arch2infos": {}})
    for index in range(len(cells)):
        pack(folder / f"{index:06d}.pickle.pbz2", cell(index))


def hardware(cells: list[str] = CELLS, **columns: Any) -> dict[str, Any]:
    """The content of HW-NAS-Bench's file."""
    n = len(cells)
    measured = {
        "config": [{"name": "infer.tiny", "arch_str": name} for name in cells],
        "pixel3_latency": [1.0 + i for i in range(n)],
        "raspi4_latency": np.arange(n) + 0.5,
        "edgetpu_latency": [-1, *range(1, n)],
        "eyeriss_energy": [9.0] * n,
        **columns,
    }
    return {"nasbench201": {"cifar10": measured, "cifar100": measured, "ImageNet16-120": measured}, "fbnet": {}}


def write_hardware(folder: Path, content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HW_NAS_BENCH).write_bytes(pickle.dumps(content))


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A folder with both releases."""
    write_nats(tmp_path / "official" / NATS_BENCH)
    write_hardware(tmp_path / "official", hardware())
    return tmp_path / "official"


def frames(target: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracies and latencies."""
    accuracy, latency = (pd.read_parquet(target / f"nb201_{n}.parquet") for n in ("accuracy", "latency_help"))
    return accuracy, latency


def test_both_releases_are_what_the_space_reads(official: Path, tmp_path: Path) -> None:
    written = convert(official, tmp_path / "nas", cells=5)
    assert [file.name for file in written] == ["nb201_accuracy.parquet", "nb201_latency_help.parquet"]
    accuracy, latency = frames(tmp_path / "nas")
    table = table_of(SPACE, accuracy, latency, "cifar100")
    assert list(table.device) == ["raspi4", "edgetpu", "pixel3"]
    for index in range(5):
        config = SPACE.enumerate()[::-1][index]
        row = table.row(SPACE.to_ints([config])[0])
        assert row == index
        found = table.looked_up(row, "val_acc_ep12")
        # mean over seeds 777 and 888 of x-test@199; x-valid@11 of seed 777
        assert found.test["error"] == pytest.approx(1 - (20 + index + 0.8325 + 19.9) / 100)
        assert found.quality["error"] == pytest.approx(1 - (10 + index + 0.777 + 1.1) / 100)
        assert found.analytic == pytest.approx({"params_m": 0.1 * (index + 1), "macs_m": 10.0 * (index + 1)})
        assert found.device["latency_ms", "pixel3"] == 1.0 + index
    assert np.isnan(table.device["edgetpu"]["latency_ms"][0])
    assert not list((tmp_path / "nas").glob(".*"))


def test_cifar10_is_tested_on_the_original_split_and_validated_on_half(official: Path, tmp_path: Path) -> None:
    convert(official, tmp_path, cells=5)
    accuracy, _ = frames(tmp_path)
    assert accuracy["test_acc_cifar10_ep200"][2] == pytest.approx(10 + 2 + 0.8325 + 19.9)
    assert accuracy["val_acc_cifar10_ep12"][2] == pytest.approx(10 + 2 + 0.777 + 1.1)
    assert list(accuracy["arch_index"]) == list(range(5))


def test_either_release_alone(official: Path, tmp_path: Path) -> None:
    assert [f.name for f in convert(official / NATS_BENCH, tmp_path / "one", cells=5)] == ["nb201_accuracy.parquet"]
    (official / NATS_BENCH / META).unlink()
    assert [f.name for f in convert(official, tmp_path / "other", cells=5)] == ["nb201_latency_help.parquet"]
    (official / HW_NAS_BENCH).unlink()
    with pytest.raises(DataError, match=r"neither 'meta\.pickle\.pbz2' nor 'HW-NAS-Bench"):
        convert(official, tmp_path / "none", cells=5)


def test_the_columns_are_those_of_the_tidy_files(official: Path, tmp_path: Path) -> None:
    try:
        real = pd.read_parquet(find("nas/nb201_accuracy.parquet"))
    except DataError as error:
        pytest.skip(error.message)
    convert(official, tmp_path, cells=5)
    accuracy, _ = frames(tmp_path)
    assert set(accuracy) <= set(real)
    assert all(accuracy[name].dtype == real[name].dtype for name in accuracy)


def test_what_is_there_is_not_overwritten(official: Path, tmp_path: Path) -> None:
    (tmp_path / "nb201_latency_help.parquet").write_text("mine")
    with pytest.raises(ExistsError, match=r"nb201_latency_help.*is there: remove it"):
        convert(official, tmp_path, cells=5)
    assert (tmp_path / "nb201_latency_help.parquet").read_text() == "mine"
    assert not (tmp_path / "nb201_accuracy.parquet").exists()


def refused(official: Path, tmp_path: Path, match: str, cells: int = 5) -> None:
    """Nothing is written."""
    with pytest.raises(DataError, match=match):
        convert(official, tmp_path / "nas", cells=cells)
    assert not (tmp_path / "nas").exists()


def test_missing_cells_are_counted(official: Path, tmp_path: Path) -> None:
    refused(official, tmp_path, r"lists 5 different cells of 15,625", cells=15_625)
    for index in (1, 3):
        (official / NATS_BENCH / f"{index:06d}.pickle.pbz2").unlink()
    refused(official, tmp_path, r"lacks 2 of 5 cells, 000001\.pickle\.pbz2 first")


def test_missing_values_are_counted(official: Path, tmp_path: Path) -> None:
    content = cell(2)
    for run in content["200"]["all_results"].values():
        run["eval_acc1es"].pop("x-test@199", None)
    del content["12"]["all_results"]["cifar10-valid", 777]
    pack(official / NATS_BENCH / "000002.pickle.pbz2", content)
    refused(official, tmp_path, r"lacks 3 of 60 values, test_acc_cifar100_ep200 of 000002")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content.pop("12"), "no '12'"),
        (lambda content: content["200"].update(arch_str=CELLS[0]), "arch_str is"),
        (lambda content: content["200"].update(arch_index=7), "arch_index is 7"),
        (lambda content: content["200"].update(all_results=[1]), "all_results does not map"),
        (lambda content: content["200"]["all_results"].update({("cifar10", 777): 3}), "no mapping"),
        (lambda content: content["200"]["all_results"]["cifar10", 777].update(params=-1.0), "params_m_cifar10 is"),
        (lambda content: content["200"]["all_results"]["cifar10", 777].update(flop="much"), "lacks 1 of 60 values"),
        (lambda content: content.update({"12": Path("x")}), "pathlib"),
    ],
)
def test_damaged_cells_are_named(official: Path, tmp_path: Path, damage: Any, said: str) -> None:
    content = cell(4)
    damage(content)
    pack(official / NATS_BENCH / "000004.pickle.pbz2", content)
    refused(official, tmp_path, rf"000004.*{said}|{said}.*000004")


def test_damaged_files_are_named(official: Path, tmp_path: Path) -> None:
    file = official / NATS_BENCH / "000003.pickle.pbz2"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused(official, tmp_path, r"000003\.pickle\.pbz2' is not a whole bzip2 file")
    file.write_bytes(b"not packed")
    refused(official, tmp_path, r"000003\.pickle\.pbz2' is not a whole bzip2 file")
    file.write_bytes(bz2.compress(b"no pickle"))
    refused(official, tmp_path, r"000003\.pickle\.pbz2.*not a readable pickle")
    pack(official / NATS_BENCH / META, {"meta_archs": [*CELLS[:4], "|conv~0|"]})
    refused(official, tmp_path, "no cell of NAS-Bench-201")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (hardware(pixel3_latency=[1.0] * 4), "pixel3_latency has 4 of 5 values"),
        (hardware(pixel3_latency=["fast"] * 5), "pixel3_latency is not a list of numbers"),
        (hardware(CELLS[:4]), "lists 4 different cells of 5"),
        (hardware(CELLS[::-1]), "in another order"),
        (hardware([*CELLS[:4], CELLS[0]]), "lists 4 different cells of 5"),
        ({"fbnet": {}}, "no 'nasbench201'"),
        ({"nasbench201": {"cifar100": {"config": hardware()["nasbench201"]["cifar10"]["config"]}}}, "has no latency"),
    ],
)
def test_latencies_that_do_not_fit(official: Path, tmp_path: Path, content: Any, said: str) -> None:
    write_hardware(official, content)
    refused(official, tmp_path, said)


def test_a_complete_release_has_15625_cells() -> None:
    assert NasBench201.search_space.size == _nats_bench.CELLS


def test_without_latencies_there_are_no_devices(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(official / NATS_BENCH, tmp_path, cells=5)
    monkeypatch.setattr(NasBench201, "search_space", SPACE)
    space = NasBench201.bind(data=tmp_path)
    assert isinstance(space, NasBench201)
    assert space.devices == {}
    assert space.analytic == ("params_m", "macs_m")
    assert len(space.table) == 5
