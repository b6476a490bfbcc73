"""Plain networks that become self-tuning ones, and plain again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces._errors import UsageError
from archfront.spaces._noise import GaussianNoise
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Parameter, SelfTuned
from archfront.spaces._untie import load_weights
from archfront.trainers._convert import ResponseNet, convert
from archfront.trainers._linearise import frozen_statistics, linearised, linearised_forward
from archfront.trainers._response import ResponseConv, ResponseLayer, ResponseLinear
from archfront.trainers._strength import ExampleDropout


def rate(pattern: str = "*drop*", **more: Any) -> Parameter:
    return Real("rate", 0.0, 0.9, self_tuned=SelfTuned(pattern), **more)


class Net(nn.Module):
    """Every covered kind of layer, a norm, and one linear layer that is used twice and stands under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.conv1 = nn.Conv1d(6, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.2)
        self.drop2 = nn.Dropout2d(0.2)
        self.cell = nn.LSTMCell(6, 6)
        self.shared = nn.Linear(6, 6)
        self.again = self.shared
        self.noise = GaussianNoise(0.1)
        self.head = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3, bias=False))

    def forward(self, words: Tensor) -> Tensor:
        x = self.conv1(self.table(words).mT).mT
        x = x + self.drop2(self.norm(self.conv2(x[:, None]))).mean(dim=1)
        h, c = self.cell(x[:, 0])
        h, _ = self.cell(self.drop(x[:, 1]), (h, c))
        logits: Tensor = self.head(self.noise(self.again(torch.relu(self.shared(h)))))
        return logits


def net_of(*parameters: Parameter, centred: bool = False, config: dict[str, Any] | None = None) -> ResponseNet:
    torch.manual_seed(0)
    return convert(Net(), parameters, {p.name: 0.3 for p in parameters} | (config or {}), centred=centred)


def _respond(net: nn.Module) -> None:
    """Gates that can be seen."""
    for module in net.modules():
        if isinstance(module, ResponseLayer):
            nn.init.normal_(module.gates.weight, std=0.3)


@pytest.fixture
def words() -> Tensor:
    return torch.randint(9, (4, 5), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("centred", [False, True])
def test_the_collapsed_network_is_the_live_one(words: Tensor, centred: bool) -> None:
    net = net_of(rate(), centred=centred).eval()
    _respond(net)
    net.rest()
    plain = net.collapse()
    assert not plain.training
    assert torch.allclose(net(words), plain(words), atol=1e-5)
    assert {type(m) for m in plain.modules()} == {type(m) for m in Net().modules()}
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in Net().parameters())
    assert list(plain.state_dict()) == list(Net().state_dict())
    assert plain.drop.p == plain.drop2.p == pytest.approx(0.3)  # type: ignore[union-attr, comparison-overlap]
    assert plain.shared is plain.again
    for tensor in plain.state_dict().values():
        tensor.zero_()
    assert net(words).abs().sum() > 0, "the plain network owns its tensors"


@pytest.mark.parametrize("centred", [False, True])
def test_each_example_meets_the_network_of_its_row(words: Tensor, centred: bool) -> None:
    net = net_of(rate(), centred=centred).eval()
    _respond(net)
    H = torch.randn(4, 1)
    net.see(H)
    together = net(words)
    for b in range(4):
        net.see(H[b : b + 1])
        assert torch.allclose(net(words[b : b + 1])[0], together[b], atol=1e-5)
    if centred:
        net.see(net.hypers.lam.detach()[None])
        answered = net(words)
        net.rest()
        assert torch.allclose(net(words), answered, atol=1e-6), "no difference: the general network"


def test_every_weight_is_of_one_kind() -> None:
    net = net_of(rate())
    response, general = net.response_parameters, net.general_parameters
    assert not {id(p) for p in response} & {id(p) for p in general}
    assert len(response) + len(general) + 2 == len(list(net.parameters())), "lambda and s are neither"
    assert sum(isinstance(m, ResponseLinear) for m in net.modules()) == 5
    assert sum(isinstance(m, ResponseConv) for m in net.modules()) == 2


def test_dropout_has_a_rate_for_each_example() -> None:
    torch.manual_seed(0)
    plain: list[nn.Module] = [nn.Dropout(0.5), nn.Dropout1d(0.5), nn.Dropout2d(0.5)]
    for kind, shape in zip(plain, ((3, 2000), (3, 2000, 4), (3, 2000, 2, 2)), strict=True):
        layer = ExampleDropout(kind)
        layer.p = torch.tensor([0.1, 0.5, 0.9])
        x = torch.ones(shape)
        dropped = layer(x)
        assert (dropped == 0).flatten(1).float().mean(dim=1).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.04)
        assert dropped.flatten(1).mean(dim=1).tolist() == pytest.approx([1, 1, 1], abs=0.25)
        if type(kind) is not nn.Dropout:
            whole = (dropped == 0).flatten(2)
            assert torch.equal(whole.any(dim=2), whole.all(dim=2)), "whole channels"
        assert torch.equal(layer.eval()(x), x)
    with pytest.raises(UsageError, match="4 rows for 3 examples"):
        layer.train()(torch.ones(4, 2, 2, 2))


def test_noise_has_a_strength_for_each_example() -> None:
    torch.manual_seed(0)
    noise = GaussianNoise(0.0)
    x = torch.zeros(2, 5000)
    assert torch.equal(noise(x), x)
    noise.std = torch.tensor([0.1, 2.0])
    assert noise(x).std(dim=1).tolist() == pytest.approx([0.1, 2.0], rel=0.05)
    assert torch.equal(noise.eval()(x), x)


def test_members_of_a_group_reach_their_own_module() -> None:
    group = [Real("p", 0.0, 0.9, self_tuned=SelfTuned("blocks.*.dropout")).at(i, (), 0.1) for i in range(12)]
    torch.manual_seed(0)
    net = nn.Module()
    net.blocks = nn.ModuleList(nn.ModuleDict({"linear": nn.Linear(2, 2), "dropout": nn.Dropout()}) for _ in range(12))
    converted = convert(net, group, {p.name: 0.05 * (p.index or 0) + 0.05 for p in group}, centred=True)
    plain = converted.collapse()
    rates = [plain.get_submodule(f"blocks.{i}.dropout").p for i in range(12)]
    assert rates == pytest.approx([0.05 * i + 0.05 for i in range(12)]), "in the order of the network, not of the text"


class _Odd(nn.Linear):
    """A linear layer of its own."""


REFUSED: dict[str, tuple[nn.Module, Parameter, str]] = {
    "no module": (Net(), rate("nowhere.*"), "'rate' reaches nothing in this network: no module is called 'nowhere"),
    "no such member": (
        Net(),
        Real("p", 0, 1, self_tuned=SelfTuned("drop")).at(3, (), 0.1),
        r"'p\[3\]' reaches nothing in this network: no module number 3 is called 'drop'",
    ),
    "no strength": (Net(), rate("shared"), "'rate' reaches 'shared', a Linear, which has no strength"),
    "gru": (
        nn.Sequential(nn.Dropout(), nn.GRU(2, 2)),
        rate("0"),
        r"layer '1' \(GRU\) cannot respond: write it with nn.LSTM or nn.LSTMCell",
    ),
    "projections": (
        nn.Sequential(nn.Dropout(), nn.LSTM(2, 4, proj_size=2)),
        rate("0"),
        r"layer '1' \(LSTM\) cannot respond: projections \(proj_size=2\)",
    ),
    "transposed in groups": (
        nn.Sequential(nn.Dropout(), nn.ConvTranspose2d(2, 2, 2, groups=2)),
        rate("0"),
        r"layer '1' \(ConvTranspose2d\) cannot respond: transposed convolutions in groups \(groups=2\)",
    ),
    "subclass": (nn.Sequential(nn.Dropout(), _Odd(2, 2)), rate("0"), r"layer '1' \(_Odd\).*a Linear of its own kind"),
    "attention": (
        nn.Sequential(nn.Dropout(), nn.MultiheadAttention(4, 2)),
        rate("0"),
        r"layer '1' \(MultiheadAttention\).*its in_proj_weight is neither",
    ),
    "nothing to respond": (nn.Sequential(nn.Dropout(), nn.LayerNorm(3)), rate("0"), "no layer that could respond"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused_by_name(case: str) -> None:
    model, parameter, reason = REFUSED[case]
    with pytest.raises(UsageError, match=reason):
        convert(model, [parameter], {parameter.name: 0.1}, centred=True)


def test_tied_weights_are_refused() -> None:
    model = nn.ModuleDict({"drop": nn.Dropout(), "a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    model["b"].weight = model["a"].weight
    with pytest.raises(UsageError, match="layers 'a' and 'b' share weight"):
        convert(model, [rate("drop")], {"rate": 0.1}, centred=False)


def test_frozen_weights_stay_as_they_are() -> None:
    frozen = nn.Linear(2, 2).requires_grad_(False)
    net = convert(nn.Sequential(frozen, nn.Dropout(), nn.Linear(2, 2)), [rate("1")], {"rate": 0.1}, centred=True)
    assert net.net[0] is frozen  # type: ignore[index]


def test_integers_reach_modules_as_numbers() -> None:
    noise = nn.Sequential(nn.Linear(2, 2), GaussianNoise(0.0))
    net = convert(noise, [Integer("n", 0, 3, self_tuned=SelfTuned("1"))], {"n": 2}, centred=True)
    assert net.collapse()[1].std == 2.0  # type: ignore[index]


@pytest.mark.parametrize("name", ["mlp", "hourglass_mlp", "dagnn", "dagnn entangled"])
@pytest.mark.parametrize("centred", [False, True])
def test_spaces_that_declare_self_tuned_parameters(name: str, centred: bool) -> None:
    """Graphs have one row for the whole batch, and layers of their own."""
    space: ModelSpace = spaces.load(name.split(maxsplit=1)[0])
    more = {"entangled": True, "K": 2} if "entangled" in name else {}
    config = space.search_space.canonicalise({**space.search_space.default, **more})
    active = space.search_space.active_names(config)
    parameters = [p for p in space.search_space if p.self_tuned and p.name in active]
    torch.manual_seed(0)
    plain = space.build(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in plain.state_dict().items()}
    net = convert(plain, parameters, config, centred=centred, per_batch=not space.signature.batched).eval()
    _respond(net)
    net.rest()
    inputs = space.prepared_example(config)
    collapsed = net.collapse()
    assert torch.allclose(net(*inputs), collapsed(*inputs), atol=1e-5)
    assert {name: tuple(tensor.shape) for name, tensor in collapsed.state_dict().items()} == wanted
    assert {type(m).__name__ for m in collapsed.modules()} == {type(m).__name__ for m in space.build(config).modules()}


# -- the linearisation


def test_both_ways_give_the_same_output_and_the_same_gradients(words: Tensor) -> None:
    net = net_of(rate(), centred=True).train()
    _respond(net)
    net.see(torch.randn(4, 1))
    delta = torch.randn(4, 1)

    def output(at: Tensor) -> Tensor:
        torch.manual_seed(5)  # the same dropout
        net.rows.h = at
        return net(words)

    with frozen_statistics(net):
        found = [way(output, delta) for way in (linearised, linearised_forward)]
        gradients = [torch.autograd.grad(y.square().sum(), net.response_parameters, allow_unused=True) for y in found]
        small = (output(1e-3 * delta) - output(-1e-3 * delta)) / 2e-3
        y = output(torch.zeros_like(delta))
    assert torch.allclose(*found, atol=1e-5)
    assert torch.allclose(found[0], y + small, atol=1e-2)
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-5)


def test_what_has_no_forward_rule_is_refused_by_the_setting() -> None:
    lstm = nn.LSTM(3, 4)
    x = torch.randn(2, 5, 3)
    with pytest.raises(UsageError, match=r"trainer\.linearisation=forward: .*set trainer\.linearisation=reverse"):
        linearised_forward(lambda at: lstm(x * (1 + at))[0], torch.ones(1))


def test_an_output_that_does_not_depend_on_delta_stays() -> None:
    y = torch.randn(3)
    assert torch.equal(linearised_forward(lambda at: y, torch.ones(1)), y)


def test_statistics_are_frozen_and_come_back() -> None:
    norm = nn.BatchNorm1d(2)
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    with frozen_statistics(norm):
        norm(torch.randn(5, 2))
    assert torch.equal(norm.running_mean, before)  # type: ignore[arg-type]
    norm(torch.randn(5, 2))
    assert not torch.equal(norm.running_mean, before)  # type: ignore[arg-type]


def test_sparse_products_are_linearised_too() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 4, requires_grad=True)
    x = torch.eye(4).to_sparse()
    y = linearised(lambda at: torch.sparse.mm(x, (weight * (1 + at)).t()), torch.ones(1))
    assert torch.allclose(y, 2 * weight.t(), atol=1e-6)
    y.sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones(3, 4))


class Tied(nn.Module):
    """A language model whose decoder reads the table of its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.drop = nn.Dropout(0.2)
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.decoder = nn.Linear(6, 9)
        self.decoder.weight = self.table.weight

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.lstm(self.drop(self.table(words)))[0])
        return logits


@pytest.mark.parametrize("centred", [False, True])
def test_a_decoder_may_read_the_elementary_table(words: Tensor, centred: bool) -> None:
    """It does not respond; collapsed, the embedding has answered and the decoder has not."""
    torch.manual_seed(0)
    net = convert(Tied(), [rate()], {"rate": 0.3}, centred=centred)
    assert type(net.net.decoder) is nn.Linear
    assert net.net.decoder.weight is net.net.table.weight  # type: ignore[union-attr]
    _respond(net)
    net.rest()
    net.eval()
    plain: Any = net.collapse()
    assert torch.allclose(net(words), plain(words), atol=1e-5)
    assert torch.equal(plain.decoder.weight, net.net.decoder.weight)
    assert torch.equal(plain.table.weight, plain.decoder.weight) == centred
    count = sum(p.numel() for p in plain.parameters())
    assert count == sum(p.numel() for p in Tied().parameters()) + 9 * 6, "a second table"
    assert list(plain.state_dict()) == list(Tied().state_dict())
    built = Tied()
    load_weights(built, plain.state_dict())
    assert torch.equal(built.eval()(words), plain(words)), "what is stored makes the same network again"
    assert (built.decoder.weight is built.table.weight) == centred


def test_two_embeddings_of_one_table_are_refused() -> None:
    model = nn.ModuleDict({"drop": nn.Dropout(), "a": nn.Embedding(3, 2), "b": nn.Embedding(3, 2)})
    model["b"].weight = model["a"].weight
    with pytest.raises(UsageError, match="layers 'a' and 'b' share weight"):
        convert(model, [rate("drop")], {"rate": 0.1}, centred=False)
