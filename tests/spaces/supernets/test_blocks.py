"""The blocks that a space names are those its networks run, with the shapes that their keys say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archfront import spaces
from archfront.predictors.latency import LatencyTable
from archfront.spaces._blocks import Block
from archfront.spaces._data import find
from archfront.spaces._errors import DataError

NAMED = ["mobilenet_v3", "mobilenet_v3/w1.2", "resnet50", "resnet50/full"]


@pytest.mark.parametrize("name", NAMED)
def test_keys_say_what_the_modules_read_and_give(name: str) -> None:
    space = spaces.load(name)
    for config in space.search_space.sample(np.random.default_rng(0), 2):
        net, blocks = space.build(config).eval(), space.blocks(config)
        seen = _shapes(net, blocks, space.prepared_example(config))
        assert list(seen) == [block.module for block in blocks], "in the order in which they run"
        for block in blocks:
            said = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", block.key)}
            given, result = seen[block.module]
            assert given == tuple(said[f"inp_{axis}"] for axis in "chw"), block
            assert result == tuple(said[f"out_{axis}"] for axis in "chw"), block
        apart = sum(p.numel() for block in blocks for p in net.get_submodule(block.module).parameters())
        assert apart == sum(p.numel() for p in net.parameters()), "nothing that has weights is left out"


def _shapes(net: nn.Module, blocks: Any, example: Any) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """What each block reads and gives, (channels, height, width), by its name, in the order in which they run."""
    seen = {}

    def watch(block: Block) -> None:
        def note(module: nn.Module, given: Any, result: Any) -> None:
            seen[block.module] = (_image(given[0].shape), _image(result.shape))

        net.get_submodule(block.module).register_forward_hook(note)

    for block in blocks:
        watch(block)
    with torch.inference_mode():
        net(*example)
    return seen


def _image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A vector is an image of one pixel."""
    return (*shape[1:], 1, 1)[:3]


@pytest.mark.parametrize("variant", ["w1.0", "w1.2"])
def test_the_published_table_has_all_blocks(variant: str) -> None:
    """NSGANetV2's table of an i7-8700K: nothing is missing for any sub-network of Once-for-All."""
    try:
        table = LatencyTable.read(find("nas/ofa_mbv3_block_lut_i7_8700k.parquet"))
    except DataError as error:
        pytest.skip(error.message)
    space = spaces.load(f"mobilenet_v3/{variant}")
    drawn = space.search_space.sample(np.random.default_rng(0), 300)
    totals = [table.of([block.key for block in space.blocks(config)]) for config in drawn]
    costs = [config["resolution"] ** 2 * sum(config[f"depth[{s}]"] for s in range(5)) for config in drawn]
    assert np.corrcoef(totals, costs)[0, 1] > 0.8
