"""Files of pre-trained networks: plain tensors and JSON, half precision, a hash of the content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from archfront.spaces._errors import DataError
from archfront.spaces.inference._transformer import PfnNetwork, PfnShape

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = "archfront-pfn-1"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network as data. `state`: its tensors without the borders, rounded to half precision; `about`: JSON,
    of what it was trained on ("power" and "longest" are what its user needs)."""

    shape: PfnShape
    borders: Float[Tensor, " edges"]
    state: Mapping[str, Tensor]
    about: Mapping[str, Any]

    @cached_property
    def hash(self) -> str:
        """sha256 of everything."""
        digest = hashlib.sha256(json.dumps([asdict(self.shape), dict(self.about)], sort_keys=True).encode())
        for name, tensor in sorted({"borders": self.borders, **self.state}.items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def network(self) -> PfnNetwork:
        """The network in single precision and eval mode; the global generator is left alone."""
        with torch.random.fork_rng(devices=[]):
            net = PfnNetwork(self.shape, self.borders)
        net.load_state_dict({"borders": self.borders[None], **{n: t.float() for n, t in self.state.items()}})
        return net.eval().requires_grad_(False)

    @classmethod
    def of_network(cls, net: PfnNetwork, about: Mapping[str, Any]) -> Checkpoint:
        """What a file of a network holds."""
        state = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
        borders = state.pop("borders")[0].float()
        return cls(net.shape, borders, {name: tensor.half() for name, tensor in state.items()}, dict(about))


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the file, whole or not at all."""
    content = {
        "format": FORMAT,
        "hash": checkpoint.hash,
        "shape": asdict(checkpoint.shape),
        "about": json.dumps(dict(checkpoint.about), sort_keys=True),
        "borders": checkpoint.borders,
        "state": dict(checkpoint.state),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    torch.save(content, unfinished)
    unfinished.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file of `save_checkpoint`. Raises DataError for one that is missing, of another format or damaged."""
    if not path.exists():
        raise DataError(f"no checkpoint {str(path)!r}", "make one: python benchmarks/pretrain_pfn.py --output FILE")
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        if saved["format"] != FORMAT:
            raise DataError(f"{str(path)!r} is of format {saved['format']!r}, not {FORMAT!r}")
        about = json.loads(saved["about"])
        checkpoint = Checkpoint(PfnShape(**saved["shape"]), saved["borders"], saved["state"], about)
        wanted = saved["hash"]
    except DataError:
        raise
    except Exception as error:  # whatever torch says of a file that is none of its own
        raise DataError(f"{str(path)!r} is not a checkpoint of a prior-data fitted network") from error
    if checkpoint.hash != wanted:
        raise DataError(f"checkpoint {str(path)!r} is damaged: its content has another hash", "make it again")
    return checkpoint
