"""What lies r hops away can be told with K >= r hops and not with fewer."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from archfront import spaces
from archfront.spaces._errors import UsageError
from archfront.spaces.graph._long_range import long_range
from archfront.trainers import Budget
from archfront.trainers.backprop import Backprop

CLASSES = 4


def error_of(K: int, distance: int, shape: Literal["path", "cycle"]) -> float:
    task = long_range(distance, shape=shape, classes=CLASSES)
    space = spaces.registry.load("dagnn")(task)
    config = {**space.search_space.default, "K": K, "hidden": 16, "dropout": 0.0}
    settings = {"trainer.optimizer": "adam", "trainer.lr": 0.03, "trainer.weight_decay": 0.0}
    trainer = Backprop(space, {**config, **settings, "trainer.schedule": "constant"}, budget=Budget(epochs=150))
    for _ in trainer.run():
        pass
    return trainer.evaluate("test")["error"]


@pytest.mark.parametrize(("shape", "distance"), [("path", 5), ("cycle", 4)])
def test_accuracy_jumps_when_the_reach_suffices(shape: Literal["path", "cycle"], distance: int) -> None:
    chance = 1 - 1 / CLASSES
    for K in (0, distance - 1):
        assert error_of(K, distance, shape) == pytest.approx(chance), K
    for K in (distance, distance + 3):
        assert error_of(K, distance, shape) < 0.1, K


def test_every_split_has_every_class_equally_and_the_distance_is_exact() -> None:
    task = long_range(3, shape="path", classes=3, copies=6)
    for name in ("train", "val", "test"):
        split = task.splits[name]
        assert split.rows is not None
        assert split.target[split.rows].bincount().tolist() == [2, 2, 2]
    x, edge_index = task.example_input
    assert x.shape == (18 * 4, 4)
    assert edge_index.shape == (2, 18 * 3 * 2)
    asked = int(task.splits["train"].rows[0])  # type: ignore[index]
    reached = torch.zeros(len(x))
    reached[asked] = 1
    for _ in range(3):
        assert not x[reached > 0][:, :3].any()
        reached = reached.clone().index_add(0, edge_index[1], reached[edge_index[0]])
    assert int(x[reached > 0][:, :3].sum(dim=0).argmax()) == int(task.splits["train"].target[asked])


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="distance=0"):
        long_range(0)
