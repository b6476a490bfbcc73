"""The contract of a trainer, as tests: subclass `TrainerContract` and give it a `trainer_class` fixture.

class TestMine(TrainerContract):
    @pytest.fixture
    def trainer_class(self) -> type[Trainer]:
        return archfront.trainers.load("my_lab.trainers:Mine")
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from archfront.spaces._errors import ArchfrontError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._toy import ToyImages
from archfront.trainers._trainer import Trainer, outputs_of
from archfront.trainers._types import Budget
from archfront.trainers._union import searched_space

__all__ = ["TrainerContract"]

EPOCHS = 4


class TrainerContract:
    """Override `trainer_class`; `space` is a toy with convolutions, batch norm and dropout."""

    @pytest.fixture
    def trainer_class(self) -> type[Trainer]:
        """The class under test: override."""
        raise TypeError("a contract needs a `trainer_class` fixture")

    @pytest.fixture
    def space(self) -> ModelSpace:
        """What is trained."""
        return ToyImages.bind()

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        """The trainer's parameters that are not at their defaults: override."""
        return {}

    @pytest.fixture
    def make(self, trainer_class: type[Trainer], space: ModelSpace, settings: dict[str, Any]) -> Callable[..., Trainer]:
        """A fresh trainer; keyword arguments override budget and seed."""

        def make(config: dict[str, Any] | None = None, **changes: Any) -> Trainer:
            given = {**searched_space(space, trainer_class).default, **settings, **(config or {})}
            return trainer_class(space, given, **{"budget": Budget(EPOCHS), "seed": 0, **changes})

        return make

    def test_supports_says_yes_or_why_not(self, trainer_class: type[Trainer], space: ModelSpace) -> None:
        reason = trainer_class.supports(space)
        assert reason is None or reason.strip()

    def test_pauses_between_batches(self, make: Callable[..., Trainer]) -> None:
        """Before each batch: so a measurement need not wait for the end of an epoch."""
        trainer = make()
        pauses: list[int] = []
        trainer.pause = lambda: pauses.append(trainer.epoch)
        for _ in trainer.run():
            pass
        assert set(pauses) == set(range(EPOCHS))

    def test_reports_every_epoch_with_the_tasks_metrics(self, make: Callable[..., Trainer]) -> None:
        trainer = make()
        reports = list(trainer.run())
        assert [r.step for r in reports] == list(range(1, EPOCHS + 1))
        declared = {m.name for m in trainer.task.metrics}
        assert all(set(r.metrics) == declared for r in reports)
        assert list(trainer.run()) == []

    def test_same_seed_same_training(self, make: Callable[..., Trainer]) -> None:
        runs = [[r.metrics for r in make(seed=seed).run()] for seed in (3, 3, 4)]
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]

    def test_learns(self, make: Callable[..., Trainer]) -> None:
        trainer = make(budget=Budget(12))
        metric = trainer.task.metrics[0].name
        reports = list(trainer.run())
        reference = trainer.task.reference(metric)
        assert reference is not None
        assert reports[-1].metrics[metric] < reference, "worse than constant guessing after twelve epochs"

    @pytest.mark.parametrize("stop", range(1, EPOCHS))
    def test_resume_is_bit_exact(self, make: Callable[..., Trainer], stop: int) -> None:
        straight = make()
        reports = list(straight.run())
        first = make()
        for report in first.run():
            if report.step == stop:
                break
        torch.manual_seed(99)  # a resumed process has another global generator
        second = make()
        second.load_state_dict(_through_a_file(first.state_dict()))
        assert list(second.run()) == reports[stop:]
        assert _equal(straight.state_dict(), second.state_dict())

    def test_the_global_generator_is_left_alone(self, make: Callable[..., Trainer]) -> None:
        before = torch.get_rng_state()
        trainer = make()
        list(trainer.run())
        trainer.evaluate("test")
        trainer.export()
        assert torch.equal(before, torch.get_rng_state())

    def test_evaluate_has_no_side_effects(self, make: Callable[..., Trainer]) -> None:
        trainer = make()
        next(trainer.run())
        before = _through_a_file(trainer.state_dict())
        assert trainer.evaluate("val") == trainer.evaluate("val")
        assert _equal(before, trainer.state_dict())

    def test_the_last_report_is_the_exported_networks(self, make: Callable[..., Trainer]) -> None:
        trainer = make()
        reports = list(trainer.run())
        assert trainer.evaluate("val") == pytest.approx(dict(reports[-1].metrics), rel=1e-5)

    def test_export_owns_its_tensors(self, make: Callable[..., Trainer]) -> None:
        trainer = make()
        steps = trainer.run()
        next(steps)
        net = trainer.export()
        assert not net.training
        before = outputs_of(net, trainer.data("val")).clone()
        next(steps)
        assert torch.equal(before, outputs_of(net, trainer.data("val")))

    def test_a_share_of_the_data(self, make: Callable[..., Trainer]) -> None:
        trainer = make(budget=Budget(1, data_fraction=0.25))
        assert len(trainer.data("train")) == round(0.25 * len(trainer.task.split("train")))
        assert len(trainer.data("val")) == len(trainer.task.split("val"))

    def test_unknown_and_illegal_settings_are_refused(self, make: Callable[..., Trainer]) -> None:
        with pytest.raises(ArchfrontError, match="no_such"):
            make({"trainer.no_such": 1})
        name = next(iter(make().parameters)).name
        with pytest.raises(ArchfrontError, match=name):
            make({f"trainer.{name}": "no such value"})


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
