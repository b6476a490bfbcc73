"""HAT's translation super-network: published sizes, the network against formulae, slices."""

from __future__ import annotations

import logging
import math
import operator
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.spaces.supernets.transformers import of_size, perturbed
from torch import Tensor, nn
from torch.nn import functional

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces._costs import analytic_costs, count_parameters
from archfront.spaces._search_space import Configuration
from archfront.spaces._supernet import Supernet
from archfront.spaces.supernets._encoder_decoder import DecoderLayer, EncoderDecoder, EncoderLayer
from archfront.spaces.testing import ModelSpaceContract


class TestSmall(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> ModelSpace:
        return spaces.load("transformer")


# -- sizes


def same_everywhere(space: ModelSpace, layers: int, middle: int, width: int = 512) -> Configuration:
    """All feed-forward networks of one width, as many decoder layers, both sides equally wide."""
    config = {**space.search_space.default, "decoder_layer_num": layers}
    config |= {name: middle for name in config if "_ffn_" in name}
    return space.search_space.canonicalise({**config, "encoder_embed_dim": width, "decoder_embed_dim": width})


@pytest.mark.parametrize(
    ("layers", "middle", "params_m"),
    [(6, 2048, 44.14), (1, 3072, 30.47), (2, 3072, 35.72), (3, 3072, 40.97)],
    ids=["Transformer-Base", "one layer", "two layers", "three layers"],
)
def test_sizes_are_the_published_ones(layers: int, middle: int, params_m: float) -> None:
    """HAT's tables count all but the embedding."""
    space = of_size("wmt14_en_de", 8)
    count = count_parameters(space.build(same_everywhere(space, layers, middle))) - 8 * 512
    assert round(count / 1e6, 2) == params_m
    if middle == 2048:
        attention, norm = 4 * (512 * 512 + 512), 2 * 512
        encoder = attention + (512 * 2048 + 2048) + (2048 * 512 + 512) + 2 * norm
        assert count == 6 * encoder + 6 * (encoder + attention + norm) == 44_138_496


def expected_costs(config: Configuration, vocabulary: int, source: int, target: int) -> tuple[int, int]:
    """(parameters, multiply-accumulates for one pair of sentences) from the definition, inner width 512."""
    e, d, inner = config["encoder_embed_dim"], config["decoder_embed_dim"], 512
    params = vocabulary * max(e, d)
    macs = target * d * vocabulary
    for i in range(6):
        f = config[f"encoder_ffn_embed_dim[{i}]"]
        params += 3 * (e + 1) * inner + (inner + 1) * e + (e + 1) * f + (f + 1) * e + 4 * e
        macs += source * (4 * e * inner + 2 * e * f) + 2 * source * source * inner
    for i in range(config["decoder_layer_num"]):
        f = config[f"decoder_ffn_embed_dim[{i}]"]
        keys = source * {-1: 1, 1: 2, 2: 3}[config[f"decoder_arbitrary_ende_attn[{i}]"]]
        params += 4 * (d + 1) * inner + 2 * (e + 1) * inner + 2 * (inner + 1) * d + (d + 1) * f + (f + 1) * d + 6 * d
        macs += target * (6 * d * inner + 2 * d * f) + 2 * target * target * inner
        macs += 2 * keys * e * inner + 2 * target * keys * inner
    return params, macs


@pytest.mark.parametrize("seed", [0, 1])
def test_costs_of_the_published_size_follow_from_the_definition(seed: int) -> None:
    space = of_size("wmt14_en_de", 32_768, source=30, target=25)
    (config,) = space.search_space.sample(np.random.default_rng(seed), 1)
    costs = analytic_costs(space, config)
    assert [round(costs[name] * 1e6) for name in ("params_m", "macs_m")] == [*expected_costs(config, 32_768, 30, 25)]


def test_the_space_of_the_paper() -> None:
    space = of_size("wmt14_en_de", 8).search_space
    encoder, decoder = 3 * 2, 3 * 2 * 2 * 3
    assert space.fix({"dropout": 0.1}).size == 2 * 2 * encoder**6 * sum(decoder**n for n in range(1, 7))
    genes = [p for p in space if p.elastic]
    assert len(genes) == len(space) - 1 == 3 + 2 * 6 + 4 * 6
    whole = math.prod(p.size for p in genes)
    assert 1e15 < whole < 3e15, "about 10^15 in the paper, which counts genes of layers that are not there"
    assert all(p.default == p.largest() for p in genes)


def test_genes_of_absent_layers_make_no_new_key(small: ModelSpace) -> None:
    space = small.search_space
    short = {**space.default, "decoder_layer_num": 1}
    for name in space.names:
        if name.startswith("decoder_") and name.endswith("[1]"):
            assert space.key({**short, name: space[name].smallest()}) == space.key(short)
            assert space.key({**space.default, name: space[name].smallest()}) != space.key(space.default)


def test_every_gene_reaches_its_layer() -> None:
    space = of_size("wmt14_en_de", 8)
    for config in space.search_space.sample(np.random.default_rng(3), 3):
        net = space.build(config)
        assert isinstance(net, EncoderDecoder)
        layers = config["decoder_layer_num"]
        assert len(net.encoder) == 6
        assert len(net.decoder) == layers

        def of(attribute: str, name: str, number: int, net: nn.Module = net, config: Any = config) -> None:
            side = name.partition("_")[0]
            found = [operator.attrgetter(attribute)(layer) for layer in net.get_submodule(side).children()]
            assert found == [config[f"{name}[{i}]"] for i in range(number)]

        of("attention.heads", "encoder_self_attention_heads", 6)
        of("attention.heads", "decoder_self_attention_heads", layers)
        of("cross_attention.heads", "decoder_ende_attention_heads", layers)
        of("feed_forward.widen.out_features", "encoder_ffn_embed_dim", 6)
        of("feed_forward.widen.out_features", "decoder_ffn_embed_dim", layers)
        assert net.seen == tuple(
            {-1: 1, 1: 2, 2: 3}[config[f"decoder_arbitrary_ende_attn[{i}]"]] for i in range(layers)
        )
        assert (net.encoder_width, net.decoder_width) == (config["encoder_embed_dim"], config["decoder_embed_dim"])


# -- the network


def dense(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(
    state: Mapping[str, Tensor], name: str, x: Tensor, memory: Tensor, heads: int, *, causal: bool = False
) -> Tensor:
    """One sentence: x (queries, width), memory (keys, memory width), a head and a query at a time."""
    q, k, v = (dense(state, f"{name}.{p}_proj", y) for p, y in (("q", x), ("k", memory), ("v", memory)))
    width = q.shape[1] // heads
    rows = []
    for i in range(len(x)):
        seen = i + 1 if causal else len(memory)
        parts = []
        for head in range(heads):
            columns = slice(head * width, (head + 1) * width)
            weights = (k[:seen, columns] @ q[i, columns] / math.sqrt(width)).exp()
            parts.append((weights / weights.sum()) @ v[:seen, columns])
        rows.append(torch.cat(parts))
    return dense(state, f"{name}.out_proj", torch.stack(rows))


def embedded(state: Mapping[str, Tensor], tokens: list[int], width: int, widest: int) -> Tensor:
    """Positions count from 2; column c of the widest table is a sine below half of it, else a cosine."""
    rows = []
    for place, token in enumerate(tokens, start=2):
        angles = [place * 10_000 ** (-(c % (widest // 2)) / (widest // 2 - 1)) for c in range(width)]
        waves = [math.cos(a) if c >= widest // 2 else math.sin(a) for c, a in enumerate(angles)]
        rows.append(state["embedding.weight"][token, :width] * math.sqrt(width) + torch.tensor(waves).double())
    return torch.stack(rows)


def reference(net: EncoderDecoder, source: list[int], previous: list[int], widest: int) -> Tensor:
    """Logits (target, vocabulary) of one pair of sentences without padding, in plain matrix products."""
    state = {name: tensor.double() for name, tensor in net.state_dict().items()}

    def feed_forward(place: str, x: Tensor) -> Tensor:
        middle = dense(state, f"{place}.feed_forward.widen", x).clamp(min=0)
        return norm(state, f"{place}.final_norm", x + dense(state, f"{place}.feed_forward.narrow", middle))

    x, outputs = embedded(state, source, net.encoder_width, widest), []
    for i, layer in enumerate(net.encoder):
        assert isinstance(layer, EncoderLayer)
        heads, place = layer.attention.heads, f"encoder.{i}"
        x = norm(state, f"{place}.attention_norm", x + attention(state, f"{place}.attention", x, x, heads))
        x = feed_forward(place, x)
        outputs.append(x)
    y = embedded(state, previous, net.decoder_width, widest)
    for i, layer in enumerate(net.decoder):
        assert isinstance(layer, DecoderLayer)
        heads, place = layer.attention.heads, f"decoder.{i}"
        own = attention(state, f"{place}.attention", y, y, heads, causal=True)
        y = norm(state, f"{place}.attention_norm", y + own)
        memory = torch.cat(outputs[len(outputs) - net.seen[i] :])
        other = attention(state, f"{place}.cross_attention", y, memory, layer.cross_attention.heads)
        y = feed_forward(place, norm(state, f"{place}.cross_norm", y + other))
    logits: Tensor = y @ state["embedding.weight"][:, : net.decoder_width].T
    return logits


@pytest.fixture(params=[(24, 16), (16, 24), (16, 16)], ids=str)
def net(request: pytest.FixtureRequest) -> EncoderDecoder:
    """Three layers on each side; the decoder's see one, two and three of the encoder's."""
    encoder_width, decoder_width = request.param
    torch.manual_seed(0)
    encoder = [EncoderLayer(encoder_width, inner=16, middle=20, heads=heads, dropout=0.1) for heads in (2, 4, 1)]
    decoder = [
        DecoderLayer(decoder_width, encoder_width, inner=16, middle=20, heads=4, cross_heads=heads, dropout=0.1)
        for heads in (2, 4, 1)
    ]
    made = EncoderDecoder(
        11, encoder_width, decoder_width, encoder, decoder, seen=(1, 2, 3), widest=28, dropout=0.1, padding=0
    )
    perturbed(made)
    return made


@torch.no_grad()
def test_it_is_the_network_of_the_papers(net: EncoderDecoder) -> None:
    source = torch.tensor([[3, 4, 5, 6, 2], [7, 8, 2, 0, 0]])
    previous = torch.tensor([[1, 9, 8, 10], [1, 3, 0, 0]])
    logits = net(source, previous)
    assert logits.shape == (2, 4, 11)
    for row, (words, before) in enumerate(((5, 4), (3, 2))):
        wanted = reference(net, source[row, :words].tolist(), previous[row, :before].tolist(), widest=28)
        assert torch.allclose(logits[row, :before].double(), wanted, atol=1e-4)


@torch.no_grad()
def test_a_token_changes_nothing_before_it(net: EncoderDecoder) -> None:
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(1, 11, (3, 6), generator=generator)
    previous = torch.randint(1, 11, (3, 5), generator=generator)
    logits = net(source, previous)
    for t in range(5):
        for token in (0, 1 + int(previous[0, t]) % 10):
            changed = previous.clone()
            changed[:, t] = token
            after = net(source, changed)
            assert torch.allclose(after[:, :t], logits[:, :t], atol=1e-5)
            assert not torch.allclose(after[0, t:], logits[0, t:], atol=1e-2)


@torch.no_grad()
def test_padding_of_the_source_changes_nothing(net: EncoderDecoder) -> None:
    generator = torch.Generator().manual_seed(2)
    source = torch.randint(1, 11, (3, 6), generator=generator)
    previous = torch.randint(1, 11, (3, 5), generator=generator)
    source[0, 4:] = 0
    logits = net(source, previous)
    for side in ((0, 3), (3, 0)):
        assert torch.allclose(net(functional.pad(source, side), previous), logits, atol=1e-5)
    for row in range(3):
        alone = net(source[row : row + 1], previous[row : row + 1])
        assert torch.allclose(alone[0], logits[row], atol=1e-5)
    assert net(torch.zeros_like(source), previous).isfinite().all()


@torch.no_grad()
def test_an_encoder_layer_is_torchs() -> None:
    torch.manual_seed(3)
    ours = perturbed(EncoderLayer(32, inner=32, middle=48, heads=4, dropout=0.1))
    theirs = nn.TransformerEncoderLayer(32, 4, 48, dropout=0.1, batch_first=True).eval()
    state = ours.state_dict()
    renamed = {
        f"self_attn.in_proj_{kind}": torch.cat([state[f"attention.{p}_proj.{kind}"] for p in "qkv"])
        for kind in ("weight", "bias")
    }
    places = {
        "self_attn.out_proj": "attention.out_proj",
        "norm1": "attention_norm",
        "linear1": "feed_forward.widen",
        "linear2": "feed_forward.narrow",
        "norm2": "final_norm",
    }
    renamed |= {f"{to}.{kind}": state[f"{of}.{kind}"] for to, of in places.items() for kind in ("weight", "bias")}
    theirs.load_state_dict(renamed)
    x, padded = torch.randn(3, 7, 32), torch.zeros(3, 7, dtype=torch.bool)
    padded[1, 5:] = True
    mask = torch.zeros(3, 1, 1, 7).masked_fill(padded[:, None, None], torch.finfo(torch.float32).min)
    one, other = ours(x, mask), theirs(x, src_key_padding_mask=padded)
    assert torch.allclose(one[~padded], other[~padded], atol=1e-5)


def test_dropout_acts_in_training_only(small: ModelSpace) -> None:
    net = small.build({**small.search_space.default, "dropout": 0.5})
    inputs = small.prepared_example(small.search_space.default)
    assert not torch.equal(net.train()(*inputs), net(*inputs))
    assert torch.equal(net.eval()(*inputs), net(*inputs))


def test_initial_values_are_fairseqs() -> None:
    space = of_size("small", 2000)
    net = space.build(space.search_space.default)
    for name, parameter in net.state_dict().items():
        if name == "embedding.weight":
            assert float(parameter.std()) == pytest.approx(48**-0.5, rel=0.02)
        elif "norm" in name:
            assert parameter.eq(1.0 if name.endswith("weight") else 0.0).all()
        elif name.endswith("bias"):
            assert not parameter.any()
        else:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.9 * bound < float(parameter.abs().max()) <= bound, name


def test_slices_are_leading_columns_of_one_table(small: ModelSpace) -> None:
    bank = Supernet(small)
    table = bank.bank_tensor("embedding.weight")
    assert table.shape == (75, 48)
    config = {**small.search_space.default, "encoder_embed_dim": 32, "decoder_embed_dim": 32}
    narrow = bank.extract(config).state_dict()["embedding.weight"]
    assert torch.equal(narrow, table[:, :32])
    mixed = bank.extract({**config, "decoder_embed_dim": 48}).state_dict()["embedding.weight"]
    assert torch.equal(mixed, table)


def test_a_column_has_one_frequency_in_every_sub_network(small: ModelSpace) -> None:
    whole = small.search_space.default
    narrow = {**whole, "encoder_embed_dim": 32, "decoder_embed_dim": 32}
    tokens = torch.tensor([[5, 6, 7, 0]])
    one, other = (small.build(config).get_submodule("positions")(tokens) for config in (whole, narrow))
    assert one.shape == (1, 4, 48)
    assert torch.equal(one, other)


def test_exports_agree_on_batches_of_three_sizes(small: ModelSpace, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'archfront[export]'")
    pytest.importorskip("onnxscript", reason="pip install 'archfront[export]'")
    mixed = {"encoder_embed_dim": 32, "decoder_arbitrary_ende_attn[0]": -1, "decoder_ende_attention_heads[1]": 2}
    config = {**small.search_space.default, **mixed}
    net = perturbed(small.build(config))
    batch = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn about their own internals
        program = torch.export.export(net, small.prepared_example(config), dynamic_shapes=({0: batch}, {0: batch}))
        onnx = torch.onnx.export(program, dynamo=True, verbose=False)
    assert onnx is not None
    onnx.save(str(tmp_path / "net.onnx"), external_data=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    for rows in (1, 2, 5):
        source, previous = small.prepared_example(config, rows)
        source[:, 12:] = source[-1] = 0
        with torch.no_grad():
            wanted = net(source, previous)
            assert torch.allclose(program.module()(source, previous), wanted, atol=1e-6)
        assert wanted.isfinite().all()
        got = session.run(None, dict(zip(names, (source.numpy(), previous.numpy()), strict=True)))[0]
        assert np.abs(got - wanted.numpy()).max() < 1e-5 * max(1.0, float(wanted.abs().max()))
