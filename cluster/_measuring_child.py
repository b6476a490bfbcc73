"""The process that measures: reads requests from standard input, writes answers to standard output.

The first message says that it is ready. A request is a pickled `Request`, the answer a pickled `Answer`. Each message
is its length (8 bytes, big endian) and its bytes.
"""

from __future__ import annotations

import math
import os
import pickle
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import cloudpickle
import torch
from torch import Tensor, nn

from archfront.cluster._timing import time_networks
from archfront.spaces._model_space import ModelSpace

__all__ = ["Answer", "Request", "read_message", "write_message"]


@dataclass(frozen=True)
class Request:
    """What to time: a pickled model space, configurations, of each the whole network ("") or a module by its name, and
    the device's settings."""

    space: bytes
    configs: tuple[dict[str, Any], ...]
    modules: tuple[str, ...]
    torch_device: str
    threads: int
    batch: int
    precision: str
    runtime: str
    seed: int
    best: float
    path: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """A Timing, or an error text, per configuration, and the reference kernel's best milliseconds on this host."""

    timings: tuple[Any, ...]
    best: float = math.inf


def write_message(stream: IO[bytes], data: bytes) -> None:
    """Send one message."""
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes | None:
    """Receive one message; None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    size = int.from_bytes(head, "big")
    data = stream.read(size)
    return data if len(data) == size else None


def answer(request: Request) -> Answer:
    """Build every network, then time those that run."""
    sys.path[:] = [*request.path, *(p for p in sys.path if p not in request.path)]
    space = cloudpickle.loads(request.space)
    answers: list[Any] = [None] * len(request.configs)
    built = []
    for i, config in enumerate(request.configs):
        try:
            torch.manual_seed(0)
            net, example = space.build(config).eval(), space.prepared_example(config, batch=request.batch)
            net, example = _part(net, request.modules[i], example)
            built.append((i, (_deployed(net, space, example, request), example)))
            built[-1][1][0](*example)
        except Exception as error:
            built = [entry for entry in built if entry[0] != i]
            answers[i] = f"{type(error).__name__}: {error}"
    timings, best = time_networks(
        [entry for _, entry in built],
        device=request.torch_device,
        threads=request.threads,
        seed=request.seed,
        best=request.best,
    )
    for (i, _), timing in zip(built, timings, strict=True):
        answers[i] = timing
    return Answer(tuple(answers), best)


def _part(net: nn.Module, name: str, example: tuple[Tensor, ...]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A module of the network, and what it reads there."""
    if not name:
        return net, example
    module, read = net.get_submodule(name), []
    hook = module.register_forward_pre_hook(lambda module, given: read.append(given))
    with torch.inference_mode():
        net(*example)
    hook.remove()
    return module, tuple(tensor.clone() for tensor in read[0])


def _deployed(net: nn.Module, space: ModelSpace, example: tuple[Tensor, ...], request: Request) -> nn.Module:
    """The network in the device's runtime and precision. How long it takes does not depend on the ranges of its
    activations: the example stands for data."""
    if request.runtime == "torch":
        return net
    from archfront.cluster._deployed import OnnxNetwork, onnx_bytes, quantised

    model = onnx_bytes(net, example, batched=space.signature.batched)
    if request.precision == "int8":
        model = quantised(model, [example])
    return OnnxNetwork(model, request.threads)


def main() -> None:
    """Answer until standard input ends. Whatever a network prints goes to standard error."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(BrokenPipeError):  # nobody waits for the answer any more
        write_message(channel, b"ready")
        while (message := read_message(sys.stdin.buffer)) is not None:
            try:
                reply = answer(pickle.loads(message))
            except Exception as error:
                reply = Answer((f"{type(error).__name__}: {error}",))
            write_message(channel, pickle.dumps(reply))
        channel.close()
