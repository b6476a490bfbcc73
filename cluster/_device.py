"""Hardware targets: what they are, and which one a name means."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from archfront.cluster.store._records import DeviceRecord
from archfront.spaces._errors import UnknownNameError, UsageError

__all__ = [
    "BUILT_IN",
    "LOCAL_METRICS",
    "PRECISIONS",
    "RUNTIMES",
    "Device",
    "cpu",
    "cpu_model",
    "cuda",
    "known_devices",
    "named_device",
    "table_device",
    "tells",
]

LOCAL_METRICS = ("latency_ms", "throughput_per_s")
"""What a device can measure, or a table of its blocks tell."""
BUILT_IN = ("cpu", "cpu-onnxruntime", "cuda")
PRECISIONS = ("fp32", "int8")
RUNTIMES = ("torch", "onnxruntime")


@dataclass(frozen=True)
class Device:
    """A hardware target. `threads`, `batch`, `precision` and `runtime` are part of what it is: an int8 device runs
    another network, quantised after training, with an error of its own. `node` is where it is attached: the Ray node
    with the resource `device:NODE`; "" is this machine. Where it is attached is no part of what it is."""

    name: str
    kind: str
    hardware: str
    threads: int = 1
    batch: int = 1
    precision: str = "fp32"
    runtime: str = "torch"
    node: str = ""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.batch < 1:
            raise UsageError(f"device {self.name!r}: threads={self.threads} and batch={self.batch} must be at least 1")
        for what, known in (("precision", PRECISIONS), ("runtime", RUNTIMES)):
            if (value := getattr(self, what)) not in known:
                raise UnknownNameError.of(f"{what} of device {self.name!r}", value, known)
        if self.precision == "int8" and self.runtime != "onnxruntime":
            raise UsageError(f"device {self.name!r}: int8 runs in onnxruntime, not in {self.runtime}")
        if self.runtime == "onnxruntime" and self.kind != "cpu":
            raise UsageError(f"device {self.name!r}: runtime onnxruntime is for processors, not for {self.kind}")
        for name in (self.name, self.node or self.name):
            if not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
                raise UsageError(f"device name {name!r} may have letters, digits, '_', '-' and '.' only")

    @property
    def identity(self) -> str:
        """Name and a hash of everything else but the node."""
        content = {key: value for key, value in asdict(self).items() if key not in ("name", "node")}
        return f"{self.name}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]}"

    @property
    def own_quality(self) -> bool:
        """Whether a network's quality here is not that of its weights."""
        return self.precision != "fp32"

    @property
    def torch_device(self) -> str:
        """The device string of torch."""
        return "cuda" if self.kind == "cuda" else "cpu"

    def refusal(self, metric: str) -> str | None:
        """Why this device cannot give a metric, or None."""
        if metric in LOCAL_METRICS:
            return None
        return f"device {self.name!r} measures {' and '.join(LOCAL_METRICS)}, not {metric}"

    def record(self) -> DeviceRecord:
        """As the store keeps it."""
        return DeviceRecord(self.identity, self.name, self.kind, asdict(self))

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> Device:
        """Inverse of `record().definition`."""
        return cls(**dict(definition))


@lru_cache
def cpu_model() -> str:
    """The processor's model name and architecture."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in _lines(info) if line.lower().startswith("model name")]
    return f"{models[0] if models else platform.processor() or 'unknown processor'} ({platform.machine()})"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def cpu(*, threads: int = 1, batch: int = 1, name: str = "cpu") -> Device:
    """This machine's processor."""
    return Device(name, "cpu", cpu_model(), threads, batch)


def cuda(*, batch: int = 1, name: str = "cuda") -> Device:
    """This machine's first CUDA device. Raises UsageError where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise UsageError("device 'cuda': no CUDA device answers on this machine", "use --device cpu")
    return Device(name, "cuda", torch.cuda.get_device_name(0), 1, batch)


def table_device(name: str, table: str, content: str) -> Device:
    """A device that is a column of a table: `content` is the hash of its values."""
    return Device(name, "table", f"{table} {content}")


def tells(device: Device) -> bool:
    """Whether a device's values are looked up, in the space's table or in one of the device's blocks."""
    return device.kind in ("table", "lut")


def named_device(name: str, stored: Mapping[str, Device] | None = None, also: Iterable[str] = ()) -> Device:
    """The device called `name`: built in, registered in the store, or from an entry point.

    Raises UnknownNameError (`also` are further names to suggest), and UsageError for a device of another machine's
    hardware or of a table.
    """
    if name == "cpu":
        return cpu()
    if name == "cuda":
        return cuda()
    if name == "cpu-onnxruntime":
        return replace(cpu(name=name), runtime="onnxruntime")
    if stored and name in stored:
        return _here(stored[name])
    for point in entry_points(group="archfront.devices"):
        if point.name == name:
            made: Device = point.load()()
            return made
    raise UnknownNameError.of("device", name, [*known_devices(stored), *also])


def known_devices(stored: Mapping[str, Device] | None = None) -> list[str]:
    """Names `named_device` understands."""
    return sorted({*BUILT_IN, *(stored or {}), *(p.name for p in entry_points(group="archfront.devices"))})


def _here(device: Device) -> Device:
    """The device, if this machine is it, it is attached, or a table of its blocks is known."""
    if device.kind == "table":
        raise UsageError(
            f"device {device.name!r} is a column of the table {device.hardware.partition(' ')[0]!r}: it cannot measure",
            "name a device that measures, e.g. cpu",
        )
    if device.node or device.kind == "lut":
        return device
    present = cpu_model() if device.kind == "cpu" else device.hardware
    if present != device.hardware:
        raise UsageError(
            f"device {device.name!r} is {device.hardware}, this machine is {present}",
            f"measure it there, or register this machine under another name than {device.name!r}",
        )
    return replace(device)
