"""How long networks take on this host: interleaved in shuffled order, with a reference kernel between them."""

from __future__ import annotations

import copy
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
WARM_UP_SECONDS = 0.03
BLOCK_SECONDS = 0.0015
"""Calls are timed in blocks of about this length: long for the clock, short for the scheduler."""
ENOUGH_BLOCKS = 32
RELATIVE_ERROR = 0.01
"""A network is done when the standard error of its median, as a share of the median, is below this."""
SECONDS_PER_NETWORK = 0.6
"""... or after this long, blocks of the reference included."""
CALIBRATION_SECONDS = 1.0
"""How long the reference runs alone on a host where its best time is not known."""
BEST_PERCENTILE = 2
"""Of the reference's blocks: low, so that the best is soon the host's best and then stays; not the one lucky block."""
COPIES = 4
"""Each network is timed in this many places in memory: where its weights lie changes its time (seen: 20 %) ..."""
COPIED_BYTES = 64 * 2**20
"""... unless its weights are larger than this: they lie in many places."""
OWN_SHARE = 0.97
"""A block counts when the process had the core for this share of it and of the reference beside it."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call. `value`: what a call would take were the host undisturbed, that is the median over blocks
    of the network's time over the reference's beside it (the mean of these over the network's copies) times the
    reference's best on this host. `minimum`, `median` and `spread` (interquartile range over the median) are of the
    same blocks as the clock saw them. `drift` is how much slower than its best the reference ran beside it, as a share.
    `n` calls were timed.
    """

    value: float
    minimum: float
    median: float
    spread: float
    n: int
    drift: float


@dataclass(frozen=True)
class _Block:
    """Milliseconds per call on the clock, and the share of them in which the process had the core."""

    wall_ms: float
    own: float


@dataclass
class _Candidate:
    """A network and what is known of its time. `calls` fill a block; blocks go round its copies."""

    copies: tuple[nn.Module, ...]
    inputs: tuple[Tensor, ...]
    calls: int = 1
    turn: int = 0
    blocks: list[_Block] = field(default_factory=list)
    references: list[_Block] = field(default_factory=list)
    """The reference's block beside each block."""

    @classmethod
    def of(cls, net: nn.Module, inputs: tuple[Tensor, ...], device: str) -> _Candidate:
        """On the device, in eval mode, copied if it is small."""
        net = net.eval().to(device)
        size = sum(parameter.numel() * parameter.element_size() for parameter in net.parameters())
        more = COPIES - 1 if size <= COPIED_BYTES else 0
        return cls((net, *(copy.deepcopy(net) for _ in range(more))), tuple(tensor.to(device) for tensor in inputs))

    def next_copy(self) -> nn.Module:
        """The copies in turn."""
        self.turn += 1
        return self.copies[self.turn % len(self.copies)]

    def chosen(self) -> tuple[Floats, Floats, list[Floats]]:
        """Milliseconds of the network and of the reference beside it where both had the core to themselves, of all
        blocks where too few had; and the ratios of the two, copy by copy."""
        pairs = list(zip(self.blocks, self.references, strict=True))
        walls = np.array([(block.wall_ms, beside.wall_ms) for block, beside in pairs])
        own = np.array([min(block.own, beside.own) for block, beside in pairs]) >= OWN_SHARE
        if own.sum() < ENOUGH_BLOCKS:
            own[:] = True
        which = np.arange(len(pairs)) % len(self.copies)
        ratios = [walls[own & (which == i)] for i in range(len(self.copies))]
        return walls[own, 0], walls[own, 1], [ratio[:, 0] / ratio[:, 1] for ratio in ratios if len(ratio)]

    def done(self) -> bool:
        """Whether the medians of the ratios are certain."""
        block, _, ratios = self.chosen()
        low, high = np.percentile(np.concatenate([ratio / np.median(ratio) for ratio in ratios]), [25, 75])
        return bool(len(block) >= ENOUGH_BLOCKS and (high - low) / len(block) ** 0.5 < RELATIVE_ERROR)


def time_networks(
    networks: Sequence[tuple[nn.Module, tuple[Tensor, ...]]],
    *,
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    best: float = math.inf,
) -> tuple[list[Timing], float]:
    """Time eval-mode networks on their inputs, interleaved in shuffled order, a reference kernel before each block.

    `best` is the reference's best milliseconds known on this host; the new one is returned too. Sets the number of
    torch's threads and leaves it so: call it in a process of its own.
    """
    torch.set_num_threads(threads)
    rng = np.random.default_rng(seed)
    candidates = [_Candidate.of(net, inputs, device) for net, inputs in networks]
    block = _cuda_block if device == "cuda" else _cpu_block
    reference = _reference(device)
    with torch.inference_mode():
        for candidate in [reference, *candidates]:
            _warm_up(candidate, block)
        seen = _alone(reference, block) if math.isinf(best) else []
        waiting = list(range(len(candidates)))
        deadline = time.perf_counter() + SECONDS_PER_NETWORK * len(candidates)
        while waiting and time.perf_counter() < deadline:
            for i in rng.permutation(waiting):
                beside = block(reference)
                candidates[i].references.append(beside)
                candidates[i].blocks.append(block(candidates[i]))
                seen.append(beside.wall_ms)
            waiting = [i for i in waiting if not candidates[i].done()]
    best = min(best, float(np.percentile(seen, BEST_PERCENTILE))) if seen else best
    return [_timing(candidate, best) for candidate in candidates], best


def _alone(reference: _Candidate, block: Callable[[_Candidate], _Block]) -> list[float]:
    """Milliseconds of the reference for a while with nothing between: what it can do here."""
    deadline = time.perf_counter() + CALIBRATION_SECONDS
    seen = [block(reference).wall_ms]
    while time.perf_counter() < deadline:
        seen.append(block(reference).wall_ms)
    return seen


def _warm_up(candidate: _Candidate, block: Callable[[_Candidate], _Block]) -> None:
    """Calls whose times are thrown away; afterwards a block has the right number of calls."""
    started, calls = time.perf_counter(), 0
    while calls < WARM_UP_CALLS or time.perf_counter() - started < WARM_UP_SECONDS:
        candidate.next_copy()(*candidate.inputs)
        calls += 1
    once = min(block(candidate).wall_ms for _ in range(3)) / 1e3
    candidate.calls = max(1, round(BLOCK_SECONDS / max(once, 1e-7)))


def _cpu_block(candidate: _Candidate) -> _Block:
    """The first call, which finds other networks' weights in the caches, does not count."""
    net, inputs = candidate.next_copy(), candidate.inputs
    net(*inputs)
    started, owned = time.perf_counter(), time.thread_time()
    for _ in range(candidate.calls):
        net(*inputs)
    seconds, own = time.perf_counter() - started, time.thread_time() - owned
    return _Block(1e3 * seconds / candidate.calls, own / seconds)


def _cuda_block(candidate: _Candidate) -> _Block:
    net, inputs = candidate.next_copy(), candidate.inputs
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    net(*inputs)
    begin.record()
    for _ in range(candidate.calls):
        net(*inputs)
    end.record()
    torch.cuda.synchronize()
    return _Block(float(begin.elapsed_time(end)) / candidate.calls, 1.0)


def _reference(device: str) -> _Candidate:
    """A kernel that is always the same: somewhat more than half its time goes into many small calls, the rest into
    products within the caches. Networks of a millisecond do both, so its time shows how much slower they run for what
    else the host does (docs/results/measuring_agreement.md).
    """
    calls = [nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(24)]
    products = [nn.Linear(8, 64), *(nn.Linear(64, 64) for _ in range(7)), nn.Linear(64, 512), nn.Linear(512, 512)]
    return _Candidate.of(nn.Sequential(*calls, *products), (torch.ones(16, 8),), device)


def _timing(candidate: _Candidate, best: float) -> Timing:
    block, beside, ratios = candidate.chosen()
    quarter, median, three_quarters = np.percentile(block, [25, 50, 75])
    value = float(np.mean([np.median(ratio) for ratio in ratios])) * best
    spread = float((three_quarters - quarter) / median)
    drift = float(np.median(beside)) / best - 1
    return Timing(value, float(block.min()), float(median), spread, len(block) * candidate.calls, drift)
