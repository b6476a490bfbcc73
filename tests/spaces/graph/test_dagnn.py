"""DAGNN against a dense-matrix reading of its equations, and the parity checks of its specification."""

from __future__ import annotations

import itertools
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archfront import spaces
from archfront.spaces import ModelSpace, Supernet, analytic_costs
from archfront.spaces._errors import DataError
from archfront.spaces.graph.dagnn._gates import GATES, LEARNED, make_gate
from archfront.trainers import Budget, evaluate_slice, searched_space
from archfront.trainers.backprop import Backprop
from archfront.trainers.supernet import SupernetTrainer

N, D, C = 12, 5, 3


@pytest.fixture(scope="module")
def space() -> ModelSpace:
    return spaces.load("dagnn", task="karate")


@pytest.fixture(scope="module")
def graph() -> tuple[Tensor, Tensor]:
    """Two components (nodes 0..5 and 6..10) and the isolated node 11."""
    generator = torch.Generator().manual_seed(0)
    pairs = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5), (1, 4), (6, 7), (7, 8), (8, 9), (9, 10), (6, 9)]
    edge_index = torch.tensor([*pairs, *[(b, a) for a, b in pairs]]).T.contiguous()
    return torch.rand(N, D, generator=generator) + 0.1, edge_index


@pytest.fixture(scope="module")
def small(graph: tuple[Tensor, Tensor]) -> ModelSpace:
    """The space bound to that graph's shapes."""
    inputs = (spaces.TensorSpec((N, D)), spaces.TensorSpec((2, graph[1].shape[1]), "int64", N))
    cls = spaces.registry.load("dagnn")
    return cls.of_signature(spaces.Signature("node_classification", inputs, C, batched=False))


def built(space: ModelSpace, **values: Any) -> tuple[dict[str, Any], nn.Module]:
    config = space.search_space.canonicalise({**space.search_space.default, **values})
    torch.manual_seed(0)
    net = space.build(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # hop embeddings start at zero
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return config, net


def dense_operator(edge_index: Tensor, nodes: int, operator: str, loop: float) -> Tensor:
    """A[i, j]: what node i takes from node j. float64."""
    A = torch.zeros(nodes, nodes, dtype=torch.float64)
    A[edge_index[1], edge_index[0]] = 1
    A += loop * torch.diag((A.diagonal() == 0).double())
    degree = A.sum(dim=1)
    inverse = torch.where(degree > 0, 1 / degree, 0)
    if operator == "symmetric":
        return inverse.sqrt()[:, None] * A * inverse.sqrt()[None, :]
    return inverse[:, None] * A if operator == "row" else A * inverse[None, :]


def oracle(config: dict[str, Any], weights: dict[str, Tensor], x: Tensor, A: Tensor) -> Tensor:
    """The equations of the paper on dense matrices, float64, written without the code under test."""
    w = {name: tensor.double() for name, tensor in weights.items()}
    K = config["K"]
    x = x.double()
    if config["feature_norm"]:
        x = x / x.sum(dim=1, keepdim=True)
    prefix = "gcn" if config["entangled"] else "mlp"
    depth = max(1, K) if config["entangled"] else config["mlp_layers"]
    names = ["direct"] if depth == 1 else ["first", *[f"blocks.{i}" for i in range(depth - 2)], "last"]
    for i, name in enumerate(names):
        x = x @ w[f"{prefix}.{name}.weight"].T
        if config["entangled"] and K:
            x = A @ x
        x = x + w[f"{prefix}.{name}.bias"]
        if i < depth - 1:
            x = x.clamp(min=0)
    if config["entangled"]:
        return x
    hops = list(itertools.accumulate(range(K), lambda h, _: A @ h, initial=x))
    gate, alpha = config["gate"], config["alpha"]
    if gate == "last":
        return hops[K]
    if gate == "mean":
        return torch.stack(hops).mean(dim=0)
    if gate == "ppr":
        return torch.stack([alpha * (1 - alpha) ** k * hop for k, hop in enumerate(hops)]).sum(dim=0)
    read = [hop + (w["gate.hops"][k] if "gate.hops" in w else 0) for k, hop in enumerate(hops)]
    s, beta = w["gate.projection.weight"][0], w["gate.projection.bias"][0]
    scores = torch.stack([r @ s + beta for r in read])
    S = 1 / (1 + torch.exp(-scores)) if gate == "sigmoid" else torch.exp(scores) / torch.exp(scores).sum(dim=0)
    return sum((S[k][:, None] * hop for k, hop in enumerate(hops)), torch.zeros_like(hops[0]))


@pytest.mark.parametrize("K", [0, 1, 10])
def test_the_network_computes_the_papers_equations(small: ModelSpace, graph: tuple[Tensor, Tensor], K: int) -> None:
    drawn = small.search_space.sample(np.random.default_rng(K), 30)
    for values in [{}, *({"gate": gate, "mlp_layers": 3} for gate in GATES), *drawn]:
        config, net = built(small, **{**values, "K": K})
        A = dense_operator(graph[1], N, config["operator"], config["self_loop_weight"])
        with torch.no_grad():
            ours = net(*small.prepare(config, graph)).log_softmax(dim=1)
        theirs = oracle(config, net.state_dict(), graph[0], A).log_softmax(dim=1)
        assert (ours - theirs).abs().max() < 1e-5, config


@pytest.mark.parametrize("K", [0, 1, 10])
def test_on_cora_too(K: int) -> None:
    try:
        cora = spaces.load("dagnn", task="cora")
        inputs = cora.task().example_input
    except DataError as error:
        pytest.skip(f"ARCHFRONT_DATA has no cora: {error.message}")
    config, net = built(cora, K=K)
    A = dense_operator(inputs[1], len(inputs[0]), "symmetric", 1.0)
    with torch.no_grad():
        ours = net(*cora.prepare(config, inputs)).log_softmax(dim=1)
    theirs = oracle(config, net.state_dict(), inputs[0], A).log_softmax(dim=1)
    assert (ours - theirs).abs().max() < 1e-5


def test_parameters_follow_the_formula_and_do_not_change_with_k(space: ModelSpace) -> None:
    d, c = space.signature.inputs[0].shape[1], space.signature.outputs
    for h in (16, 64):
        counts = {
            K: analytic_costs(space, {**space.search_space.default, "K": K, "hidden": h})["params_m"] * 1e6
            for K in (0, 1, 20)
        }
        assert counts == dict.fromkeys((0, 1, 20), pytest.approx(d * h + h + h * c + c + (c + 1)))


def test_costs_follow_the_formula_and_are_monotone(space: ModelSpace) -> None:
    n, d = space.signature.inputs[0].shape
    c, edges = space.signature.outputs, space.signature.inputs[1].shape[1] + n
    default = space.search_space.default
    macs = [space.closed_form({**default, "K": K})["macs_m"] * 1e6 for K in range(21)]
    assert macs == pytest.approx([n * d * 64 + n * 64 * c + K * edges * c + (K + 1) * n * 2 * c for K in range(21)])
    assert macs == sorted(macs)
    wide = [space.closed_form({**default, "hidden": h}) for h in (16, 32, 64, 128, 256)]
    assert [w["params_m"] for w in wide] == sorted({w["params_m"] for w in wide})
    without = space.closed_form({**default, "self_loop_weight": 0.0})["macs_m"]
    assert without * 1e6 == pytest.approx(macs[10] - 10 * n * c), "no self loops, no messages through them"


def test_without_hops_the_zero_hop_vector_is_still_gated(small: ModelSpace, graph: tuple[Tensor, Tensor]) -> None:
    config, net = built(small, K=0)
    prepared = small.prepare(config, graph)
    _, ungated = built(small, K=0, gate="last")
    ungated.load_state_dict({k: v for k, v in net.state_dict().items() if k.startswith("mlp")})
    with torch.no_grad():
        Z = ungated(*prepared)
        assert torch.allclose(net(*prepared), net.gate.projection(Z).sigmoid() * Z, atol=1e-6)


@pytest.mark.parametrize(("K", "alpha"), [(0, 0.1), (4, 0.2), (10, 0.1)])
def test_fixed_weights_are_appnp_but_for_its_last_hop(
    small: ModelSpace, graph: tuple[Tensor, Tensor], K: int, alpha: float
) -> None:
    """APPNP (Gasteiger et al., 2019): H = (1 - a) A H + a Z; its last hop weighs (1-a)^K, ours a (1-a)^K."""
    gate = make_gate("ppr", K, C, alpha=alpha)
    assert torch.allclose(gate.weights, torch.tensor([alpha * (1 - alpha) ** k for k in range(K + 1)]), atol=1e-8)
    config, net = built(small, K=K, gate="ppr", alpha=alpha)
    A = dense_operator(graph[1], N, "symmetric", 1.0)
    Z = oracle({**config, "K": 0, "gate": "last"}, net.state_dict(), graph[0], A)
    H = Z
    for _ in range(K):
        H = (1 - alpha) * A @ H + alpha * Z
    missing = (1 - alpha) ** (K + 1) * torch.linalg.matrix_power(A, K) @ Z
    with torch.no_grad():
        ours = net(*small.prepare(config, graph))
    assert (ours + missing - H).abs().max() < 1e-5


@pytest.mark.parametrize("entangled", [False, True])
def test_components_do_not_talk(small: ModelSpace, graph: tuple[Tensor, Tensor], entangled: bool) -> None:
    x, edge_index = graph
    changed = x.clone()
    changed[6:11] *= torch.rand(5, D) + 2
    config, net = built(small, entangled=entangled)
    with torch.no_grad():
        before = net(*small.prepare(config, (x, edge_index)))
        after = net(*small.prepare(config, (changed, edge_index)))
    assert torch.equal(before[:6], after[:6])
    assert torch.equal(before[11], after[11])
    assert not torch.allclose(before[6:11], after[6:11])


def test_fewer_hops_of_a_bank_are_its_first_hop_vectors(space: ModelSpace) -> None:
    """No renormalisation for sigmoid gates, the kept hops' own normaliser for softmax and mean."""
    bank = Supernet(space)
    default = {**space.search_space.default, "hidden": 256}
    inputs = space.prepared_example(default)
    for gate, K in [("sigmoid", 3), ("softmax", 3), ("mean", 3), ("last", 3), ("ppr", 0)]:
        config = space.search_space.canonicalise({**default, "gate": gate, "K": K})
        longest = bank.extract({**config, "K": 20}).eval()
        kept: list[Tensor] = []
        longest.gate.register_forward_hook(lambda _, args, __, kept=kept: kept.append(args[0]))
        with torch.no_grad():
            longest(*inputs)
            short = bank.extract(config).eval()
            assert torch.allclose(short(*inputs), short.gate(kept[0][:, : K + 1]), atol=1e-6)


def test_what_is_as_wide_as_the_classes_is_never_sliced(space: ModelSpace) -> None:
    bank = Supernet(space)
    c = space.signature.outputs
    for config in space.search_space.sample(np.random.default_rng(1), 20):
        state = bank.extract(config).state_dict()
        if not config["entangled"] and config["gate"] in LEARNED:
            assert torch.equal(state["gate.projection.weight"], bank.bank_tensor("gate.projection.weight"))
        for name in ("mlp.last.bias", "mlp.direct.bias", "gcn.last.bias", "gcn.direct.bias"):
            if name in state:
                assert state[name].shape == (c,)
                assert torch.equal(state[name], bank.bank_tensor(name))


def test_units_may_be_sorted_before_slicing(small: ModelSpace, graph: tuple[Tensor, Tensor]) -> None:
    config, net = built(small, K=2)
    inputs = small.prepare(config, graph)
    with torch.no_grad():
        before = net(*inputs)
        order = net.mlp.last.weight.abs().sum(dim=0).argsort(descending=True)
        net.mlp.first.weight.copy_(net.mlp.first.weight[order].clone())
        net.mlp.first.bias.copy_(net.mlp.first.bias[order].clone())
        net.mlp.last.weight.copy_(net.mlp.last.weight[:, order].clone())
        assert torch.allclose(net(*inputs), before, atol=1e-6)


def test_the_bank_covers_a_held_or_narrowed_space(space: ModelSpace) -> None:
    rng = np.random.default_rng(0)
    for fixed in ({"entangled": True}, {"K": 4}, {"gate": "last"}, {"mlp_layers": 2, "hidden": 32}):
        bank = Supernet(space, fixed=fixed)
        for config in space.search_space.fix(fixed).sample(rng, 10):
            bank.extract(config)
    assert len(space.cover()) < 12
    narrow = space.narrowed(space.search_space.narrow({"K": (3, 5)}))
    assert max(c["K"] for c in narrow.cover()) == 5


def test_keys_ignore_what_decides_nothing(space: ModelSpace) -> None:
    key, default = space.search_space.key, space.search_space.default
    assert key({**default, "entangled": True, "gate": "mean"}) == key({**default, "entangled": True})
    assert key({**default, "alpha": 0.5}) == key(default)
    assert key({**default, "K": 0, "operator": "row"}) == key({**default, "K": 0})
    assert key({**default, "gate": "mean", "gate_input": "hop_and_embedding"}) == key({**default, "gate": "mean"})


def test_dropout_is_found_by_its_self_tuning_pattern(space: ModelSpace) -> None:
    tuned = space.search_space["dropout"].self_tuned
    assert tuned is not None
    for values in ({"mlp_layers": 3}, {"entangled": True, "K": 4}, {"mlp_layers": 1}):
        _, net = built(space, **values)
        drops = {name for name, module in net.named_modules() if isinstance(module, nn.Dropout)}
        assert drops
        assert {name for name, _ in net.named_modules() if fnmatch(name, tuned.applies_to)} == drops


def test_the_recipe_is_the_papers(space: ModelSpace) -> None:
    default = searched_space(space, Backprop).default
    wanted = {"optimizer": "adam", "lr": 0.01, "weight_decay": 5e-3, "select": "best", "early_stopping": 100}
    assert {name: default[f"trainer.{name}"] for name in wanted} == wanted
    assert 0.0 in {
        c["trainer.weight_decay"] for c in searched_space(space, Backprop).sample(np.random.default_rng(0), 50)
    }


def test_hops_beat_none_and_deep_entanglement_on_digits() -> None:
    """The order of the paper's figures, at the size of a test: many hops > no hops, and > as many GCN layers."""
    space = spaces.load("dagnn")
    union = searched_space(space, Backprop)
    error = {}
    for name, values in {
        "hops": {},
        "none": {"K": 0},
        "gcn": {"entangled": True},
    }.items():
        trainer = Backprop(space, {**union.default, "hidden": 32, "dropout": 0.5, **values}, budget=Budget(epochs=50))
        for _ in trainer.run():
            pass
        error[name] = trainer.evaluate("test")["error"]
    assert error["hops"] < 0.2, error
    assert error["none"] > error["hops"] + 0.15, error
    assert error["gcn"] > error["hops"] + 0.15, error


def test_a_supernet_learns_every_reach_at_once() -> None:
    space = spaces.load("dagnn")
    recipe = {f"trainer.{name}": value for name, value in space.recipe["supernet"].items()}
    trainer = SupernetTrainer(
        space,
        {**space.search_space.default, "dropout": 0.5, **recipe, "trainer.random_subnets": 1},
        budget=Budget(epochs=35),
    )
    for _ in trainer.run():
        pass
    error = {K: evaluate_slice(trainer.bank, {**trainer.largest, "K": K})["error"] for K in (0, 5, 20)}
    assert error[5] < error[0], error
    assert error[20] < 0.5, error
