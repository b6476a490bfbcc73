"""A search as a Ray job: it runs on the cluster's head and survives whoever submitted it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from archfront.cluster.store._engine import address, shown, sqlite_file
from archfront.spaces._errors import UnknownNameError, UsageError

__all__ = ["Job", "follow", "job_of", "submit"]

COMMANDS = ("search", "resume")
CARRIED = ("ARCHFRONT_STORE", "ARCHFRONT_FILES", "ARCHFRONT_DATA")
"""Variables of the environment that a job takes with it."""


@dataclass(frozen=True)
class Job:
    """What a cluster is asked to run: a command line, its environment, and the study that it is about."""

    entrypoint: str
    environment: Mapping[str, str]
    study: str
    store: str


def job_of(arguments: Sequence[str], environment: Mapping[str, str] = os.environ, command: str = "archfront") -> Job:
    """The job of `archfront ARGUMENTS`. The store's address travels in the environment: it may hold a password.

    Raises UnknownNameError for another command than search and resume; UsageError for a search without a name, a store
    that lies on this machine, or an address of its own.
    """
    if not arguments or arguments[0] not in COMMANDS:
        raise UnknownNameError.of("command to submit", arguments[0] if arguments else "", COMMANDS)
    rest, given = _without(arguments, "--store")
    if any(text == "--address" or text.startswith("--address=") for text in rest):
        raise UsageError("a submitted search has its cluster's address", "leave --address out")
    carried = {name: environment[name] for name in CARRIED if name in environment}
    if given is not None:
        carried["ARCHFRONT_STORE"] = given
    store = address(carried.get("ARCHFRONT_STORE"))
    file = carried.get("ARCHFRONT_STORE", "").partition("sqlite:///")[2] or carried.get("ARCHFRONT_STORE", "")
    if sqlite_file(store) is not None and not os.path.isabs(file):
        raise UsageError(
            f"store {shown(store)} is a file of this machine, or of a job's folder that is removed",
            "give --store postgresql://HOST/NAME, or an absolute path on the cluster's head",
        )
    study = _study(rest)
    line = shlex.join([*shlex.split(command), *rest, "--address", "auto"])
    return Job(line, carried, study, shown(store))


def _study(arguments: Sequence[str]) -> str:
    if arguments[0] == "resume":
        names = [text for text in arguments[1:] if not text.startswith("-")]
        if not names:
            raise UsageError("which study?", "archfront submit CLUSTER resume STUDY")
        return names[0]
    _, name = _without(arguments, "--study")
    if name is None:
        raise UsageError("a submitted search needs a name, to be found again", "give --study NAME")
    return name


def _without(arguments: Sequence[str], option: str) -> tuple[list[str], str | None]:
    """The arguments but for an option, and its value. Raises UsageError for one without a value."""
    rest: list[str] = []
    value = None
    given = iter(arguments)
    for text in given:
        if text == option:
            value = next(given, None)
            if value is None:
                raise UsageError(f"{option} needs a value")
        elif text.startswith(f"{option}="):
            value = text.partition("=")[2]
        else:
            rest.append(text)
    return rest, value


def submit(cluster: str, job: Job, working_dir: str | None = None) -> str:
    """The id of the job, which runs from now on. `working_dir` travels with it (your own modules).

    `cluster` is the address of its dashboard, http://HEAD:8265. Raises UsageError when nobody answers there.
    """
    from ray.job_submission import JobSubmissionClient

    runtime = {"env_vars": dict(job.environment), **({"working_dir": working_dir} if working_dir else {})}
    try:
        client = JobSubmissionClient(cluster)
        return str(client.submit_job(entrypoint=job.entrypoint, runtime_env=runtime))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"no Ray dashboard takes jobs at {cluster!r}: {str(error).splitlines()[0]}",
            "give http://HEAD:8265; the head needs `pip install 'ray[default]'` and RAY_AUTH_MODE as here",
        ) from error


def follow(cluster: str, job: str) -> Iterator[str]:
    """What the job prints, as it does; ends with the job. Raises UsageError when it failed."""
    import asyncio

    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(cluster)
    loop = asyncio.new_event_loop()
    lines = client.tail_job_logs(job)
    try:
        while (text := loop.run_until_complete(_next(lines))) is not None:
            yield text
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    if client.get_job_status(job) != JobStatus.SUCCEEDED:
        raise UsageError(f"job {job} ended as {client.get_job_status(job)}", "what it told is in the store; resume it")


async def _next(lines: object) -> str | None:
    try:
        return str(await anext(lines))  # type: ignore[call-overload]
    except StopAsyncIteration:
        return None
