"""Ray nodes as processes of their own, on this machine: each ends by its own handle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

__all__ = ["Node", "Nodes", "free_port"]

HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""A node that died is declared dead within seconds, not within a quarter of a minute."""
GIVE_UP_S = 60.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Node:
    """One `ray start --block`: a raylet and what belongs to it."""

    def __init__(self, *arguments: str, environment: Mapping[str, str]) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", *arguments, "--block"]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **HEALTH, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self) -> None:
        """Until it is part of its cluster. Raises AssertionError with what it said."""
        said = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said.append(line)
            if "--block" in line:
                return
        raise AssertionError("".join(said))

    @property
    def raylet(self) -> psutil.Process:
        """The process that has the workers."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if Path(child.exe()).name == "raylet")

    def stop(self) -> None:
        """End all its processes."""
        left = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        for process in psutil.wait_procs(left, timeout=5)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class Nodes:
    """A cluster: a head without slots, and nodes of one slot each that may come and go."""

    def __init__(self, slots: int, environment: Mapping[str, str]) -> None:
        self._environment = {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.getcwd(), **environment}
        self._folder = tempfile.mkdtemp(prefix="rc")  # socket paths have to be short
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[Node] = []
        port = self.address.rpartition(":")[2]
        self.head = Node(
            *("--head", "--port", port, "--num-cpus", "0", "--include-dashboard=false", "--temp-dir", self._folder),
            environment=self._environment,
        )
        try:
            self.head.wait()
            for _ in range(slots):
                self.add()
        except BaseException:
            self.close()
            raise

    def add(self, *, device: str | None = None) -> Node:
        """One more node: a slot, or a device without one."""
        what = ["1"] if device is None else ["0", "--resources", json.dumps({f"device:{device}": 1})]
        node = Node("--address", self.address, "--num-cpus", *what, environment=self._environment)
        self.nodes.append(node)
        node.wait()
        return node

    def kill(self, node: Node) -> None:
        """`kill -9` of a node's raylet; whatever else it had ends as it may."""
        node.raylet.kill()
        self.nodes.remove(node)
        node.process.terminate()
        node.process.communicate(timeout=GIVE_UP_S)

    def close(self) -> None:
        """End all nodes."""
        for node in [*self.nodes, self.head]:
            node.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
