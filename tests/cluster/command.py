"""Run the command line in this process, or as its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["Command", "Done", "start"]


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one document it has to be."""
        return json.loads(self.out)


Command = Callable[..., Done]


def start(*arguments: str, environment: Mapping[str, str] = os.environ, **options: Any) -> subprocess.Popen[str]:
    """The command as a process of its own. It hears SIGINT, as in a terminal: tests that run behind `nohup` or `&`
    would hand on that it is ignored."""
    environment = {**environment, "PYTHONPATH": os.getcwd()}
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{hears}; from archfront.cluster.cli import main; main()", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls `archfront ARGUMENTS` here."""
    from archfront.cluster.cli import _run

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["archfront", *arguments])
        capsys.readouterr()
        code = _run()
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run
