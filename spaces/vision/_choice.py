"""A choice between operations: each keeps its tensors under its own name, and few configurations cover them all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from archfront.spaces._choices import Categorical
from archfront.spaces._search_space import Configuration, SearchSpace

__all__ = ["Chosen", "cover_one_at_a_time"]


class Chosen(nn.Module):
    """The chosen one of several operations. Its tensors are called `<here>.<kind>.*`, so that a supernet never slices
    one operation's weights out of another's."""

    def __init__(self, kind: str, operation: nn.Module) -> None:
        super().__init__()
        self.kind = kind
        self.add_module(kind, operation)

    @property
    def operation(self) -> nn.Module:
        """The module itself."""
        return self.get_submodule(self.kind)

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.operation(*inputs)
        return output


def cover_one_at_a_time(
    space: SearchSpace,
    *,
    product: Sequence[str] = (),
    inert: Sequence[str] = (),
    anchors: Mapping[str, Any] | None = None,
) -> list[Configuration]:
    """The largest configuration once per option of each categorical group, the other groups at their anchor.

    This covers every tensor whose name and shape depend on one group beside those of `product`, of which every
    combination is taken. Groups of `inert` make no tensors and are not varied. An anchor is an option (default: the
    parameter's own default); members of a group that lack an option (because they are held) keep their default.
    """
    groups: dict[str, list[Categorical]] = {}
    for p in space:
        if isinstance(p, Categorical):
            groups.setdefault(p.group or p.name, []).append(p)
    anchored = {p.name: p.largest() for p in space}
    for name, option in (anchors or {}).items():
        anchored.update(_taking(option, groups[name]))
    outer = [list(_options(groups[name])) for name in product]
    varied = [name for name in groups if name not in (*product, *inert)]
    found: dict[str, Configuration] = {}
    for combination in itertools.product(*outer):
        start = dict(anchored)
        for name, option in zip(product, combination, strict=True):
            start.update(_taking(option, groups[name]))
        changes = [_taking(option, groups[name]) for name in varied for option in _options(groups[name])]
        for change in [{}, *changes]:
            config = space.canonicalise({**start, **change})
            found.setdefault(space.key(config), config)
    return list(found.values())


def _options(members: Sequence[Categorical]) -> Iterator[Any]:
    """The options of a group, in order; its members may have different ones left."""
    yield from dict.fromkeys(option for p in members for option in p.options)


def _taking(option: Any, members: Sequence[Categorical]) -> dict[str, Any]:
    return {p.name: option if p.position(option) is not None else p.default for p in members}
