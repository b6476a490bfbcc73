"""Every registered strategy keeps the laws."""

from __future__ import annotations

import pytest

from archfront import search
from archfront.search.testing import StrategyContract


class TestEveryStrategy(StrategyContract):
    @pytest.fixture(params=search.names())
    def strategy_class(self, request: pytest.FixtureRequest) -> type[search.Strategy]:
        return search.load(request.param)
