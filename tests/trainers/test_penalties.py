"""Penalties on activations: their values, and where trainers add them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archfront.spaces import ModelSpace
from archfront.spaces._numbers import Real
from archfront.spaces._parameter import SelfTuned
from archfront.spaces._penalties import ActivationPenalty, TemporalPenalty
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._sequence_dropout import DropConnect, WordDropout
from archfront.spaces._task import Signature, Split, Task, TensorSpec
from archfront.spaces._tasks import CLASSIFICATION_METRICS, Classification
from archfront.trainers._first_order import first_order
from archfront.trainers._penalties import penalised, total, watched
from archfront.trainers._response import ResponseLayer
from archfront.trainers._schedule import Schedule, ScheduleRow
from archfront.trainers._types import Budget
from archfront.trainers._union import searched_space
from archfront.trainers.backprop import Backprop
from archfront.trainers.self_tuning import SelfTuning
from archfront.trainers.supernet import SupernetTrainer

MODES = ("delta", "stn")
PER_BATCH = ("alpha", "beta", "words_drop", "connect_drop")


class Reader(nn.Module):
    """Words (batch, 6) -> logits (batch, 3), with all that language models are regularised by."""

    def __init__(self, config: Configuration) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 5)
        self.word_drop = WordDropout(7, config["words_drop"])
        self.connect = DropConnect(nn.LSTM(5, config["width"], batch_first=True), config["connect_drop"])
        self.temporal = TemporalPenalty(config["beta"])
        self.drop = nn.Dropout1d(config["dropout"])
        self.activation = ActivationPenalty(config["alpha"])
        self.head = nn.Linear(config["width"], 3)

    def forward(self, words: Tensor) -> Tensor:
        h = self.temporal(self.connect(self.word_drop(self.table(words), words))[0])
        logits: Tensor = self.head(self.activation(self.drop(h.mT).mT)[:, -1])
        return logits


def _tuned(name: str, pattern: str, **how: Any) -> Real:
    transform = "log" if name in ("alpha", "beta") else "logit"
    return Real(name, 0.0, 0.9, role="hyperparameter", self_tuned=SelfTuned(pattern, transform), **how)  # type: ignore[arg-type]


class Words(ModelSpace):
    """Which of three words comes last, of six."""

    registered_as = "tests.trainers.test_penalties:Words"
    search_space = SearchSpace(
        _tuned("words_drop", "word_drop", default=0.1),
        _tuned("connect_drop", "connect", default=0.1),
        _tuned("dropout", "drop", default=0.1),
        _tuned("alpha", "activation", default=0.2),
        _tuned("beta", "temporal", default=0.3),
    )
    tasks = ("words",)
    recipe = {"backprop": {"batch_size": 16}, "self_tuning": {"batch_size": 16, "warmup_epochs": 0}}

    def build(self, config: Configuration) -> nn.Module:
        return Reader({"width": 8, **config})

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        def load() -> dict[str, Split]:
            words = torch.randint(7, (96, 6), generator=torch.Generator().manual_seed(seed))
            return {
                split: Split((part,), part[:, -1] % 3)
                for split, part in zip(("train", "val", "test"), words.split(32), strict=True)
            }

        signature = Signature("classification", (TensorSpec((6,), "int64", 7),), 3)
        return Classification(name, signature, CLASSIFICATION_METRICS, load)


def make(cls: type[Any], *, epochs: int = 2, **settings: Any) -> Any:
    space = Words.bind()
    config = {**searched_space(space, cls).default, **settings}
    return cls(space, config, budget=Budget(epochs), seed=0)


def _respond(trainer: SelfTuning) -> None:
    torch.manual_seed(0)
    for module in trainer.net.modules():
        if isinstance(module, ResponseLayer):
            torch.nn.init.normal_(module.gates.weight, std=0.3)


def _batch(trainer: Any) -> tuple[tuple[Tensor, ...], Tensor]:
    split = trainer.data("train")
    return (split.inputs[0][:16],), split.target[:16]


def test_values_are_the_formulae() -> None:
    h = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    alpha, beta = ActivationPenalty(0.5), TemporalPenalty(0.25)
    assert torch.allclose(alpha.of(h), 0.5 * (h**2).mean())
    assert torch.allclose(beta.of(h), 0.25 * ((h[:, 1:] - h[:, :-1]) ** 2).mean())
    assert torch.allclose(TemporalPenalty(1.0, axis=0).of(h), ((h[1:] - h[:-1]) ** 2).mean())
    assert float(beta.of(h[:, :1])) == 0.0, "a single step"
    alpha.alpha = torch.tensor([2.0, 7.0, 7.0, 7.0])
    assert torch.allclose(alpha.of(h), 2 * (h**2).mean()), "the first example's, for all"
    assert torch.equal(alpha(h), h)
    assert torch.equal(beta(h), h)


def test_what_a_pass_costs_is_collected_and_nothing_stays_behind() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), ActivationPenalty(0.5), nn.Linear(4, 2), ActivationPenalty(2.0))
    x = torch.randn(5, 3)
    output, penalty = penalised(net, (x,))
    hidden = net[0](x)
    assert torch.allclose(penalty, 0.5 * hidden.square().mean() + 2 * net[2](hidden).square().mean())  # type: ignore[arg-type]
    assert torch.equal(output, net(x))
    copy.deepcopy(net)
    with watched(net) as seen:
        pass
    assert total(seen) == 0.0
    net(x)
    assert not seen, "no hook is left"


@pytest.mark.parametrize("cls", [Backprop, SelfTuning])
def test_gradient_trainers_add_it_to_the_loss_and_to_no_metric(cls: type[Any]) -> None:
    settings = {"words_drop": 0.0, "connect_drop": 0.0, "dropout": 0.0} if cls is Backprop else {}
    trainer = make(cls, alpha=0.2, **settings)
    net = trainer.model if cls is Backprop else trainer.net.net
    for _ in trainer.run():
        break
    split = trainer.data("val")
    with torch.no_grad():
        output = trainer.export()(*split.inputs)
    assert trainer.evaluate("val")["nll"] == pytest.approx(float(trainer.task.loss(output, split.target)), rel=1e-5)
    if cls is Backprop:
        net.eval()
        inputs, target = _batch(trainer)
        output, penalty = penalised(net, inputs)
        assert float(penalty.detach()) > 0
        loss = trainer._loss(inputs, target, None, torch.Generator().manual_seed(0))
        assert torch.allclose(loss, trainer.task.loss(output, target) + penalty)


def test_the_supernet_adds_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SupernetTrainer(Words.bind(), Words.search_space.default, budget=Budget(1), seed=0)
    config = {**Words.search_space.default, "alpha": 0.5}
    _, penalty = trainer._forward(config, _batch(trainer)[0])
    assert float(penalty.detach()) > 0  # type: ignore[union-attr]
    monkeypatch.setattr(trainer, "_forward", lambda config, inputs: (trainer.bank.subnet(config)(*inputs), 100.0))
    inputs, target = _batch(trainer)
    assert trainer._learn(config, inputs, Split(inputs, target), torch.zeros(16, 3)) > 100


@pytest.mark.parametrize("mode", MODES)
def test_hyperparameters_of_a_batch_vary_with_the_batch_only(mode: str) -> None:
    trainer = make(SelfTuning, **{"trainer.mode": mode})
    shared = {member.name for member in trainer.net.hypers.members if member.per_batch}
    assert shared == set(PER_BATCH)
    H = trainer._perturbed(_batch(trainer), torch.Generator().manual_seed(0))
    for column, name in enumerate(trainer.net.hypers.names):
        assert (len(set(H[:, column].tolist())) == 1) == (name in PER_BATCH)


@pytest.mark.parametrize("mode", MODES)
def test_hyperparameters_move_through_the_response_alone(mode: str) -> None:
    trainer = make(SelfTuning, **{"trainer.mode": mode})
    inputs, target = _batch(trainer)
    for responding in (False, True):
        for module in trainer.net.modules():
            if isinstance(module, ResponseLayer):
                torch.nn.init.normal_(module.gates.weight, std=0.3 * responding)
        trainer.net.eval()
        lam = trainer.net.hypers.lam
        trainer.net.see(lam[None])
        output, penalty = penalised(trainer.net, inputs)
        (gradient,) = torch.autograd.grad(trainer.task.loss(output, target) + penalty, lam)
        assert gradient.any() == responding
        if responding:
            output, penalty = penalised(trainer.net, inputs)
            (of_penalty,) = torch.autograd.grad(penalty, lam)
            assert of_penalty.any(), "the loss of the hyper step has it too"


@pytest.mark.parametrize("mode", MODES)
def test_a_training_step_learns_from_the_penalty(mode: str) -> None:
    """At a huge penalty the activations shrink in one step, whatever the labels say."""
    trainer = make(SelfTuning, alpha=0.9, **{"trainer.mode": mode, "trainer.lr": 1e-2})
    batch = _batch(trainer)
    trainer._loss = lambda output, target, rows: 0.0 * output.sum()
    before = [p.detach().clone() for p in trainer.net.net.parameters()]
    step = trainer._delta_step if mode == "delta" else trainer._joint_step
    _respond(trainer)
    assert step(batch, None, torch.Generator().manual_seed(0)) > 0
    head = dict(trainer.net.net.named_parameters())
    moved = {n for n, p, b in zip(head, head.values(), before, strict=True) if not torch.equal(p, b)}
    assert any(name.startswith("connect.") and "response" in name for name in moved)
    assert "head.weight" not in moved


@pytest.mark.parametrize("linearisation", ["reverse", "forward"])
def test_penalties_are_taken_to_first_order(linearisation: str) -> None:
    trainer = make(SelfTuning, **{"trainer.mode": "delta", "trainer.linearisation": linearisation})
    _respond(trainer)
    inputs, _ = _batch(trainer)
    delta = 1e-2 * torch.randn(16, 5)
    trainer.net.rest()
    trainer.net.eval()
    output, penalty = first_order(trainer.net, inputs, delta, linearisation=linearisation)
    trainer.net.rows.h = delta
    exact, exact_penalty = penalised(trainer.net, inputs)
    assert torch.allclose(output, exact, atol=1e-3)
    assert torch.allclose(penalty, exact_penalty, rtol=1e-2)


@pytest.mark.parametrize("mode", MODES)
def test_the_collapsed_network_keeps_them(mode: str) -> None:
    trainer = make(SelfTuning, **{"trainer.mode": mode})
    *_, last = trainer.run()
    plain: Any = trainer.export()
    assert {type(m) for m in plain.modules()} == {type(m) for m in trainer.space.build(trainer.config).modules()}
    assert list(plain.state_dict()) == list(trainer.space.build(trainer.config).state_dict())
    found = (plain.activation.alpha, plain.temporal.beta, plain.word_drop.p, plain.connect.p, plain.drop.p)
    names = ("alpha", "beta", "words_drop", "connect_drop", "dropout")
    assert found == tuple(pytest.approx(last.attributes[f"value.{name}"]) for name in names)
    split = trainer.data("val")
    trainer.net.rest()
    assert torch.allclose(plain(*split.inputs), trainer.net.eval()(*split.inputs), atol=1e-5)


def test_schedules_replay_them() -> None:
    trainer = make(Backprop)
    trainer.follow(
        Schedule(tuple(ScheduleRow(e, {"alpha": 0.1 * e, "beta": 0.5, "connect_drop": 0.3}) for e in (0, 1)))
    )
    seen = [trainer.model.activation.alpha for _ in trainer.run()]
    assert seen == [0.0, 0.1]
    assert (trainer.model.temporal.beta, trainer.model.connect.p) == (0.5, 0.3)


@pytest.mark.parametrize("mode", MODES)
def test_resume_is_bit_exact(mode: str) -> None:
    def begun() -> SelfTuning:
        trainer: SelfTuning = make(SelfTuning, epochs=3, **{"trainer.mode": mode, "trainer.train_steps": 3})
        return trainer

    straight = list(begun().run())
    first, second = begun(), begun()
    next(first.run())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert list(second.run()) == straight[1:]
