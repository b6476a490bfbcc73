"""How long networks take on this host: interleaved in shuffled order, with a reference kernel between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Timing", "time_networks"]

Floats = NDArray[np.float64]
WARM_UP_CALLS = 20
WARM_UP_SECONDS = 0.05
BLOCK_SECONDS = 0.0015
"""Calls are timed in blocks of about this length: long for the clock, short for the scheduler."""
ENOUGH_BLOCKS = 12
RELATIVE_ERROR = 0.01
"""A network is done when the standard error of its median, as a share of the median, is below this."""
SECONDS_PER_NETWORK = 2.0
"""... or after this long, blocks of the reference included."""
QUIET = 1.3
"""A block is undisturbed when each reference kernel beside it took at most this times its best ..."""
OWN_SHARE = 0.97
"""... and the process had the core for this share of both."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call. `value` is the 10th percentile of the undisturbed blocks; where there are too few, of the
    blocks that had the core to themselves; of all as a last resort. Minimum, median and spread (interquartile range
    over the median) are of the same blocks. `drift` is how much slower than their best on this host the reference
    kernels ran beside it (the slower of the two, as a share); `quiet` the share of undisturbed blocks.
    """

    value: float
    minimum: float
    median: float
    spread: float
    n: int
    drift: float
    quiet: float


@dataclass(frozen=True)
class _Block:
    """Milliseconds per call on the clock, and the share of them in which the process had the core."""

    wall_ms: float
    own: float


@dataclass
class _Candidate:
    net: nn.Module
    inputs: tuple[Tensor, ...]
    calls: int = 1
    blocks: list[_Block] = field(default_factory=list)
    references: list[tuple[_Block, ...]] = field(default_factory=list)
    """The reference kernels' blocks beside each block."""

    def slowness(self, best: Sequence[float]) -> Floats:
        """How many times its best the slower reference took beside each block."""
        walls = np.array([[block.wall_ms for block in beside] for beside in self.references])
        return np.asarray((walls / np.array(best)).max(axis=1))

    def chosen(self, best: Sequence[float]) -> tuple[Floats, float]:
        """The milliseconds that count, and the share of undisturbed blocks."""
        wall = np.array([block.wall_ms for block in self.blocks])
        shares = [min(b.own, *(r.own for r in r_)) for b, r_ in zip(self.blocks, self.references, strict=True)]
        own = np.array(shares) >= OWN_SHARE
        quiet = own & (self.slowness(best) <= QUIET)
        for selected in (quiet, own):
            if selected.sum() >= ENOUGH_BLOCKS:
                return wall[selected], float(quiet.mean())
        return wall, float(quiet.mean())

    def done(self, best: Sequence[float]) -> bool:
        """Whether the median of the undisturbed blocks is certain."""
        blocks, quiet = self.chosen(best)
        if quiet * len(self.blocks) < ENOUGH_BLOCKS:
            return False
        low, median, high = np.percentile(blocks, [25, 50, 75])
        return bool((high - low) / median / len(blocks) ** 0.5 < RELATIVE_ERROR)


def time_networks(
    networks: Sequence[tuple[nn.Module, tuple[Tensor, ...]]],
    *,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    best: Sequence[float] = (math.inf, math.inf),
) -> tuple[list[Timing], tuple[float, ...]]:
    """Time eval-mode networks on their inputs, interleaved in shuffled order, two reference kernels before each block.

    `best` are the references' best milliseconds known on this host; the new ones are returned too. Sets the number of
    torch's threads and leaves it so: call it in a process of its own.
    """
    torch.set_num_threads(threads)
    rng = np.random.default_rng(seed)
    candidates = [_Candidate(net.eval().to(device), tuple(t.to(device) for t in inputs)) for net, inputs in networks]
    block = _cuda_block if device == "cuda" else _cpu_block
    references = _references(device)
    with torch.inference_mode():
        for candidate in [*references, *candidates]:
            _warm_up(candidate, block)
        waiting = list(range(len(candidates)))
        deadline = time.perf_counter() + SECONDS_PER_NETWORK * len(candidates)
        seen: list[tuple[float, ...]] = []
        while waiting and time.perf_counter() < deadline:
            for i in rng.permutation(waiting):
                beside = tuple(block(reference) for reference in references)
                candidates[i].references.append(beside)
                candidates[i].blocks.append(block(candidates[i]))
                seen.append(tuple(b.wall_ms for b in beside))
            low = np.percentile(seen, 10, axis=0)
            best = [min(known, float(now)) for known, now in zip(best, low, strict=True)]
            waiting = [i for i in waiting if not candidates[i].done(best)]
    return [_timing(candidate, best) for candidate in candidates], tuple(best)


def _warm_up(candidate: _Candidate, block: Callable[[_Candidate], _Block]) -> None:
    """Calls whose times are thrown away; afterwards a block has the right number of calls."""
    started, calls = time.perf_counter(), 0
    while calls < WARM_UP_CALLS or time.perf_counter() - started < WARM_UP_SECONDS:
        candidate.net(*candidate.inputs)
        calls += 1
    once = min(block(candidate).wall_ms for _ in range(3)) / 1e3
    candidate.calls = max(1, round(BLOCK_SECONDS / max(once, 1e-7)))


def _cpu_block(candidate: _Candidate) -> _Block:
    started, owned = time.perf_counter(), time.thread_time()
    for _ in range(candidate.calls):
        candidate.net(*candidate.inputs)
    seconds, own = time.perf_counter() - started, time.thread_time() - owned
    return _Block(1e3 * seconds / candidate.calls, own / seconds)


def _cuda_block(candidate: _Candidate) -> _Block:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    for _ in range(candidate.calls):
        candidate.net(*candidate.inputs)
    end.record()
    torch.cuda.synchronize()
    return _Block(float(begin.elapsed_time(end)) / candidate.calls, 1.0)


def _references(device: str) -> list[_Candidate]:
    """Two kernels that are always the same: one that computes within the caches, one that streams eight megabytes of
    weights. Their times show what else the host does."""
    layers = [nn.Linear(64, 64) for _ in range(8)]
    computing = nn.Sequential(*layers, nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512))
    streaming = nn.Sequential(nn.Linear(1024, 1024), nn.Linear(1024, 1024))
    kernels = [(computing, torch.ones(16, 64)), (streaming, torch.ones(1, 1024))]
    return [_Candidate(net.to(device), (x.to(device),)) for net, x in kernels]


def _timing(candidate: _Candidate, best: Sequence[float]) -> Timing:
    blocks, quiet = candidate.chosen(best)
    low, quarter, median, three_quarters = np.percentile(blocks, [10, 25, 50, 75])
    drift = float(np.median(candidate.slowness(best))) - 1
    spread = float((three_quarters - quarter) / median)
    n = len(blocks) * candidate.calls
    return Timing(float(low), float(blocks.min()), float(median), spread, n, drift, quiet)
