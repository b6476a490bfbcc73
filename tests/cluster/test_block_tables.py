"""Devices by a table of their blocks: measured once, then any network is a sum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from archfront.cluster._block_tables import block_latency, measured_table
from archfront.cluster._device import cpu
from archfront.cluster._measure import Measurer
from archfront.cluster.store import Store
from archfront.predictors.latency import LatencyTable
from archfront.spaces import Configuration
from archfront.spaces._blocks import Block, block_key
from archfront.spaces._errors import MeasurementError, UsageError
from archfront.spaces._toy import ToyImages
from tests.cluster.command import Command, in_process

BLOCKS = "tests.cluster.test_block_tables:Blocks"
TOY = "archfront.spaces._toy:ToyImages"


@pytest.fixture
def archfront(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return in_process(monkeypatch, capsys)


class Blocks(ToyImages):
    """Says what its networks are made of."""

    registered_as = BLOCKS

    def blocks(self, config: Configuration) -> Sequence[Block]:
        """The stem, the blocks and the head: all that has weights."""
        width = config["width"]
        inner = [Block(f"blocks.{i}", block_key("block", width=width)) for i in range(config["depth"])]
        return [
            Block("stem", block_key("stem", width=width)),
            *inner,
            Block("head", block_key("head", width=width)),
        ]


def by_width(slope: float = 1.0) -> LatencyTable:
    """Of widths 2 and 4 only."""
    widths = (2, 4)
    return LatencyTable(
        {
            block_key(kind, width=w): slope * w * ms
            for kind, ms in (("stem", 1), ("block", 10), ("head", 0.5))
            for w in widths
        }
    )


def test_every_block_is_timed_once() -> None:
    space = Blocks.bind()
    measurer, heard = Measurer(space, cpu()), []
    try:
        table = measured_table(space, measurer, lambda done, of: heard.append((done, of)))
        assert len(table.blocks) == 9
        assert all(ms > 0 for ms in table.blocks.values())
        assert heard == [(9, 9)]
        assert table.blocks["block width=6"] > table.blocks["head width=6"], "a block is the convolution with its norm"
        (missing,) = measurer.measure([space.search_space.default], modules=["blocks.7"])
        assert isinstance(missing, MeasurementError)
        with pytest.raises(UsageError, match="names no blocks"):
            measured_table(ToyImages.bind(), measurer)
    finally:
        measurer.close()


def test_a_written_table_is_read_back(tmp_path: Path) -> None:
    table = LatencyTable({"stem h=56 act=relu": 0.1, "head": 1 / 3})
    table.write(tmp_path / "table.csv")
    assert LatencyTable.read(tmp_path / "table.csv") == table


def test_a_search_for_a_device_that_is_a_table(archfront: Command) -> None:
    by_width().write(Path("far.csv"))
    assert "registered far: 6 blocks" in archfront("devices", "register", "far", "--lut", "far.csv").out
    done = archfront(
        "search",
        BLOCKS,
        "--device",
        "far",
        "--epochs",
        "1",
        "--trials",
        "8",
        "--strategy",
        "random",
        "--workers",
        "0",
        "--study",
        "s",
        "--json",
    )
    assert done.code == 0, done.err
    space, table = Blocks.bind(), by_width()
    with Store("archfront.db") as store:
        told = [e for _, _, e in store.told("s")]
        assert {e.status for e in told} == {"ok", "invalid"}
        for e in told:
            own = {name: e.config[name] for name in space.search_space.names}
            if e.status == "invalid":
                assert e.config["width"] == 6
                assert "width=6" in e.error
                assert "on far" in e.error
            else:
                value = e.values["latency_ms@far"]
                assert (value.kind, value.value) == ("looked_up", pytest.approx(block_latency(table, space, own)))
        assert len(store.front(study="s", device="far")) >= 1
    by_width(2.0).write(Path("slow.csv"))
    archfront("devices", "register", "slow", "--lut", "slow.csv")
    later = archfront("devices", "measure", "slow", "--study", "s", "--json").json
    assert not later["missing"]["s"]
    with Store("archfront.db") as store:
        far, slow = (store.front(study="s", device=name).points for name in ("far", "slow"))
        assert [p.key for p in far] == [p.key for p in slow]
        ratio = np.array([b.metrics["latency_ms"] / a.metrics["latency_ms"] for a, b in zip(far, slow, strict=True)])
        assert ratio == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("devices", "register", "far", "--lut", "nowhere.csv"), "no latency table 'nowhere.csv'"),
        (("devices", "register", "far", "--lut", "x.csv", "--batch", "2"), "--lut is all there is"),
        (("devices", "blocks", "cpu"), "which blocks"),
        (("devices", "blocks", "cpu", "--space", TOY, "-o", "x.txt"), "a .csv file"),
        (("devices", "blocks", "cpu", "--space", TOY, "-o", "x.csv"), "names no blocks"),
    ],
)
def test_what_cannot_be_is_refused(archfront: Command, arguments: tuple[str, ...], said: str) -> None:
    done = archfront(*arguments)
    assert done.code == 2
    assert said in done.err.replace("\n", " ")


def test_a_space_without_blocks_is_refused_before_it_runs(archfront: Command) -> None:
    by_width().write(Path("far.csv"))
    archfront("devices", "register", "far", "--lut", "far.csv")
    done = archfront("search", TOY, "--device", "far", "--trials", "2", "--workers", "0")
    assert done.code == 2
    assert "names no blocks" in done.err
