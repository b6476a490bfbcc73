"""Measuring on this host: a child process per device, one at a time, with a time limit."""

from __future__ import annotations

import json
import math
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import cloudpickle

from archfront.cluster._device import Device
from archfront.cluster._locks import host_file
from archfront.cluster._measuring_child import Answer, Request, read_message, write_message
from archfront.cluster._timing import Timing
from archfront.cluster._turns import measuring_turn
from archfront.spaces._errors import MeasurementError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration

__all__ = ["CannotRunError", "Measurer"]

START_SECONDS = 120.0
SECONDS_PER_CONFIGURATION = {"torch": 20.0, "onnxruntime": 60.0}
"""By runtime: a network is exported, and perhaps quantised, before it is timed."""


class CannotRunError(MeasurementError):
    """The device answers, but cannot run this architecture."""


class Measurer:
    """Times architectures of one bound space on one local device. Close it: it owns a process."""

    def __init__(self, space: ModelSpace, device: Device) -> None:
        self.device = device
        self._space = cloudpickle.dumps(space)
        self._child: subprocess.Popen[bytes] | None = None

    def measure(
        self, configs: Sequence[Configuration], seed: int = 0, modules: Sequence[str] = ()
    ) -> list[Timing | MeasurementError]:
        """A Timing, or the error, for each configuration; with `modules`, of the module of this name in its network.
        This host's trainings pause meanwhile."""
        if not configs:
            return []
        what = list(zip(configs, modules or [""] * len(configs), strict=True))
        try:
            self._started()
            with measuring_turn():
                return self._each(what, seed)
        except MeasurementError as error:
            return [error] * len(configs)

    def _each(self, what: Sequence[tuple[Configuration, str]], seed: int) -> list[Timing | MeasurementError]:
        """All at once; one at a time if one of them kills or stalls the process."""
        try:
            return self._ask(what, seed)
        except MeasurementError as error:
            if len(what) == 1:
                return [error]
            return [self._each([one], seed)[0] for one in what]

    def _ask(self, what: Sequence[tuple[Configuration, str]], seed: int) -> list[Timing | MeasurementError]:
        configs, modules = zip(*what, strict=True)
        request = Request(
            self._space,
            tuple(configs),
            tuple(modules),
            self.device.torch_device,
            self.device.threads,
            self.device.batch,
            self.device.precision,
            self.device.runtime,
            seed,
            _best_ms(self.device),
            tuple(p or os.getcwd() for p in sys.path),
        )
        reply = self._exchange(
            self._started(), pickle.dumps(request), SECONDS_PER_CONFIGURATION[self.device.runtime] * len(configs)
        )
        if math.isfinite(reply.best):
            _best_file(self.device).write_text(json.dumps(reply.best))
        name = f"device {self.device.name!r}"
        if len(reply.timings) != len(configs):
            raise MeasurementError(f"{name} could not measure: {reply.timings[0]}")
        return [r if isinstance(r, Timing) else CannotRunError(f"on {name}: {r}") for r in reply.timings]

    def _exchange(self, child: subprocess.Popen[bytes], message: bytes, limit: float) -> Answer:
        assert child.stdin is not None
        with suppress(OSError):  # the process died: then it does not answer
            write_message(child.stdin, message)
        answer: Answer = pickle.loads(self._heard(child, limit))
        return answer

    def _heard(self, child: subprocess.Popen[bytes], limit: float) -> bytes:
        """The child's next message. Raises MeasurementError, and ends the child, when there is none in time."""
        assert child.stdout is not None
        ready, _, _ = select.select([child.stdout], [], [], limit)
        message = read_message(child.stdout) if ready else None
        if message is None:
            self.close()
            reason = "its process died" if ready else f"no answer within {limit:.0f} s"
            raise MeasurementError(f"device {self.device.name!r} could not measure: {reason}")
        return message

    def _started(self) -> subprocess.Popen[bytes]:
        """The process, when it has imported what it needs: trainings go on meanwhile."""
        if self._child is None or self._child.poll() is not None:
            self.close()
            threads = str(self.device.threads)
            environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
            command = [sys.executable, "-c", "from archfront.cluster._measuring_child import main; main()"]
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                process_group=0,  # a terminal's Ctrl-C is ours to hear; the child ends with its standard input
            )
            self._heard(self._child, START_SECONDS)
        return self._child

    def close(self) -> None:
        """End the process."""
        if self._child is None:
            return
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with suppress(OSError):  # the process died with our request in the pipe
                    stream.close()
        try:
            self._child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None


def _best_file(device: Device) -> Path:
    """Remembers the reference kernel's best milliseconds on this host, so that sessions are comparable. Read and
    written in a measuring turn only."""
    return host_file(f"{device.identity}.json")


def _best_ms(device: Device) -> float:
    """Infinity where none are known."""
    try:
        return float(json.loads(_best_file(device).read_text()))
    except (OSError, ValueError, TypeError):
        return math.inf
