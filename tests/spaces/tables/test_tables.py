"""Look-up spaces: the field's tables against what their papers state, a user's own table, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from archfront import spaces
from archfront.spaces import Categorical, LookupSpace, Metric, SearchSpace, Supernet, TableSpace, analytic_costs
from archfront.spaces._errors import DataError, UsageError
from archfront.spaces._table import TableLookup
from archfront.spaces._task import Signature, TensorSpec
from archfront.spaces.tables.nasbench201 import NasBench201, arch_string, parse_arch_string, table_of
from archfront.spaces.tables.nasbench_graph import cell_graph

COMPLETE = ("nasbench201", "nasbench_macro", "nasbench_graph")
SAMPLES = ("accel_nasbench", "ofa_mobilenet_v3_runs")


def loaded(name: str, task: str | None = None) -> LookupSpace:
    """The space; skips the test where the data folder does not have its table."""
    try:
        found = spaces.load(name, task=task)
    except DataError as error:
        pytest.skip(f"ARCHFRONT_DATA has no {name}: {error.message}")
    assert isinstance(found, LookupSpace)
    return found


def table(name: str, task: str | None = None) -> TableLookup:
    """A space with a real table."""
    found = loaded(name, task)
    assert isinstance(found, TableLookup)
    return found


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two parameters, every combination."""
    rows = [(op, width) for op in ("conv", "pool") for width in (8, 16, 32)]
    made = pd.DataFrame(rows, columns=["op", "width"])
    made["err"] = [0.5, 0.4, 0.3, 0.6, 0.55, 0.52]
    made["lat"] = [1.0, 2.0, 4.0, 0.5, 1.0, np.nan]
    made["size"] = [1.0, 2.0, 3.0, 0.1, 0.2, 0.3]
    return made


@pytest.fixture
def own(frame: pd.DataFrame) -> TableSpace:
    """A user's table with a device and a size."""
    devices = {"pi": {"latency_ms": "lat"}}
    return TableSpace(frame, ["op", "width"], {"error": "err"}, devices=devices, analytic={"params_m": "size"})


class TestTableSpace:
    def test_finds_every_row(self, own: TableSpace, frame: pd.DataFrame) -> None:
        for i, row in frame.iterrows():
            found = own.look_up({"op": row["op"], "width": row["width"]}, "table", "table")
            assert found.quality == {"error": row["err"]}
            assert found.analytic == {"params_m": row["size"]}
            assert ("pi" in found.invalid) == (i == 5)

    def test_numbers_are_ordinal_and_texts_categorical(self, own: TableSpace) -> None:
        assert [p.kind for p in own.search_space] == ["categorical", "ordinal"]
        assert own.refusal is None
        assert own.devices == {"pi": ("latency_ms",)}

    def test_a_part_of_the_rows_is_a_sample(self, frame: pd.DataFrame) -> None:
        part = TableSpace(frame[:5], ["op", "width"], {"error": "err"})
        assert "sample of 5 of 6" in str(part.refusal)
        assert "" in part.look_up({"op": "pool", "width": 32}, "table", "table").invalid

    def test_content_and_name_are_its_identity(self, frame: pd.DataFrame) -> None:
        one = TableSpace(frame, ["op", "width"], {"error": "err"}, name="a")
        changed = TableSpace(frame.assign(err=frame["err"] + 1), ["op", "width"], {"error": "err"}, name="a")
        assert one.task().identity != changed.task().identity
        assert one.search_space.identity == changed.search_space.identity
        assert TableSpace(frame, ["op", "width"], {"error": "err"}).search_space.identity != (one.search_space.identity)

    def test_what_does_not_fit_is_said(self, frame: pd.DataFrame) -> None:
        with pytest.raises(DataError, match="no column 'opp'"):
            TableSpace(frame, ["opp"], {"error": "err"})
        with pytest.raises(DataError, match=r"row 6 .* earlier row"):
            TableSpace(pd.concat([frame, frame[:1]]), ["op", "width"], {"error": "err"})
        with pytest.raises(UsageError, match="direction"):
            TableSpace(frame, ["op", "width"], {"score": "err"})
        with pytest.raises(UsageError, match="no device metric"):
            TableSpace(frame, ["op", "width"], {"error": "err"}, devices={"pi": {"error": "lat"}})
        with pytest.raises(DataError, match=r"row 3 .* op"):
            TableSpace(frame, SearchSpace(Categorical("op", ("conv",))), {"error": "err"})
        with pytest.raises(DataError, match="no rows"):
            TableSpace(frame[:0], ["op", "width"], {"error": "err"})

    def test_an_own_metric_brings_its_direction(self, frame: pd.DataFrame) -> None:
        space = TableSpace(frame, ["op", "width"], {Metric("score", "max"): "err"})
        assert space.task().metrics[0].direction == "max"

    def test_it_builds_nothing(self, own: TableSpace) -> None:
        assert not own.builds
        with pytest.raises(TypeError, match="table"):
            own.build(own.search_space.default)
        with pytest.raises(TypeError, match="table"):
            Supernet(own)
        with pytest.raises(DataError, match="no data"):
            own.task().split("val")


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_tables_know_every_configuration(name: str) -> None:
    space = table(name)
    assert space.refusal is None
    configs = space.search_space.sample(np.random.default_rng(0), 200)
    for config in configs:
        found = space.look_up(config, space.task().name, space.protocol_of(space.epochs))
        assert found.invalid.get("") is not None or np.isfinite(found.quality["error"])


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_know_their_rows_and_say_why_they_are_not_searched(name: str) -> None:
    space = table(name)
    assert "sample" in str(space.refusal)
    configs = space.configurations()
    assert len({space.search_space.key(c) for c in configs[:300]}) == 300
    for i in (0, len(configs) // 2, len(configs) - 1):
        assert space.row(configs[i]) == i


class TestNasBench201:
    """Against the numbers its paper and its successors publish."""

    def test_best_accuracies(self) -> None:
        best = {"cifar10": 94.373, "cifar100": 73.513, "in16": 47.311}
        for task, accuracy in best.items():
            errors = table("nasbench201", task).table.quality["test_acc_ep200"]["error"]
            assert 100 * (1 - errors.min()) == pytest.approx(accuracy, abs=0.001)

    def test_networks_have_the_published_size(self) -> None:
        space = table("nasbench201", "cifar10")
        configs = space.configurations()
        costs = analytic_costs(space, configs[1])
        assert costs["params_m"] == pytest.approx(0.802426, abs=1e-6)
        assert costs["macs_m"] == pytest.approx(113.951, abs=1e-3)
        for i in (0, 777, 15_000):
            counted, stated = analytic_costs(space, configs[i]), space.table.analytic
            assert counted["params_m"] == pytest.approx(stated["params_m"][i], abs=1e-6)
            assert counted["macs_m"] == pytest.approx(stated["macs_m"][i], abs=1e-3)

    def test_disconnected_cells_are_invalid_where_they_vanished(self) -> None:
        invalid = table("nasbench201").table.invalid
        assert {d: int(marked.sum()) for d, marked in invalid.items() if marked.any()} == {"raspi4": 128, "pixel3": 183}

    def test_short_training_reports_the_long_one_as_test(self) -> None:
        space = table("nasbench201")
        config = space.configurations()[9930]
        short, full = (space.look_up(config, "cifar100", space.protocol_of(e)) for e in (12, 200))
        assert short.test["error"] == full.quality["error"] == pytest.approx(1 - 0.73513, abs=1e-5)
        assert short.quality["error"] > full.quality["error"]
        with pytest.raises(UsageError, match="12, 200"):
            space.protocol_of(50)

    def test_the_benchmarks_own_names(self) -> None:
        config = NasBench201.search_space.default
        text = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
        assert arch_string(config) == text
        assert parse_arch_string(text) == config
        with pytest.raises(DataError, match="no cell"):
            parse_arch_string("|conv~0|")

    def test_idle_edges_do_not_reach_the_output(self) -> None:
        """Changing the operations of idle edges does not change what the network computes."""
        space = NasBench201.of_signature(Signature("classification", (TensorSpec((3, 8, 8)),), 10))
        assert isinstance(space, NasBench201)
        config = {**dict.fromkeys(space.search_space.names, "nor_conv_1x1"), "op_1_3": "none", "op_1_2": "none"}
        assert space.idle(config) == {"op_0_1", "op_1_2", "op_1_3"}
        assert space.idle(dict.fromkeys(config, "skip_connect")) == set()
        x = space.prepared_example(config)
        outputs = []
        for operation in ("nor_conv_1x1", "avg_pool_3x3"):
            net = space.build({**config, "op_0_1": operation}).eval()
            net.load_state_dict({name: torch.full_like(t, 0.1) for name, t in net.state_dict().items()})
            with torch.no_grad():
                outputs.append(net(*x))
        assert torch.equal(*outputs)

    def test_the_graph_of_a_cell(self) -> None:
        space = NasBench201.of_signature(Signature("classification", (TensorSpec((3, 8, 8)),), 10))
        names = ["input", *space.search_space.names, "output"]
        full = dict.fromkeys(space.search_space.names, "nor_conv_3x3")
        features, links, positions = space.to_graph(full)
        assert features.sum(axis=1).tolist() == [1] * 8
        assert features.shape == (8, 7)
        assert positions.tolist() == list(range(8))
        found = {(names[i], names[j]) for i, j in np.argwhere(links)}
        assert found == {
            *(("input", f"op_0_{j}") for j in (1, 2, 3)),
            *((f"op_{i}_3", "output") for i in (0, 1, 2)),
            *(("op_0_1", "op_1_2"), ("op_0_1", "op_1_3"), ("op_0_2", "op_2_3"), ("op_1_2", "op_2_3")),
        }
        _, links, _ = space.to_graph({**full, "op_2_3": "none"})
        assert {names[i] for i in np.unique(np.argwhere(links))} == {*names} - {"op_0_2", "op_1_2", "op_2_3"}

    def test_subnets_are_slices(self) -> None:
        space = table("nasbench201", "cifar10")
        bank = Supernet(space)
        for config in space.search_space.sample(np.random.default_rng(1), 2):
            x = space.prepared_example(config)
            with torch.no_grad():
                assert torch.equal(bank.subnet(config).eval()(*x), bank.extract(config).eval()(*x))

    def test_a_table_with_rows_missing_is_refused(self) -> None:
        frame = pd.DataFrame({edge: [0, 1] for edge in NasBench201.search_space.names} | {"arch_index": [0, 1]})
        with pytest.raises(DataError, match=r"2 rows, not 15,625"):
            table_of(NasBench201.search_space, frame, frame[["arch_index"]], "cifar10")


class TestNasBenchGraph:
    def test_the_same_graph_has_the_same_values(self) -> None:
        space = table("nasbench_graph")
        one = {"links": "0011", "op[0]": "gcn", "op[1]": "gat", "op[2]": "gin", "op[3]": "fc"}
        other = {"links": "0011", "op[0]": "gcn", "op[1]": "gat", "op[2]": "fc", "op[3]": "gin"}
        assert cell_graph(one) == cell_graph(other)
        assert space.row(one) == space.row(other) is not None

    def test_a_skip_is_its_parent(self) -> None:
        chain = {"links": "0123", "op[0]": "skip", "op[1]": "gcn", "op[2]": "fc", "op[3]": "gin"}
        moved = {"links": "0123", "op[0]": "gcn", "op[1]": "fc", "op[2]": "skip", "op[3]": "gin"}
        assert cell_graph(chain) == cell_graph(moved)

    def test_best_accuracies(self) -> None:
        for task, accuracy in {"cora": 0.8313, "citeseer": 0.7157, "pubmed": 0.7860, "arxiv": 0.7239}.items():
            test = table("nasbench_graph", task).table.test["table"]["error"]
            assert 1 - np.nanmin(test) == pytest.approx(accuracy, abs=1e-4)


class TestLcBench:
    def test_a_curve_ends_where_the_look_up_stands(self) -> None:
        space = loaded("lcbench")
        for config in space.search_space.sample(np.random.default_rng(0), 5):
            curve = list(space.curve(config, space.task().name, 20))
            assert [step for step, _ in curve] == list(range(1, 21))
            end = space.look_up(config, space.task().name, space.protocol_of(20))
            assert curve[-1][1].quality == pytest.approx(end.quality)
            seconds = [point.quality["train_s"] for _, point in curve]
            assert seconds[-1] > seconds[0] > 0

    def test_no_value_overflows(self) -> None:
        space = loaded("lcbench", "openml_189909")
        for config in space.search_space.sample(np.random.default_rng(0), 300):  # a warning is an error here
            found = space.look_up(config, "", space.protocol_of(52))
            assert np.isfinite(list(found.quality.values())).all()

    def test_published_values_of_the_surrogate(self) -> None:
        from archfront.spaces._data import find

        loaded("lcbench")
        try:
            with np.load(find("hpo/lcbench_surrogate_sample.npz")) as file:
                sample = {name: file[name] for name in file.files}
        except DataError as error:
            pytest.skip(error.message)
        for t in (0, 17, 33):
            space = loaded("lcbench", f"openml_{sample['task_id'][t]}")
            config = dict(zip(sample["config_names"].tolist(), sample["config"][5].tolist(), strict=True))
            for e, epoch in enumerate(sample["epoch"].tolist()):
                found = space.look_up(config, "", space.protocol_of(epoch))
                expected = sample["values"][t, 5, e]
                assert found.quality["error"] == pytest.approx(1 - expected[1] / 100, abs=2e-4)
                assert found.quality["nll"] == pytest.approx(expected[2], rel=5e-4, abs=5e-4)


def test_a_missing_file_is_named_with_its_place_and_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"nas/nb201_accuracy\.parquet.*data import nasbench201"):
        spaces.load("nasbench201")
    with pytest.raises(DataError, match=r"lcbench_surrogate_weights.*ARCHFRONT_DATA"):
        spaces.load("lcbench")


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path))
    for name in ("nas/nasbench_macro_cifar10.parquet", "hpo/lcbench_surrogate_weights.npz"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half of a")
    with pytest.raises(DataError, match=r"nasbench_macro_cifar10\.parquet.*cannot be read"):
        spaces.load("nasbench_macro")
    with pytest.raises(DataError, match=r"lcbench_surrogate_weights\.npz.*cannot be read"):
        spaces.load("lcbench")
