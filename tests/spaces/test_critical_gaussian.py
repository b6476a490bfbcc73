"""The theory of random networks against its table, closed forms, Monte Carlo and autograd."""

from __future__ import annotations

from math import acos, exp, inf, log, pi, sin, sqrt

import numpy as np
import pytest
import torch

from archfront.spaces._critical_flow import Block, Layer, chain, flow, pair_kernel
from archfront.spaces._critical_gaussian import ACTIVATIONS, averages, leaky_relu, pair_average
from archfront.spaces._critical_point import (
    critical_point,
    learning_rates,
    mutual_information,
    optimal_aspect_ratio,
    optimal_x2,
    pytorch_default,
    residual_nu,
    series,
    slice_gain,
    standard_deviations,
    suggested_width,
)

SMOOTH = ("tanh", "sin", "erf", "gelu", "silu", "mish", "hard_swish", "sigmoid", "softplus")


def layer_of(name: str, fan_in: float = 1.0) -> Layer:
    """At criticality."""
    activation = ACTIVATIONS[name]
    critical = critical_point(activation)
    assert critical is not None
    return Layer(activation, critical.C_b, critical.C_W, fan_in)


# -- averages


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_the_functions(name: str) -> None:
    activation = ACTIVATIONS[name]
    z = np.linspace(-6.05, 6.05, 122)  # no kink within a step
    step = 1e-5
    slope = (activation.function(z + step) - activation.function(z - step)) / (2 * step)
    assert activation.derivative(z) == pytest.approx(slope, abs=1e-8)
    if activation.taylor is not None:
        zero = np.zeros(1)
        assert activation.derivative(zero)[0] == pytest.approx(activation.taylor[0])
        around = activation.derivative(np.array([-1e-3, 0.0, 1e-3]))
        assert (around[2] - around[0]) / 2e-3 == pytest.approx(activation.taylor[1], abs=1e-5)
        assert (around[2] - 2 * around[1] + around[0]) / 1e-6 == pytest.approx(activation.taylor[2], abs=1e-4)


@pytest.mark.parametrize("K", [1e-6, 0.01, 1.0, 40.0])
def test_closed_forms(K: float) -> None:
    sine, error = averages(ACTIVATIONS["sin"], K), averages(ACTIVATIONS["erf"], K)
    assert sine.second == pytest.approx((1 - exp(-2 * K)) / 2, rel=1e-12, abs=1e-14)
    assert sine.slope == pytest.approx(exp(-2 * K), rel=1e-10, abs=1e-14)
    assert sine.gradient == pytest.approx((1 + exp(-2 * K)) / 2, rel=1e-12)
    assert error.second == pytest.approx(2 / pi * np.arcsin(2 * K / (1 + 2 * K)), rel=1e-12)
    assert error.gradient == pytest.approx(4 / pi / sqrt(1 + 4 * K), rel=1e-12)


@pytest.mark.parametrize("name", [name for name, one in ACTIVATIONS.items() if one.slopes is None])
@pytest.mark.parametrize("K", [0.03, 1.0, 30.0])
def test_slope_is_the_derivative_of_g_and_agrees_with_the_books_other_form(name: str, K: float) -> None:
    activation = ACTIVATIONS[name]
    step = 1e-4 * K
    mean = averages(activation, K)
    rise = (averages(activation, K + step).second - averages(activation, K - step).second) / (2 * step)
    assert mean.slope == pytest.approx(rise, rel=1e-6)
    assert mean.slope == pytest.approx((mean.mixed - K * mean.second) / (2 * K**2), rel=1e-9)
    assert mean.fourth >= mean.second**2


def test_kinks_are_integrated_exactly() -> None:
    """A leaky ReLU without its closed form; hardtanh against incomplete moments."""
    closed = leaky_relu(0.2)
    plain = type(closed)("plain", closed.function, closed.derivative, closed.kinks)
    for field in ("second", "slope", "gradient", "fourth", "mixed"):
        assert getattr(averages(plain, 1.7), field) == pytest.approx(getattr(averages(closed, 1.7), field), rel=1e-12)
    from scipy.stats import norm

    inside = 1 - 2 * norm.sf(1)
    assert averages(ACTIVATIONS["hardtanh"], 1.0).gradient == pytest.approx(inside, rel=1e-12)
    assert averages(ACTIVATIONS["hardtanh"], 1.0).second == pytest.approx(1 - 2 * norm.pdf(1), rel=1e-12)


def test_nothing_overflows() -> None:
    for activation in ACTIVATIONS.values():
        for K in (0.0, 1e-300, 1e60, 1e300):
            mean = averages(activation, K)
            assert np.isfinite([mean.second, mean.slope, mean.gradient, mean.fourth, mean.mixed, mean.spread]).all()


# -- pairs


def test_pairs_have_the_arc_cosine_kernel() -> None:
    a, ab, b = 1.3, 0.4, 0.7
    t = acos(ab / sqrt(a * b))
    relu = sqrt(a * b) / (2 * pi) * (sin(t) + (pi - t) * ab / sqrt(a * b))
    assert pair_average(ACTIVATIONS["relu"], a, ab, b) == pytest.approx(relu, rel=1e-12)
    assert pair_average(ACTIVATIONS["linear"], a, ab, b) == pytest.approx(ab)
    for slope in (0.0, 0.2):
        closed = leaky_relu(slope)
        plain = type(closed)("plain", closed.function, closed.derivative, closed.kinks)
        assert pair_average(plain, a, ab, b) == pytest.approx(pair_average(closed, a, ab, b), rel=1e-9)


def test_pairs_by_quadrature() -> None:
    a, ab, b = 1.3, -0.4, 0.7
    arcsine = 2 / pi * np.arcsin(2 * ab / sqrt((1 + 2 * a) * (1 + 2 * b)))
    assert pair_average(ACTIVATIONS["erf"], a, ab, b) == pytest.approx(arcsine, rel=1e-10)
    assert pair_average(ACTIVATIONS["sin"], a, ab, b) == pytest.approx(exp(-(a + b) / 2) * np.sinh(ab), rel=1e-10)
    tanh = ACTIVATIONS["tanh"]
    assert pair_average(tanh, a, a, a) == pytest.approx(averages(tanh, a).second, rel=1e-12)
    assert pair_average(tanh, a, 0.0, b) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_near_inputs_part_by_chi(name: str) -> None:
    """Squared distances grow by chi_perp in each layer, differences of norms by chi_par."""
    layer = Layer(ACTIVATIONS[name], 0.1, 1.6)
    mean = averages(layer.activation, 1.0)
    distance = 1e-4
    one, other = pair_kernel(1.0, 1.0 - distance / 2, 1.0, [layer])
    assert (other[0] - 2 * other[1] + other[2]) / distance == pytest.approx(layer.C_W * mean.gradient, rel=5e-3)
    one, other = pair_kernel(1.0 + distance, 1.0, 1.0 - distance, [layer])
    assert (other[0] - other[2]) / (one[0] - one[2]) == pytest.approx(layer.C_W * mean.slope, rel=1e-6)


# -- criticality


@pytest.mark.parametrize(
    ("name", "kind", "C_b", "C_W", "K", "nu"),
    [
        ("linear", "scale_invariant", 0, 1, 1, 2),
        ("relu", "scale_invariant", 0, 2, 1, 5),
        ("leaky_relu", "scale_invariant", 0, 1.99980002, 1, 4.99880024),
        ("tanh", "zero", 0, 1, 0, 2 / 3),
        ("sin", "zero", 0, 1, 0, 2 / 3),
        ("erf", "zero", 0, pi / 4, 0, 2 / 3),
        ("hardtanh", "zero", 0, 1, 0, 2 / 3),
        ("elu", "zero", 0, 1, 0, 2 / 3),
        ("softsign", "zero", 0, 1, 0, 2 / 3),
        ("gelu", "half_stable", 0.1729223908, 1.983058257, 3.561552813, None),
        ("silu", "half_stable", 0.5551431707, 1.988004678, 14.32017362, None),
        ("mish", "half_stable", 0.0945217874, 2.013524070, 1.670169132, None),
        ("hard_swish", "half_stable", 0.5071458488, 1.973289584, 4.803855949, None),
    ],
)
def test_the_table(name: str, kind: str, C_b: float, C_W: float, K: float, nu: float | None) -> None:
    critical = critical_point(ACTIVATIONS[name])
    assert critical is not None
    assert critical.kind == kind
    assert (critical.C_b, critical.C_W) == (pytest.approx(C_b, abs=1e-6), pytest.approx(C_W, abs=1e-6))
    assert pytest.approx(K, abs=1e-6) == critical.K
    rounded = {"gelu": 4.904, "silu": 4.923, "mish": 4.771, "hard_swish": 4.798}
    assert critical.nu == (pytest.approx(rounded[name], abs=5e-4) if nu is None else pytest.approx(nu, abs=1e-6))


def test_leaky_slopes() -> None:
    critical = critical_point(leaky_relu(0.2))
    assert critical is not None
    assert pytest.approx(1.92308, abs=1e-5) == critical.C_W
    assert critical.nu == pytest.approx(4.5562, abs=1e-4)


def test_without_a_critical_point() -> None:
    assert critical_point(ACTIVATIONS["sigmoid"]) is None
    assert critical_point(ACTIVATIONS["softplus"]) is None
    for name, C_W, C_b in (("sigmoid", 16, -4), ("softplus", 4, -1.92)):  # what K -> 0 would need
        mean = averages(ACTIVATIONS[name], 1e-12)
        assert 1 / mean.gradient == pytest.approx(C_W, rel=1e-6)
        assert -mean.second / mean.gradient == pytest.approx(C_b, abs=2e-3)
    selu = averages(ACTIVATIONS["selu"], 1.0)
    assert (selu.second, selu.slope, selu.gradient) == (
        pytest.approx(1, abs=1e-6),
        pytest.approx(0.78265, abs=5e-6),
        pytest.approx(1.07157, abs=1e-5),
    )
    assert critical_point(ACTIVATIONS["selu"]) is None


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "hard_swish"])
def test_half_stable_kernels_are_double_roots(name: str) -> None:
    """The kernel moves to the same side above and below K*."""
    critical = critical_point(ACTIVATIONS[name])
    assert critical is not None
    moves = [
        critical.C_b + critical.C_W * averages(ACTIVATIONS[name], K).second - K
        for K in (0.99 * critical.K, critical.K, 1.01 * critical.K)
    ]
    assert moves[1] == pytest.approx(0, abs=1e-8)
    assert moves[0] * moves[2] > 0


@pytest.mark.parametrize("name", SMOOTH)
def test_series(name: str) -> None:
    activation = ACTIVATIONS[name]
    if activation.function(np.zeros(1))[0] != 0:
        return
    a1, b1 = series(activation)
    s1 = activation.derivative(np.zeros(1))[0]
    K = 1e-5
    mean = averages(activation, K)
    assert (mean.second / (s1**2 * K) - 1) / K == pytest.approx(a1, abs=1e-2 * max(1, abs(a1)))
    assert (mean.slope / s1**2 - 1) / K == pytest.approx(2 * a1, abs=1e-2 * max(1, abs(a1)))
    assert (mean.gradient / s1**2 - 1) / K == pytest.approx(b1, abs=1e-2 * max(1, abs(b1)))


def test_known_series() -> None:
    assert series(ACTIVATIONS["tanh"]) == (-2, -2)
    assert series(ACTIVATIONS["sin"]) == (-1, -1)
    assert series(ACTIVATIONS["erf"])[0] == pytest.approx(-2)
    assert series(ACTIVATIONS["gelu"])[0] == pytest.approx(6 / pi)
    assert series(ACTIVATIONS["silu"])[0] == pytest.approx(0.75)
    with pytest.raises(ValueError, match="relu has no Taylor series"):
        series(ACTIVATIONS["relu"])
    with pytest.raises(ValueError, match="tanh is not scale invariant"):
        _ = ACTIVATIONS["tanh"].a2


# -- flows


def test_relu_vertex_is_exact() -> None:
    K, depth = 0.7, 40
    found = flow(K, chain(layer_of("relu"), depth))
    assert found.kernel == pytest.approx(K, rel=1e-14)
    assert found.vertex == pytest.approx(5 * np.arange(depth + 1) * K**2, rel=1e-12)  # V^l has l - 1
    assert found.x2 == pytest.approx(5 * np.arange(depth + 1), rel=1e-12)


def test_tanh_falls_like_one_over_two_l() -> None:
    found = flow(1.0, chain(layer_of("tanh"), 2000))
    assert 2 * 2000 * found.kernel[-1] == pytest.approx(1.0013, abs=1e-4)
    assert found.x2[-1] / 2000 == pytest.approx(2 / 3, rel=5e-3)


@pytest.mark.parametrize(("name", "c"), [("elu", 2 * pi), ("softsign", 0.393)])
def test_kinked_second_derivatives_fall_like_one_over_l_squared(name: str, c: float) -> None:
    critical = critical_point(ACTIVATIONS[name])
    assert critical is not None
    assert (critical.p_0, critical.p_perp) == (pytest.approx(2, abs=1e-3), pytest.approx(2, abs=1e-3))
    found = flow(1.0, chain(layer_of(name), 1000))
    assert found.kernel[-1] * 1000**2 == pytest.approx(c, rel=2e-2)
    assert found.x2[-1] / 1000 == pytest.approx(critical.nu, rel=1e-2)


@pytest.mark.parametrize(("gamma2", "nu"), [(0, 5), (0.5, 2.25), (0.9, 0.41), (0.99, 0.040)])
def test_residual_vertex(gamma2: float, nu: float) -> None:
    """The known nu is what the first block adds; the next ones add more, for a skip keeps what the layer depends on."""
    relu = ACTIVATIONS["relu"]
    block = Block((Layer(relu, 0.0, 2 * (1 - gamma2), 1.0),), sqrt(gamma2))
    found = flow(0.7, [block] * 3000)
    assert found.x2[1] == pytest.approx(nu, abs=5e-3)
    assert found.x2[1] == pytest.approx((1 - gamma2) * (5 * (1 - gamma2) + 4 * gamma2))
    assert found.x2[-1] - found.x2[-2] == pytest.approx(residual_nu(relu, gamma2), rel=1e-6)
    assert found.chi_par == pytest.approx(1)
    assert found.chi_perp == pytest.approx(1)


def test_residual_vertex_of_an_odd_activation() -> None:
    block = Block((Layer(ACTIVATIONS["linear"], 0.0, 0.3, 1.0),), sqrt(0.7))
    assert residual_nu(ACTIVATIONS["linear"], 0.7) == pytest.approx(0.3 * (2 * 0.3 + 4 * 0.7))
    assert flow(0.7, [block] * 30).x2 == pytest.approx(0.3 * (2 * 0.3 + 4 * 0.7) * np.arange(31), rel=1e-10)


def test_unequal_widths() -> None:
    blocks = [Block((layer_of("relu", n),)) for n in (10, 20, 40)]
    assert flow(1.0, blocks).x2[-1] == pytest.approx(5 * (1 / 10 + 1 / 20 + 1 / 40))


def test_pytorchs_default_is_subcritical() -> None:
    C_b, C_W = pytorch_default(128)
    found = flow(1.0, chain(Layer(ACTIVATIONS["relu"], C_b, C_W, 128), 30))
    assert np.log(found.chi_perp).sum() == pytest.approx(-53.75, abs=5e-3)
    assert np.log(found.chi_par).sum() == pytest.approx(30 * log(1 / 6))


def test_tanh_with_biases_has_a_stable_fixed_point() -> None:
    """C_W = 1 alone is not critical: par and perp differ, both below 1."""
    found = flow(1.0, chain(Layer(ACTIVATIONS["tanh"], 0.05, 1.0), 300))
    assert found.kernel[-1] > 0.1
    assert found.chi_par[-1] < found.chi_perp[-1] < 1


def sampled(blocks: list[Block], widths: list[list[int]], draws: int, K: float) -> float:
    """x2 of the last state: layers are drawn given the one before, z' ~ N(0, C_b + C_W mean sigma^2) + gamma z."""
    rng = np.random.default_rng(0)
    state = np.sqrt(K) * np.ones((draws, widths[0][0]))  # the data
    for block, sizes in zip(blocks, widths, strict=True):
        z = state
        for layer, size in zip(block.layers, sizes[1:], strict=True):
            variance = layer.C_b + layer.C_W * (layer.activation.function(z) ** 2).mean(axis=1)
            z = np.sqrt(variance)[:, None] * rng.standard_normal((draws, size))
        state = z + block.gamma * state if block.gamma else z
    mean_square = (state**2).mean(axis=1)
    n, kernel = state.shape[1], mean_square.mean()
    return float((mean_square.var() / kernel**2 - 2 / n) / (1 + 2 / n))  # Var = v + 2 (K^2 + v)/n


FIRST = Block((Layer(ACTIVATIONS["linear"], 0.0, 1.0, inf),))


@pytest.mark.parametrize(("name", "depth"), [("relu", 3), ("gelu", 3), ("tanh", 15)])
def test_vertex_against_monte_carlo(name: str, depth: int) -> None:
    n = 200
    critical = critical_point(ACTIVATIONS[name])
    assert critical is not None
    K = critical.K or 1.0
    blocks = [FIRST, *chain(layer_of(name, n), depth)]
    x2 = flow(K, blocks).x2[-1]
    assert 0.03 < x2 < 0.1
    assert sampled(blocks, [[4, n], *[[n, n]] * depth], 16000, K) == pytest.approx(x2, rel=0.05)


def test_skips_against_monte_carlo() -> None:
    """The residual form of one layer, and skips around two layers of which the inner one is narrow."""
    relu, linear, gelu = (ACTIVATIONS[name] for name in ("relu", "linear", "gelu"))
    n = 200
    one = Block((Layer(relu, 0.1, 1.0, n),), sqrt(0.5))
    blocks = [FIRST, *[one] * 6]
    assert sampled(blocks, [[4, n], *[[n, n]] * 6], 16000, 1.0) == pytest.approx(flow(1.0, blocks).x2[-1], rel=0.05)
    two = Block((Layer(linear, 0.05, 1.1, n), Layer(gelu, 0.02, 1.5, 80)), 1.0)
    blocks = [FIRST, *[two] * 4]
    found = sampled(blocks, [[4, n], *[[n, 80, n]] * 4], 16000, 1.0)
    assert found == pytest.approx(flow(1.0, blocks).x2[-1], rel=0.05)


@pytest.mark.parametrize(("name", "C_b", "C_W"), [("tanh", 0.1, 1.3), ("gelu", 0.05, 1.7)])
def test_gradients_against_autograd(name: str, C_b: float, C_W: float) -> None:
    """Expected squared gradients at the first layer over those at the last are the product of chi_perp."""
    n, depth, nets = 1000, 10, 20
    call = {"tanh": torch.tanh, "gelu": torch.nn.functional.gelu}[name]
    g = torch.Generator().manual_seed(0)
    squares = np.zeros(2)
    for _ in range(nets):
        z = first = torch.randn(n, generator=g).requires_grad_()
        for _ in range(depth - 1):
            weight = (C_W / n) ** 0.5 * torch.randn(n, n, generator=g)
            z = weight @ call(z) + C_b**0.5 * torch.randn(n, generator=g)
        seed = torch.randn(n, generator=g)
        (gradient,) = torch.autograd.grad(z, first, seed)
        squares += float(gradient.square().mean()), float(seed.square().mean())
    found = flow(1.0, chain(Layer(ACTIVATIONS[name], C_b, C_W, n), depth - 1))
    assert squares[0] / squares[1] == pytest.approx(float(found.chi_perp.prod()), rel=0.1)


# -- tangent kernel and advice


def test_tangent_kernel_by_hand() -> None:
    x, depth, tanh = 0.8, 5, ACTIVATIONS["tanh"]
    first = Layer(ACTIVATIONS["linear"], 0.1, 1.2, inf, lambda_b=0.3, lambda_W=0.7)
    layer = Layer(tanh, 0.1, 1.2, 50, lambda_b=0.3, lambda_W=0.7)
    found = flow(x, [Block((first,)), *chain(layer, depth)])
    H = 0.3 + 0.7 * x
    for K, tangent in zip(found.kernel[1:], found.tangent[1:], strict=True):
        assert tangent == pytest.approx(H)
        mean = averages(tanh, K)
        H = 0.3 + 0.7 * mean.second + 1.2 * mean.gradient * H
    assert found.shares.sum() == pytest.approx(1)
    assert found.shares[-1] == pytest.approx((0.3 + 0.7 * averages(tanh, found.kernel[-2]).second) / found.tangent[-1])


@pytest.mark.parametrize("name", ["relu", "tanh", "erf", "elu", "gelu"])
def test_tuned_rates_make_layers_contribute_equally(name: str) -> None:
    depth = 200
    critical, activation = critical_point(ACTIVATIONS[name]), ACTIVATIONS[name]
    assert critical is not None
    lambda_b, lambda_W = learning_rates(critical, depth)
    rates = zip(lambda_b, lambda_W, strict=True)
    layers = [Layer(activation, critical.C_b, critical.C_W, 1.0, float(b), float(w)) for b, w in rates]
    K = critical.K or 1.0
    first = Layer(ACTIVATIONS["linear"], 0.0, 1.0, inf, layers[0].lambda_b, layers[0].lambda_W)
    found = flow(K, [Block((first,)), *(Block((layer,)) for layer in layers[1:])])
    later = found.shares[depth // 4 :]  # the power laws hold far from the data
    assert later.max() < 1.3 * later.min()
    assert 0.1 < found.tangent[-1] < 20


def test_known_rates() -> None:
    for name, expected in (("relu", ([1 / 3] * 3, [1 / 3] * 3)), ("tanh", ([1, 1 / 2, 1 / 3], [1, 1, 1]))):
        critical = critical_point(ACTIVATIONS[name])
        assert critical is not None
        lambda_b, lambda_W = learning_rates(critical, 3)
        assert (list(lambda_b), list(lambda_W)) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_aspect_ratio() -> None:
    assert optimal_aspect_ratio(5, 10) == pytest.approx(0.016)
    assert optimal_aspect_ratio(2 / 3, 10) == pytest.approx(0.12)
    assert optimal_x2(2) == pytest.approx(0.1538, abs=1e-4)
    assert optimal_x2(100) == pytest.approx(0.0125)
    assert suggested_width(8, 5, 10) == 500
    around = [mutual_information(optimal_x2(10) * factor, 10) for factor in (0.99, 1, 1.01)]
    assert around[1] == max(around)


def test_pytorchs_words() -> None:
    C_b, C_W = pytorch_default(400)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = torch.nn.Linear(400, 400)
    assert float(layer.weight.detach().var()) * 400 == pytest.approx(C_W, rel=0.02)
    assert float(layer.bias.detach().var()) == pytest.approx(C_b, rel=0.2)
    assert standard_deviations(0.25, 2.0, 8) == (0.5, 0.5)
    assert slice_gain(64, 16) == 2
