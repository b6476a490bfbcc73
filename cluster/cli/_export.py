"""export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archfront.cluster.cli._options import AsJson, Files, StoreUrl
from archfront.cluster.cli._output import console, document, number

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Write a network to a file that is loaded back and compared.")(export)


def export(
    key: Annotated[str, typer.Argument(help="A key of a front; a unique prefix will do.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
    format: Annotated[str, typer.Option(help="torch, torch-export, onnx or onnx-int8.")] = "torch",
    study: Annotated[str | None, typer.Option(help="Of this study.")] = None,
    device: Annotated[str | None, typer.Option(help="The device the file is meant for: it says so.")] = None,
    store: StoreUrl = None,
    files: Files = None,
    as_json: AsJson = False,
) -> None:
    """Write a network."""
    from archfront.cluster.export import export as write
    from archfront.cluster.store import Store

    with Store(store, files=files, create=False) as opened:
        done = write(opened, key, output, format=format, study=study, device=device)
    if as_json:
        shown = {"key": done.key, "format": done.format, "path": str(done.path), "largest_difference": done.difference}
        document({**shown, "scores": dict(done.scores)} if done.scores else shown)
        return
    if done.scores:
        values = ", ".join(f"{name} {number(value)}" for name, value in done.scores.items())
        console().print(
            f"wrote {done.path} ({done.path.stat().st_size / 1e3:.0f} kB): on the validation split {values}; "
            f"{number(done.difference)} worse than before quantisation"
        )
        return
    console().print(
        f"wrote {done.path} ({done.path.stat().st_size / 1e3:.0f} kB): loaded back, "
        f"largest difference from the module {done.difference:.1e}"
    )
