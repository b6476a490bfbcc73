"""Options that many commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "Files", "StoreUrl"]

StoreUrl = Annotated[str | None, typer.Option(help="SQLite file or postgresql:// address.")]
Files = Annotated[str | None, typer.Option(help="Folder or URL for weights.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
