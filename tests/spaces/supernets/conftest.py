"""What tests of super-networks share."""

from __future__ import annotations

import pytest
from tests.spaces.supernets.transformers import of_size

from archfront.spaces import ModelSpace


@pytest.fixture
def small() -> ModelSpace:
    """HAT's small super-network on 75 words and 16 positions."""
    return of_size("small", 75, 16, 16)
