"""The self-tuning trainer in both modes: the contract, what each update may touch, resume within a cycle."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._mip import HyperNetwork
from archfront.spaces._toy import ToyImages
from archfront.trainers._response import ResponseLayer
from archfront.trainers._trainer import Trainer, outputs_of
from archfront.trainers._types import Budget
from archfront.trainers._union import searched_space
from archfront.trainers.backprop import Backprop
from archfront.trainers.self_tuning import SelfTuning
from archfront.trainers.testing import TrainerContract

MODES = ("delta", "stn", "hypernetwork")


def make(mode: str, *, epochs: int = 4, seed: int = 0, space: ModelSpace | None = None, **settings: Any) -> SelfTuning:
    space = space or ToyImages.bind()
    own = {f"trainer.{name}": value for name, value in {"mode": mode, **settings}.items()}
    config = {**searched_space(space, SelfTuning).default, **own}
    return SelfTuning(space, config, budget=Budget(epochs), seed=seed)


class TestContract(TrainerContract):
    """With augmentation and the best epoch kept; the plain defaults are tested with every other trainer."""

    @pytest.fixture
    def trainer_class(self) -> type[Trainer]:
        return SelfTuning

    @pytest.fixture(params=MODES)
    def settings(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        own = {"mode": request.param, "train_steps": 4, "valid_steps": 2, "select": "best", "input_scaling": 0.05}
        return {f"trainer.{name}": value for name, value in own.items()}


# -- what an update may touch


def _snapshot(trainer: SelfTuning) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in trainer.net.named_parameters()}


def _moved(before: dict[str, Tensor], trainer: SelfTuning) -> set[str]:
    return {name for name, tensor in trainer.net.named_parameters() if not torch.equal(before[name], tensor)}


def _batch(trainer: SelfTuning) -> tuple[tuple[Tensor, ...], Tensor]:
    split = trainer.data("train")
    return (split.inputs[0][:16],), split.target[:16]


def _respond(trainer: SelfTuning) -> None:
    torch.manual_seed(0)
    for module in trainer.net.modules():
        if isinstance(module, ResponseLayer):
            torch.nn.init.normal_(module.gates.weight, std=0.3)


@pytest.mark.parametrize("mode", MODES)
def test_a_hyper_step_moves_hyperparameters_only(mode: str) -> None:
    trainer = make(mode)
    _respond(trainer)
    before = _snapshot(trainer)
    buffers = {name: tensor.clone() for name, tensor in trainer.net.named_buffers()}
    trainer._hyper_step(_batch(trainer), torch.Generator().manual_seed(0))
    assert _moved(before, trainer) == {"hypers.lam", "hypers.s"}
    assert all(torch.equal(buffers[name], tensor) for name, tensor in trainer.net.named_buffers())
    assert all(p.grad is None for p in trainer.net.net.parameters())
    fixed = make(mode, tune_scale=False)
    _respond(fixed)
    before = _snapshot(fixed)
    fixed._hyper_step(_batch(fixed), torch.Generator().manual_seed(0))
    assert _moved(before, fixed) == {"hypers.lam"}


@pytest.mark.parametrize("mode", MODES)
def test_a_training_step_moves_weights_only(mode: str) -> None:
    trainer = make(mode)
    _respond(trainer)
    before = _snapshot(trainer)
    step = trainer._delta_step if mode == "delta" else trainer._joint_step
    step(_batch(trainer), None, torch.Generator().manual_seed(0))
    moved = _moved(before, trainer)
    assert not {"hypers.lam", "hypers.s"} & moved
    assert {n for n in before if not n.startswith("hypers.")} == moved


def test_the_two_updates_of_delta_touch_their_own_weights() -> None:
    trainer = make("delta")
    _respond(trainer)
    general = {id(p) for p in trainer.net.general_parameters}
    before = _snapshot(trainer)
    seen: list[set[str]] = []
    update = trainer._update

    def watched(*names: str) -> None:
        nonlocal before
        update(*names)
        seen.append(_moved(before, trainer))
        before = _snapshot(trainer)

    trainer._update = watched  # type: ignore[method-assign]
    trainer._delta_step(_batch(trainer), None, torch.Generator().manual_seed(0))
    named = dict(trainer.net.named_parameters())
    assert seen[0] == {name for name, p in named.items() if id(p) in general}
    assert seen[1] == {name for name in named if name not in seen[0] and not name.startswith("hypers.")}


def test_forward_mode_trains_as_reverse_mode_does() -> None:
    """Dropout's masks included: both draw them once, from the same generator."""
    runs = [make("delta", epochs=2, warmup_epochs=0, linearisation=way) for way in ("reverse", "forward")]
    (_, one), (_, other) = (list(run.run()) for run in runs)
    assert one.attributes == pytest.approx(dict(other.attributes), rel=1e-3)


def _val_loss(trainer: SelfTuning, H: Tensor, inputs: tuple[Tensor, ...], target: Tensor, centre: Tensor) -> Tensor:
    trainer.net.eval()
    trainer.net.rows.h = H - centre if trainer.settings["mode"] == "delta" else H
    return trainer.task.loss(trainer.net(*inputs), target)


@pytest.mark.parametrize("mode", MODES)
def test_the_hyper_gradient_is_that_of_finite_differences(mode: str) -> None:
    trainer = make(mode, space=spaces.load("mlp"))
    _respond(trainer)
    trainer.net.double()
    split = trainer.data("val")
    inputs, target = (split.inputs[0][:32].double(),), split.target[:32]
    lam = trainer.net.hypers.lam
    centre = lam.detach().clone()
    (gradient,) = torch.autograd.grad(_val_loss(trainer, lam[None], inputs, target, centre), lam)
    assert gradient.abs().min() > 0
    for i in range(len(lam)):
        ends = []
        for sign in (1, -1):
            moved = centre.clone()
            moved[i] += sign * 1e-6
            ends.append(float(_val_loss(trainer, moved[None], inputs, target, centre).detach()))
        assert float(gradient[i]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_without_a_response_there_is_no_gradient_at_all(mode: str) -> None:
    """Dropout and augmentation leave no other way to the validation loss."""
    trainer = make(mode, input_scaling=0.1)
    for module in trainer.net.modules():
        if isinstance(module, ResponseLayer):
            torch.nn.init.zeros_(module.gates.weight)
        if isinstance(module, HyperNetwork):
            for parameter in module.head.parameters():
                torch.nn.init.zeros_(parameter)
    inputs, target = _batch(trainer)
    rows = 1 if trainer.net.one_row else 16
    trainer.net.see(trainer.net.hypers.perturb(rows, torch.Generator().manual_seed(0)))
    trainer.net.eval()
    (gradient,) = torch.autograd.grad(trainer.task.loss(trainer.net(*inputs), target), trainer.net.hypers.lam)
    assert gradient.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("mode", MODES)
def test_the_warm_up_leaves_hyperparameters_alone(mode: str) -> None:
    trainer = make(mode, epochs=3, warmup_epochs=2)
    start = trainer.net.hypers.lam.detach().clone()
    moved = [not torch.equal(start, trainer.net.hypers.lam) for _ in trainer.run()]
    assert moved == [False, False, True]


# -- what it reports and exports


@pytest.mark.parametrize("mode", MODES)
def test_reports_say_where_the_hyperparameters_are(mode: str) -> None:
    trainer = make(mode, cutout_length=2)
    *_, last = trainer.run()
    named = {"dropout", "trainer.cutout_length", "trainer.cutout_holes"}
    assert set(last.attributes) == {
        *("train_loss", "val_loss", "lr"),
        *(f"{what}.{name}" for what in ("value", "scale") for name in named),
    }
    assert 0 < last.attributes["value.dropout"] < 0.5
    assert last.attributes["value.trainer.cutout_length"] in range(5)
    assert all(last.attributes[f"scale.{name}"] > 0 for name in named)
    split = trainer.data("val")
    assert last.attributes["val_loss"] == pytest.approx(
        float(trainer.task.loss(outputs_of(trainer.export(), split), split.target)), rel=1e-5
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_export_is_the_plain_network(mode: str) -> None:
    trainer = make(mode)
    *_, last = trainer.run()
    plain = trainer.export()
    trainer.net.rest()
    trainer.net.eval()
    x = trainer.data("test").inputs[0]
    assert float((plain(x) - trainer.net(x)).detach().abs().max()) < 1e-5
    own = trainer.space.build(trainer.config)
    assert {n: t.shape for n, t in plain.state_dict().items()} == {n: t.shape for n, t in own.state_dict().items()}
    assert plain.blocks[0].dropout.p == pytest.approx(last.attributes["value.dropout"])  # type: ignore[index, union-attr]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resume_within_a_cycle_is_bit_exact(mode: str, stop: int) -> None:
    """Six batches an epoch, cycles of five: an epoch ends within a cycle and within a pass over the validation rows."""

    def begun() -> SelfTuning:
        return make(mode, epochs=6, train_steps=5, valid_steps=2, warmup_epochs=1, plateau_epochs=1, lr_decay=0.5)

    straight = begun()
    reports = list(straight.run())
    first, second = begun(), begun()
    for report in first.run():
        if report.step == stop:
            break
    if stop == 3:
        assert first._since
        assert first._drawn % 3
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    assert list(second.run()) == reports[stop:]
    for (name, one), other in zip(straight.net.state_dict().items(), second.net.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_the_rate_falls_where_validation_stands_still() -> None:
    trainer = make("stn", epochs=30, plateau_epochs=3, lr_decay=0.1, lr=1e-5, hyper_lr=1e-5)
    rate = trainer._rate
    for loss in (1.0, 2.0, 2.0):
        rate.hear(loss)
    assert rate.lr == 1e-5, "not more than three epochs"
    rate.hear(2.0)
    assert rate.lr == pytest.approx(1e-6)
    rate.hear(0.5)
    assert rate.lr == pytest.approx(1e-6)
    rate.lr = 1e-9
    assert list(trainer.run()) == []
    stepped = make("stn", epochs=10, schedule="step", lr=1.0, lr_decay=0.2)
    rates = [round(stepped._rate.at(epoch), 6) for epoch in range(10)]
    assert rates == [1.0] * 3 + [0.2] * 3 + [0.04] * 3 + [0.008]


def test_it_stops_without_a_new_best() -> None:
    trainer = make("delta", epochs=200, early_stopping=2, select="best", lr=1.0)
    reports = list(trainer.run())
    losses = [r.attributes["val_loss"] for r in reports]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 200, "two epochs after the best one"
    assert reports[-1].metrics == reports[best].metrics
    assert trainer.evaluate("val") == pytest.approx(dict(reports[best].metrics), rel=1e-5)


def test_graphs_are_tuned_as_a_whole() -> None:
    space = spaces.load("dagnn")
    trainer = make("delta", space=space, epochs=2, warmup_epochs=0, train_steps=1)
    assert trainer.net.hypers.members[0].per_batch
    reports = list(trainer.run())
    assert reports[-1].attributes["value.dropout"] != reports[0].attributes["value.dropout"]


# -- the searched space


def test_self_tuned_parameters_are_not_searched() -> None:
    space = spaces.load("mlp")
    union = searched_space(space, SelfTuning)
    assert union["input_noise"].size == union["dropout[3]"].size == 1
    assert union["input_noise"].default == 0.05, "0 is no start"
    assert union["dropout[3]"].default == pytest.approx(0.045)
    assert union["depth"].size == 30
    assert searched_space(space, Backprop)["dropout[3]"].size > 1
    toy = searched_space(ToyImages.bind(), SelfTuning)
    assert toy["dropout"].default == 0.1, "inside: kept"


def test_a_setting_gives_the_start_or_its_range() -> None:
    space = spaces.load("mlp")
    union = searched_space(
        space, SelfTuning, {"dropout": (0.1, 0.4), "input_noise": (0.3,), "trainer.cutout_length": (1, 4)}
    )
    assert (union["dropout[5]"].smallest(), union["dropout[5]"].largest()) == (0.1, 0.4)
    assert union["input_noise"].default == 0.3
    assert union["trainer.cutout_length"].size == 4
    single = searched_space(space, SelfTuning, {"dropout[1]": (0.2,)})
    assert (single["dropout[1]"].default, single["dropout[2]"].default) == (0.2, pytest.approx(0.045))
    with pytest.raises(UnknownNameError, match="dropuot"):
        searched_space(space, SelfTuning, {"dropuot": (0.2,)})


def test_keys_carry_the_spaces_identity() -> None:
    space = ToyImages.bind()
    union = searched_space(space, SelfTuning)
    assert union.identity == space.search_space.identity
    config = union.default
    other = searched_space(space, SelfTuning, {"trainer.mode": ("delta",), "dropout": (0.1,)})
    assert other.key(other.default) != union.key(config)
    explicit = searched_space(space, SelfTuning, {"trainer.mode": ("stn",), "dropout": (0.1,)})
    assert explicit.key(explicit.default) == union.key(config), "a trainer's own default is left out"
    assert union.architecture_key(config) == space.search_space.architecture_key(space.search_space.default)


# -- refusals


def test_spaces_without_self_tuned_parameters_are_refused() -> None:
    assert SelfTuning.supports(ToyImages.bind()) is None
    reason = SelfTuning.supports(spaces.load("pflayer"))
    assert reason is not None
    assert "pflayer" in reason
    assert "no self-tuned parameter" in reason


def test_augmentations_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match=r"trainer\.hue needs 3 channels"):
        make("delta", hue=0.1)
    with pytest.raises(UsageError, match=r"trainer\.brightness augments images with labels"):
        make("delta", space=spaces.load("hourglass_mlp"), brightness=0.1)
    with pytest.raises(UsageError, match=r"trainer\.cutout_length reaches nothing"):
        make("delta", cutout_length=2, cutout_holes=0)
    with pytest.raises(UsageError, match=r"trainer\.cutout_length cannot start at 20"):
        make("delta", cutout_length=20)


def test_a_configuration_without_anything_to_tune_is_refused() -> None:
    space = ToyImages.bind()
    fixed = space.narrowed(space.search_space.fix({"dropout": 0.2}))
    with pytest.raises(UsageError, match="no hyperparameter to tune"):
        make("stn", space=fixed)
    assert make("stn", space=fixed, input_scaling=0.1).net.hypers.names == ["trainer.input_scaling"]
