"""Latency models recover what is a sum, and say which part they do not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archfront import spaces
from archfront.predictors import Context
from archfront.predictors.latency import Latency, LatencyTable
from archfront.predictors.testing import ADDITIVE, CONDITIONAL
from archfront.spaces import Categorical, Integer, Real, SearchSpace
from archfront.spaces._blocks import Block, block_key
from archfront.spaces._data import find
from archfront.spaces._errors import DataError, StoreError, UnknownNameError, UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration
from archfront.spaces._table import TableLookup
from archfront.spaces._toy import ToyImages

MS = {"a": 0.5, "b": 1.5, "c": 4.0, "conv": 1.0, "attention": 3.0}


def drawn(space: SearchSpace, n: int, seed: int = 0) -> list[Configuration]:
    return space.sample(np.random.default_rng(seed), n)


def summed(space: SearchSpace, configs: list[Configuration]) -> Floats:
    """2 ms, and each active decision's own cost."""
    return np.array(
        [
            2.0 + sum(MS.get(config[name], 0.0) or 0.1 * float(config[name]) for name in space.active_names(config))
            for config in configs
        ]
    )


@pytest.mark.parametrize("space", [CONDITIONAL, SearchSpace(*list(ADDITIVE)[:5])], ids=["conditional", "plain"])
def test_sums_are_recovered(space: SearchSpace) -> None:
    configs, others = drawn(space, 80), drawn(space, 200, 1)
    predictor = Latency(space)
    predictor.fit(configs, {"latency_ms": summed(space, configs)})
    assert predictor.predict(others)["latency_ms"].mean == pytest.approx(summed(space, others), rel=1e-5)
    assert predictor.predict(others)["latency_ms"].std is None


def test_numbers_of_many_values_cost_what_lies_between_their_ends() -> None:
    space = SearchSpace(Real("ratio", 0.5, 2.0), Integer("width", 8, 512), Categorical("op", ("a", "b")))
    configs, others = drawn(space, 60), drawn(space, 100, 1)

    def truth(configs: list[Configuration]) -> Floats:
        return np.array([3 - c["ratio"] + 0.01 * c["width"] + MS[c["op"]] for c in configs])

    predictor = Latency(space)
    predictor.fit(configs, {"latency_ms": truth(configs)})
    assert predictor.predict(others)["latency_ms"].mean == pytest.approx(truth(others), rel=1e-4)


def test_no_cost_of_an_option_is_negative() -> None:
    rng = np.random.default_rng(0)
    configs = drawn(CONDITIONAL, 60)
    predictor = Latency(CONDITIONAL)
    predictor.fit(configs, {"latency_ms": rng.normal(5, 3, 60)})
    model: Any = predictor.state_dict()
    costs = model["blobs"]["latency_ms/costs"]
    assert (costs[1:] >= 0).all()


def test_an_unseen_option_costs_the_mean_of_the_seen() -> None:
    space = SearchSpace(Categorical("op", ("a", "b", "c")), Categorical("other", ("a", "b")))
    configs = [c for c in drawn(space, 60) if c["op"] != "c"]
    predictor = Latency(space)
    predictor.fit(configs, {"latency_ms": summed(space, configs)})
    guess = predictor.predict([{"op": op, "other": "a"} for op in "abc"])["latency_ms"].mean
    assert guess[0] < guess[2] < guess[1]


def test_hyperparameters_cost_nothing() -> None:
    space = ToyImages.bind().search_space
    configs = drawn(space, 40)
    predictor = Latency(space)
    predictor.fit(configs, {"latency_ms": [c["width"] * 0.1 + c["depth"] for c in configs]})
    config = space.default
    one, other = predictor.predict([config, {**config, "dropout": 0.5}])["latency_ms"].mean
    assert one == other == pytest.approx(0.1 * config["width"] + config["depth"], rel=1e-5)


def test_analytic_costs_come_from_the_context_or_from_the_network() -> None:
    space = ToyImages.bind()
    configs = drawn(space.search_space, 20)

    def exact(metric: str, configs: Any) -> Floats | None:
        if metric == "params_m":
            raise KeyError(metric)
        return np.array([float(c["width"] * c["depth"]) for c in configs]) if metric == "macs_m" else None

    told = Latency(space.search_space, Context(space, exact=exact), model="analytic")
    assert told.inputs(configs).shape == (20, 2)
    y = 1.5 + 0.25 * told.inputs(configs)[:, 1]
    told.fit(configs, {"latency_ms": y})
    assert told.predict(configs)["latency_ms"].mean == pytest.approx(y, rel=1e-5)
    counted = Latency(space.search_space, Context(space), model="analytic")
    costs = spaces.analytic_costs(space, configs[0])
    assert counted.inputs(configs[:1])[0].tolist() == [1, costs["macs_m"], costs["params_m"], costs["memory_mb"]]
    assert counted.inputs([]).shape == (0, 4)
    with pytest.raises(UsageError, match="nobody tells macs_m"):
        Latency(ADDITIVE, model="analytic")


class Blocks(ToyImages):
    """Says which blocks its networks run."""

    registered_as = "tests.predictors.test_latency:Blocks"

    def blocks(self, config: Configuration) -> list[Block]:
        """A stem, and `depth` blocks of one width."""
        block = block_key("block", width=config["width"])
        return [Block("stem", "stem"), *(Block(f"blocks.{i}", block) for i in range(config["depth"]))]


TABLE = LatencyTable({"stem": 0.5, "block width=2": 1.0, "block width=4": 2.0})


def blocks(**parameters: Any) -> Latency:
    space = Blocks.bind()
    return Latency(space.search_space, Context(space), model="table", **parameters)


def test_blocks_are_added_without_a_fit() -> None:
    predictor = blocks(table=TABLE)
    config = {**Blocks.search_space.default, "width": 4, "depth": 3}
    assert predictor.predict([config])["latency_ms"].mean.tolist() == [6.5]
    with pytest.raises(UnknownNameError, match=r"unknown block of the latency table 'block width=6'.*did you mean"):
        predictor.predict([{**config, "width": 6}])


def test_a_fit_calibrates_the_sum() -> None:
    predictor = blocks(table=TABLE)
    configs = [c for c in drawn(Blocks.bind().search_space, 40) if c["width"] < 6]
    plain = predictor.predict(configs)["latency_ms"].mean
    predictor.fit(configs, {"latency_ms": 0.3 + 2 * plain})
    assert predictor.predict(configs)["latency_ms"].mean == pytest.approx(0.3 + 2 * plain, rel=1e-5)


def test_tables_are_read_from_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"block": ["stem", "block", "block"], "width": [None, 2, 4], "lat_ms": [0.5, 1.0, 2.0]})
    frame["lat_ms_var"] = 0.1
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.to_parquet(tmp_path / "table.parquet")
    for name in ("table.csv", "table.parquet"):
        assert LatencyTable.read(tmp_path / name) == TABLE
    assert blocks(table=str(tmp_path / "table.csv")).table == TABLE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lat_ms": [1.0, -1.0]}, r"block 'b width=2' is -1"),
        ({"lat_ms": [1.0, None]}, "block 'b width=2'"),
        ({"block": ["a", "a"], "width": [2, 2]}, "'a width=2' twice"),
        ({"lat_ms": ["fast", "slow"]}, "fast"),
    ],
)
def test_tables_that_make_no_sense(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    pd.DataFrame({"block": ["a", "b"], "width": [1, 2], "lat_ms": [1.0, 2.0], **change}).to_csv(tmp_path / "t.csv")
    frame = pd.read_csv(tmp_path / "t.csv", index_col=0)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=said):
        LatencyTable.read(tmp_path / "t.csv")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "half.parquet").write_bytes(b"half of a")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"half\.parquet' cannot be read"):
        LatencyTable.read(tmp_path / "half.parquet")
    with pytest.raises(DataError, match="no column block"):
        LatencyTable.read(tmp_path / "other.csv")
    for name in ("absent.csv", "table.txt"):
        with pytest.raises(DataError, match="no latency table"):
            LatencyTable.read(tmp_path / name)
    with pytest.raises(ValueError, match="'a' is -1 ms"):
        LatencyTable({"a": -1})


def test_requests_that_cannot_be_met() -> None:
    space = ToyImages.bind()
    with pytest.raises(UnknownNameError, match="did you mean 'additive'"):
        Latency(ADDITIVE, model="aditive")
    with pytest.raises(UsageError, match="names no blocks"):
        Latency(space.search_space, Context(space), model="table", table=TABLE)
    with pytest.raises(UsageError, match="a file for model"):
        Latency(ADDITIVE, model="table")
    with pytest.raises(UsageError, match="nothing for others"):
        Latency(ADDITIVE, table=TABLE)


def test_states_of_another_model_are_refused() -> None:
    space = ToyImages.bind()
    one, other = (Latency(space.search_space, Context(space), model=model) for model in ("additive", "analytic"))
    configs = drawn(space.search_space, 20)
    one.fit(configs, {"latency_ms": np.arange(20.0)})
    other.load_state_dict(one.state_dict())
    with pytest.raises(StoreError, match="'additive', this is 'analytic'"):
        other.predict(configs)


class Dropping(ToyImages):
    """Its width is of no use without depth."""

    registered_as = "tests.predictors.test_latency:Dropping"

    def idle(self, config: Configuration) -> set[str]:
        """The width of a network of depth 1."""
        return {"width"} if config["depth"] == 1 else set()


@pytest.mark.parametrize("dropped", [True, False])
def test_a_device_that_drops_what_is_idle_and_one_that_does_not(dropped: bool) -> None:
    space = Dropping.bind()
    configs = drawn(space.search_space, 60)
    costs = {2: 0.5, 4: 1.0, 6: 2.5}

    def truth(configs: list[Configuration]) -> Floats:
        return np.array(
            [1 + 0.3 * c["depth"] + costs[c["width"]] * (not (dropped and c["depth"] == 1)) for c in configs]
        )

    predictor = Latency(space.search_space, Context(space))
    predictor.fit(configs[:40], {"latency_ms": truth(configs[:40])})
    assert predictor.predict(configs[40:])["latency_ms"].mean == pytest.approx(truth(configs[40:]), rel=1e-4)


# -- real tables


def test_a_real_block_table() -> None:
    try:
        file = find("nas/ofa_mbv3_block_lut_i7_8700k.parquet")
    except DataError as error:
        pytest.skip(error.message)
    table = LatencyTable.read(file)
    assert len(table.blocks) == 4050
    sizes = {"inp_h": 100, "inp_w": 100, "inp_c": 16, "out_h": 100, "out_w": 100, "out_c": 16}
    block = block_key("MBConv", **sizes, expand=1, kernel=3, stride=1, idskip=1, se=0)
    assert table.of([block, block]) == pytest.approx(2 * 0.459526, abs=1e-5)
    with pytest.raises(UnknownNameError, match="kernel=9"):
        table.of([block.replace("kernel=3", "kernel=9")])


@pytest.mark.parametrize("device", ["raspi4", "pixel3", "fpga", "eyeriss"])
def test_cells_on_devices(device: str) -> None:
    """The devices of HW-NAS-Bench: accelerators compute everything, processors drop what is not read."""
    try:
        space = spaces.load("nasbench201")
    except DataError as error:
        pytest.skip(f"ARCHFRONT_DATA has no nasbench201: {error.message}")
    assert isinstance(space, TableLookup)
    if device not in space.table.device:
        pytest.skip(f"the table has no device {device}")
    latency = space.table.device[device]["latency_ms"]
    rows = np.random.default_rng(0).permutation(np.flatnonzero(~space.table.invalid[device]))[:1500]
    configs = space.search_space.from_ints(space.table.genomes[rows])
    predictor = Latency(space.search_space, Context(space))
    predictor.fit(configs[:500], {"latency_ms": latency[rows[:500]]})
    assert predictor.score(configs[500:], {"latency_ms": latency[rows[500:]]})["latency_ms"].kendall > 0.83
