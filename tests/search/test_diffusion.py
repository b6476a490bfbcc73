"""DiffusionNAG's parts: the score network, one step of the samplers, guidance, the strategy's origins and refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from archfront import predictors
from archfront.predictors._directed import DirectedEnsemble
from archfront.predictors._relaxation import Relaxation
from archfront.predictors._sde import SDES, VarianceExploding, sde_of
from archfront.predictors.testing import ADDITIVE, CONDITIONAL
from archfront.search._diffusion import Sampler, corrected, sampled, stepped
from archfront.search._generator import Generator, prepare
from archfront.search._guidance import Bound, Desire, Guidance, opinions_of
from archfront.search._score_network import ScoreNetwork, ScoreShape
from archfront.search._score_training import ScoreRecipe, new_network, score_loss, train_score_network
from archfront.search._types import Constraint, Evaluation, Objective, SearchBudget, Value
from archfront.search.diffusion import Diffusion
from archfront.spaces._choices import Categorical
from archfront.spaces._errors import ArchfrontError, UsageError
from archfront.spaces._parameter import Repeated
from archfront.spaces._search_space import Configuration, SearchSpace

CELLS = SearchSpace(Repeated(Categorical("op", ("a", "b", "c")), 4))
SMALL = ScoreShape(width=32, blocks=2, heads=4, inner=64, dropout=0.0)


def everything_of(rows: int, columns: int) -> ScoreNetwork:
    """The paper's network."""
    return ScoreNetwork(columns, torch.ones(rows, rows, dtype=torch.bool), torch.arange(rows), VarianceExploding())


class TestScoreNetwork:
    @pytest.mark.parametrize(("rows", "columns", "parameters"), [(8, 7, 3_989_575), (20, 9, 3_992_777)])
    def test_parameters_of_the_papers_size(self, rows: int, columns: int, parameters: int) -> None:
        assert sum(p.numel() for p in everything_of(rows, columns).parameters()) == parameters

    def test_parameters_of_the_small_one(self) -> None:
        """565,831 measured on the official network cut to four blocks."""
        mask = torch.ones(8, 8, dtype=torch.bool)
        net = ScoreNetwork(7, mask, torch.arange(8), VarianceExploding(), ScoreShape(blocks=4))
        assert sum(p.numel() for p in net.parameters()) == 565_831

    def test_a_row_sees_only_what_the_mask_allows(self) -> None:
        """Rows of a chain see their descendants; the last one, allowed to see nothing, sees all alike."""
        mask = torch.triu(torch.ones(4, 4, dtype=torch.bool), diagonal=1)
        shape = ScoreShape(width=32, blocks=1, heads=4, inner=64)
        net = ScoreNetwork(3, mask, torch.arange(4), VarianceExploding(), shape).eval()
        x, t = torch.randn(2, 4, 3), torch.tensor([0.2, 0.9])
        changed = x.clone()
        changed[:, 0] += 1
        difference = (net(changed, t) - net(x, t)).abs().amax(dim=2).detach()
        assert float(difference[:, 1:3].max()) == 0
        assert float(difference[:, 0].min()) > 0
        assert float(difference[:, 3].min()) > 0  # allowed to see nothing, it sees all alike

    @pytest.mark.parametrize("name", SDES)
    def test_the_loss_is_that_of_denoising(self, name: str) -> None:
        """The true score of a single matrix makes it vanish."""

        class Exact(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.sde = sde_of(name)

            def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
                return -(x - self.sde.scale(t)[:, None, None] * ONE) / self.sde.std(t)[:, None, None] ** 2

        ONE = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        loss = score_loss(
            Exact(),  # type: ignore[arg-type]
            ONE.expand(8, 2, 2),
            torch.linspace(0.1, 1, 8),
            torch.randn(8, 2, 2),
            torch.ones(2, 2, dtype=torch.bool),
        )
        assert float(loss) < 1e-8


class TestSteps:
    @pytest.mark.parametrize("name", SDES)
    def test_one_step_of_each_kind_by_hand(self, name: str) -> None:
        sde = sde_of(name)
        x, score, z = (torch.randn(3, 2, 2, dtype=torch.float64) for _ in range(3))
        t, steps = torch.full((3,), 0.6, dtype=torch.float64), 100
        rate, g = float(sde.rate(t[:1])), float(sde.diffusion(t[:1]))
        stepped_x, mean = stepped(sde, "euler_maruyama", score, x, t, steps, z)
        drift = -rate * x - g**2 * score
        assert torch.allclose(mean, x - drift / steps, atol=1e-12)
        assert torch.allclose(stepped_x, x - drift / steps + g * math.sqrt(1 / steps) * z, atol=1e-12)
        noise, grad = z.flatten(1).norm(dim=1).mean(), score.flatten(1).norm(dim=1).mean()
        delta = 2 * (0.16 * noise / grad) ** 2 * float(sde.correction(t, steps)[0])
        moved = corrected(sde, score, x, t, steps, z, 0.16)
        assert torch.allclose(moved, x + delta * score + torch.sqrt(2 * delta) * z, atol=1e-12)

    def test_the_variance_of_a_discrete_step_of_ve(self) -> None:
        sde = VarianceExploding()
        t = torch.tensor([0.5], dtype=torch.float64)
        _, size = sde.discrete(t, 100)
        assert float(size) ** 2 == pytest.approx(float(sde.std(t)) ** 2 - float(sde.std(t - 0.01)) ** 2)

    @pytest.mark.parametrize("name", SDES)
    def test_the_exact_score_leads_to_the_data(self, name: str) -> None:
        """Two matrices: the reverse process ends at one of them, both are found."""
        sde = sde_of(name)
        relaxation = Relaxation.of(SearchSpace(Categorical("a", ("x", "y"))))
        data = torch.from_numpy(2 * relaxation.encode(relaxation.space.enumerate()) - 1).float()

        def score(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            off = sde.scale(t)[:, None, None, None] * data - x[:, None]
            variance = sde.std(t)[:, None, None, None] ** 2
            share = (-(off**2 / (2 * variance)).sum(dim=(2, 3))).softmax(dim=1)
            return (share[:, :, None, None] * off / variance).sum(dim=1)

        score.sde = sde  # type: ignore[attr-defined]
        sampler = Sampler(steps=400, corrector="none")
        matrices = sampled(score, relaxation, 64, sampler, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        found = [config["a"] for config in relaxation.decode(matrices) if config]
        assert len(found) > 60
        assert set(found) == {"x", "y"}


@pytest.fixture(scope="module")
def cells() -> Relaxation:
    """Of 81 cells."""
    return Relaxation.of(CELLS)


@pytest.fixture(scope="module")
def trained(cells: Relaxation) -> ScoreNetwork:
    """A generator of the cells: seconds."""
    return train_score_network(cells, sde_of("ve"), ScoreRecipe(steps=500, batch=64, lr=3e-3, warmup=50, shape=SMALL))


def drawn(
    net: ScoreNetwork, cells: Relaxation, n: int, guide: Guidance | None = None, sampler: Sampler | None = None
) -> list[Configuration]:
    """Valid samples."""
    sampler = sampler or Sampler(steps=30)
    matrices = sampled(net, cells, n, sampler, torch.Generator().manual_seed(0), guide)
    return [config for config in cells.decode(matrices) if config is not None]


def share_of_a(configs: list[Configuration]) -> float:
    """Of all decisions."""
    return float(np.mean([[value == "a" for value in config.values()] for config in configs]))


class TestGenerating:
    def test_most_samples_are_legal_and_all_kinds_come(self, trained: ScoreNetwork, cells: Relaxation) -> None:
        configs = drawn(trained, cells, 200)
        assert len(configs) > 160
        assert len({CELLS.key(config) for config in configs}) > 60
        assert abs(share_of_a(configs) - 1 / 3) < 0.12

    def test_reverse_diffusion_and_no_corrector_sample_too(self, trained: ScoreNetwork, cells: Relaxation) -> None:
        for sampler in (Sampler(30, "reverse_diffusion"), Sampler(30, corrector="none")):
            assert len(drawn(trained, cells, 100, sampler=sampler)) > 50
        drawn(trained, cells, 10, sampler=Sampler(10, "none"))

    def test_the_same_seed_gives_the_same_network(self, cells: Relaxation) -> None:
        recipe = ScoreRecipe(steps=3, batch=8, shape=SMALL)
        one, other = (train_score_network(cells, sde_of("ve"), recipe).state_dict() for _ in range(2))
        assert all(torch.equal(one[name], other[name]) for name in one)

    @pytest.mark.parametrize("guide", ["noise_aware", "ridge"])
    def test_guidance_moves_samples_and_shuffled_labels_do_not(
        self, trained: ScoreNetwork, cells: Relaxation, guide: str
    ) -> None:
        rng = np.random.default_rng(0)
        configs = CELLS.sample(rng, 60)
        labels = np.array([sum(value == "a" for value in config.values()) for config in configs], np.float64)
        n = 120
        sizes = {"networks": 2, "hidden": 32, "layers": 2, "steps": 200} if guide == "noise_aware" else {}

        def guided(targets: np.ndarray, sign: float) -> float:
            predictor = predictors.load(guide)(CELLS, seed=0, **sizes)
            predictor.fit(configs, {"loss": targets})
            desire = Desire(opinions_of(predictor, "loss", cells), sign, float(targets.std()))
            pull = Guidance([desire], [], torch.ones(n, 1), torch.zeros(n, dtype=torch.int64), 10.0)
            return share_of_a(drawn(trained, cells, n, pull))

        plain = share_of_a(drawn(trained, cells, n))
        fewer, more = guided(labels, 1.0), guided(labels, -1.0)
        assert fewer < plain - 0.1 < plain + 0.1 < more
        shuffled = [guided(np.random.default_rng(s).permutation(labels), 1.0) for s in range(3)]
        assert abs(float(np.mean(shuffled)) - plain) < abs(fewer - plain) / 2

    def test_a_bound_is_respected_more_often_with_its_gradient(self, trained: ScoreNetwork, cells: Relaxation) -> None:
        configs = CELLS.sample(np.random.default_rng(0), 60)
        predictor = predictors.load("ridge")(CELLS, seed=0)
        predictor.fit(configs, {"cost": [sum(v == "a" for v in c.values()) for c in configs]})
        bound = Bound(opinions_of(predictor, "cost", cells), 1.0, 0.5, 0.5)
        n = 200
        pull = Guidance([], [bound], torch.ones(n, 0), torch.zeros(n, dtype=torch.int64), 3.0)
        assert share_of_a(drawn(trained, cells, n, pull)) < share_of_a(drawn(trained, cells, n)) - 0.1

    def test_each_sample_follows_its_own_network(self) -> None:
        gains = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        pull = Guidance([], [], torch.ones(2, 0), torch.tensor([1, 2]), 1.0, "its")
        assert pull._said(gains).tolist() == [3.0, 2.0]


@pytest.mark.parametrize("mask", [torch.ones(4, 4).triu(1).bool(), torch.ones(4, 4, dtype=torch.bool)])
def test_networks_side_by_side_are_each_their_own(mask: torch.Tensor) -> None:
    nets = DirectedEnsemble(3, 2, mask, hidden=16, layers=2, dropout=0.0).eval()
    x, condition = torch.randn(3, 5, 4, 2), torch.rand(3, 5)
    together = nets(x, condition)
    for i in range(3):
        alone = DirectedEnsemble(1, 2, mask, hidden=16, layers=2).eval()
        alone.load_state_dict({name: t[i : i + 1] for name, t in nets.state_dict().items()})
        assert torch.allclose(alone(x[i : i + 1], condition[i : i + 1])[0], together[i], atol=1e-6)


def test_rows_that_nothing_connects_in_an_order_are_told_apart() -> None:
    """What a is worth in one row it costs in the next: any network that is blind to rows says the same of both."""
    configs = CELLS.sample(np.random.default_rng(0), 60)
    signs = [1, -1, 1, -1]

    def worth(configs: Sequence[Configuration]) -> list[float]:
        return [float(sum(s * (v == "a") for s, v in zip(signs, c.values(), strict=False))) for c in configs]

    guide = predictors.load("noise_aware")(CELLS, seed=0)
    guide.fit(configs, {"cost": worth(configs)})
    fresh = CELLS.sample(np.random.default_rng(1), 60)
    assert guide.score(fresh, {"cost": worth(fresh)})["cost"].kendall > 0.5


class TestCache:
    def test_made_once_and_again_when_damaged(
        self, cells: Relaxation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("ARCHFRONT_CACHE", str(tmp_path))
        generator = Generator(cells, sde_of("ve"), ScoreRecipe(steps=3, batch=8, shape=SMALL))
        first = generator.network().state_dict()
        (file,) = tmp_path.glob("generators/*.pt")
        made = file.stat().st_mtime_ns
        assert all(torch.equal(first[n], t) for n, t in generator.network().state_dict().items())
        assert file.stat().st_mtime_ns == made
        file.write_bytes(file.read_bytes()[:100])
        caplog.clear()
        assert all(torch.equal(first[n], t) for n, t in generator.network().state_dict().items())
        assert [r.message for r in caplog.records if "damaged" in r.message] != []
        assert len([r for r in caplog.records if "damaged" in r.message]) == 1
        assert generator.is_trained
        file.write_bytes(b"")
        caplog.clear()
        assert not generator.is_trained, "whoever begins a study hears it, not the process that trains"
        generator.network()
        assert len([r for r in caplog.records if "damaged" in r.message]) == 1

    def test_another_recipe_is_another_generator(self, cells: Relaxation) -> None:
        one, other = (Generator(cells, sde_of("ve"), ScoreRecipe(steps=steps)) for steps in (3, 4))
        assert one.id != other.id

    def test_what_is_kept_is_not_read_again(self, cells: Relaxation) -> None:
        kept: dict[str, object] = {}
        generator = Generator(cells, sde_of("ve"), ScoreRecipe(steps=2, batch=8, shape=SMALL))
        prepare(kept, generator)
        (net,) = kept.values()
        prepare(kept, generator)
        assert list(kept.values()) == [net]


def told(strategy: Diffusion, n: int) -> list[str]:
    """Origins of n proposals, each told the number of its letters a."""
    origins = []
    for _ in range(n):
        (proposal,) = strategy.ask(1).proposals
        origins.append(proposal.origin)
        loss = float(sum(value == "a" for value in proposal.config.values()))
        values = {"loss": Value(loss, "trained")}
        strategy.tell([Evaluation(proposal.config, proposal.key, "ok", values, proposal.id)])
    return origins


class TestStrategy:
    def made(self, space: SearchSpace = CELLS, **parameters: object) -> Diffusion:
        given = {**Diffusion.test_parameters, **parameters}
        return Diffusion(space, [Objective("loss", "min")], budget=SearchBudget(30), seed=0, **given)

    def test_origins_say_where_candidates_come_from(self) -> None:
        origins = told(self.made(training_steps=30, steps=10, quantiser="argmax"), 14)
        assert set(origins[:6]) == {"random"}
        assert "diffusion-guided" in origins[6:]

    def test_an_untrained_generator_falls_back_and_says_so(self) -> None:
        origins = told(self.made(training_steps=1, steps=2), 14)
        assert set(origins[6:]) <= {"diffusion-guided", "diffusion", "mutation", "random"}
        assert {"mutation", "random"} & set(origins[6:])

    @pytest.mark.parametrize("candidates", ["mutation", "random", "unguided"])
    def test_the_other_candidates_of_the_comparison(self, candidates: str) -> None:
        named = {"mutation": {"mutation", "random"}, "random": {"random"}}
        origins = told(self.made(candidates=candidates), 12)
        allowed = named.get(candidates, {"diffusion", "mutation", "random"})
        assert set(origins[6:]) <= allowed

    @pytest.mark.parametrize("acquisition", ["ei", "pi", "ucb", "its", "mean"])
    def test_every_acquisition_proposes(self, acquisition: str) -> None:
        assert (
            len(told(self.made(acquisition=acquisition, candidates="mutation", predictor="gaussian_process"), 12)) == 12
        )

    def test_argmax_makes_every_sample_legal(self) -> None:
        origins = told(self.made(quantiser="argmax", steps=3), 12)
        assert set(origins[6:]) <= {"diffusion-guided", "diffusion"}

    def test_three_objectives_and_a_constraint(self) -> None:
        objectives = [Objective(name, "min") for name in ("one", "two", "three")]
        bound = Constraint.parse("one<=2")
        strategy = Diffusion(CONDITIONAL, objectives, constraints=[bound], seed=0, **Diffusion.test_parameters)
        rng = np.random.default_rng(0)
        for _ in range(12):
            (proposal,) = strategy.ask(1).proposals
            values = {name: Value(float(rng.random()), "trained") for name in ("one", "two", "three")}
            strategy.tell([Evaluation(proposal.config, proposal.key, "ok", values, proposal.id)])

    def test_refusals_name_what_is_wrong(self) -> None:
        with pytest.raises(UsageError, match="rate is a continuum without bins"):
            self.made(ADDITIVE)
        with pytest.raises(UsageError, match="guide='forest' has no gradient"):
            self.made(guide="forest")
        for parameter, value in (("candidates", "mutations"), ("voice", "mea"), ("sde", "vpp"), ("sampler", "euler")):
            with pytest.raises(ArchfrontError, match=str(value)):
                self.made(**{parameter: value})
        with pytest.raises(UsageError, match="pool=2"):
            self.made(pool=2)

    def test_the_untrained_network_of_a_generator_fits_any_space(self) -> None:
        relaxation = Relaxation.of(CONDITIONAL)
        net = new_network(relaxation, sde_of("vp"), SMALL).eval()
        x, t = torch.randn(2, *relaxation.shape), torch.rand(2)
        assert net(x, t).shape == x.shape
