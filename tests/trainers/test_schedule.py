"""Schedules: data that travels, and that a plain trainer follows."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archfront import spaces
from archfront.spaces._errors import DataError, UsageError
from archfront.spaces._toy import ToyImages
from archfront.trainers._schedule import Schedule, ScheduleRow
from archfront.trainers._types import Budget, Report
from archfront.trainers._union import searched_space
from archfront.trainers.backprop import Backprop
from archfront.trainers.self_tuning import SelfTuning
from archfront.trainers.supernet import SupernetTrainer

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def schedules(draw: Callable[..., Any]) -> Schedule:
    names = draw(st.lists(st.sampled_from(("dropout", "dropout[0]", "a,b", "trainer.hue")), min_size=1, unique=True))
    epochs = sorted(draw(st.sets(st.integers(0, 50), min_size=1, max_size=5)))
    scaled = draw(st.booleans())
    rows = [
        ScheduleRow(e, {n: draw(NUMBERS) for n in names}, {n: draw(NUMBERS) for n in names} if scaled else {})
        for e in epochs
    ]
    return Schedule(tuple(rows))


@given(schedules())
def test_it_survives_json_and_csv(schedule: Schedule) -> None:
    assert Schedule.from_json(schedule.to_json()) == schedule
    assert Schedule.from_csv(schedule.to_csv()) == schedule


@given(schedules(), st.integers(0, 60))
def test_it_is_piecewise_constant(schedule: Schedule, epoch: int) -> None:
    wanted = schedule.rows[0]
    for row in schedule.rows:
        if row.epoch <= epoch:
            wanted = row
    assert schedule.at(epoch) == wanted.values


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ((), "at least one row"),
        ((ScheduleRow(0, {}),), "at least one row"),
        ((ScheduleRow(1, {"p": 0.1}), ScheduleRow(1, {"p": 0.2})), "must ascend: 1 comes after 1"),
        ((ScheduleRow(0, {"p": 0.1}), ScheduleRow(1, {"q": 0.2})), "the same names in every row: epoch 1"),
        ((ScheduleRow(0, {"p": float("nan")}),), "'p' is nan in epoch 0"),
    ],
)
def test_nonsense_is_refused(rows: tuple[ScheduleRow, ...], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        Schedule(rows)


def test_what_is_no_schedule_is_refused() -> None:
    for text in ("", "[{}]", "3", '[{"epoch": 0, "values": {"p": "x"}, "scales": {}}]'):
        with pytest.raises(DataError):
            Schedule.from_json(text)
    for text in ("", "epoch,name\n0,p\n", "epoch,name,value,scale\n0,p,much,\n"):
        with pytest.raises(DataError):
            Schedule.from_csv(text)


def test_from_reports() -> None:
    reports = [Report(k, {}, {"value.p": 0.1 * k, "scale.p": 0.01, "lr": 1.0}) for k in (1, 2)]
    schedule = Schedule.from_reports(reports)
    assert [schedule.at(epoch)["p"] for epoch in range(4)] == [0.1, 0.1, 0.2, 0.2]
    assert schedule.rows[1].scales == {"p": 0.01}
    with pytest.raises(DataError, match="at least one row"):
        Schedule.from_reports([Report(1, {}, {"lr": 1.0})])


def plain(seed: int = 0, epochs: int = 4) -> Backprop:
    space = ToyImages.bind()
    return Backprop(space, searched_space(space, Backprop).default, budget=Budget(epochs), seed=seed)


def test_backprop_follows_a_schedule() -> None:
    trainer = plain()
    trainer.follow(Schedule((ScheduleRow(1, {"dropout": 0.4}), ScheduleRow(3, {"dropout": 0.2}))))
    rates = []
    for _ in trainer.run():
        rates.append([block.dropout.p for block in trainer.model.blocks])  # type: ignore[union-attr]
    assert rates == [[0.4, 0.4], [0.4, 0.4], [0.4, 0.4], [0.2, 0.2]]
    assert trainer.export().blocks[0].dropout.p == 0.2  # type: ignore[index, union-attr]


def test_a_constant_schedule_is_a_plain_training() -> None:
    followed, alone = plain(), plain()
    followed.follow(Schedule((ScheduleRow(0, {"dropout": 0.1}),)))
    assert list(followed.run()) == list(alone.run())


def test_augmentations_are_followed_too() -> None:
    runs = []
    for value in (0.0, 0.25):
        trainer = plain()
        trainer.follow(
            Schedule((ScheduleRow(0, {"trainer.input_scaling": 0.0}), ScheduleRow(2, {"trainer.input_scaling": value})))
        )
        runs.append(list(trainer.run()))
    assert runs[0][:2] == runs[1][:2]
    assert runs[0][2:] != runs[1][2:]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resume_during_a_replay_is_bit_exact(stop: int) -> None:
    schedule = Schedule(
        tuple(
            ScheduleRow(e, {"dropout": 0.1 * e + 0.05, "trainer.input_scaling": 0.05 * e, "trainer.rotate": 9.0 * e})
            for e in range(4)
        )
    )

    def make() -> Backprop:
        trainer = plain()
        trainer.follow(schedule)
        return trainer

    straight = make()
    reports = list(straight.run())
    first, second = make(), make()
    for report in first.run():
        if report.step == stop:
            break
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    assert list(second.run()) == reports[stop:]
    for one, other in zip(straight.export().parameters(), second.export().parameters(), strict=True):
        assert torch.equal(one, other)


def test_names_that_reach_nothing_are_refused() -> None:
    for name, reason in (
        ("dropuot", "'dropuot' reaches nothing"),
        ("width", "'width' is not declared as self-tuned"),
        ("trainer.hue", r"trainer\.hue needs 3 channels"),
    ):
        with pytest.raises(UsageError, match=reason):
            plain().follow(Schedule((ScheduleRow(0, {name: 0.1}),)))
    space = spaces.load("mlp")
    shallow = Backprop(space, {**space.search_space.default, "depth": 2}, budget=Budget(1))
    with pytest.raises(UsageError, match=r"'dropout\[2\]' reaches nothing in this network"):
        shallow.follow(Schedule((ScheduleRow(0, {"dropout[0]": 0.1, "dropout[2]": 0.1}),)))


@pytest.mark.parametrize("cls", [SupernetTrainer, SelfTuning])
def test_other_trainers_follow_none(cls: type[Any]) -> None:
    space = ToyImages.bind()
    trainer = cls(space, searched_space(space, cls).default, budget=Budget(1))
    with pytest.raises(UsageError, match="cannot follow a schedule: use backprop"):
        trainer.follow(Schedule((ScheduleRow(0, {"dropout": 0.1}),)))


def test_what_self_tuning_found_can_be_replayed() -> None:
    space = ToyImages.bind()
    config = {**searched_space(space, SelfTuning).default, "trainer.input_scaling": 0.05}
    schedule = Schedule.from_reports(SelfTuning(space, config, budget=Budget(3)).run())
    assert schedule.names == ["dropout", "trainer.input_scaling"]
    trainer = plain(epochs=3)
    trainer.follow(Schedule.from_json(schedule.to_json()))
    assert len(list(trainer.run())) == 3
    assert trainer.model.blocks[0].dropout.p == schedule.rows[1].values["dropout"]  # type: ignore[index, union-attr]
