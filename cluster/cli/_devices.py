"""devices: list, register, measure."""

from __future__ import annotations

from collections.abc import Mapping
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
    app.command(help="Devices: `devices`, `devices register NAME --precision int8`, `devices measure NAME --study S`.")(
        devices
    )


def devices(
    action: Annotated[str, typer.Argument(help="list, register or measure")] = "list",
    name: Annotated[str | None, typer.Argument(help="The device.")] = None,
    like: Annotated[str, typer.Option(help="register: the device that it is but for what follows")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="register: threads", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="register: rows per call", min=1)] = None,
    precision: Annotated[str | None, typer.Option(help="register: fp32 or int8 (quantised after training)")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="register: torch or onnxruntime; by default torch, onnxruntime for int8")
    ] = None,
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
            runtime = runtime or ("onnxruntime" if precision == "int8" else None)
            given = {"threads": threads, "batch": batch, "precision": precision, "runtime": runtime}
            _register(opened, str(name), like, {n: v for n, v in given.items() if v is not None}, as_json)
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


def _register(store: Store, name: str, like: str, given: Mapping[str, Any], as_json: bool) -> None:
    from archfront.cluster._device import BUILT_IN, named_device

    known = _known(store)
    device = replace(named_device(like, known), name=name, **given)
    if name in BUILT_IN or (name in known and known[name].identity != device.identity):
        was = known[name].identity if name in known else "built in"
        raise ExistsError(f"device {name!r} exists ({was}), this would be {device.identity}", "choose another name")
    store.put_devices([device.record()])
    if as_json:
        document({"name": name, "identity": device.identity})
    else:
        how = f"{device.threads} thread(s), batch {device.batch}, {device.precision} in {device.runtime}"
        console().print(f"registered {name}: {device.hardware}, {how}")


def _measure(store: Store, name: str, study: str | None, as_json: bool) -> None:
    from archfront.cluster._device import known_devices, named_device
    from archfront.cluster._remeasure import measure_studies

    known = {n: d for n, d in _known(store).items() if d.kind != "table"}
    if name in known_devices(known):
        named_device(name, known)  # says what is wrong with it although there is nothing to measure
    done = measure_studies(store, name, None if study is None else [study], known)
    if as_json:
        counts = {one.study: one.measured for one in done}
        document({"device": name, "measured": counts, "missing": {one.study: dict(one.missing) for one in done}})
        return
    if not done:
        console().print("no study of this store has networks to measure")
    for one in done:
        console().print(f"study {one.study}: {one.measured} architectures measured on {name}")
        for key, why in one.missing.items():
            console(error=True).print(f"  {key[:12]} is missing: {why}", markup=False)
        console().print(f"  archfront front --study {one.study} --device {name}")
