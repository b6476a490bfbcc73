"""HAT's super-network for translation (Wang et al., ACL 2020): elastic widths, depth, heads and attended layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from archfront.spaces._choices import Ordinal
from archfront.spaces._condition import IndexBelow
from archfront.spaces._model_space import ModelSpace, Recipe
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Repeated
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Task
from archfront.spaces.supernets._encoder_decoder import (
    SHAPES,
    DecoderLayer,
    EncoderDecoder,
    EncoderLayer,
    TransformerShape,
)
from archfront.spaces.supernets._hat import bank_tensors
from archfront.spaces.supernets._translation import PADDING, translation

__all__ = ["Transformer"]

SEEN = {-1: 1, 1: 2, 2: 3}
"""How many of the last encoder layers a decoder layer attends to, by HAT's values of decoder_arbitrary_ende_attn."""


def _space(shape: TransformerShape) -> SearchSpace:
    """The default is the whole network. Genes of decoder layers that are not there decide nothing."""

    def elastic(name: str, options: tuple[int, ...]) -> Ordinal:
        return Ordinal(name, options, default=options[-1], elastic=True)

    def per_encoder_layer(name: str, options: tuple[int, ...]) -> Repeated:
        return Repeated(elastic(name, options), shape.encoder_layers)

    def per_decoder_layer(name: str, options: tuple[int, ...]) -> Repeated:
        return Repeated(elastic(name, options), shape.decoder_layers, when=IndexBelow("decoder_layer_num"))

    return SearchSpace(
        elastic("encoder_embed_dim", shape.widths),
        elastic("decoder_embed_dim", shape.widths),
        elastic("decoder_layer_num", tuple(range(1, shape.decoder_layers + 1))),
        per_encoder_layer("encoder_ffn_embed_dim", shape.middles),
        per_encoder_layer("encoder_self_attention_heads", shape.heads),
        per_decoder_layer("decoder_ffn_embed_dim", shape.middles),
        per_decoder_layer("decoder_self_attention_heads", shape.heads),
        per_decoder_layer("decoder_ende_attention_heads", shape.heads),
        per_decoder_layer("decoder_arbitrary_ende_attn", shape.attended),
        Real("dropout", 0.0, 0.5, default=0.1, bins=5, role="hyperparameter"),
    )


VARIANTS = {name: _space(shape) for name, shape in SHAPES.items()}


def _recipe(lr: float) -> Recipe:
    """With this peak of the learning rate."""
    return {
        "backprop": {
            "optimizer": "adamw",
            "lr": Real("lr", 1e-4, 1e-2, default=lr, log=True, bins=16, role="hyperparameter"),
            "weight_decay": Real(
                "weight_decay", 1e-5, 0.1, default=1e-4, log=True, zero=True, bins=12, role="hyperparameter"
            ),
            "batch_size": Integer("batch_size", 32, 512, default=64, log=True, role="hyperparameter"),
            "schedule": "cosine",
            "warmup_epochs": 2.0,
            "gradient_clip": 1.0,
            "label_smoothing": 0.1,
        },
        "supernet": {
            "optimizer": "adamw",
            "lr": lr,
            "weight_decay": 1e-4,
            "batch_size": 64,
            "schedule": "cosine",
            "warmup_epochs": 2.0,
            "gradient_clip": 1.0,
            "distillation": 0.0,  # HAT's sub-networks learn from the translations, not from the largest one
        },
    }


class Transformer(ModelSpace):
    """(Source tokens (batch, source), previous target tokens (batch, target)), int64 -> logits (batch, target,
    vocabulary).

    Variants: `small` (2 + 2 layers of width 48, for the generated task `toy_translation`), and `wmt14_en_de`, the
    published super-network of 6 + 6 layers, whose task has data only through --data and whose official checkpoints
    --supernet reads. Elastic: the leading columns of either side, the middle of each feed-forward network, the first
    decoder layers, into how many heads attention is cut, and how many of the last encoder layers a decoder layer sees.
    Official weights want fairseq's tokens, with its padding, 1, written as 0.
    """

    variants = VARIANTS
    search_space = VARIANTS["small"]
    tasks = ("toy_translation",)
    recipe = _recipe(3e-3)
    epochs = 20
    paper = (
        "HAT: Hardware-Aware Transformers for Efficient Natural Language Processing, "
        "Wang, Wu, Liu, Cai, Zhu, Gan, Han, 2020"
    )
    year = 2020

    @classmethod
    def tasks_of(cls, variant: str) -> tuple[str, ...]:
        return cls.tasks if variant == "small" else (variant,)

    @classmethod
    def recipe_of(cls, variant: str) -> Recipe:
        """HAT's peak rate is 1e-3; the small networks learn the made-up languages best with more."""
        return cls.recipe if variant == "small" else _recipe(1e-3)

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        return translation(name, data=data, seed=seed)

    @property
    def shape(self) -> TransformerShape:
        """What the variant fixes."""
        return SHAPES[self.variant]

    def build(self, config: Configuration) -> nn.Module:
        encoder_width, decoder_width = config["encoder_embed_dim"], config["decoder_embed_dim"]
        common: dict[str, Any] = {"inner": self.shape.inner, "dropout": config["dropout"]}
        encoder = [
            EncoderLayer(
                encoder_width,
                middle=config[f"encoder_ffn_embed_dim[{i}]"],
                heads=config[f"encoder_self_attention_heads[{i}]"],
                **common,
            )
            for i in range(self.shape.encoder_layers)
        ]
        decoder = [
            DecoderLayer(
                decoder_width,
                encoder_width,
                middle=config[f"decoder_ffn_embed_dim[{i}]"],
                heads=config[f"decoder_self_attention_heads[{i}]"],
                cross_heads=config[f"decoder_ende_attention_heads[{i}]"],
                **common,
            )
            for i in range(config["decoder_layer_num"])
        ]
        return EncoderDecoder(
            self.signature.outputs,
            encoder_width,
            decoder_width,
            encoder,
            decoder,
            seen=[SEEN[config[f"decoder_arbitrary_ende_attn[{i}]"]] for i in range(config["decoder_layer_num"])],
            widest=self.shape.widths[-1],
            dropout=config["dropout"],
            padding=PADDING,
        )

    def read_official(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return bank_tensors(state, self.shape)
