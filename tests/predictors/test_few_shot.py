"""A new device from a few measurements: recovers what is a mix of known devices, and is unsure where it is not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from archfront import predictors, spaces
from archfront.predictors import Context, Predictor
from archfront.predictors._few_shot_devices import TRANSFORMS
from archfront.predictors._few_shot_prior import LEVEL, NOISES, SCALES, SHARES, posterior
from archfront.predictors.few_shot import FewShot, Known, OtherDevices, tabulated
from archfront.predictors.testing import PredictorContract
from archfront.spaces._errors import DataError, UnknownNameError, UsageError
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration
from archfront.spaces._table import TableLookup
from archfront.spaces._table_space import TableSpace
from tests.predictors.tables import CELLS

METRIC = "latency_ms"
OTHERS = 5


def in_any_space(configs: Sequence[Configuration]) -> Floats:
    """Four devices in ms, on each of which every decision has its own cost."""

    def cost(value: object, device: int) -> float:
        size = float(value) if isinstance(value, int | float) else float(sum(map(ord, str(value))) % 13)
        return 1 + abs(float(np.sin(size * (device + 1.7))))

    rows = [[1 + sum(cost(v, device) for v in config.values()) for device in range(4)] for config in configs]
    return np.array(rows).reshape(len(configs), 4)


class TestContract(PredictorContract):
    @pytest.fixture
    def predictor_class(self) -> type[Predictor]:
        return FewShot

    @pytest.fixture
    def context(self) -> Context:
        return OtherDevices(known=in_any_space)


# -- devices that are made up, on a space of 15,625 cells


def devices(configs: Sequence[Configuration]) -> Floats:
    """OTHERS devices (n, OTHERS): each operation on each edge has its own share of the logarithm."""
    features = CELLS.to_features(configs)
    return np.asarray(np.exp(features @ np.random.default_rng(5).normal(0, 0.3, (features.shape[1], OTHERS))))


def drawn(n: int, seed: int = 0) -> list[Configuration]:
    return CELLS.sample(np.random.default_rng(seed), n)


def fitted(configs: Sequence[Configuration], y: Floats, known: Known = devices) -> FewShot:
    predictor = FewShot(CELLS, known=known)
    predictor.fit(configs, {METRIC: y})
    return predictor


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mix", ["sum", "product"])
def test_a_mix_of_known_devices_is_recovered(mix: str, seed: int) -> None:
    share = np.random.default_rng(seed).dirichlet(np.ones(OTHERS))

    def truth(configs: Sequence[Configuration]) -> Floats:
        values = devices(configs)
        return np.asarray(values @ share if mix == "sum" else np.exp(np.log(values) @ share))

    configs, others = drawn(20, seed), drawn(500, seed + 10)
    predictor = fitted(configs, truth(configs))
    scores = predictor.score(others, {METRIC: truth(others)})[METRIC]
    guess = predictor.predict(others)[METRIC]
    assert scores.spearman > 0.999
    assert guess.std is not None
    assert np.median(guess.std / guess.mean) < 0.02
    # of the scales, the one on which it is a mix
    model = predictor.state_dict()["models"][METRIC]
    assert max(model, key=lambda name: model[name]["probability"]) == {"sum": "none", "product": "logarithm"}[mix]


def test_noise_is_covered() -> None:
    """Labels that no device tells anything about."""
    shares = []
    for seed in range(10):
        y = np.exp(np.random.default_rng(seed).normal(2, 0.3, 420))
        configs = drawn(420, seed)
        shares.append(fitted(configs[:20], y[:20]).score(configs[20:], {METRIC: y[20:]})[METRIC].coverage or 0.0)
    assert 0.83 < np.mean(shares) < 0.97


def noisy(configs: Sequence[Configuration], seed: int) -> Floats:
    """Half a mix of known devices, half a cost of its own, 5 % of noise."""
    rng = np.random.default_rng(100)
    features = CELLS.to_features(configs)
    own = np.exp(features @ rng.normal(0, 0.2, features.shape[1]))
    values = devices(configs).mean(axis=1) * own
    return np.asarray(values * np.exp(np.random.default_rng(seed).normal(0, 0.05, len(configs))))


def test_more_measurements_do_not_hurt_and_intervals_hold() -> None:
    sizes, seeds = (5, 10, 20, 60), range(8)
    errors, shares = np.empty((len(seeds), len(sizes))), np.empty((len(seeds), len(sizes)))
    for seed in seeds:
        configs = drawn(400, seed)
        y = noisy(configs, seed)
        for i, n in enumerate(sizes):
            scores = fitted(configs[:n], y[:n]).score(configs[60:], {METRIC: y[60:]})[METRIC]
            errors[seed, i], shares[seed, i] = scores.rmse, scores.coverage or 0.0
    mean = errors.mean(axis=0)
    assert (mean[1:] < 1.05 * mean[:-1]).all()
    assert mean[-1] < 0.5 * mean[0]
    assert (shares.mean(axis=0)[1:] > 0.8).all()


@pytest.mark.parametrize("unit", [1e3, 1e-3])
def test_units_do_not_matter(unit: float) -> None:
    configs, others = drawn(20), drawn(100, 1)
    y = noisy(configs, 0)
    plain = fitted(configs, y).predict(others)[METRIC]
    scaled = fitted(configs, unit * y).predict(others)[METRIC]
    elsewhere = fitted(configs, y, lambda configs: unit * devices(configs)).predict(others)[METRIC]
    assert scaled.mean == pytest.approx(unit * plain.mean, rel=1e-6)
    assert scaled.std == pytest.approx(unit * np.asarray(plain.std), rel=1e-6)
    assert elsewhere.mean == pytest.approx(plain.mean, rel=1e-6)
    assert elsewhere.std == pytest.approx(plain.std, rel=1e-6)


# -- values that are missing or wrong


def test_missing_values_are_filled_in_from_the_other_devices() -> None:
    """Device 5 repeats device 0: where it has no value, nothing is lost."""

    def holey(configs: Sequence[Configuration]) -> Floats:
        values = devices(configs)
        values = np.concatenate([values, values[:, :1]], axis=1)
        first = np.array([config["op[0]"] == "none" for config in configs], bool)
        values[first, OTHERS] = np.nan
        return values

    def whole(configs: Sequence[Configuration]) -> Floats:
        values = devices(configs)
        return np.concatenate([values, values[:, :1]], axis=1)

    configs, others = drawn(20), drawn(300, 1)
    y = noisy(configs, 0)
    known = fitted(configs, y, whole).predict(others)[METRIC].mean
    assert fitted(configs, y, holey).predict(others)[METRIC].mean == pytest.approx(known, rel=0.02)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: np.where(values > 0, np.nan, values), "know 0 of"),
        (lambda values: values - values.min(), "known gives 0.0 for its device"),
        (lambda values: np.where(values > 2, np.inf, values), "known gives inf for its device"),
        (lambda values: values[:, 0], r"shape \(2000,\)"),
        (lambda values: values[1:], r"shape \(1999, 5\)"),
        (lambda values: values[:, :0], r"shape \(2000, 0\)"),
    ],
    ids=["nothing", "zero", "infinite", "one column", "short", "no device"],
)
def test_wrong_values_are_refused(change: object, said: str) -> None:
    assert callable(change)
    predictor = FewShot(CELLS, known=lambda configs: change(devices(configs)))
    with pytest.raises(UsageError, match=said):
        predictor.choose(drawn(2000), 3) if "shape" not in said else predictor._devices


def test_a_configuration_that_nobody_knows_is_named() -> None:
    configs = drawn(20)
    predictor = fitted(configs, noisy(configs, 0))
    stranger = {**configs[0], "op[0]": "pool"}
    predictor.context = OtherDevices(
        known=lambda configs: np.where(np.array([[config == stranger] for config in configs]), np.nan, devices(configs))
    )
    predictor.predict([c for c in configs if c != stranger])
    with pytest.raises(UsageError, match=r"no other device has a value for .*'op\[0\]': 'pool'"):
        predictor.predict([configs[1], stranger])


def test_another_number_of_devices_than_at_the_fit_is_refused() -> None:
    configs = drawn(20)
    predictor = fitted(configs, noisy(configs, 0))
    fewer = FewShot(CELLS, known=lambda configs: devices(configs)[:, :3])
    fewer.load_state_dict(predictor.state_dict())
    with pytest.raises(UsageError, match="gives 3 devices, it was 5 before"):
        fewer.predict(configs)


def test_a_pool_of_ones_own_stands_for_the_space() -> None:
    """Who knows stored configurations only gives them as the pool."""
    stored = drawn(40, 7)
    asked = stored[20:]
    values = {tuple(config.values()): row for config, row in zip(stored, devices(stored), strict=True)}

    def known(configs: Sequence[Configuration]) -> Floats:
        return np.array([values.get(tuple(config.values()), np.full(OTHERS, np.nan)) for config in configs])

    y = noisy(stored, 0)
    predictor = FewShot(CELLS, known=known, pool=stored)
    predictor.fit(stored[:20], {METRIC: y[:20]})
    everywhere = fitted(stored[:20], y[:20]).predict(asked)[METRIC].mean
    assert np.corrcoef(predictor.predict(asked)[METRIC].mean, everywhere)[0, 1] > 0.98
    with pytest.raises(UsageError, match="give the configurations that are known as pool="):
        FewShot(CELLS, known=known).fit(stored[:20], {METRIC: y[:20]})


def test_without_other_devices_it_says_what_to_give() -> None:
    with pytest.raises(UsageError, match="give known="):
        FewShot(CELLS)
    assert FewShot.supports(Context()) is not None
    assert FewShot.supports(OtherDevices(known=devices)) is None


# -- the regression


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_scales_and_back(name: str) -> None:
    """Moments and densities of a normal value on the scale, by drawing it."""
    transform = TRANSFORMS[name]
    y = transform.moments(np.array([1.5]), np.zeros(1))[0]
    assert transform.apply(y) == pytest.approx([1.5])
    step = 1e-6 * y
    slope = (transform.apply(y + step) - transform.apply(y - step)) / (2 * step)
    assert transform.log_slope(y) == pytest.approx(np.log(slope), abs=1e-6)
    normal = 1.5 + 0.2 * np.random.default_rng(0).normal(size=200_000)
    values = {"root": normal**2, "logarithm": np.exp(normal), "none": normal}[name]
    mean, variance = transform.moments(np.array([1.5]), np.array([0.04]))
    assert mean == pytest.approx([values.mean()], rel=0.005)
    assert variance == pytest.approx([values.var()], rel=0.02)


def test_the_report_tells_how_good_it_is_elsewhere() -> None:
    """Leaving measured rows out foretells the error on others."""
    foretold, found = [], []
    for seed in range(8):
        configs = drawn(220, seed)
        y = noisy(configs, seed)
        predictor = FewShot(CELLS, known=devices)
        foretold.append(predictor.fit(configs[:20], {METRIC: y[:20]}).scores[METRIC].mape)
        found.append(predictor.score(configs[20:], {METRIC: y[20:]})[METRIC].mape)
    assert np.mean(foretold) == pytest.approx(np.mean(found), rel=0.2)


@pytest.mark.parametrize("n", [4, 9, 40])
def test_the_posterior_is_the_textbooks(n: int) -> None:
    """Every combination of the grids, in the n x n form, weighted by its density of the labels."""
    rng = np.random.default_rng(n)
    rows = np.concatenate([np.ones((n, 1)), rng.normal(size=(n, 6))], axis=1)
    t, root = rng.normal(size=n), np.sqrt(rng.uniform(0.5, 2, n))
    total, weight, second, noise, left_out = 0.0, np.zeros(7), np.zeros((7, 7)), 0.0, np.zeros(n)
    for share, scale, sigma in itertools.product(SHARES, SCALES, NOISES):
        prior = np.diag(np.array([LEVEL, 1, 1, share, share, share, share]) * scale) ** 2
        covariance = rows @ prior @ rows.T + sigma**2 * np.diag(root**-2)
        inverse = np.linalg.inv(covariance)
        gain = prior @ rows.T @ inverse
        p = np.exp(-0.5 * (t @ inverse @ t + np.linalg.slogdet(covariance)[1]) + n)
        total += p
        weight += p * (gain @ t)
        second += p * (np.outer(gain @ t, gain @ t) + prior - gain @ rows @ prior)
        noise += p * sigma**2
        left_out += p * (t - inverse @ t / np.diagonal(inverse))
    found = posterior(rows, t, root, 2)
    assert found.weight == pytest.approx(weight / total, rel=1e-6, abs=1e-9)
    assert found.covariance == pytest.approx(second / total - np.outer(weight, weight) / total**2, rel=1e-5, abs=1e-8)
    assert found.noise == pytest.approx(noise / total, rel=1e-6)
    assert found.left_out == pytest.approx(left_out / total, rel=1e-6, abs=1e-8)


# -- what to measure


def test_a_design_says_more_than_random_rows() -> None:
    errors = []
    for seed in range(6):
        configs, others = drawn(300, seed), drawn(300, seed + 50)
        chosen = FewShot(CELLS, known=devices).choose(configs, 12)
        assert len(set(chosen)) == 12
        truth = noisy(others, seed)
        for rows in (chosen, range(12)):
            known = [configs[i] for i in rows]
            scores = fitted(known, noisy(known, seed)).score(others, {METRIC: truth})
            errors.append(scores[METRIC].rmse)
    planned, random = np.array(errors).reshape(6, 2).mean(axis=0)
    assert planned < random


def test_a_shorter_design_is_the_beginning_of_a_longer_one() -> None:
    predictor, configs = FewShot(CELLS, known=devices), drawn(100)
    assert predictor.choose(configs, 5) == predictor.choose(configs, 10)[:5]
    assert sorted(predictor.choose(configs, 100)) == list(range(100))
    assert predictor.choose(configs, 0) == []
    with pytest.raises(UsageError, match="n=101 of 100"):
        predictor.choose(configs, 101)


# -- tables


def test_what_a_table_knows() -> None:
    frame = pd.DataFrame({"op": ["a", "b"], "width": [1, 2], "error": 0.1, "pi": [3.0, np.nan], "phone": [5.0, 6.0]})
    space = TableSpace(
        frame, ["op", "width"], ["error"], devices={name: {METRIC: name} for name in ("pi", "phone")}, name="mine"
    )
    asked: list[Configuration] = [{"op": "b", "width": 2}, {"op": "a", "width": 2}, {"op": "a", "width": 1}]
    nan = np.nan
    assert np.array_equal(
        tabulated(space, ["phone", "pi"])(asked), [[6.0, nan], [nan, nan], [5.0, 3.0]], equal_nan=True
    )
    with pytest.raises(UnknownNameError, match="did you mean 'phone'"):
        tabulated(space, ["phones"])
    with pytest.raises(UnknownNameError, match="unknown device of table"):
        tabulated(space, ["pi"], "energy_mj")


def test_held_out_chips_of_the_real_table() -> None:
    try:
        space = spaces.load("nasbench201")
    except DataError as error:
        pytest.skip(f"ARCHFRONT_DATA has no nasbench201: {error.message}")
    assert isinstance(space, TableLookup)
    least = {"eyeriss": 0.95, "titanxp_256": 0.98}
    if not {*least, "pixel3", "fpga"} <= set(space.devices):
        pytest.skip("the table has no latencies")
    cut = np.flatnonzero(space.table.invalid["pixel3"])[:2]
    known = tabulated(space, ["pixel3", "fpga"])(space.search_space.from_ints(space.table.genomes[cut]))
    assert np.isfinite(known).tolist() == [[False, True]] * 2, "the compiler of pixel3 removed these cells"
    for device, floor in least.items():
        others = [name for name in space.devices if not name.startswith(device.partition("_")[0])]
        few_shot, ridge = np.mean([ranked(space, device, others, seed) for seed in range(3)], axis=0)
        assert few_shot > max(floor, ridge + 0.05)


def ranked(space: TableLookup, device: str, others: Sequence[str], seed: int) -> list[float]:
    """Spearman of `few_shot` and of `ridge` after 20 of 1,020 random cells."""
    truth, search_space = space.table.device[device][METRIC], space.search_space
    rows = np.random.default_rng(seed).permutation(len(truth))[:1020]
    configs = search_space.from_ints(space.table.genomes[rows])
    both = (FewShot(search_space, known=tabulated(space, others)), predictors.load("ridge")(search_space))
    for predictor in both:
        predictor.fit(configs[:20], {METRIC: truth[rows[:20]]})
    return [p.score(configs[20:], {METRIC: truth[rows[20:]]})[METRIC].spearman for p in both]
