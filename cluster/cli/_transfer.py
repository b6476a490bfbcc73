"""What `front --under-device` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archfront.cluster.cli._output import console, document, number, table

if TYPE_CHECKING:
    from archfront.cluster.store import Store

__all__ = ["show_transfer"]


def show_transfer(store: Store, study: str, under: str, device: str | None, as_json: bool) -> None:
    """A study's front as it is on another device, and what that loses."""
    from archfront.cluster._transfer import transferred

    moved = transferred(store, study, under, device)
    if as_json:
        extra = {
            "source": moved.source,
            "dominated": sorted(moved.dominated),
            "missing": list(moved.missing),
            "best_hypervolume": moved.best,
            "loss": moved.loss,
        }
        document({**moved.result.document(), **extra})
        return
    names = [objective.metric for objective in moved.result.objectives]
    title = f"front of study {study} on {moved.source}, as it is on {under}: {len(moved.result.points)} points"
    rows = [
        [
            point.key[:12],
            *(point.values[o.name].value for o in moved.result.objectives),
            "dominated" * (point.key in moved.dominated),
        ]
        for point in moved.result.points
    ]
    shown = console()
    shown.print(title)
    table(["key", *names, ""], rows, right=names)
    if moved.missing:
        shown.print(
            f"{len(moved.missing)} members have no value on {under}: archfront devices measure {under} --study {study}"
        )
    if moved.loss is not None:
        kept = f"hypervolume {number(moved.volume)} of the {number(moved.best)} known for {under}"
        shown.print(f"{kept}: {100 * moved.loss:.1f} % lost")
