"""HAT's official checkpoints: fairseq's state dictionaries in their spellings, and what does not fit."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.spaces.supernets.transformers import of_size, perturbed
from torch import Tensor

from archfront.spaces import ModelSpace
from archfront.spaces._errors import DataError
from archfront.spaces._supernet import Supernet
from archfront.trainers import load_bank

SPELLINGS = ("packed", "separate", "modules")


def tensors_of(bank: Supernet) -> dict[str, Tensor]:
    return {n.removeprefix("bank:").replace("/", "."): t.detach().clone() for n, t in bank.state_dict().items()}


def official(ours: Mapping[str, Tensor], spelling: str) -> dict[str, Tensor]:
    """Our tensors under fairseq's names, in one of the ways to keep queries, keys and values."""
    found = {f"{side}.embed_tokens.weight": ours["embedding.weight"].clone() for side in ("encoder", "decoder")}
    attentions = {"attention": "self_attn", "cross_attention": "encoder_attn"}
    plain = {
        "attention_norm": "self_attn_layer_norm",
        "cross_norm": "encoder_attn_layer_norm",
        "feed_forward.widen": "fc1",
        "feed_forward.narrow": "fc2",
        "final_norm": "final_layer_norm",
    }
    for name, tensor in ours.items():
        match = re.fullmatch(r"(\w+)\.(\d)\.(.+)\.(weight|bias)", name)
        if match is None:
            continue
        place, inside, kind = f"{match[1]}.layers.{match[2]}", match[3], match[4]
        if inside in plain:
            found[f"{place}.{plain[inside]}.{kind}"] = tensor
            continue
        part, projection = inside.split(".")
        theirs = f"{place}.{attentions[part]}"
        if projection == "out_proj" or spelling == "modules":
            found[f"{theirs}.{projection}.{kind}"] = tensor
        elif spelling == "separate" and kind == "weight":
            found[f"{theirs}.{projection}_weight"] = tensor
        elif projection == "q_proj":
            stack = [ours[f"{match[1]}.{match[2]}.{part}.{p}_proj.{kind}"] for p in "qkv"]
            found[f"{theirs}.in_proj_{kind}"] = torch.cat(stack)
    for side in ("encoder", "decoder"):
        found |= {f"{side}.version": torch.tensor([3.0]), f"{side}.embed_positions._float_tensor": torch.zeros(1)}
    return found


class TestOfficialCheckpoints:
    @pytest.fixture
    def bank(self, small: ModelSpace) -> Supernet:
        bank = Supernet(small, seed=5)
        perturbed(bank, 5)
        return bank

    @pytest.fixture
    def load(self, small: ModelSpace, tmp_path: Path) -> Callable[[Any], Supernet]:
        def load(state: Any) -> Supernet:
            torch.save(state, tmp_path / "hat.pt")
            return load_bank(small, tmp_path / "hat.pt")

        return load

    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_they_load(self, bank: Supernet, load: Callable[[Any], Supernet], spelling: str) -> None:
        state = official(tensors_of(bank), spelling)
        assert len(state) == {"packed": 66, "separate": 78, "modules": 90}[spelling]
        loaded = load({"state_dict": state})
        for config in bank.space.search_space.sample(np.random.default_rng(0), 3):
            inputs = bank.space.prepared_example(config)
            with torch.no_grad():
                ours, theirs = (one.extract(config).eval()(*inputs) for one in (bank, loaded))
            assert torch.equal(ours, theirs)

    def test_a_file_as_fairseq_writes_it(self, bank: Supernet, load: Callable[[Any], Supernet]) -> None:
        """The state under "model", the arguments of the training beside it."""
        arguments = argparse.Namespace(arch="transformersuper_wmt_en_de", lr=[0.0007])
        loaded = load({"args": arguments, "model": official(tensors_of(bank), "packed"), "extra_state": {"epoch": 3}})
        for name, tensor in bank.state_dict().items():
            assert torch.equal(tensor, loaded.state_dict()[name])

    @pytest.mark.parametrize("output", ["decoder.embed_out", "decoder.output_projection.weight"])
    def test_other_spellings(self, bank: Supernet, load: Callable[[Any], Supernet], output: str) -> None:
        state = official(tensors_of(bank), "packed")
        state[output] = state["decoder.embed_tokens.weight"].clone()
        loaded = load({f"module.{name}": tensor for name, tensor in state.items()})
        for name, tensor in bank.state_dict().items():
            assert torch.equal(tensor, loaded.state_dict()[name])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("decoder.layers.1.fc2.bias"), "it lacks: decoder.1.feed_forward.narrow.bias"),
            (lambda s: s.pop("encoder.layers.0.self_attn.in_proj_bias"), "it lacks: encoder.0.attention.q_proj.bias"),
            (lambda s: s.update({"encoder.layers.2.fc1.bias": torch.zeros(96)}), "tensor 'encoder.layers.2.fc1.bias'"),
            (lambda s: s.update({"encoder.layers.0.encoder_attn.out_proj.bias": torch.zeros(48)}), "encoder_attn"),
            (lambda s: s.update({"encoder.layers.0.fc1.scale": torch.zeros(1)}), "tensor 'encoder.layers.0.fc1.scale'"),
            (lambda s: s.update({"decoder.layers.0.self_attn.bias_k": torch.zeros(1)}), "self_attn.bias_k"),
            (lambda s: s.update({"encoder.layer_norm.weight": torch.zeros(48)}), "'encoder.layer_norm.weight' is not"),
            (
                lambda s: s.update({"decoder.layers.0.fc1.bias": torch.zeros(7)}),
                r"other shapes: decoder.0.feed_forward.widen.bias \(7,\) instead of \(96,\)",
            ),
            (
                lambda s: s.update({"decoder.layers.0.self_attn.in_proj_bias": torch.zeros(97)}),
                r"'decoder.layers.0.self_attn.in_proj_bias' has shape \(97,\)",
            ),
            (
                lambda s: s["decoder.embed_tokens.weight"].add_(1),
                "'encoder.embed_tokens.weight' and 'decoder.embed_tokens.weight' differ",
            ),
            (
                lambda s: s.update({"decoder.output_projection.weight": torch.zeros(75, 32)}),
                "'decoder.output_projection.weight' differ",
            ),
        ],
    )
    def test_what_does_not_fit_is_said(
        self, bank: Supernet, load: Callable[[Any], Supernet], change: Any, message: str
    ) -> None:
        state = official(tensors_of(bank), "packed")
        change(state)
        with pytest.raises(DataError, match=message) as error:
            load(state)
        assert "hat.pt" in str(error.value)

    def test_a_full_one_is_read(self) -> None:
        space = of_size("wmt14_en_de", 50)
        ours = space.build(space.search_space.default).state_dict()
        read = space.read_official(official(ours, "packed"))
        assert set(read) == set(ours)
        assert all(torch.equal(tensor, ours[name]) for name, tensor in read.items())
