"""Learning from several data sets, then from a few rows of another one (DiffusionNAG's meta-predictor)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._datasets import DataSet
from archfront.predictors._noisy_training import NoisyTraining, Rows
from archfront.predictors._workshop import Kept
from archfront.spaces._parameter import Floats

if TYPE_CHECKING:
    from torch import Tensor

    from archfront.predictors._directed import DirectedEnsemble
    from archfront.predictors._set_encoder import SetEncoder

__all__ = ["Learned", "RowsOfSets", "Transfer", "learned", "standardised"]

SETS = 8
"""Data sets that one batch comes from: each is encoded anew."""
MOST_CLASSES = 20
"""As many classes of a data set are looked at in one draw, anew each time: the paper's tasks have no more."""


@dataclass(frozen=True)
class RowsOfSets(Rows):
    """Rows with the number of each one's data set, `owners` (n,). Half of every batch is of the set `always`
    (-1: of none)."""

    owners: NDArray[np.int64]
    always: int = -1

    def drawn(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """From a few data sets, as many of each."""
        chosen = rng.permutation(np.unique(self.owners[self.owners != self.always]))[:SETS]
        return np.stack([self._of(chosen, share, size, rng) for share in self.shares])

    def _of(
        self, chosen: NDArray[np.int64], share: NDArray[np.int64], size: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        owners = self.owners[share]
        own = share[owners == self.always]
        others = [rows for one in chosen if len(rows := share[owners == one])]
        parts = [own] * max(1, len(others)) + others if len(own) else others or [share]
        return np.concatenate([rng.choice(rows, -(-size // len(parts))) for rows in parts])[:size]

    def before(self, owner: int) -> RowsOfSets:
        """Those of the data sets before this one, which come first."""
        n = int((self.owners < owner).sum())
        shares = [share[share < n] for share in self.shares]
        return RowsOfSets(self.inputs[:n], self.labels[:n], self.heavy[:n], shares, self.owners[:n])


@dataclass(frozen=True)
class Transfer:
    """Everything that is known, and how it is learned: `training` on the data sets `sets` but the last, the study's
    own; then `adaptation` steps in which its told rows are in every batch. Without other data sets these are all.

    `shape` makes the networks (`DirectedEnsemble`); `draw` rows of each class are looked at.
    """

    shape: Mapping[str, Any]
    training: NoisyTraining
    adaptation: int
    sets: Sequence[DataSet]
    rows: RowsOfSets
    draw: int
    draws: int
    seed: int

    @property
    def own(self) -> int:
        """The number of the study's own data set."""
        return len(self.sets) - 1

    @property
    def elsewhere(self) -> RowsOfSets:
        """What is known of the other data sets."""
        return self.rows.before(self.own)

    @property
    def identity(self) -> str:
        """Content hash of what is learned on the other data sets."""
        known, how = self.elsewhere, self.training
        shape = {**self.shape, "mask": np.asarray(self.shape["mask"]).tolist()}
        plain = (how.steps, how.batch, how.lr, how.noisy, dict(how.process), self.draw)
        text = repr((shape, plain, [len(one.classes) for one in self.sets]))
        content = hashlib.sha256(text.encode())
        arrays = [how.free, known.inputs, known.labels, known.owners, *known.shares]
        for array in [*arrays, *(rows for one in self.sets for rows in one.classes)]:
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


@dataclass(frozen=True)
class Learned:
    """The networks' weights; `draws` embeddings (draws, networks, 1, dim) of the study's own data set; what each
    network says of every row (networks, n), standardised, each by one draw of its data set."""

    tensors: Mapping[str, NDArray[np.float32]]
    embeddings: NDArray[np.float32]
    said: Floats


def learned(kept: Kept, transfer: Transfer) -> Learned:
    """Learn it; what is known on the other data sets is learned once and kept. Work of a `Workshop`."""
    import torch

    with torch.random.fork_rng(devices=[]):
        learner = Learner.of(transfer, np.random.default_rng(transfer.seed))
        if transfer.own:
            if transfer.identity not in kept:
                kept[transfer.identity] = _begun(transfer)
            for module, weights in zip(learner.modules, kept[transfer.identity], strict=True):
                module.load_state_dict(weights)
        torch.manual_seed(transfer.seed)
        if (transfer.rows.owners == transfer.own).any():
            rows = replace(transfer.rows, always=transfer.own)
            learner.learn(replace(transfer.training, steps=transfer.adaptation), rows)
        learner.net.eval()
        with torch.no_grad():
            said = learner.said(transfer.training, transfer.rows)
            drawn = [learner.embeddings([transfer.own]).numpy() for _ in range(transfer.draws)]
    tensors = {name: tensor.detach().numpy() for name, tensor in learner.net.state_dict().items()}
    return Learned(tensors, np.stack(drawn), said)


def _begun(transfer: Transfer) -> list[Mapping[str, Any]]:
    """Trained on the other data sets; the same for every fit of a study, so that its seed is in the content."""
    import torch

    seed = int(transfer.identity[:15], 16)
    torch.manual_seed(seed)
    learner = Learner.of(transfer, np.random.default_rng(seed))
    learner.learn(transfer.training, transfer.elsewhere)
    return [module.state_dict() for module in learner.modules]


@dataclass(frozen=True)
class Learner:
    """The networks and their encoders while they learn; `owners` (n,) is the data set of each row."""

    net: DirectedEnsemble
    encoder: SetEncoder
    sets: Sequence[DataSet]
    owners: Tensor
    draw: int
    rng: np.random.Generator

    @classmethod
    def of(cls, transfer: Transfer, rng: np.random.Generator) -> Learner:
        """Fresh networks, by torch's generator."""
        import torch

        from archfront.predictors._directed import DirectedEnsemble
        from archfront.predictors._set_encoder import EMBEDDING, SetEncoder

        net = DirectedEnsemble(**transfer.shape, context=EMBEDDING)
        encoder = SetEncoder(transfer.shape["networks"], transfer.sets[0].width)
        return cls(net, encoder, transfer.sets, torch.from_numpy(transfer.rows.owners), transfer.draw, rng)

    @property
    def modules(self) -> tuple[DirectedEnsemble, SetEncoder]:
        """What learns."""
        return self.net, self.encoder

    def learn(self, training: NoisyTraining, rows: RowsOfSets) -> None:
        """As `training` says."""
        weights = [parameter for module in self.modules for parameter in module.parameters()]
        training(weights, self, rows, self.rng)

    def said(self, training: NoisyTraining, rows: Rows) -> Floats:
        """What each network says of all clean rows, (networks, n), standardised, by one draw of each data set."""
        import torch

        x, sde = torch.from_numpy(rows.inputs).float()[None], training.sde
        condition = sde.condition(torch.full((1, x.shape[1]), sde.smallest))
        everything = torch.arange(x.shape[1]).expand(len(rows.shares), -1)
        said: Floats = self(x, condition, everything).double().numpy()
        return said

    def __call__(self, x: Tensor, condition: Tensor, rows: Tensor) -> Tensor:
        """What each network says of x, by a new draw of the data sets of its rows (networks, batch)."""
        import torch

        used, place = torch.unique(self.owners[rows], return_inverse=True)
        embedded = self.embeddings(used.tolist())
        own: Tensor = self.net(x, condition, embedded[torch.arange(len(rows))[:, None], place])
        return own

    def embeddings(self, chosen: Sequence[int]) -> Tensor:
        """(networks, chosen data sets, embedding), each with a mean square of 1: an encoder without norms lets its
        outputs grow a thousandfold in some trainings, and the tanh behind it then hears nothing else."""
        import torch
        from torch.nn.functional import rms_norm

        drawn = [torch.from_numpy(self.sets[i].drawn(self.rng, self.draw, MOST_CLASSES)).float() for i in chosen]
        embedded: Tensor = self.encoder(drawn)
        return rms_norm(embedded, embedded.shape[-1:])


def standardised(sets: Sequence[DataSet]) -> list[DataSet]:
    """Features with mean 0 and standard deviation 1 over all data sets, so that these still differ."""
    everything = np.concatenate([rows for one in sets for rows in one.classes])
    centre, spread = everything.mean(axis=0), np.where(np.ptp(everything, axis=0) > 0, everything.std(axis=0), 1.0)
    return [DataSet(one.name, [(rows - centre) / spread for rows in one.classes]) for one in sets]
