"""devices: list, register, measure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archfront.cluster.cli._look import looked_into
from archfront.cluster.cli._options import AsJson, StoreUrl
from archfront.cluster.cli._output import console, document, table
from archfront.spaces._errors import ExistsError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.cluster.store import Store

__all__ = ["register"]

ACTIONS = ("list", "register", "measure")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Devices: `devices`, `devices register NAME --threads 2`, `devices measure NAME --study S`.")(
        devices
    )


def devices(
    action: Annotated[str, typer.Argument(help="list, register or measure")] = "list",
    name: Annotated[str | None, typer.Argument(help="The device.")] = None,
    like: Annotated[str, typer.Option(help="register: cpu or cuda")] = "cpu",
    threads: Annotated[int, typer.Option(help="register: threads", min=1)] = 1,
    batch: Annotated[int, typer.Option(help="register: rows per call", min=1)] = 1,
    study: Annotated[str | None, typer.Option(help="measure: the members of this study's front")] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """List, register, or measure on devices."""
    from archfront.cluster.store import Store

    if action not in ACTIONS:
        raise UnknownNameError.of("action", action, ACTIONS)
    if action != "list" and name is None:
        raise UsageError(f"which device is to {action}?", f"archfront devices {action} NAME")
    if action == "list":
        with looked_into(store) as opened:
            _list(opened, as_json)
        return
    with Store(store) as opened:
        if action == "register":
            _register(opened, str(name), like, threads, batch, as_json)
        else:
            _measure(opened, str(name), study, as_json)


def _known(store: Store) -> dict[str, Any]:
    from archfront.cluster._device import Device

    return {d.name: Device.of(d.definition) for d in store.devices() if d.definition}


def _list(store: Store, as_json: bool) -> None:
    from archfront.cluster._device import cpu

    known = {"cpu": cpu(), **_known(store)}
    measured = store.measured_devices()
    rows = [
        {
            "name": d.name,
            "kind": d.kind,
            "hardware": d.hardware,
            "threads": d.threads,
            "batch": d.batch,
            "precision": d.precision,
            "runtime": d.runtime,
            "measured": measured.get(d.identity, 0),
        }
        for d in known.values()
    ]
    if as_json:
        document(rows)
        return
    table(list(rows[0]), [list(row.values()) for row in rows], right=["threads", "batch", "measured"])


def _register(store: Store, name: str, like: str, threads: int, batch: int, as_json: bool) -> None:
    from archfront.cluster._device import named_device

    device = replace(named_device(like), name=name, threads=threads, batch=batch)
    known = _known(store)
    if name in ("cpu", "cuda") or (name in known and known[name].identity != device.identity):
        was = known[name].identity if name in known else "built in"
        raise ExistsError(f"device {name!r} exists ({was}), this would be {device.identity}", "choose another name")
    store.put_devices([device.record()])
    if as_json:
        document({"name": name, "identity": device.identity})
    else:
        console().print(f"registered {name}: {device.hardware}, {threads} thread(s), batch {batch}")


def _measure(store: Store, name: str, study: str | None, as_json: bool) -> None:
    from archfront.cluster._device import named_device
    from archfront.cluster._measuring import measure_studies

    device = named_device(name, _known(store))
    store.put_devices([device.record()])
    counts = measure_studies(store, device, None if study is None else [study])
    if as_json:
        document({"device": name, "measured": counts})
        return
    for measured, number in counts.items():
        console().print(f"study {measured}: {number} architectures measured on {name}")
        console().print(f"  archfront front --study {measured} --device {name}")
