"""Names of quality values that belong to a device: by its name for people, by its identity in facts (rule 2)."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["observed_name", "told_name"]


def observed_name(told: str, devices: Mapping[str, str]) -> str:
    """ "error@int8" as a fact has it; `devices` maps names to identities. What belongs to no device is the same."""
    metric, at, device = told.partition("@")
    return f"{metric}@{devices.get(device, device)}" if at else told


def told_name(observed: str, devices: Mapping[str, str]) -> str:
    """The inverse."""
    metric, at, identity = observed.partition("@")
    names = {known: name for name, known in devices.items()}
    return f"{metric}@{names.get(identity, identity)}" if at else observed
