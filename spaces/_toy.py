"""A tiny model space on generated images, for contract kits and tests: no file, no heavy import, milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archfront.spaces._channels import Axis, Channels
from archfront.spaces._choices import Ordinal
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import SelfTuned
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._task import Signature, Split, Task, TensorSpec
from archfront.spaces._tasks import CLASSIFICATION_METRICS, Classification

__all__ = ["ToyImages"]


class _Block(nn.Module):
    """x + dropout(relu(norm(conv(x))))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.dropout(self.norm(self.conv(x))))


class _Net(nn.Module):
    """Image (batch, 1, 4, 4) -> logits (batch, 3)."""

    def __init__(self, width: int, depth: int, dropout: float, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 1)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(depth))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class ToyImages(ModelSpace):
    """Three kinds of 4x4 images: a bright row, a bright column, noise."""

    registered_as = "archfront.spaces._toy:ToyImages"
    search_space = SearchSpace(
        Ordinal("width", (2, 4, 6), default=4, elastic=True),
        Integer("depth", 1, 3, default=2, elastic=True),
        Real(
            "dropout",
            0.0,
            0.5,
            default=0.1,
            bins=5,
            role="hyperparameter",
            self_tuned=SelfTuned("blocks.*.dropout", "logit", 0.5),
        ),
    )
    tasks = ("stripes",)
    recipe: Mapping[str, Mapping[str, Any]] = {
        "backprop": {"lr": Real("lr", 1e-3, 1e-1, default=1e-2, log=True, bins=8), "batch_size": 16},
        "supernet": {"lr": 1e-2, "batch_size": 16},
        "self_tuning": {"batch_size": 16, "warmup_epochs": 1},
    }
    shrinking = ("depth", "width", "width")
    paper = "a toy"

    def channels(self) -> list[Channels]:
        members: list[Axis] = [("stem.weight", 0), ("stem.bias", 0), ("head.weight", 1)]
        for i in range(self.search_space["depth"].largest()):
            members += [(f"blocks.{i}.conv.weight", axis) for axis in (0, 1)]
            members += [(f"blocks.{i}.norm.{name}", 0) for name in ("weight", "bias", "running_mean", "running_var")]
        return [Channels("width", ("head.weight", 1), tuple(members))]

    def build(self, config: Configuration) -> nn.Module:
        return _Net(config["width"], config["depth"], config["dropout"], self.signature.outputs)

    @classmethod
    def make_task(cls, name: str, *, variant: str, seed: int, data: Path | None) -> Task:
        signature = Signature("classification", (TensorSpec((1, 4, 4)),), 3)
        return Classification(name, signature, CLASSIFICATION_METRICS, _stripes)


def _stripes() -> Mapping[str, Split]:
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for name, rows in (("train", 96), ("val", 48), ("test", 48)):
        x = 0.3 * torch.randn(rows, 1, 4, 4, generator=generator)
        y = torch.arange(rows) % 3
        place = torch.randint(4, (rows,), generator=generator)
        for i in range(rows):
            if y[i] == 0:
                x[i, 0, place[i]] += 1
            elif y[i] == 1:
                x[i, 0, :, place[i]] += 1
        splits[name] = Split((x,), y)
    return splits
