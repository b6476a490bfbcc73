"""The space, its tasks and pre-training."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archfront import spaces
from archfront.spaces import Supernet
from archfront.spaces._errors import DataError, UsageError
from archfront.spaces.inference._bar_distribution import BarDistribution
from archfront.spaces.inference._checkpoint import load_checkpoint, save_checkpoint
from archfront.spaces.inference._pretraining import Plan, cached, context_of, pretrained, standardised_by_known
from archfront.spaces.inference._prior_architectures import Architectures
from archfront.spaces.inference._prior_gp import FixedGp, HeboPlus
from archfront.spaces.inference._prior_task import PriorTask
from archfront.spaces.inference._transformer import PfnShape
from archfront.trainers import Budget, load

SHAPE = PfnShape(6, 32, 2, 2, 32, 50)
PLAN = Plan(
    SHAPE,
    ((HeboPlus(6, 0.5, most=6), 0.5), (Architectures(6, 0.5), 0.5)),
    steps=4,
    batch=8,
    longest=16,
    queries=8,
)


def prior_task(name: str = "rbf_gp", seed: int = 0) -> PriorTask:
    task = spaces.load("pfn", task=name, seed=seed).task()
    assert isinstance(task, PriorTask)
    return task


def test_training_batches_are_fresh_and_held_out_data_sets_are_fixed() -> None:
    task, again, other = prior_task(), prior_task(), prior_task(seed=1)
    assert torch.equal(task.split("val").inputs[0], again.split("val").inputs[0])
    assert not torch.equal(task.split("val").inputs[0], task.split("test").inputs[0])
    assert not torch.equal(task.split("val").inputs[0], other.split("val").inputs[0])
    train = task.split("train")
    inputs, target = tuple(t[:8] for t in train.inputs), train.target[:8]
    generator = torch.Generator().manual_seed(2)
    (x, y, known), hidden = task.corrupt(inputs, target, generator)
    assert x.shape == inputs[0].shape
    assert torch.equal(known, hidden.isnan())
    assert (y[~known] == 0).all()
    assert not torch.equal(x, task.corrupt(inputs, target, generator)[0][0])
    (same, *_), _ = task.corrupt(inputs, target, torch.Generator().manual_seed(2))
    assert torch.equal(x, same)


def test_the_default_configuration_is_the_papers() -> None:
    space = spaces.load("pfn")
    net = space.build(space.search_space.default)
    assert net.shape == PfnShape(1, 64, 3, 4, 128, 100)
    assert isinstance(net.blocks, nn.ModuleList)
    assert space.task().split("val").inputs[0].shape == (512, 20, 1)


def test_loss_and_score_are_of_what_is_hidden() -> None:
    task = prior_task()
    target = task.split("val").target[:4]
    output = torch.zeros(4, 20, 402)
    output[..., :-2] = torch.randn(4, 20, 400, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    asked = ~target.isnan()
    posterior = BarDistribution.of_output(output[asked], task.borders)
    assert task.loss(output, target) == pytest.approx(float(posterior.nll(target[asked]).mean()))
    scores = task.score(output, target)
    assert scores["nll"] == pytest.approx(float(task.loss(output, target)), rel=1e-4)
    assert scores["mse"] == pytest.approx(float((posterior.mean - target[asked]).square().mean()), rel=1e-4)
    reference = task.reference("nll")
    assert reference is not None
    assert scores["nll"] > reference
    with pytest.raises(UsageError, match="label_smoothing"):
        task.loss(output, target, smoothing=0.1)


def test_a_coarse_slice_is_the_merged_supernet() -> None:
    space = spaces.load("pfn")
    bank = Supernet(space, fixed={"emsize": 32})
    inputs = tuple(t[:4] for t in space.task().split("val").inputs)
    base = {**space.search_space.default, "emsize": 32}
    with torch.no_grad():
        fine, coarse = (
            bank.extract({**base, "bucket_share": share}).eval()(*inputs)[..., :-2].exp() for share in (1.0, 0.125)
        )
    assert (fine.unflatten(-1, (50, 8)).sum(-1) - coarse.unflatten(-1, (50, 8)).sum(-1)).abs().max() < 1e-6


@pytest.mark.parametrize("trainer", ["backprop", "supernet"])
def test_it_trains_and_resumes(trainer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archfront.spaces.inference._prior_task.TRAIN", 256)
    monkeypatch.setattr("archfront.spaces.inference._prior_task.HELD_OUT", 64)
    space = spaces.load("pfn")
    space = space.narrowed(space.search_space.fix({"emsize": 32}).narrow({"layers": (2, 3)}))
    config = {**space.search_space.default, "trainer.batch_size": 64}

    def made() -> Any:
        return load(trainer)(space, config, budget=Budget(2), seed=0)

    straight = made()
    reports = list(straight.run())
    reference = space.task().reference("nll")
    assert reference is not None
    assert reports[-1].metrics["nll"] < reference + 0.5
    first, second = made(), made()
    next(first.run())
    second.load_state_dict(first.state_dict())
    assert [r.metrics for r in second.run()] == [r.metrics for r in reports[1:]]


# -- pre-training


def test_labels_are_standardised_by_those_that_are_known() -> None:
    y = torch.tensor([[1.0, 3.0, 5.0, 1e9], [2.0, 2.0, 2.0, 2.5]])
    known = torch.tensor([[True, True, False, False], [True, True, True, False]])
    got = standardised_by_known(y, known)
    assert got[0].tolist() == [-1, 1, 3, 10]
    assert got[1].tolist() == [0, 0, 0, 10]


def test_context_sizes_reach_the_longest() -> None:
    plan = replace(PLAN, longest=256)
    sizes = [context_of(plan, torch.Generator().manual_seed(seed)) for seed in range(300)]
    assert min(sizes) == 24
    assert max(sizes) == 256
    assert all(size % 8 == 0 for size in sizes)
    assert np.median(sizes) < 100, "short ones are as frequent on a log scale"


def test_pre_training_is_a_function_of_the_plan_and_learns() -> None:
    seen: list[float] = []
    before = torch.get_rng_state()
    one, other = pretrained(PLAN), pretrained(PLAN)
    assert one.hash == other.hash
    assert pretrained(replace(PLAN, seed=1)).hash != one.hash
    assert torch.equal(before, torch.get_rng_state())
    pretrained(replace(PLAN, steps=60), progress=lambda step, loss, seconds: seen.append(loss))
    assert len(seen) == 60
    assert np.mean(seen[-20:]) < np.mean(seen[:5])
    assert pretrained(replace(PLAN, steps=10**9), seconds=0.3).about["trained_steps"] < 10**6


def test_a_plan_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="network of 6"):
        replace(PLAN, mixture=((FixedGp(5), 1.0),))
    with pytest.raises(ValueError, match="shortest=1"):
        replace(PLAN, shortest=1)


def test_a_checkpoint_goes_through_a_file(tmp_path: Path) -> None:
    checkpoint = pretrained(PLAN)
    path = tmp_path / "folder" / "mine.pt"
    save_checkpoint(checkpoint, path)
    again = load_checkpoint(path)
    assert again.hash == checkpoint.hash
    assert json.loads(json.dumps(dict(again.about)))["trained_steps"] == 4
    assert {tensor.dtype for tensor in again.state.values()} == {torch.float16}
    x, y = torch.randn(1, 5, 6), torch.randn(1, 5)
    known = torch.tensor([[True, True, True, False, False]])
    assert torch.equal(again.network()(x, y, known), checkpoint.network()(x, y, known))


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "missing"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "mine.pt"
    save_checkpoint(pretrained(PLAN), path)
    saved = torch.load(path, weights_only=True)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "changed":
        saved["state"]["head.bias"][0] += 1
        torch.save(saved, path)
    elif damage == "foreign":
        torch.save({**saved, "format": "other"}, path)
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"mine\.pt"):
        load_checkpoint(path)


def test_the_cache_is_used_and_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = cached(PLAN, tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    assert cached(PLAN, tmp_path).hash == checkpoint.hash
    assert file.stat().st_mtime_ns == before
    file.write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING):
        assert cached(PLAN, tmp_path).hash == checkpoint.hash
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    assert cached(PLAN, tmp_path).hash == checkpoint.hash
    assert not caplog.records
    cached(replace(PLAN, seed=1), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
