"""Measuring on another machine: a Ray node that was started with the resource `device:NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archfront.cluster._device import Device, cpu_model
from archfront.cluster._measure import Measurer
from archfront.cluster._timing import Timing
from archfront.spaces._errors import MeasurementError, UsageError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration

__all__ = ["AttachedMeasurer", "attached", "measurer_of", "refuse_absent"]

POLL_SECONDS = 1.0
"""How often it is looked whether the node is still there."""
SHARE = 1e-3
"""Of the node's resource that a study takes: it says where to measure. That there is one measurement at a time is the
business of a lock on the node's host, which also holds back a process that outlived its node."""


class AttachedMeasurer:
    """Times architectures of one bound space on the node that a device is. Close it: it owns an actor there.

    A node that disappears costs what is measured now; the next measurement looks for it again.
    """

    def __init__(self, space: ModelSpace, device: Device) -> None:
        self._space, self.device = space, device
        self._actor: Any = None

    def measure(
        self, configs: Sequence[Configuration], seed: int = 0, modules: Sequence[str] = ()
    ) -> list[Timing | MeasurementError]:
        """As `Measurer` does."""
        if not configs:
            return []
        try:
            return self._measured(configs, seed, modules)
        except MeasurementError as error:
            self.close()
            return [error] * len(configs)

    def _measured(
        self, configs: Sequence[Configuration], seed: int, modules: Sequence[str]
    ) -> list[Timing | MeasurementError]:
        import ray

        if not _offered(self.device):
            raise _gone(self.device)
        if self._actor is None:
            resources = {_resource(self.device): SHARE}
            self._actor = ray.remote(num_cpus=0, resources=resources)(_There).remote(self._space, self.device)
        answer = self._actor.measure.remote(list(configs), seed, list(modules))
        try:
            while not ray.wait([answer], timeout=POLL_SECONDS)[0]:
                if not _offered(self.device):
                    raise _gone(self.device)
            timings: list[Timing | MeasurementError] = ray.get(answer)
        except ray.exceptions.RayActorError as error:
            if not _offered(self.device):
                raise _gone(self.device) from error
            raise MeasurementError(f"device {self.device.name!r}: its process died while it measured") from error
        except ray.exceptions.RayTaskError as error:
            raise MeasurementError(f"device {self.device.name!r} could not measure: {error.cause}") from error
        return timings

    def close(self) -> None:
        """End the actor."""
        import ray

        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)
        self._actor = None


class _There:
    """An actor on the device's node, with a measuring process beside it."""

    def __init__(self, space: ModelSpace, device: Device) -> None:
        self._device, self._measurer = device, Measurer(space, device)

    def measure(
        self, configs: Sequence[Configuration], seed: int, modules: Sequence[str]
    ) -> list[Timing | MeasurementError]:
        """As the measurer does. Raises MeasurementError where the node is another machine than the device."""
        present = _hardware(self._device.kind)
        if present != self._device.hardware:
            raise MeasurementError(
                f"device {self._device.name!r} is {self._device.hardware}, its node is {present}",
                "attach the machine that it was, or register another device",
            )
        return self._measurer.measure(configs, seed, modules)


def measurer_of(space: ModelSpace, device: Device) -> Measurer | AttachedMeasurer:
    """Here, or on the device's node."""
    return AttachedMeasurer(space, device) if device.node else Measurer(space, device)


def attached(device: Device) -> Device:
    """The device as its node says it is: its hardware. Raises UsageError when Ray has no such node."""
    import ray

    refuse_absent([device])
    ask: Any = ray.remote(num_cpus=0, resources={_resource(device): SHARE}, max_retries=0)(_hardware)
    try:
        return replace(device, hardware=ray.get(ask.remote(device.kind), timeout=120))
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise UsageError(f"the node of device {device.name!r} does not answer: {error}") from error


def refuse_absent(devices: Sequence[Device]) -> None:
    """Raise UsageError for a device whose node is not there: Ray itself would wait for it without a word."""
    for device in devices:
        if not device.node or _offered(device):
            continue
        import ray

        if not ray.is_initialized():
            raise UsageError(
                f"device {device.name!r} is a node of a Ray cluster", "give --address of the cluster it has joined"
            )
        raise UsageError(
            f"no node of this Ray cluster offers {_resource(device)!r}, which is device {device.name!r}",
            f"on that machine: ray start --address HEAD:PORT --resources '{{\"{_resource(device)}\": 1}}'; "
            "and give --address of the cluster here",
        )


def _resource(device: Device) -> str:
    return f"device:{device.node}"


def _offered(device: Device) -> bool:
    import ray

    return bool(ray.is_initialized() and ray.cluster_resources().get(_resource(device), 0))  # type: ignore[no-untyped-call]


def _gone(device: Device) -> MeasurementError:
    return MeasurementError(
        f"device {device.name!r} has disappeared: no node offers {_resource(device)!r}",
        f"when it is back: archfront devices measure {device.name} --study STUDY --address CLUSTER",
    )


def _hardware(kind: str) -> str:
    """Of the machine this runs on."""
    if kind == "cuda":
        import torch

        return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else "no CUDA device"
    return cpu_model()
