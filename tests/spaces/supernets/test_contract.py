"""Every super-network meets the contract of a model space."""

from __future__ import annotations

import pytest

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces.testing import ModelSpaceContract


class TestMobileNetV3Small(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> ModelSpace:
        return spaces.load("mobilenet_v3", task="digits")
