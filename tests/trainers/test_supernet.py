"""The supernet trainer: which sub-networks learn when, and from whom."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from archfront import spaces, trainers
from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._search_space import SearchSpace
from archfront.spaces._supernet import Supernet
from archfront.spaces._toy import ToyImages
from archfront.trainers._shrinking import phases_of
from archfront.trainers._types import Budget
from archfront.trainers._union import searched_space
from archfront.trainers.supernet import SupernetTrainer
from archfront.trainers.testing import TrainerContract

PROGRESSIVE = {"trainer.rule": "progressive", "trainer.largest_share": 0.4, "trainer.distillation": 0.5}


class TestProgressive(TrainerContract):
    """The whole contract again under the other rule: a resume in each phase, and between two."""

    @pytest.fixture
    def trainer_class(self) -> type[trainers.Trainer]:
        return SupernetTrainer

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return PROGRESSIVE


def progressive(epochs: int = 10, **more: Any) -> SupernetTrainer:
    space = ToyImages.bind()
    config = {**searched_space(space, SupernetTrainer).default, **PROGRESSIVE, **more}
    return SupernetTrainer(space, config, budget=Budget(epochs))


def options(space: SearchSpace, name: str) -> list[Any]:
    parameter = space[name]
    return parameter.decode(parameter.enumerate())


class TestPhases:
    space = SearchSpace(
        Ordinal("kernel", (3, 5, 7), elastic=True),
        Ordinal("depth[0]", (2, 3, 4), elastic=True, group="depth", index=0),
        Ordinal("depth[1]", (3, 4), elastic=True, group="depth", index=1),
        Integer("blocks", 1, 5, elastic=True),
        Real("ratio", 1.0, 3.0, elastic=True),
        Categorical("op", ("conv", "pool"), elastic=True),
        Ordinal("resolution", (24, 28), elastic=True),
    )

    def test_the_published_order(self) -> None:
        """Kernels at once, then depth and expansion one smaller value at a time; resolution always (section 3.3)."""
        space = spaces.load("mobilenet_v3/w1.0", task="imagenet").search_space
        phases = phases_of(space, spaces.load("mobilenet_v3/w1.0", task="imagenet").shrinking)
        assert [phase.opened for phase in phases] == ["", "kernel", "depth", "depth", "expansion", "expansion"]
        kernels = [options(phase.space, "kernel[7]") for phase in phases]
        assert kernels == [[7], *[[3, 5, 7]] * 5]
        assert [options(p.space, "depth[2]") for p in phases] == [[4], [4], [3, 4], *[[2, 3, 4]] * 3]
        assert [options(p.space, "expansion[0]") for p in phases] == [*[[6]] * 4, [4, 6], [3, 4, 6]]
        assert all(p.space["resolution"].size == 25 for p in phases)

    def test_each_contains_the_one_before_and_the_last_is_all(self) -> None:
        phases = phases_of(self.space)
        assert phases[-1].space.parameters == self.space.parameters
        assert [p.opened for p in phases] == ["", "kernel", "depth", "blocks", "ratio", "op", "resolution"]
        rng = np.random.default_rng(0)
        for smaller, larger in itertools.pairwise(phases):
            for config in smaller.space.sample(rng, 20):
                assert larger.space.canonicalise(config) == config

    def test_the_first_is_the_largest(self) -> None:
        (config,) = phases_of(self.space)[0].space.sample(np.random.default_rng(1), 1)
        expected = {"kernel": 7, "depth[0]": 4, "depth[1]": 4, "blocks": 5, "op": "conv", "resolution": 28}
        assert {name: config[name] for name in expected} == expected
        assert config["ratio"] == pytest.approx(3.0)

    def test_steps_that_open_nothing_are_left_out(self) -> None:
        phases = phases_of(self.space, ("blocks", "blocks", "no_such_group", "resolution", "resolution"))
        assert [options(p.space, "blocks") for p in phases[:3]] == [[5], [3, 4, 5], [1, 2, 3, 4, 5]]
        assert [p.opened for p in phases] == ["", "blocks", "blocks", "resolution"]


class TestShrinking:
    def test_smaller_networks_are_trained_later_and_the_teacher_stays(self) -> None:
        trainer = progressive()
        seen: list[tuple[int, list[dict[str, Any]]]] = []
        forward = trainer._forward

        def watched(config: Any, inputs: Any) -> Any:
            seen.append((trainer.phase, [config]))
            return forward(config, inputs)

        trainer._forward = watched  # type: ignore[method-assign]
        teachers = []
        for report in trainer.run():
            if trainer._teacher is not None:
                teachers.append({n: p.clone() for n, p in trainer._teacher.named_parameters()})
            assert (trainer.phase > 0) == (report.step > 4)  # 40 % of ten epochs
        assert trainer.phase == len(trainer.phases) - 1
        for phase, configs in seen:
            for config in configs:
                assert trainer.phases[phase].space.canonicalise(config) == config
        smallest = [phase for phase, (config,) in seen if config == trainer.smallest]
        assert smallest
        assert min(smallest) == trainer.phase
        assert all(torch.equal(teachers[0][name], last) for name, last in teachers[-1].items())

    def test_the_teacher_is_what_the_first_phase_made(self) -> None:
        trainer = progressive()
        runs = trainer.run()
        for _ in range(4):
            next(runs)
        largest = trainer.bank.extract(trainer.largest).state_dict()
        next(runs)
        assert trainer._teacher is not None
        for name, tensor in trainer._teacher.named_parameters():
            assert torch.equal(tensor, largest[name])

    def test_more_important_channels_come_first_when_width_is_opened(self) -> None:
        trainer = progressive()
        sorted_in = []
        trainer.bank.sort = lambda channels: sorted_in.append((trainer.phase, channels.group))  # type: ignore[method-assign]
        for _ in trainer.run():
            pass
        assert [p.opened for p in trainer.phases] == ["", "depth", "width", "width"]
        assert sorted_in == [(1, "width")]  # on the way from phase 1 to phase 2, once

    def test_a_share_of_the_data_is_all_that_is_trained_on(self) -> None:
        space = ToyImages.bind()
        trainer = SupernetTrainer(
            space, searched_space(space, SupernetTrainer).default, budget=Budget(1, data_fraction=0.25)
        )
        rows = []
        forward = trainer._forward
        trainer._forward = lambda config, inputs: (rows.append(len(inputs[0])), forward(config, inputs))[1]  # type: ignore[method-assign,func-returns-value]
        list(trainer.run())
        assert sum(rows) == 4 * 24  # a quarter of 96 rows, for four sub-networks


def test_a_graph_without_an_order_of_its_own() -> None:
    space = spaces.load("dagnn")
    config = {**searched_space(space, SupernetTrainer).default, **PROGRESSIVE}
    trainer = SupernetTrainer(space, config, budget=Budget(8))
    assert [report.step for report in trainer.run()] == list(range(1, 9))
    assert trainer.phase == len(trainer.phases) - 1


@pytest.mark.parametrize(
    ("name", "part"), [("mobilenet_v3", {"depth": 1}), ("resnet50", {"depth": 0, "depth[0]": 0, "expansion": 0.25})]
)
def test_a_narrowed_space_sorts_the_channels_it_has(name: str, part: dict[str, Any]) -> None:
    space = spaces.load(name, task="digits")
    space = space.narrowed(space.search_space.fix(part))
    bank = Supernet(space)
    largest = space.search_space.canonicalise({p.name: p.largest() for p in space.search_space})
    inputs = space.prepared_example(largest)
    before = bank.extract(largest).eval()(*inputs)
    for channels in space.channels():
        bank.sort(channels)
    assert torch.allclose(bank.extract(largest).eval()(*inputs), before, atol=1e-5)
