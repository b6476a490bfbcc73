"""Other data sets: the set encoder, data sets as rows by class, what is transferred to a new one without a label."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from archfront import predictors
from archfront.predictors import Context, Predictor
from archfront.predictors._datasets import DataSet, DataSets, KnownDataSets, Source
from archfront.predictors._errors import TooFewPointsError
from archfront.predictors._relaxation import Relaxation
from archfront.predictors._set_encoder import HEADS, Attention, SetEncoder
from archfront.predictors._workshop import InProcess
from archfront.predictors.dataset_aware import DatasetAware
from archfront.predictors.noise_aware import NoiseAware
from archfront.predictors.testing import ADDITIVE, CONDITIONAL, PredictorContract, toy_latency
from archfront.search._guidance import opinions_of
from archfront.search._types import Objective
from archfront.search.diffusion import Diffusion
from archfront.spaces._choices import Categorical
from archfront.spaces._errors import UsageError
from archfront.spaces._parameter import Floats, Repeated
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Signature, Split, Task, TensorSpec
from archfront.spaces._tasks import CLASSIFICATION_METRICS, Classification, ImageToImage

LETTERS = ("a", "b", "c")
CELLS = SearchSpace(Repeated(Categorical("op", LETTERS), 4))
WIDTH = 3


# -- the set encoder, recomputed by loops


def attended(block: Attention, network: int, x: Floats, y: Floats) -> Floats:
    """Rows (n, dim) that attend to rows y, entry by entry."""

    def linear(layer: Any, z: Floats) -> Floats:
        return np.asarray(z @ layer.weight[network].detach().numpy() + layer.bias[network].detach().numpy())

    query, key, value = linear(block.query, x), linear(block.key, y), linear(block.value, y)
    dim = query.shape[1]
    out = query.copy()
    for head in range(HEADS):
        columns = range(head * dim // HEADS, (head + 1) * dim // HEADS)
        for i in range(len(x)):
            scores = np.array([sum(query[i, c] * key[j, c] for c in columns) / math.sqrt(dim) for j in range(len(y))])
            share = np.exp(scores - scores.max())
            share /= share.sum()
            for c in columns:
                out[i, c] += sum(share[j] * value[j, c] for j in range(len(y)))
    return np.asarray(out + np.maximum(linear(block.out, out), 0))


def pooled(pool: Any, network: int, x: Floats) -> Floats:
    x = attended(pool.first, network, x, x)
    x = attended(pool.second, network, x, x)
    x = attended(pool.pool, network, pool.seed[network].detach().numpy(), x)[0]
    return np.asarray(x @ pool.out.weight[network].detach().numpy() + pool.out.bias[network, 0].detach().numpy())


def test_the_encoder_is_its_formula_class_by_class() -> None:
    torch.manual_seed(0)
    encoder = SetEncoder(2, 5).double()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # biases too
    sets = [torch.randn(classes, 4, 5).double() for classes in (3, 1, 2)]
    together = encoder(sets).detach().numpy()
    assert together.shape == (2, 3, 56)
    for network in range(2):
        for i, one in enumerate(sets):
            prototypes = np.stack([pooled(encoder.of_class, network, rows.numpy()) for rows in one])
            assert np.abs(pooled(encoder.of_set, network, prototypes) - together[network, i]).max() < 1e-5


def test_neither_rows_nor_classes_have_an_order() -> None:
    torch.manual_seed(0)
    encoder, one = SetEncoder(2, 5).double(), torch.randn(3, 4, 5).double()
    moved = one[[2, 0, 1]][:, [3, 1, 0, 2]]
    assert torch.allclose(encoder([one]), encoder([moved]), atol=1e-12)
    assert not torch.allclose(encoder([one]), encoder([one + 0.1]), atol=1e-3)


# -- data sets


def rows(seed: int, classes: int = 2, n: int = 5, width: int = WIDTH) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, width)) for _ in range(classes)]


class Regression(Classification):
    """For targets that are numbers."""


def task(x: torch.Tensor, y: torch.Tensor, kind: type[Task] = Classification) -> Task:
    other = Split((x + 100,), y)

    def load() -> Mapping[str, Split]:
        return {"train": Split((x,), y), "val": other, "test": other}

    return kind("mine", Signature("any", (TensorSpec(tuple(x.shape[1:])),), 3), CLASSIFICATION_METRICS, load)


class TestDataSet:
    def test_classes_are_rows_of_the_training_split(self) -> None:
        x, y = torch.arange(60.0).reshape(30, 2), torch.arange(30) % 3
        found = DataSet.of(task(x, y), most=4)
        assert [own.shape for own in found.classes] == [(4, 2)] * 3
        for kind, own in enumerate(found.classes):
            there = x[y == kind].numpy().tolist()
            assert all(row in there for row in own.tolist())
        again = DataSet.of(task(x, y), most=4)
        assert all(np.array_equal(a, b) for a, b in zip(found.classes, again.classes, strict=True))

    def test_numbers_are_cut_into_groups_and_images_into_a_grid(self) -> None:
        x, y = torch.rand(40, 3, 16, 16), torch.linspace(0, 1, 40)
        found = DataSet.of(task(x, y, Regression))
        assert [own.shape for own in found.classes] == [(10, 64)] * 4
        assert found.classes[0][0, 0] == pytest.approx(float(x[0, :, :2, :2].mean()), rel=1e-5)
        own = DataSet.of(task(x, y, Regression), features=lambda images: images.flatten(1)[:, :7])
        assert own.width == 7

    def test_draws_take_every_row_before_they_repeat_one(self) -> None:
        one = DataSet("one", rows(0, classes=3, n=2))
        drawn = one.drawn(np.random.default_rng(0), 5, 2)
        assert drawn.shape == (2, 5, WIDTH)
        assert all(len(np.unique(own, axis=0)) == 2 for own in drawn)

    def test_refusals_name_what_is_wrong(self) -> None:
        for classes in ([], [np.ones((2, 3)), np.ones((2, 4))], [np.ones((0, 3))], [np.ones(3)]):
            with pytest.raises(UsageError, match="data set 'bad'"):
                DataSet("bad", classes)
        with pytest.raises(UsageError, match="not finite"):
            DataSet("bad", [np.full((2, 3), np.nan)])
        with pytest.raises(UsageError, match=r"task 'mine' has 4 targets per row.*|give its rows yourself"):
            DataSet.of(task(torch.rand(5, 2), torch.rand(5, 4), ImageToImage))
        with pytest.raises(UsageError, match="neither vectors nor images"):
            DataSet.of(task(torch.ones(6, 2, dtype=torch.int64), torch.arange(6) % 2))
        with pytest.raises(UsageError, match=r"error of shape \(2,\) for 1"):
            Source(DataSet("s", rows(0)), [CELLS.default], {"error": np.ones(2)})
        source = Source(DataSet("s", rows(0, width=2)), [CELLS.default], {"error": np.ones(1)})
        with pytest.raises(UsageError, match=r"'s' has 2 features, .* has 3"):
            KnownDataSets.of(DataSet("t", rows(0)), [source])
        assert "KnownDataSets.of" in str(DatasetAware.supports(Context()))
        told = KnownDataSets(known=partial(DataSets, reason="the data of task 'in16' is not at hand"))
        with pytest.raises(UsageError, match="cannot be used here") as refused:
            DatasetAware(CELLS, told)
        assert "in16" in str(refused.value.hint)


# -- a transfer whose answer is known


def problem(seed: int, n: int = 30) -> tuple[DataSet, Floats]:
    """A data set of two classes, and what each letter then costs: where the mean of its first feature lies says which
    letter is good, the others say nothing."""
    rng = np.random.default_rng(seed)
    place = rng.choice([-1, 1]) * rng.uniform(0.5, 1)
    clouds = [rng.normal(0, 0.5, (n, WIDTH)) + rng.normal(0, 0.5, WIDTH) for _ in range(2)]
    for cloud in clouds:
        cloud[:, 0] = rng.normal(2 * place, 0.3, n)
    return DataSet(f"d{seed}", clouds), np.array([place, 0.0, -place])


def losses(costs: Floats, configs: Sequence[Configuration]) -> Floats:
    return np.array([sum(costs[LETTERS.index(v)] for v in config.values()) for config in configs])


def source_of(seed: int) -> Source:
    dataset, costs = problem(seed)
    rng = np.random.default_rng(seed)
    configs = CELLS.sample(rng, 20)
    return Source(dataset, configs, {"loss": 3 + seed + (1 + seed % 3) * losses(costs, configs)})


SOURCES = [source_of(seed) for seed in range(24)]
UNSEEN = [problem(seed) for seed in range(100, 106)]
QUICK = {"networks": 2, "hidden": 16, "layers": 2, "steps": 250, "adaptation": 60, "lr": 5e-3, "rows": 4, "draws": 3}
QUICK |= {"batch": 64}


def transferred(target: DataSet, sources: Sequence[Source] = SOURCES, **parameters: Any) -> DatasetAware:
    """Fitted on no row of the target."""
    predictor = DatasetAware(CELLS, KnownDataSets.of(target, sources), seed=0, **{**QUICK, **parameters})
    predictor.fit([], {"loss": []})
    return predictor


def tau_of(predictor: Predictor, costs: Floats) -> float:
    configs = CELLS.enumerate()
    return predictor.score(configs, {"loss": losses(costs, configs)})["loss"].kendall


def permuted(sources: Sequence[Source]) -> list[Source]:
    """Each with the data set of another."""
    order = np.random.default_rng(0).permutation(len(sources))
    return [Source(sources[i].dataset, own.configs, own.values) for i, own in zip(order, sources, strict=True)]


@pytest.fixture(scope="module")
def clear() -> list[tuple[DataSet, Floats]]:
    """One unseen data set on which a is good, and one on which it is bad."""
    return [next(one for one in UNSEEN if sign * one[1][0] > 0) for sign in (-1, 1)]


@pytest.fixture(scope="module")
def zero_shot(clear: list[tuple[DataSet, Floats]]) -> list[DatasetAware]:
    """Of each, fitted on no row."""
    return [transferred(target) for target, _ in clear]


class TestTransfer:
    def test_what_the_data_says_is_transferred_without_a_label(
        self, clear: list[tuple[DataSet, Floats]], zero_shot: list[DatasetAware]
    ) -> None:
        """And is lost when data sets are permuted: a predictor that ignores them fails here."""
        taus = [tau_of(predictor, costs) for predictor, (_, costs) in zip(zero_shot, clear, strict=True)]
        ignoring = [tau_of(transferred(target, permuted(SOURCES)), costs) for target, costs in clear]
        assert min(taus) > 0.5
        assert np.mean(taus) > np.mean(ignoring) + 0.4

    def test_level_and_spread_are_the_sources_until_rows_are_told(
        self, clear: list[tuple[DataSet, Floats]], zero_shot: list[DatasetAware]
    ) -> None:
        configs = CELLS.sample(np.random.default_rng(3), 12)
        guess = zero_shot[0].predict(configs)["loss"]
        levels = [float(np.mean(source.values["loss"])) for source in SOURCES]
        assert abs(float(guess.mean.mean()) - float(np.mean(levels))) < 3
        assert guess.std is not None
        assert (guess.std > 0).all()
        (target, costs), y = clear[0], 1000 + 50 * losses(clear[0][1], configs)
        predictor = DatasetAware(CELLS, KnownDataSets.of(target, SOURCES[:6]), seed=0, **QUICK)
        report = predictor.fit(configs, {"loss": y})
        assert report.n == 12
        near = predictor.predict(configs)["loss"]
        assert np.abs(near.mean - y).mean() < y.std()
        assert tau_of(predictor, costs) > 0.3

    def test_a_metric_that_nobody_knows_needs_rows_of_its_own(self, clear: list[tuple[DataSet, Floats]]) -> None:
        predictor = DatasetAware(CELLS, KnownDataSets.of(clear[0][0], SOURCES[:2]), seed=0, **{**QUICK, "steps": 5})
        assert (predictor.minimum_of("loss"), predictor.minimum_of("other")) == (0, NoiseAware.minimum)
        with pytest.raises(TooFewPointsError, match="needs 5 points, 'other' has 0"):
            predictor.fit([], {"other": []})
        configs = CELLS.sample(np.random.default_rng(0), 5)
        predictor.fit(configs, {"other": np.arange(5.0), "loss": np.arange(5.0)})
        assert predictor.metrics == ["loss", "other"]

    def test_a_transfer_is_stored_and_needs_no_data_set_to_predict(self, zero_shot: list[DatasetAware]) -> None:
        one = zero_shot[0]
        again = DatasetAware(CELLS, KnownDataSets.of(*_other()), **QUICK)
        again.load_state_dict(pickle.loads(pickle.dumps(one.state_dict())))
        configs = CELLS.enumerate()[:9]
        assert np.array_equal(again.predict(configs)["loss"].mean, one.predict(configs)["loss"].mean)
        x, t = torch.randn(3, *one.relaxation.shape), torch.rand(3)
        noisy = pickle.loads(pickle.dumps(one.noisy("loss")))
        assert torch.equal(noisy(x, t), one.noisy("loss")(x, t))
        assert noisy(x, t).shape == (2, 3)

    def test_other_data_sets_are_learned_once_and_keeping_changes_nothing(self) -> None:
        context, few = KnownDataSets.of(UNSEEN[0][0], SOURCES[:3]), {**QUICK, "steps": 5, "adaptation": 5}
        configs = CELLS.sample(np.random.default_rng(0), 6)

        def fitted(context: Context, seed: int) -> Floats:
            predictor = DatasetAware(CELLS, context, seed=seed, **few)
            predictor.fit(configs, {"loss": np.arange(6.0)})
            return predictor.predict(configs)["loss"].mean

        one, other = fitted(context, 0), fitted(context, 1)
        assert isinstance(context.workshop, InProcess)
        assert len(context.workshop.kept) == 1
        assert np.array_equal(one, fitted(KnownDataSets.of(UNSEEN[0][0], SOURCES[:3]), 0))
        assert not np.array_equal(one, other)
        fitted(KnownDataSets.of(UNSEEN[1][0], SOURCES[:3], Context(workshop=context.workshop)), 0)
        assert len(context.workshop.kept) == 2, "other data is another beginning"

    def test_the_gradient_of_noised_cells_points_to_the_better_letter(
        self, clear: list[tuple[DataSet, Floats]], zero_shot: list[DatasetAware]
    ) -> None:
        relaxation = Relaxation.of(CELLS)
        for predictor, (_, costs) in zip(zero_shot, clear, strict=True):
            x = torch.randn(50, *relaxation.shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
            opinions_of(predictor, "loss", relaxation)(x, torch.full((50,), 0.2), x).sum().backward()
            assert x.grad is not None
            slope = x.grad.mean(dim=(0, 1))
            assert float(slope[0] - slope[2]) * costs[0] > 0


class Elsewhere(InProcess):
    """Work in another process, which hands out read-only arrays, as a cluster does."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        there = pickle.loads(pickle.dumps(arguments))
        buffers: list[pickle.PickleBuffer] = []
        text = pickle.dumps(work(self.kept, *there), protocol=5, buffer_callback=buffers.append)
        frozen = [bytes(buffer.raw()) for buffer in buffers]
        return lambda: pickle.loads(text, buffers=frozen)


def test_it_is_learned_elsewhere() -> None:
    configs, found = CELLS.sample(np.random.default_rng(0), 6), []
    for workshop in (InProcess(), Elsewhere()):
        context = KnownDataSets.of(UNSEEN[0][0], SOURCES[:2], Context(workshop=workshop))
        predictor = DatasetAware(CELLS, context, seed=0, **{**QUICK, "steps": 5, "adaptation": 5})
        predictor.fit(configs, {"loss": np.arange(6.0)})
        found.append(predictor.predict(configs)["loss"].mean)
    assert np.array_equal(*found)


def _other() -> tuple[DataSet, list[Source]]:
    return DataSet("another", rows(9)), SOURCES[:1]


class TestContract(PredictorContract):
    """With two other data sets on whatever space a law takes: one is alike, one says nothing."""

    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return DatasetAware

    @pytest.fixture
    def context(self) -> Context:
        return known_in(CONDITIONAL)

    @pytest.fixture
    def make(self, predictor_class: type[Predictor]) -> Any:
        def make(**changes: Any) -> Predictor:
            arguments = {"seed": 0, **predictor_class.test_parameters, **changes}
            space = arguments.pop("space", CONDITIONAL)
            return predictor_class(space, known_in(space), **arguments)

        return make


def known_in(space: SearchSpace) -> KnownDataSets:
    """Of 15 configurations; a space that the toy's latency does not know has one of its features."""
    rng = np.random.default_rng(1)
    configs = space.sample(rng, 15)
    known = toy_latency(configs) if space in (CONDITIONAL, ADDITIVE) else space.to_features(configs).sum(axis=1)
    values = [known + rng.normal(0, 0.1, 15), rng.normal(5, 1, 15)]
    return KnownDataSets.of(
        DataSet("own", rows(0)),
        [Source(DataSet(f"d{i}", rows(i)), configs, {"latency_ms": y}) for i, y in enumerate(values, 1)],
    )


class QuickAware(DatasetAware):
    """As a guide, which has no parameters."""

    def __init__(self, *base: Any, **rest: Any) -> None:
        super().__init__(*base, **{**QUICK, **rest})


class TestDiffusion:
    def drawn(self, target: DataSet, **changes: Any) -> list[tuple[str, Configuration]]:
        given = {**Diffusion.test_parameters, "initial": 0, "training_steps": 150, "steps": 10, "quantiser": "argmax"}
        given |= {
            "batch_size": 6,
            "pool": 12,
            "predictor": "gaussian_process",
            "guide": f"{__name__}:QuickAware",
            **changes,
        }
        context = KnownDataSets.of(target, SOURCES)
        strategy = Diffusion(CELLS, [Objective("loss", "min")], seed=0, context=context, **given)
        return [(proposal.origin, proposal.config) for proposal in strategy.ask(6).proposals]

    def test_the_first_batch_is_guided_and_better_than_an_unguided_one(
        self, clear: list[tuple[DataSet, Floats]]
    ) -> None:
        target, costs = clear[0]
        guided = self.drawn(target)
        plain = self.drawn(target, candidates="unguided", guide="ridge", initial=6)
        assert {origin for origin, _ in guided} <= {"diffusion-guided", "diffusion"}
        assert "diffusion-guided" in {origin for origin, _ in guided}
        means = [float(losses(costs, [config for _, config in found]).mean()) for found in (guided, plain)]
        assert means[0] < means[1] - 0.5

    def test_a_guide_that_transfers_nothing_needs_a_beginning(self) -> None:
        with pytest.raises(UsageError, match="initial=0: guide='noise_aware' knows nothing"):
            self.drawn(UNSEEN[0][0], guide="noise_aware")
        with pytest.raises(UsageError, match="cannot be used here"):
            Diffusion(CELLS, [Objective("loss", "min")], guide="dataset_aware")


def test_it_is_registered() -> None:
    assert predictors.load("dataset_aware") is DatasetAware
