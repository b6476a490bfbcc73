"""Every space over images meets the contract of a model space."""

from __future__ import annotations

import pytest

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces.testing import ModelSpaceContract


class TestMlp(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> ModelSpace:
        return spaces.load("mlp")


class TestPfLayer(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> ModelSpace:
        return spaces.load("pflayer")


class TestHourglassMlp(ModelSpaceContract):
    samples = 6

    @pytest.fixture(params=["gencls", "sr2", "denoise"])
    def space(self, request: pytest.FixtureRequest) -> ModelSpace:
        return spaces.load("hourglass_mlp", task=request.param)
