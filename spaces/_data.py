"""Where data files lie, and how labelled rows are split: shared by the tasks of every family."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archfront.spaces._errors import DataError

__all__ = ["SHARES", "Indices", "cut", "data_folder", "find", "is_here", "split_indices"]

Indices = NDArray[np.int64]

SHARES: Mapping[str, float] = {"test": 0.2, "val": 0.2}
"""What is cut from the rows when a data set has no split of its own; the rest is for training."""


def data_folder() -> Path:
    """The folder with data files: the environment variable ARCHFRONT_DATA, else the user's cache folder."""
    named = os.environ.get("ARCHFRONT_DATA")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("archfront"))


def find(*relative: str) -> Path:
    """The first of these paths that exists under `data_folder()`. Raises DataError that says what to put where."""
    folder = data_folder()
    for path in relative:
        if (folder / path).exists():
            return folder / path
    raise DataError(
        f"no data file {' or '.join(map(repr, relative))} in {str(folder)!r}",
        "put the file there, or set ARCHFRONT_DATA to the folder that has it",
    )


def is_here(*relative: str) -> bool:
    """Whether one of these paths exists under `data_folder()`."""
    return any((data_folder() / path).exists() for path in relative)


def split_indices(labels: Sequence[Any] | NDArray[Any], seed: int = 0) -> dict[str, Indices]:
    """Rows of "train", "val" and "test": 60, 20 and 20 % of every class, each split at least one row of it.

    `labels` (n,) are integers or strings; the rows come in ascending order. The same labels and seed give the same rows
    on every platform. Raises DataError for a class with fewer than three rows.
    """
    given = np.asarray(labels)
    rng = np.random.default_rng(seed)
    rows = np.arange(len(given), dtype=np.int64)
    parts: dict[str, Indices] = {}
    for name, share in SHARES.items():
        rows, parts[name] = cut(rows, given, _whole(share * len(given)), rng, into=f"{name} split")
    return {"train": rows, "val": parts["val"], "test": parts["test"]}


def cut(
    rows: Indices, labels: NDArray[Any], number: int, rng: np.random.Generator, *, into: str
) -> tuple[Indices, Indices]:
    """(kept, taken): `number` of `rows` are taken, each class in proportion and at least one of it; both ascending.

    `labels` are those of all rows of the data set. Raises DataError for a class that has fewer than two of `rows`.
    """
    classes, of_row = np.unique(labels[rows], return_inverse=True)
    counts = np.bincount(of_row, minlength=len(classes))
    if len(counts) and counts.min() < 2:
        few = int(counts.argmin())
        total = int((labels == classes[few]).sum())
        raise DataError(
            f"class {classes[few].item()!r} has {total} {'row' if total == 1 else 'rows'}, too few to cut a {into}",
            "give every class at least 3 rows, leave it out, or give the splits yourself",
        )
    taken = [rng.permutation(rows[of_row == kind])[:share] for kind, share in enumerate(_proportional(counts, number))]
    chosen = np.sort(np.concatenate([*taken, np.empty(0, np.int64)]))
    return np.setdiff1d(rows, chosen), chosen


def _proportional(counts: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """`number` shared out in proportion to `counts` by largest remainders; nobody gets less than 1 or everything."""
    exact = counts * (number / max(1, int(counts.sum())))
    shares = np.maximum(np.floor(exact).astype(np.int64), 1)
    by_remainder = np.argsort(shares - exact, kind="stable")
    for kind in by_remainder[: max(0, number - int(shares.sum()))]:
        shares[kind] += 1
    return np.asarray(np.minimum(shares, counts - 1))


def _whole(number: float) -> int:
    """The next whole number, forgiving rounding errors of products such as 0.2 * 15."""
    return int(np.ceil(number - 1e-9))
