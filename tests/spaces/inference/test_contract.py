"""The space of prior-data fitted networks meets the contract of a model space."""

from __future__ import annotations

import pytest

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces.testing import ModelSpaceContract


class TestPfn(ModelSpaceContract):
    """Up to emsize 128: the bank of 512 is 38 million parameters, which are the same code."""

    @pytest.fixture(params=["rbf_gp", "architectures_weighted"])
    def space(self, request: pytest.FixtureRequest) -> ModelSpace:
        space = spaces.load("pfn", task=request.param)
        return space.narrowed(space.search_space.narrow({"emsize": (32, 128)}))
