"""Devices that are not here: a look-up table of their blocks' latencies, measured once, kept in the store."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from archfront.cluster._attached import AttachedMeasurer
from archfront.cluster._device import Device
from archfront.cluster._measure import Measurer
from archfront.cluster._timing import Timing
from archfront.cluster.store import Store
from archfront.predictors.latency import LatencyTable
from archfront.spaces._errors import DataError, MeasurementError, UsageError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration

__all__ = ["block_latency", "keep_table", "measured_table", "refuse_blockless", "table_of"]

KIND = "block table"
BATCH = 50
"""Blocks are timed back to back in so many; a batch that fails costs no other one."""
QUIET = 1000
"""Blocks are looked for in random configurations until so many in a row have none that is new."""


def refuse_blockless(space: ModelSpace) -> None:
    """Raise UsageError for a space that does not say what its networks are made of."""
    if not space.blocks(space.search_space.default):
        raise UsageError(
            f"space {space.full_name!r} names no blocks", "a table of blocks serves e.g. mobilenet_v3 and resnet50"
        )


def measured_table(
    space: ModelSpace, measurer: Measurer | AttachedMeasurer, watch: Callable[[int, int], None] = lambda done, of: None
) -> LatencyTable:
    """Time every block that the space's networks may have, each where it stands in one of them.

    `watch` hears how many of how many are timed. Raises UsageError for a space without blocks, MeasurementError for a
    block that the device cannot run.
    """
    refuse_blockless(space)
    found = list(_every_block(space))
    blocks: dict[str, float] = {}
    for start in range(0, len(found), BATCH):
        part = found[start : start + BATCH]
        timings = measurer.measure([config for config, _, _ in part], start, [module for _, module, _ in part])
        for (_, _, key), timing in zip(part, timings, strict=True):
            if not isinstance(timing, Timing):
                raise MeasurementError(f"block {key!r} cannot be measured", str(timing)) from timing
            blocks[key] = timing.value
        watch(len(blocks), len(found))
    return LatencyTable(blocks)


def _every_block(space: ModelSpace) -> Iterator[tuple[Configuration, str, str]]:
    """A configuration, a module of its network, and the key of it; each key once."""
    seen: set[str] = set()
    rng, quiet = np.random.default_rng(0), 0
    while quiet < QUIET:
        for config in space.search_space.sample(rng, QUIET // 10):
            new = [block for block in space.blocks(config) if block.key not in seen]
            quiet = 0 if new else quiet + 1
            for block in new:
                if block.key not in seen:
                    seen.add(block.key)
                    yield config, block.module, block.key


def keep_table(store: Store, name: str, file: Path) -> Device:
    """The device of a table of blocks, which the store keeps from now on. Raises DataError for a file that is none."""
    table = LatencyTable.read(file)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        table.write(path)
        content = f"{len(table.blocks)} blocks {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
        store.put_artefact(content, KIND, path)
    return Device(name, "lut", content)


def table_of(store: Store, device: Device) -> LatencyTable:
    """The table of such a device. Raises DataError where the store has lost it."""
    kept = store.artefact(device.hardware, KIND)
    if kept is None:
        raise DataError(f"the store has no table of device {device.name!r}", "register it again")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(store.read_artefact(kept))
        return LatencyTable.read(path)


def block_latency(table: LatencyTable, space: ModelSpace, config: Configuration) -> float:
    """Milliseconds. Raises UnknownNameError for a block that the table does not have."""
    return table.of([block.key for block in space.blocks(config)])
