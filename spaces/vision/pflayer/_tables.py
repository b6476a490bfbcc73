"""The search spaces, recipes and named configurations of every variant of pflayer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._condition import IndexBelow
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Parameter, Repeated
from archfront.spaces._search_space import SearchSpace
from archfront.spaces.vision.pflayer._operations import DOWN_OPS, POST_POOL_NORMS, SPATIAL_OPS
from archfront.spaces.vision.pflayer._resnet import BLOCKS, RESNETS, ResNetShape
from archfront.spaces.vision.pflayer._towers import PITS, VITS, PitShape, VitShape
from archfront.spaces.vision.pflayer._transformer import MIXERS

__all__ = ["PRESETS", "VARIANTS", "epochs_of", "recipe_of"]


def _drop_path(default: float) -> Real:
    return Real("drop_path", 0.0, 0.1, default=default, bins=10, role="hyperparameter")


def _depths(largest: tuple[int, ...], defaults: tuple[int, ...]) -> Iterator[Parameter]:
    """depth[s] in 1..largest[s]; the group "depth" stands for all stages."""
    for stage, (most, default) in enumerate(zip(largest, defaults, strict=True)):
        yield Integer(f"depth[{stage}]", 1, most, default=default, elastic=True, group="depth", index=stage)


def _resnet(shape: ResNetShape, depths: tuple[int, ...], spatial_op: str, down_op: str) -> SearchSpace:
    """spatial_op[b]: b is the running number at full depth; the first block of a later stage has a down_op instead."""
    operations = []
    for stage, most in enumerate(shape.depths):
        for position in range(1 if stage else 0, most):
            number = shape.number(stage, position)
            operations.append(
                Categorical(
                    f"spatial_op[{number}]",
                    SPATIAL_OPS,
                    default=spatial_op,
                    elastic=True,
                    group="spatial_op",
                    index=number,
                    when=(IndexBelow(f"depth[{stage}]", position),) if position else (),
                )
            )
    downs = [
        Categorical(f"down_op[{stage}]", DOWN_OPS, default=down_op, elastic=True, group="down_op", index=stage)
        for stage in range(1, len(shape.depths))
    ]
    return SearchSpace(
        Categorical("block", BLOCKS),
        *_depths(shape.depths, depths),
        *operations,
        *downs,
        Ordinal("width_mult", (0.25, 0.5, 0.75, 1.0), default=1.0, elastic=True),
        Ordinal("mid_ratio", (0.5, 0.75, 1.0), default=1.0, elastic=True),
        Categorical("post_pool_norm", POST_POOL_NORMS),
        _drop_path(0.0),
    )


def _common(dims: tuple[int, ...], heads: tuple[int, ...]) -> tuple[Parameter, ...]:
    return (
        Ordinal("dim", dims, default=dims[-1], elastic=True),
        Ordinal("heads", heads, default=heads[-1], elastic=True),
        Ordinal("mlp_ratio", (2, 3, 4), default=4, elastic=True),
        Ordinal("eff_ratio", (1, 2, 3, 4), default=3, elastic=True),
        _drop_path(0.1),
    )


def _vit(shape: VitShape) -> SearchSpace:
    """Even blocks attend, odd ones pool."""
    defaults = tuple("max3" if i % 2 else "attn" for i in range(shape.depth))
    return SearchSpace(
        Integer("depth", 1, shape.depth, default=shape.depth, elastic=True),
        Repeated(Categorical("mixer", MIXERS, elastic=True), shape.depth, when=IndexBelow("depth"), defaults=defaults),
        *_common(shape.dims, shape.heads),
    )


def _pit(shape: PitShape) -> SearchSpace:
    """In every stage even blocks attend, odd ones pool; mixer[b] is numbered at full depth."""
    mixers = [
        Categorical(
            f"mixer[{shape.number(stage, i)}]",
            MIXERS,
            default="max3" if i % 2 else "attn",
            elastic=True,
            group="mixer",
            index=shape.number(stage, i),
            when=(IndexBelow(f"depth[{stage}]", i),) if i else (),
        )
        for stage, most in enumerate(shape.depths)
        for i in range(most)
    ]
    return SearchSpace(*_depths(shape.depths, shape.depths), *mixers, *_common(shape.dims, shape.heads))


VARIANTS: Mapping[str, SearchSpace] = {
    "small": _resnet(RESNETS["small"], (1, 2, 1), "max3", "avg2+conv3"),
    "resnet50": _resnet(RESNETS["resnet50"], RESNETS["resnet50"].depths, "conv3", "conv3s2"),
    **{name: _vit(shape) for name, shape in VITS.items()},
    **{name: _pit(shape) for name, shape in PITS.items()},
}

PRESETS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "resnet50": ("resnet50", {}),
    "resnet50_max": ("resnet50", {"spatial_op": "max3", "down_op": "max3s2"}),
    "resnet50_hybrid": ("resnet50", {"spatial_op": "max3", "down_op": "avg2+conv3"}),
    **{f"{name}_max": (name, {}) for name in (*VITS, *PITS)},
}
"""The authors' named models: variant, and what differs from its default configuration."""


def epochs_of(variant: str) -> int:
    """What the paper's recipe trains: 90 epochs of residual networks, 300 of transformers; 10 on small images."""
    return 10 if variant == "small" else 90 if variant in RESNETS else 300


def recipe_of(variant: str) -> dict[str, dict[str, Any]]:
    """The training of a variant: SGD for the residual networks, DeiT's AdamW for the transformers."""
    shared = {
        "label_smoothing": Real("label_smoothing", 0.0, 0.2, default=0.0, bins=4, role="hyperparameter"),
        "cutmix": Real("cutmix", 0.0, 1.0, default=0.0, bins=2, role="hyperparameter"),
    }
    if variant in VITS or variant in PITS:
        adamw = {"optimizer": "adamw", "batch_size": 512, "schedule": "cosine", "warmup_epochs": 5.0}
        searched = {**_optimiser(5e-4, 5e-5, 5e-3, decay=0.05, least=1e-3, most=0.3), **shared}
        return {"backprop": {**adamw, **searched}, "supernet": {**adamw, "lr": 5e-4, "weight_decay": 0.05}}
    sgd: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.9}
    if variant == "small":
        sgd |= {"batch_size": 32, "schedule": "cosine"}  # the spec states none; two epochs are then enough to learn
        lr = 0.1
    else:
        sgd |= {"batch_size": 1024, "schedule": "step", "warmup_epochs": 3.0}
        lr = 0.2
    searched = {**_optimiser(lr, 0.01, 0.5, decay=1e-4, least=1e-5, most=1e-2), **shared}
    return {"backprop": {**sgd, **searched}, "supernet": {**sgd, "lr": lr, "weight_decay": 1e-4}}


def _optimiser(lr: float, low: float, high: float, *, decay: float, least: float, most: float) -> dict[str, Real]:
    return {
        "lr": Real("lr", low, high, default=lr, log=True, bins=16, role="hyperparameter"),
        "weight_decay": Real("weight_decay", least, most, default=decay, log=True, bins=12, role="hyperparameter"),
    }
