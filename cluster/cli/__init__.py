"""The command line. Every command is a thin layer over the Python API; heavy imports happen inside commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from archfront.cluster.cli import _bench, _data, _devices, _export, _front, _lists, _search, _studies, _submit, _train
from archfront.cluster.cli._output import fail

__all__ = ["app", "main"]

app = typer.Typer(
    name="archfront",
    help="Search a paper's space on Ray, keep the Pareto front of every device in SQL, take the winner home.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (_search, _submit, _train, _front, _export, _studies, _lists, _devices, _data, _bench):
    module.register(app)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run a command and end the process: 0 done, 1 failed, 2 wrong usage, 130 interrupted (and resumable)."""
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version

        print(f"archfront {version('archfront')}")
        sys.exit(0)
    sys.exit(_run())


def _run() -> int:
    from archfront.spaces._errors import ArchfrontError

    try:
        result = app(standalone_mode=False)
        return result if isinstance(result, int) else 0
    except ArchfrontError as error:
        fail(error.code, error.message, error.hint)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", "interrupted", "what was told is stored: see `archfront studies`")
        return 130
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own usage errors have no public base class
            raise
        fail("usage", error.format_message() or "a command is needed", "see archfront --help")
        return 2
