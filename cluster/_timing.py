"""How long networks take on this host: interleaved in shuffled order, with a reference kernel between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Timing", "time_networks"]

WARM_UP_CALLS = 20
WARM_UP_SECONDS = 0.05
BLOCK_SECONDS = 0.004
"""Calls are timed in blocks of about this length: the clock's resolution then does not matter."""
MINIMUM_ROUNDS = 12
MAXIMUM_ROUNDS = 60
RELATIVE_SPREAD = 0.01
"""A network is done when the standard error of its median, as a share of the median, is below this."""
SECONDS_PER_NETWORK = 1.5
NOISY = 0.2
"""A spread above this asks for the full number of rounds."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call. `value` is the 10th percentile of the blocks, which other load on the host moves least;
    `spread` is the interquartile range over the median; `drift` is how much the reference kernel changed meanwhile,
    last against first third, as a share."""

    value: float
    minimum: float
    median: float
    spread: float
    n: int
    drift: float


@dataclass
class _Candidate:
    net: nn.Module
    inputs: tuple[Tensor, ...]
    calls: int = 1
    blocks: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def done(self) -> bool:
        n = len(self.blocks)
        if n < MINIMUM_ROUNDS:
            return False
        low, median, high = np.percentile(self.blocks, [25, 50, 75])
        spread = (high - low) / median
        certain = spread <= NOISY and spread / n**0.5 < RELATIVE_SPREAD
        return bool(certain or n >= MAXIMUM_ROUNDS or self.seconds > SECONDS_PER_NETWORK)


def time_networks(
    networks: Sequence[tuple[nn.Module, tuple[Tensor, ...]]], *, device: str = "cpu", threads: int = 1, seed: int = 0
) -> list[Timing]:
    """Time eval-mode networks on their inputs. Sets the number of torch's threads and leaves it so: call it in a
    process of its own."""
    torch.set_num_threads(threads)
    rng = np.random.default_rng(seed)
    candidates = [_Candidate(net.eval().to(device), tuple(t.to(device) for t in inputs)) for net, inputs in networks]
    block = _cuda_block if device == "cuda" else _cpu_block
    reference = _reference(device)
    with torch.inference_mode():
        for candidate in candidates:
            _warm_up(candidate, block)
        _warm_up(reference, block)
        waiting = list(range(len(candidates)))
        while waiting:
            for i in rng.permutation(waiting):
                candidate = candidates[i]
                candidate.reference.append(block(reference))
                candidate.blocks.append(block(candidate))
                candidate.seconds += candidate.blocks[-1] * candidate.calls / 1e3
            waiting = [i for i in waiting if not candidates[i].done()]
    return [_timing(candidate) for candidate in candidates]


def _warm_up(candidate: _Candidate, block: Callable[[_Candidate], float]) -> None:
    """Calls whose times are thrown away; afterwards a block has the right number of calls."""
    started, calls = time.perf_counter(), 0
    while calls < WARM_UP_CALLS or time.perf_counter() - started < WARM_UP_SECONDS:
        candidate.net(*candidate.inputs)
        calls += 1
    once = min(block(candidate) for _ in range(3)) / 1e3
    candidate.calls = max(1, round(BLOCK_SECONDS / max(once, 1e-7)))


def _cpu_block(candidate: _Candidate) -> float:
    started = time.perf_counter()
    for _ in range(candidate.calls):
        candidate.net(*candidate.inputs)
    return 1e3 * (time.perf_counter() - started) / candidate.calls


def _cuda_block(candidate: _Candidate) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    for _ in range(candidate.calls):
        candidate.net(*candidate.inputs)
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / candidate.calls


def _reference(device: str) -> _Candidate:
    """A kernel that is always the same: its times show what else happened on the host."""
    layer = nn.Linear(256, 256).to(device)
    return _Candidate(layer, (torch.ones(64, 256, device=device),))


def _timing(candidate: _Candidate) -> Timing:
    blocks = np.array(candidate.blocks)
    low, quarter, median, three_quarters = np.percentile(blocks, [10, 25, 50, 75])
    third = max(1, len(blocks) // 3)
    reference = np.array(candidate.reference)
    drift = float(np.median(reference[-third:]) / np.median(reference[:third]) - 1)
    spread = float((three_quarters - quarter) / median)
    return Timing(float(low), float(blocks.min()), float(median), spread, len(blocks) * candidate.calls, drift)
