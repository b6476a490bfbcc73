"""Rethinking the shape convention of an MLP (arXiv 2510.01796): a wide skip with narrow updates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from torch import nn

from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._condition import Equals
from archfront.spaces._errors import UsageError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import SelfTuned
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Task
from archfront.spaces.vision._choice import Chosen, cover_one_at_a_time
from archfront.spaces.vision._image_pairs import IMAGE_TASKS, image_to_image
from archfront.spaces.vision._residual_mlp import ACTIVATIONS, NORMS, PROJECTIONS, ResidualMlp, Sizes

__all__ = ["HourglassMlp"]

HOURGLASS = (Equals("shape", "hourglass"),)
CONVENTIONAL = (Equals("shape", "conventional"),)
MATCHED = 0.01
"""Largest relative difference in parameters between a network and its twin."""


class HourglassMlp(ModelSpace):
    """Image (batch, C, h, w) -> flat image (batch, d_y).

    hourglass: d_z = d_z_ratio * d_x, d_h = d_h_ratio * d_z, always below d_z. conventional: d_z = d_x without a
    projection, d_h = d_h_expansion * d_x, always above d_x. `params_m` counts what is trained: a fixed W_in is not.
    Elastic: the leading coordinates of z (norms act on these) and hidden units, the first blocks.
    """

    search_space = SearchSpace(
        Categorical("shape", ("hourglass", "conventional")),
        Ordinal("d_z_ratio", (1.0, 1.5, 2.0, 3.0, 4.0, 6.0), default=4.0, elastic=True, when=HOURGLASS),
        Real("d_h_ratio", 1 / 48, 0.95, default=1 / 12, log=True, bins=24, elastic=True, when=HOURGLASS),
        Real("d_h_expansion", 1.1, 32.0, default=4.0, log=True, bins=24, elastic=True, when=CONVENTIONAL),
        Integer("L", 1, 16, default=5, elastic=True),
        Categorical("w_in", PROJECTIONS, when=HOURGLASS),
        Categorical("norm", tuple(NORMS)),
        Categorical("act", tuple(ACTIVATIONS)),
        Categorical("bias", (True, False)),
        Real(
            "dropout",
            0.0,
            0.3,
            default=0.0,
            bins=6,
            role="hyperparameter",
            self_tuned=SelfTuned("*.blocks.*.dropout", "logit", 0.5),
        ),
    )
    tasks = (
        *IMAGE_TASKS,
        *(f"{task}_{on}" for on in ("fashion_mnist", "mnist", "imagenet32") for task in IMAGE_TASKS),
        "pairs",
    )
    recipe = {
        "backprop": {
            "optimizer": "adamw",
            "lr": Real("lr", 1e-4, 5e-3, default=1e-3, log=True, bins=16, role="hyperparameter"),
            "weight_decay": Real(
                "weight_decay", 1e-4, 0.1, default=0.01, log=True, zero=True, bins=12, role="hyperparameter"
            ),
            "batch_size": Ordinal("batch_size", (64, 128, 256, 512), default=128, role="hyperparameter"),
            "schedule": "cosine",
            "gradient_clip": 1.0,
        },
        "supernet": {
            "optimizer": "adamw",
            "lr": 1e-3,
            "weight_decay": 0.01,
            "batch_size": 128,
            "schedule": "cosine",
            "gradient_clip": 1.0,
        },
        "self_tuning": {
            "optimizer": "adamw",
            "lr": 1e-3,
            "weight_decay": 0.01,
            "batch_size": 128,
            "gradient_clip": 1.0,
        },
    }
    epochs = 20
    paper = "Rethinking the shape convention of an MLP, arXiv 2510.01796"
    year = 2025

    def sizes(self, config: Configuration) -> Sizes:
        """The widths of a configuration in numbers."""
        d_x, d_y = prod(self.signature.inputs[0].shape), self.signature.outputs
        if config["shape"] == "conventional":
            d_h = max(d_x + 1, round(config["d_h_expansion"] * d_x))
            return Sizes(d_x, d_x, d_h, d_y, config["L"], hourglass=False)
        d_z = max(2, round(config["d_z_ratio"] * d_x))
        d_h = min(d_z - 1, max(8, round(config["d_h_ratio"] * d_z)))
        return Sizes(d_x, d_z, d_h, d_y, config["L"])

    def build(self, config: Configuration) -> nn.Module:
        sizes = self.sizes(config)
        net = ResidualMlp(
            sizes,
            w_in=config["w_in"] if sizes.hourglass else None,
            norm=config["norm"],
            act=config["act"],
            bias=config["bias"],
            dropout=config["dropout"],
        )
        return Chosen(config["shape"], net)

    def closed_form(self, config: Configuration) -> Mapping[str, float]:
        """Trainable parameters and multiply-accumulates per image, in millions, by the paper's formulae."""
        return {"params_m": self._parameters(config) / 1e6, "macs_m": self.sizes(config).macs() / 1e6}

    def _parameters(self, config: Configuration) -> int:
        return self.sizes(config).parameters(w_in=config["w_in"], norm=config["norm"], bias=config["bias"])

    def cover(self, fixed: Mapping[str, Any] | None = None) -> list[Configuration]:
        """Per shape, every projection and every norm once; activations make no tensors."""
        space = self.search_space.fix(fixed or {})
        return cover_one_at_a_time(space, product=("shape",), inert=("act", "bias"), anchors={"bias": True})

    def parameter_matched(self, config: Configuration) -> Configuration:
        """The hourglass whose trainable parameters differ by less than 1 % from those of a conventional `config`.

        Norm, activation and biases are kept; depth and d_z are kept, or moved as little as possible until a d_h fits.
        Raises UsageError where `config` is no conventional one, or nothing fits.
        """
        if config["shape"] != "conventional":
            raise UsageError(f"shape={config['shape']!r} has no twin", "give a conventional configuration")
        wanted = self._parameters(config)
        depths = sorted(range(1, 17), key=lambda blocks: abs(blocks - config["L"]))
        for blocks, ratio in itertools.product(depths, (4.0, 3.0, 6.0, 2.0, 1.5)):
            start = {**config, "shape": "hourglass", "L": blocks, "d_z_ratio": ratio, "d_h_ratio": 1 / 48}
            twin = self._with_parameters(start, wanted)
            if twin is not None:
                return self.search_space.canonicalise(twin)
        raise UsageError(f"no hourglass has {wanted} parameters within 1 %", "change d_h_expansion or L")

    def _with_parameters(self, start: Configuration, wanted: int) -> Configuration | None:
        """`start` with the d_h that brings its parameters nearest to `wanted`, None where they differ by 1 %."""
        sizes, per_unit = self.sizes(start), start["L"] * (2 * self.sizes(start).d_z + start["bias"])
        d_h = sizes.d_h + round((wanted - self._parameters(start)) / per_unit)
        ratio = d_h / sizes.d_z
        if self.search_space["d_h_ratio"].problem(ratio) is not None:
            return None
        twin = {**start, "d_h_ratio": ratio}
        return twin if abs(self._parameters(twin) - wanted) < MATCHED * wanted else None

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        return image_to_image(name, data=data, seed=seed)
