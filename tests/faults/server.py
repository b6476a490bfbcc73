"""A PostgreSQL server of our own, which may be killed; without its programs, a shared one whose sessions may be."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.faults.nodes import free_port

__all__ = ["OwnServer", "SharedServer", "server"]

UNPRIVILEGED = ("postgres", "nobody")
"""PostgreSQL refuses to run as root."""


class OwnServer:
    """Made with initdb, run by an unprivileged user, removed in the end."""

    how = "kill -9 of the server"

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._user = _user()
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._port = free_port()
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "--no-sync")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres", "archfront")
        self.url = f"postgresql://postgres@127.0.0.1:{self._port}/archfront"

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def start(self) -> None:
        """Start it, also after it was killed."""
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def kill(self) -> None:
        """`kill -9` of the server, all its processes; it is started again a second later."""
        pid = int((Path(self._data) / "postmaster.pid").read_text().split()[0])
        server = psutil.Process(pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # a session that ended by itself meanwhile
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        time.sleep(1)
        self.start()

    def close(self) -> None:
        """Stop and remove it."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server keeps what it inherits
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments} ended with {done.returncode}"


class SharedServer:
    """A schema of its own on a running server, all of whose sessions may be ended."""

    how = "pg_terminate_backend on its sessions"

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        self._name = f"chaos_{uuid.uuid4().hex[:8]}"
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"create database {self._name}"))
        self.url = url.rpartition("/")[0].replace("+psycopg", "") + f"/{self._name}"

    def kill(self) -> None:
        """End every session of our database."""
        with self._engine.begin() as connection:
            query = "select pg_terminate_backend(pid) from pg_stat_activity where datname = :name"
            connection.execute(text(query), {"name": self._name})

    def close(self) -> None:
        """Remove the database."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"drop database {self._name} with (force)"))
        self._engine.dispose()


def server(shared: str = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres") -> Any:
    """An own server where PostgreSQL's programs are, else the shared one; None where nothing answers either."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += [Path(path).parent for path in sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)]
    if folders and (os.geteuid() != 0 or _user() is not None):
        return OwnServer(folders[0].resolve() if not found else Path(found).resolve().parent)
    try:
        return SharedServer(shared)
    except OperationalError:
        return None


def _user() -> str | None:
    """Who runs the server: we ourselves (None), but not as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in UNPRIVILEGED if name in known), None)
