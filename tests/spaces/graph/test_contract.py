"""Every space over graphs meets the contract of a model space."""

from __future__ import annotations

import pytest

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces.testing import ModelSpaceContract


class TestDagnnOnKarate(ModelSpaceContract):
    samples = 24

    @pytest.fixture
    def space(self) -> ModelSpace:
        return spaces.load("dagnn", task="karate")


class TestDagnnOnDigits(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> ModelSpace:
        return spaces.load("dagnn")
