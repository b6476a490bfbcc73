"""Shuffled batches of a prepared split, as a function of the epoch's seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from archfront.spaces._task import Batch, Split, Task

__all__ = ["Batch", "batches", "cut_and_mix", "nth_batch"]


def batches(task: Task, split: Split, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """(inputs, targets) of `size` rows in random order, corrupted as the task says. A graph is one batch.

    A last batch of one row joins the one before it: batch norm cannot train on a single row.
    """
    if split.rows is not None:
        yield task.corrupt(split.inputs, split.target, generator)
        return
    order = torch.randperm(len(split.target), generator=generator).to(split.target.device)
    parts = list(torch.split(order, size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    for rows in parts:
        yield task.corrupt(tuple(t[rows] for t in split.inputs), split.target[rows], generator)


def nth_batch(split: Split, size: int, number: int, seed: Callable[[int], int]) -> Batch:
    """Batch `number` of endless passes over a split, each in an order of its own: pass i is seeded by
    `seed(i)`. A graph is one batch."""
    if split.rows is not None:
        return split.inputs, split.target
    turn, at = divmod(number, math.ceil(len(split) / size))
    generator = torch.Generator().manual_seed(seed(turn))
    rows = torch.randperm(len(split), generator=generator)[at * size : (at + 1) * size].to(split.target.device)
    return tuple(t[rows] for t in split.inputs), split.target[rows]


def cut_and_mix(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """CutMix (Yun et al., 2019): a box of each image (n, c, h, w) is replaced by another image's.

    Returns the images, the permutation of the donors, and the share lambda of the own label that remains.
    """
    donors = torch.randperm(len(x), generator=generator).to(x.device)
    height, width = x.shape[-2:]
    share = float(torch.rand(1, generator=generator))  # lambda ~ Beta(1, 1)
    box_height, box_width = round(height * (1 - share) ** 0.5), round(width * (1 - share) ** 0.5)
    top = int(torch.randint(height, (1,), generator=generator)) - box_height // 2
    left = int(torch.randint(width, (1,), generator=generator)) - box_width // 2
    rows = slice(max(0, top), max(0, min(height, top + box_height)))
    columns = slice(max(0, left), max(0, min(width, left + box_width)))
    mixed = x.clone()
    mixed[..., rows, columns] = x[donors][..., rows, columns]
    area = max(0, rows.stop - rows.start) * max(0, columns.stop - columns.start)
    return mixed, donors, 1 - area / (height * width)
