"""Which modules a self-tuned parameter reaches, and dropout with a rate for each example."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import torch
from torch import Tensor, nn

from archfront.spaces._errors import UsageError
from archfront.spaces._noise import Adjustable, per_example
from archfront.spaces._parameter import Parameter

__all__ = ["DROPOUTS", "ExampleDropout", "Strength", "reached"]

DROPOUTS: tuple[type[nn.Module], ...] = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True, eq=False)
class Strength:
    """A number that a module reads: an attribute of it."""

    module: nn.Module
    attribute: str

    def set(self, value: float | Tensor) -> None:
        """Give the module this number, or one for each example (batch,)."""
        setattr(self.module, self.attribute, value)


class ExampleDropout(nn.Module):
    """Dropout at the rates p (batch,); of whole channels where the plain layer is of a spatial kind."""

    strength: ClassVar[str] = "p"
    p: float | Tensor

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        assert isinstance(plain, nn.modules.dropout._DropoutNd)
        self.plain_class, self.p, self.inplace = type(plain), plain.p, plain.inplace

    def forward(self, x: Tensor) -> Tensor:
        """x, with some entries 0 and the others larger, while training."""
        if not self.training:
            return x
        p = per_example(self.p, x)
        whole = self.plain_class is not nn.Dropout
        shape = (*x.shape[:2], *[1] * (x.dim() - 2)) if whole else x.shape
        kept = (torch.rand(shape, device=x.device) >= p).to(x.dtype)
        return x * (kept / (1 - torch.as_tensor(p)).clamp(min=1e-6))

    def collapse(self, p: float) -> nn.Module:
        """The plain layer at one rate."""
        return self.plain_class(p, inplace=self.inplace).train(self.training)


def reached(model: nn.Module, parameter: Parameter) -> list[Strength]:
    """What a self-tuned parameter sets in a network: member i of a group the i-th module that its pattern matches, a
    single parameter all of them. Raises UsageError where it reaches nothing, or what has no strength."""
    if parameter.self_tuned is None:
        raise UsageError(f"{parameter.name!r} is not declared as self-tuned", "declare SelfTuned(...)")
    pattern = parameter.self_tuned.applies_to
    found = [(name, module) for name, module in model.named_modules() if fnmatchcase(name, pattern)]
    if parameter.index is not None:
        found = found[parameter.index : parameter.index + 1]
    if not found:
        which = "no module" if parameter.index is None else f"no module number {parameter.index}"
        raise UsageError(f"{parameter.name!r} reaches nothing in this network", f"{which} is called {pattern!r}")
    return [_strength(name, module, parameter) for name, module in found]


def _strength(name: str, module: nn.Module, parameter: Parameter) -> Strength:
    if type(module) in DROPOUTS:
        return Strength(module, "p")
    if isinstance(module, Adjustable):
        return Strength(module, module.strength)
    raise UsageError(
        f"{parameter.name!r} reaches {name!r}, a {type(module).__name__}, which has no strength to set",
        "it must be a dropout, or name the attribute: `strength`",
    )
