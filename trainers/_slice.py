"""Evaluation of a sub-network without training, and the file a trained bank travels in."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import torch
from torch import nn

from archfront.spaces._errors import DataError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._supernet import Supernet
from archfront.spaces._task import Split, SplitName
from archfront.trainers._recalibrate import recalibrate
from archfront.trainers._trainer import derived_seed, fraction_of, outputs_of

__all__ = [
    "bank_hash",
    "calibrated_subnet",
    "evaluate_slice",
    "load_bank",
    "save_bank",
    "sliced_space",
    "validation_part",
]

FORMAT = "archfront-bank-1"


def sliced_space(space: ModelSpace, fixed: Mapping[str, Any] | None = None) -> SearchSpace:
    """The search space of a slice study: elastic parameters only, the others at `fixed` or their default."""
    held = {name: (fixed or {}).get(name, space.search_space[name].default) for name in space.search_space.names}
    return space.search_space.fix({name: value for name, value in held.items() if name not in space.elastic})


def calibrated_subnet(bank: Supernet, config: Configuration) -> nn.Module:
    """The sub-network as an ordinary module in eval mode, batch norm recalibrated on the training split."""
    space = bank.space
    net = bank.extract(config)
    return recalibrate(net, space.prepared(config, space.task().split("train")))


def validation_part(space: ModelSpace, fraction: float) -> Split:
    """The task's validation split, or a random part of it, always the same."""
    split = space.task().split("val")
    return split if fraction == 1 else fraction_of(split, fraction, derived_seed("validation", space.task().identity))


def evaluate_slice(bank: Supernet, config: Configuration, split: SplitName = "val") -> dict[str, float]:
    """The task's metrics of a sub-network, without training."""
    space = bank.space
    data = space.prepared(config, space.task().split(split))
    output, target = data.chosen(outputs_of(calibrated_subnet(bank, config), data))
    return space.task().score(output, target)


def bank_hash(bank: Supernet) -> str:
    """sha256 of tensors, signature and fixed parameters: part of the protocol of slices."""
    digest = hashlib.sha256(f"{bank.space.search_space.identity} {bank.space.signature.hash}".encode())
    digest.update(json.dumps(bank.fixed, sort_keys=True).encode())
    for name, tensor in sorted(bank.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_bank(bank: Supernet, path: Path, *, epochs: int = 0) -> None:
    """Write a bank with what it belongs to."""
    torch.save(
        {
            "format": FORMAT,
            "space": bank.space.full_name,
            "identity": bank.space.search_space.identity,
            "signature": bank.space.signature.hash,
            "fixed": bank.fixed,
            "search_space": bank.space.search_space.to_dict(),
            "seed": bank.seed,
            "epochs": epochs,
            "tensors": dict(bank.state_dict()),
        },
        path,
    )


def load_bank(space: ModelSpace, path: str | Path) -> Supernet:
    """Read a bank for `space` from a file or fsspec URL: one that archfront has written, or an official checkpoint that
    the space knows. Raises DataError that names what does not fit."""
    try:
        with fsspec.open(str(path), "rb") as file, torch.serialization.safe_globals([argparse.Namespace]):
            saved = torch.load(io.BytesIO(file.read()), weights_only=True)  # fairseq's have their arguments beside
    except OSError as error:
        raise DataError(
            f"no supernet file {str(path)!r}: {error.strerror or error}", "train one with --supernet train"
        ) from None
    except Exception as error:  # whatever torch says of a file that is none of its own
        raise DataError(f"{str(path)!r} is not a supernet file", "give one that archfront has written") from error
    if not isinstance(saved, dict):
        raise DataError(f"{str(path)!r} is not a supernet file of format {FORMAT!r}")
    if saved.get("format") != FORMAT:
        return _official(space, path, saved)
    if saved["identity"] != space.search_space.identity:
        raise DataError(f"{str(path)!r} belongs to space {saved['space']!r}, not to this {space.full_name!r}")
    if saved["signature"] != space.signature.hash:
        raise DataError(f"{str(path)!r} was trained on inputs or outputs of another shape than {space.signature}")
    part = space.narrowed(SearchSpace.from_dict(saved["search_space"]))
    bank = Supernet(part, fixed=saved["fixed"], seed=saved["seed"])
    bank.load_state_dict(saved["tensors"])
    return bank


def _official(space: ModelSpace, path: str | Path, saved: Mapping[str, Any]) -> Supernet:
    """A bank from somebody else's state dictionary, alone, under "state_dict", or under "model" (fairseq)."""
    state = next((saved[name] for name in ("state_dict", "model") if isinstance(saved.get(name), Mapping)), saved)
    if not isinstance(state, Mapping) or not state or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise DataError(f"{str(path)!r} is not a supernet file of format {FORMAT!r}")
    try:
        tensors = space.read_official(state)
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error.message}", error.hint) from error
    bank = Supernet(space)
    bank.take(tensors, str(path))
    return bank
