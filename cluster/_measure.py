"""Measuring on this host: one child process at a time per device, under a lock, with a time limit."""

from __future__ import annotations

import json
import math
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import TextIO

import cloudpickle

from archfront.cluster._device import Device
from archfront.cluster._locks import locked
from archfront.cluster._measuring_child import Answer, Request, read_message, write_message
from archfront.cluster._timing import Timing
from archfront.cluster._turns import TURN_SECONDS, measuring_turn
from archfront.spaces._errors import MeasurementError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration

__all__ = ["Measurer", "device_lock"]

START_SECONDS = 120.0
SECONDS_PER_CONFIGURATION = 20.0
LOCK_SECONDS = 2 * TURN_SECONDS
"""Whoever holds the device may be waiting for its turn."""


class Measurer:
    """Times architectures of one bound space on one local device. Close it: it owns a process."""

    def __init__(self, space: ModelSpace, device: Device) -> None:
        self.device = device
        self._space = cloudpickle.dumps(space)
        self._child: subprocess.Popen[bytes] | None = None

    def measure(self, configs: Sequence[Configuration], seed: int = 0) -> list[Timing | MeasurementError]:
        """A Timing, or the error, for each configuration. This host's trainings pause meanwhile."""
        if not configs:
            return []
        try:
            self._started()
            with device_lock(self.device) as memory, measuring_turn():
                return self._each(configs, seed, memory)
        except MeasurementError as error:
            return [error] * len(configs)

    def _each(self, configs: Sequence[Configuration], seed: int, memory: TextIO) -> list[Timing | MeasurementError]:
        """All at once; one at a time if one of them kills or stalls the process."""
        try:
            return self._ask(configs, seed, memory)
        except MeasurementError as error:
            if len(configs) == 1:
                return [error]
            return [self._each([config], seed, memory)[0] for config in configs]

    def _ask(self, configs: Sequence[Configuration], seed: int, memory: TextIO) -> list[Timing | MeasurementError]:
        request = Request(
            self._space,
            tuple(configs),
            self.device.torch_device,
            self.device.threads,
            self.device.batch,
            seed,
            _remembered(memory),
            tuple(p or os.getcwd() for p in sys.path),
        )
        reply = self._exchange(self._started(), pickle.dumps(request), SECONDS_PER_CONFIGURATION * len(configs))
        if math.isfinite(reply.best):
            memory.seek(0)
            memory.truncate()
            memory.write(json.dumps(reply.best))
        name = f"device {self.device.name!r}"
        if len(reply.timings) != len(configs):
            raise MeasurementError(f"{name} could not measure: {reply.timings[0]}")
        return [r if isinstance(r, Timing) else MeasurementError(f"on {name}: {r}") for r in reply.timings]

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
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
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


def device_lock(device: Device) -> AbstractContextManager[TextIO]:
    """One measurement at a time on a host's device, whatever study asks. Raises MeasurementError after two days.

    The locked file remembers the reference kernel's best milliseconds, so that sessions are comparable.
    """
    return locked(device.identity, limit_s=LOCK_SECONDS, busy=f"device {device.name!r} has been busy")


def _remembered(memory: TextIO) -> float:
    """The best milliseconds in the lock file, infinity where none are known."""
    memory.seek(0)
    try:
        return float(json.loads(memory.read()))
    except (ValueError, TypeError):
        return math.inf
