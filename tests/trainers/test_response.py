"""Response layers against the papers' formulae, their plain counterparts and their parameter counts."""

from __future__ import annotations

import itertools

import pytest
import torch
from benchmarks._ridge import Problem, tuned
from torch import Tensor, nn

from archfront.spaces._errors import UsageError
from archfront.trainers._response import (
    ResponseConv,
    ResponseConvTranspose,
    ResponseEmbedding,
    ResponseLayer,
    ResponseLinear,
    Rows,
)
from archfront.trainers._response_cell import ResponseLSTMCell

N = 3
KINDS = (
    "linear",
    "linear without bias",
    "linear on sequences",
    "conv1d",
    "conv2d",
    "transposed1d",
    "transposed2d",
    "embedding",
)


def layer_of(kind: str, rows: Rows, *, centred: bool = False) -> tuple[ResponseLayer, Tensor]:
    """A layer with a response to be seen, and an input of five examples."""
    torch.manual_seed(0)
    made: dict[str, tuple[type[ResponseLayer], nn.Module, Tensor]] = {
        "linear": (ResponseLinear, nn.Linear(4, 6), torch.randn(5, 4)),
        "linear without bias": (ResponseLinear, nn.Linear(4, 6, bias=False), torch.randn(5, 4)),
        "linear on sequences": (ResponseLinear, nn.Linear(4, 6), torch.randn(5, 7, 4)),
        "conv1d": (ResponseConv, nn.Conv1d(4, 6, 3, padding=1, groups=2), torch.randn(5, 4, 9)),
        "conv2d": (
            ResponseConv,
            nn.Conv2d(4, 6, 3, stride=2, padding_mode="circular", padding=1),
            torch.randn(5, 4, 8, 8),
        ),
        "transposed1d": (ResponseConvTranspose, nn.ConvTranspose1d(4, 6, 3, dilation=2), torch.randn(5, 4, 9)),
        "transposed2d": (
            ResponseConvTranspose,
            nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
            torch.randn(5, 4, 5, 5),
        ),
        "embedding": (ResponseEmbedding, nn.Embedding(11, 6, padding_idx=0), torch.randint(11, (5, 7))),
    }
    cls, plain, x = made[kind]
    layer = cls(plain, rows, N, centred=centred)  # type: ignore[call-arg, arg-type]
    nn.init.normal_(layer.gates.weight)
    if layer.scale is not None:
        nn.init.constant_(layer.scale, 1.3)
    return layer, x


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_example_meets_the_plain_layer_of_its_row(kind: str, centred: bool) -> None:
    rows = Rows()
    layer, x = layer_of(kind, rows, centred=centred)
    H = torch.randn(len(x), N)
    rows.h = H
    output = layer(x)
    for b in range(len(x)):
        assert torch.allclose(output[b], layer.collapse(H[b])(x[b : b + 1])[0], atol=1e-5)
    rows.h = H[:1]
    plain = layer.collapse(H[0])
    assert torch.allclose(layer(x), plain(x), atol=1e-5), "one row for all"
    assert sum(p.numel() for p in plain.parameters()) == layer.weight.numel() + (0 if layer.bias is None else 6)


def test_the_formula_of_the_linear_layer() -> None:
    rows = Rows()
    layer, x = layer_of("linear", rows)
    rows.h = H = torch.randn(5, N)
    V, C = layer.gates.weight[:6], layer.gates.weight[6:]
    assert layer.bias is not None
    assert layer.response_bias is not None
    c = layer.scale
    wanted = c * (x @ layer.weight.T + layer.bias) + (H @ V.T) * (x @ layer.response_weight.T)
    assert torch.allclose(layer(x), wanted + (H @ C.T) * layer.response_bias, atol=1e-6)


def test_a_centred_layer_is_the_general_one_without_rows() -> None:
    rows = Rows()
    layer = ResponseLinear(plain := nn.Linear(4, 6), rows, N, centred=True)
    x = torch.randn(5, 4)
    assert not layer.gates.weight.any()
    assert layer.scale is None
    rows.h = torch.randn(5, N)
    assert torch.equal(layer(x), plain(x)), "V = C = 0"
    rows.h = None
    nn.init.normal_(layer.gates.weight)
    assert torch.equal(layer(x), plain(x))


def test_initial_values_are_the_papers() -> None:
    torch.manual_seed(0)
    layer = ResponseLinear(nn.Linear(100, 400), Rows(), N)
    assert layer.response_bias is not None
    for tensor in (t.detach() for t in (layer.weight, layer.response_weight, layer.response_bias)):
        assert float(tensor.abs().max()) == pytest.approx(0.1, rel=0.02)
        assert float(tensor.std()) == pytest.approx(0.2 / 12**0.5, rel=0.08)
    assert float(layer.gates.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    conv = ResponseConv(nn.Conv2d(4, 64, 5), Rows(), N)
    assert float(conv.response_weight.detach().abs().max()) == pytest.approx(0.1, rel=0.02)
    table = ResponseEmbedding(nn.Embedding(50, 20), Rows(), N)
    assert float(table.response_weight.detach().abs().max()) == pytest.approx(0.1, rel=0.02)


def test_word_dropout_multiplies_both_tables() -> None:
    rows = Rows()
    layer, x = layer_of("embedding", rows)
    assert isinstance(layer, ResponseEmbedding)
    rows.h = torch.randn(5, N)
    mask = torch.ones(11, 1)
    mask[3] = 0
    assert not layer(x, mask)[x == 3].any()
    assert torch.equal(layer(x, mask)[x != 3], layer(x)[x != 3])


@pytest.mark.parametrize("centred", [False, True])
def test_the_cell_collapses_into_a_plain_one(centred: bool) -> None:
    torch.manual_seed(0)
    rows = Rows()
    cell = ResponseLSTMCell(nn.LSTMCell(4, 6), rows, N, centred=centred)
    for layer in (cell.from_input, cell.from_hidden):
        nn.init.normal_(layer.gates.weight)
    x, state = torch.randn(5, 4), (torch.randn(5, 6), torch.randn(5, 6))
    rows.h = H = torch.randn(5, N)
    h, c = cell(x, state)
    for b in range(5):
        wanted = cell.collapse(H[b])(x[b : b + 1], (state[0][b : b + 1], state[1][b : b + 1]))
        assert torch.allclose(h[b], wanted[0][0], atol=1e-5)
        assert torch.allclose(c[b], wanted[1][0], atol=1e-5)
    assert cell(x)[0].shape == (5, 6), "a sequence begins with zeros"


def test_dropconnect_masks_both_recurrent_weights() -> None:
    torch.manual_seed(0)
    rows = Rows()
    cell = ResponseLSTMCell(nn.LSTMCell(4, 6), rows, N)
    rows.h = torch.randn(5, N)
    x, (h, c) = torch.randn(5, 4), (torch.randn(5, 6), torch.randn(5, 6))
    nothing = cell(x, (h, c), torch.zeros(24, 6))
    assert torch.allclose(nothing[0], cell(x, (torch.zeros(5, 6), c))[0], atol=1e-6)
    assert torch.equal(cell(x, (h, c), torch.ones(24, 6))[0], cell(x, (h, c))[0])


def test_a_first_axis_that_is_not_the_batch_is_refused() -> None:
    rows = Rows()
    layer, x = layer_of("linear", rows)
    rows.h = torch.randn(4, N)
    with pytest.raises(UsageError, match="5 rows for 4 examples"):
        layer(x)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("kind", ["linear", "linear without bias", "conv2d", "transposed2d", "embedding"])
def test_sliced_and_masked_agree(kind: str, centred: bool) -> None:
    """Elementary and response tensors go together: leading outputs and inputs."""
    rows = Rows()
    layer, x = layer_of(kind, rows, centred=centred)
    rows.h = torch.randn(len(x), N)
    shape = list(layer.weight.shape)
    if kind == "embedding":
        shape[1], wanted = 4, layer(x)[..., :4]
    elif kind == "transposed2d":
        shape[0], shape[1] = 2, 4
    else:
        shape[0], shape[1] = 4, 2
    if kind != "embedding":
        masked = x.clone()
        masked[:, 2:] = 0
        wanted, x = layer(masked)[:, :4], x[:, :2]
    part = layer.sliced(tuple(shape))
    part.rows = rows
    if kind == "conv2d":  # what it was built for is a setting of the plain layer
        assert part.weight.shape == (4, 2, 3, 3)
    assert torch.allclose(part(x), wanted, atol=1e-5)
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in layer.parameters())


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_st_alexnet_has_as_many_parameters_as_the_authors() -> None:
    channels = (3, 64, 192, 384, 256, 256)
    with torch.device("meta"):
        convs = [ResponseConv(nn.Conv2d(i, o, 3), Rows(), 15) for i, o in itertools.pairwise(channels)]
        linears = [ResponseLinear(nn.Linear(i, o), Rows(), 15) for i, o in ((1024, 4096), (4096, 4096), (4096, 10))]
    assert sum(map(_count, [*convs, *linears])) == 46_825_160


def test_st_lstm_has_as_many_parameters_as_the_authors() -> None:
    with torch.device("meta"):
        table = ResponseEmbedding(nn.Embedding(10_000, 650), Rows(), 7)
        cells = [ResponseLSTMCell(nn.LSTMCell(650, 650), Rows(), 7) for _ in range(2)]
    decoder_bias = 10_000  # its weight is the elementary table
    assert sum(map(_count, [table, *cells])) + decoder_bias == 26_700_950


@pytest.mark.parametrize("seed", [1, 4])
def test_ridge_regression_is_solved(seed: int) -> None:
    """The closed form: lambda near the grid's optimum, weights and their response near the true ones.

    Five seeds of both modes: benchmarks/self_tuning_ridge.py.
    """
    _solved(seed, centred=False, steps=6000)


def test_ridge_regression_is_solved_to_first_order_too() -> None:
    _solved(3, centred=True, steps=3000)


def _solved(seed: int, *, centred: bool, steps: int) -> None:
    problem = Problem(seed)
    found = tuned(problem, seed=seed, centred=centred, steps=steps, sigma0=1.0 if centred else 0.5)
    assert found.lam == pytest.approx(problem.grid_optimum(), abs=0.4)
    w = problem.best_response(found.lam)
    assert float((found.w - w).norm() / w.norm()) < 0.02
    slope = problem.best_response(found.lam + 0.01) - problem.best_response(found.lam - 0.01)
    assert float(torch.cosine_similarity(found.direction, slope, dim=0)) >= 0.9
    assert found.sigma > 0.01, "the entropy keeps it from vanishing"
    assert problem.val_loss(w) < problem.val_loss(problem.best_response(-4.0))
