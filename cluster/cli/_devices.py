"""devices: list, register, measure, blocks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archfront.cluster.cli._look import looked_into
from archfront.cluster.cli._options import AsJson, StoreUrl
from archfront.cluster.cli._output import console, document, table
from archfront.spaces._errors import ExistsError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from archfront.cluster._device import Device
    from archfront.cluster.store import Store

__all__ = ["register"]

ACTIONS = ("list", "register", "measure", "blocks")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        help="Devices: `devices`, `devices register NAME --precision int8`, `devices measure NAME --study S`, "
        "`devices blocks NAME --space SPACE -o FILE`."
    )(devices)


def devices(
    action: Annotated[str, typer.Argument(help="list, register, measure or blocks")] = "list",
    name: Annotated[str | None, typer.Argument(help="The device.")] = None,
    like: Annotated[str, typer.Option(help="register: the device that it is but for what follows")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="register: threads", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="register: rows per call", min=1)] = None,
    precision: Annotated[str | None, typer.Option(help="register: fp32 or int8 (quantised after training)")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="register: torch or onnxruntime; by default torch, onnxruntime for int8")
    ] = None,
    attached: Annotated[
        bool, typer.Option("--attached", help="register: it is the Ray node with the resource device:NAME")
    ] = False,
    lut: Annotated[
        Path | None, typer.Option(help="register: it is the sum of its blocks in this table, .csv or .parquet")
    ] = None,
    space: Annotated[str | None, typer.Option(help="blocks: the space whose networks' blocks are measured")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="blocks: the table to write, .csv")] = None,
    study: Annotated[str | None, typer.Option(help="measure: the members of this study's front")] = None,
    sample: Annotated[
        int | None, typer.Option(help="measure: so many others too, a planned sample to predict the rest from", min=1)
    ] = None,
    address: Annotated[str | None, typer.Option(help="The Ray cluster that an attached device has joined")] = None,
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
            given = {n: v for n, v in given.items() if v is not None}
            with _cluster(address):
                device = _described(opened, str(name), like, given, attached, lut)
            _register(opened, device, as_json)
        elif action == "blocks":
            with _cluster(address):
                _measure_blocks(opened, str(name), space, output, as_json)
        else:
            with _cluster(address):
                _measure(opened, str(name), study, sample, as_json)


def _cluster(address: str | None) -> AbstractContextManager[object]:
    """The Ray cluster at an address, if there is one."""
    if address is None:
        return nullcontext()
    from archfront.cluster.engine import RayOptions, ray_cluster

    return ray_cluster(RayOptions(0, address))


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
            "node": d.node,
            "measured": measured.get(d.identity, 0),
        }
        for d in known.values()
    ]
    if as_json:
        document(rows)
        return
    table(list(rows[0]), [list(row.values()) for row in rows], right=["threads", "batch", "measured"])


def _described(
    store: Store, name: str, like: str, given: Mapping[str, Any], attached: bool, lut: Path | None
) -> Device:
    from archfront.cluster import _attached, _block_tables
    from archfront.cluster._device import Device, named_device

    if lut is not None:
        if given or attached:
            raise UsageError("--lut is all there is of a device", "leave the other options out")
        return _block_tables.keep_table(store, name, lut)
    if attached:
        return _attached.attached(Device(name, "cuda" if like == "cuda" else "cpu", "", node=name, **given))
    return replace(named_device(like, _known(store)), name=name, **given)


def _register(store: Store, device: Device, as_json: bool) -> None:
    from archfront.cluster._device import BUILT_IN

    name, known = device.name, _known(store)
    if name in BUILT_IN or (name in known and known[name].identity != device.identity):
        was = known[name].identity if name in known else "built in"
        raise ExistsError(f"device {name!r} exists ({was}), this would be {device.identity}", "choose another name")
    store.put_devices([device.record()])
    if as_json:
        document({"name": name, "identity": device.identity})
        return
    how = f"{device.threads} thread(s), batch {device.batch}, {device.precision} in {device.runtime}"
    how += f", attached as device:{device.node}" * bool(device.node)
    console().print(f"registered {name}: {device.hardware}{'' if device.kind == 'lut' else ', ' + how}")


def _measure_blocks(store: Store, name: str, space: str | None, output: Path | None, as_json: bool) -> None:
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from archfront import spaces
    from archfront.cluster._attached import measurer_of, refuse_absent
    from archfront.cluster._block_tables import measured_table
    from archfront.cluster._device import named_device, tells

    if space is None or output is None:
        raise UsageError("which blocks, and where to?", f"archfront devices blocks {name} --space SPACE -o FILE.csv")
    if output.suffix != ".csv" or not output.parent.is_dir():
        raise UsageError(f"cannot write the table to {str(output)!r}", "a .csv file in a folder that is there")
    device, bound = named_device(name, _known(store)), spaces.load(space)
    if tells(device):
        raise UsageError(f"device {name!r} is a table: it measures nothing", "name a device that measures, e.g. cpu")
    refuse_absent([device])
    measurer = measurer_of(bound, device)
    columns = (TextColumn("timing blocks"), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console(error=True), transient=True, disable=as_json) as bar:
            task = bar.add_task("", total=None)
            table = measured_table(bound, measurer, lambda done, of: bar.update(task, completed=done, total=of))
    finally:
        measurer.close()
    table.write(output)
    if as_json:
        document({"path": str(output), "blocks": len(table.blocks)})
        return
    console().print(f"wrote {output}: {len(table.blocks)} blocks of {space} on {name}")
    console().print(f"next:\n  archfront devices register {name}-blocks --lut {output}")


def _measure(store: Store, name: str, study: str | None, sample: int | None, as_json: bool) -> None:
    from archfront.cluster._device import known_devices, named_device
    from archfront.cluster._remeasure import measure_studies

    known = {n: d for n, d in _known(store).items() if d.kind != "table"}
    if name in known_devices(known):
        named_device(name, known)  # says what is wrong with it although there is nothing to measure
    done = measure_studies(store, name, None if study is None else [study], known, sample=sample)
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
