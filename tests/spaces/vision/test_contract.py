"""Every space over images meets the contract of a model space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces.testing import ModelSpaceContract


class TestMlp(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> ModelSpace:
        return spaces.load("mlp")


class TestPfLayerSmall(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> ModelSpace:
        return spaces.load("pflayer")


class TestHourglassMlp(ModelSpaceContract):
    samples = 6

    @pytest.fixture(params=["gencls", "sr2", "denoise"])
    def space(self, request: pytest.FixtureRequest) -> ModelSpace:
        return spaces.load("hourglass_mlp", task=request.param)


class TestPfLayerTransformers(ModelSpaceContract):
    """On a dozen of a user's images: the variants at 224 pixels have no data of their own."""

    samples = 2

    @pytest.fixture(params=["vit_ti", "pit_ti"])
    def space(self, request: pytest.FixtureRequest, tmp_path: Path) -> ModelSpace:
        pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 16, 3), np.uint8)
        np.savez(tmp_path / "mine.npz", x=pixels, y=np.arange(12) % 2)
        return spaces.load(f"pflayer/{request.param}", data=tmp_path / "mine.npz")
