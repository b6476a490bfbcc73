"""submit: a search or resume as a job of a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archfront.cluster.cli._options import AsJson
from archfront.cluster.cli._output import console, document

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
    app.command(
        context_settings=passed_on,
        help="Run a search as a job of a Ray cluster: `archfront submit http://HEAD:8265 search mlp --study big`.",
    )(submit)


def submit(
    context: typer.Context,
    cluster: Annotated[str, typer.Argument(help="The dashboard of the cluster: http://HEAD:8265.")],
    working_dir: Annotated[Path | None, typer.Option(help="A folder that travels with it: your own modules.")] = None,
    command: Annotated[str, typer.Option(help="How the head calls archfront.")] = "archfront",
    follow: Annotated[bool, typer.Option("--follow", help="Show what it prints; Ctrl-C leaves it running.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a search. It goes on without this terminal."""
    from archfront.cluster import _submit

    job = _submit.job_of(context.args, command=command)
    identity = _submit.submit(cluster, job, None if working_dir is None else str(working_dir))
    if as_json:
        document({"job": identity, "study": job.study, "store": job.store, "entrypoint": job.entrypoint})
    else:
        shown = console()
        shown.print(f"job [bold]{identity}[/] searches study [bold]{job.study}[/]; it goes on without this terminal")
        shown.print(f"  what it found: archfront front --study {job.study} --store {job.store}", soft_wrap=True)
        shown.print(f"  what it says:  ray job logs {identity} --follow --address {cluster}", soft_wrap=True)
        shown.print(f"  to stop it:    ray job stop {identity} --address {cluster}", soft_wrap=True)
    if follow:
        for text in _submit.follow(cluster, identity):
            console(error=as_json).print(text, end="", markup=False, highlight=False)
