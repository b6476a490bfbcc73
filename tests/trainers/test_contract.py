"""Every registered trainer keeps the contract."""

from __future__ import annotations

import pytest

from archfront import trainers
from archfront.trainers.testing import TrainerContract


class TestEveryTrainer(TrainerContract):
    @pytest.fixture(params=trainers.names())
    def trainer_class(self, request: pytest.FixtureRequest) -> type[trainers.Trainer]:
        return trainers.load(request.param)
