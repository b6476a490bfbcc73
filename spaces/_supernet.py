"""Weights shared by every sub-network: a sub-network is build(config), run on slices of one bank of tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from archfront.spaces._channels import Channels
from archfront.spaces._errors import ConfigurationError, DataError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration

__all__ = ["Supernet", "chunked", "corner"]

SKELETONS = 32
"""How many built networks are kept for reuse by their keys."""
LISTED = 5
"""Tensors that do not fit are named, so many of them."""


class _NoInit(TorchFunctionMode):
    """Building under this mode draws no random numbers.

    Initialisers return their tensor as it is; a draw gives its centre, so that what samples by rejection
    (`trunc_normal_`) ends.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else given["tensor"]
        if func is Tensor.normal_:
            return args[0].fill_(args[1] if len(args) > 1 else given.get("mean", 0.0))
        if func is Tensor.uniform_:
            return args[0].fill_(args[1] if len(args) > 1 else given.get("from", 0.0))
        return func(*args, **given)


def corner(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Leading corner of a tensor; axes from the third on (convolution kernels) are centre-cropped."""
    for axis, (have, want) in enumerate(zip(tensor.shape, shape, strict=True)):
        if have != want:
            tensor = tensor.narrow(axis, (have - want) // 2 if axis >= 2 else 0, want)
    return tensor


def chunked(tensor: Tensor, shape: tuple[int, ...], blocks: int) -> Tensor:
    """Corner of each of `blocks` equal blocks stacked on axis 0 (the gates of an LSTM: 4, of a GRU: 3)."""
    block = (shape[0] // blocks, *shape[1:])
    return torch.cat([corner(part, block) for part in tensor.chunk(blocks)])


class Supernet(nn.Module):
    """The bank: one tensor per name, of the element-wise largest shape over `space.cover()`.

    `fixed` holds parameters at one value. Values are copied from seeded builds, smallest first, so that the largest
    network starts exactly as it would alone. An optimiser over `parameters()` with momentum or weight decay also moves
    weights outside the slice that got a gradient.
    """

    def __init__(self, space: ModelSpace, *, fixed: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        super().__init__()
        if type(space).build is ModelSpace.build:
            raise TypeError(f"{space.name!r} has no build(): only model spaces have a supernet")
        self.space, self.fixed, self.seed = space, dict(fixed or {}), seed
        self._alias: dict[str, str] = {}
        self._skeletons: OrderedDict[str, nn.Module] = OrderedDict()
        with torch.random.fork_rng(devices=[]):
            self._fill(self.space.cover(self.fixed))
        self._own = tuple(space.bank_only())
        for name, tensor in space.bank_only().items():
            self.register_parameter(_safe(name), nn.Parameter(tensor.clone()))

    @torch.no_grad()
    def _fill(self, cover: list[Configuration]) -> None:
        """Two passes over the cover, one network in memory at a time: shapes first, then seeded values."""
        shapes: dict[str, tuple[int, ...]] = {}
        sizes = []
        for config in cover:
            net = self._skeleton(config)
            sizes.append(sum(p.numel() for p in net.parameters()))
            for name, tensor, _ in self._tensors(net):
                known = shapes.get(name, tuple(tensor.shape))
                if len(known) != tensor.dim():
                    raise ConfigurationError(
                        f"tensor {name!r} of {self.space.name!r} has rank {len(known)} and rank {tensor.dim()}",
                        "give sub-modules of different kinds different names",
                    )
                shapes[name] = tuple(max(a, b) for a, b in zip(known, tensor.shape, strict=True))
        for place in sorted(range(len(cover)), key=sizes.__getitem__):
            torch.manual_seed(self.seed)
            for name, tensor, is_parameter in self._tensors(self.space.build(cover[place])):
                if not hasattr(self, _safe(name)):
                    self._register(name, torch.zeros(shapes[name], dtype=tensor.dtype), tensor, is_parameter)
                corner(getattr(self, _safe(name)), tuple(tensor.shape)).copy_(tensor)

    def _register(self, name: str, fresh: Tensor, like: Tensor, is_parameter: bool) -> None:
        if is_parameter:
            self.register_parameter(_safe(name), nn.Parameter(fresh, requires_grad=like.requires_grad))
        else:
            self.register_buffer(_safe(name), fresh)

    def _tensors(self, net: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
        """(name, tensor, is a parameter) of everything the bank holds; tied tensors once, under their first name."""
        first: dict[int, str] = {}
        for module, name, full in _owned(net):
            tensor = getattr(module, name)
            canonical = self._alias.setdefault(full, first.setdefault(id(tensor), full))
            if canonical == full:
                yield full, tensor, name in module._parameters

    def bank_tensor(self, name: str) -> Tensor:
        """The bank's tensor for a tensor name of the built networks. Raises KeyError."""
        name = self._alias.get(name, name)
        if not hasattr(self, _safe(name)):
            raise KeyError(name)
        tensor: Tensor = getattr(self, _safe(name))
        return tensor

    @torch.no_grad()
    def take(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Fill the whole bank with tensors by the names of the built networks. Raises DataError, the bank untouched,
        when one is missing, unknown or of another shape; how many batches a norm has seen need not be said."""
        ours = {_unsafe(name): tensor for name, tensor in self.state_dict(keep_vars=True).items()}
        missing = [n for n in ours if n not in tensors and not n.endswith("num_batches_tracked")]
        unknown = [name for name in tensors if name not in ours]
        wrong = [
            f"{name} {tuple(tensor.shape)} instead of {tuple(ours[name].shape)}"
            for name, tensor in tensors.items()
            if name in ours and tensor.shape != ours[name].shape
        ]
        for problem, names in (("lacks", missing), ("has besides", unknown), ("has other shapes", wrong)):
            if names:
                shown = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if names[LISTED:] else "")
                raise DataError(
                    f"{source!r} does not fit {self.space.full_name!r}: it {problem}: {shown}",
                    "it belongs to another architecture or variant",
                )
        for name, tensor in tensors.items():
            ours[name].copy_(tensor)

    @torch.no_grad()
    def sort(self, channels: Channels) -> None:
        """Put the most important channels first, where narrower sub-networks take them. Layers that the bank of a
        narrowed space lacks have none."""
        here = [(name, axis) for name, axis in channels.members if hasattr(self, _safe(name))]
        if channels.importance not in here:
            return
        name, axis = channels.importance
        weight = self.bank_tensor(name).abs()
        order = weight.movedim(axis, 0).flatten(1).sum(1).argsort(descending=True, stable=True)
        for name, axis in here:
            tensor = self.bank_tensor(name)
            tensor.copy_(tensor.index_select(axis, order))

    def subnet(self, config: Configuration, *, reuse: bool = False) -> nn.Module:
        """The sub-network on slices of the bank: gradients flow into it. Buffers are copies, never written back.

        With `reuse` the module built for an earlier call with the same configuration is given fresh slices: the
        earlier result must not be in use any more. Raises ConfigurationError for a tensor larger than the bank's.
        """
        net = self._reusable(config) if reuse else self._skeleton(config)
        for module, name, tensor in list(self._slices(net, config)):
            if name in module._buffers:
                module._buffers[name] = tensor.detach().clone()
            else:
                module._parameters.pop(name, None)
                setattr(module, name, tensor.contiguous())
        return net

    @torch.no_grad()
    def extract(self, config: Configuration, calibrated: nn.Module | None = None) -> nn.Module:
        """An ordinary module that owns copies; `calibrated` gives the buffers of a recalibrated sub-network."""
        net = self._skeleton(config)
        for module, name, tensor in self._slices(net, config):
            getattr(module, name).copy_(tensor)
        if calibrated is not None:
            net.load_state_dict(dict(calibrated.named_buffers()), strict=False)
        return net

    def _skeleton(self, config: Configuration) -> nn.Module:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), _NoInit():
            return self.space.build(config)

    def _reusable(self, config: Configuration) -> nn.Module:
        key = self.space.search_space.key(config)
        net = self._skeletons.pop(key, None) or self._skeleton(config)
        self._skeletons[key] = net
        while len(self._skeletons) > SKELETONS:
            self._skeletons.popitem(last=False)
        return net

    def _slices(self, net: nn.Module, config: Configuration) -> Iterator[tuple[nn.Module, str, Tensor]]:
        own = {name: self.bank_tensor(name) for name in self._own}
        for module, name, full in _owned(net):
            shape = tuple(getattr(module, name).shape)
            try:
                tensor = self.bank_tensor(full)
            except KeyError:
                raise ConfigurationError(
                    f"the bank of {self.space.name!r} has no tensor {full!r}, which {config} needs",
                    "cover() misses a configuration that makes it",
                ) from None
            if len(tensor.shape) != len(shape) or any(w > h for h, w in zip(tensor.shape, shape, strict=True)):
                raise ConfigurationError(
                    f"tensor {full!r} of shape {shape} is beyond the bank's {tuple(tensor.shape)} for {config}",
                    "cover() misses a configuration with the larger shape, or a fixed value differs",
                )
            ruled = self.space.slice_rule(full, tensor, shape, config, own)
            yield module, name, corner(tensor, shape) if ruled is None else ruled

    def __deepcopy__(self, memo: dict[int, Any]) -> Supernet:
        """A copy with its own bank and no cached networks (they are not copyable)."""
        copy = Supernet(self.space, fixed=self.fixed, seed=self.seed)
        copy.load_state_dict(self.state_dict())
        return copy

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_skeletons": OrderedDict()}  # type: ignore[no-untyped-call]


def _owned(net: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(module, tensor name, full name) of every parameter and persistent buffer, tied ones under each name.

    A re-used skeleton holds its slices as plain attributes: their names are remembered on the module.
    """
    for prefix, module in net.named_modules(remove_duplicate=False):
        names = module.__dict__.setdefault(
            "_archfront_tensors",
            [
                name
                for name, tensor in {**module._parameters, **module._buffers}.items()
                if tensor is not None and name not in module._non_persistent_buffers_set
            ],
        )
        for name in names:
            yield module, name, f"{prefix}.{name}".lstrip(".")


def _safe(name: str) -> str:
    """A module may not register a name with dots."""
    return "bank:" + name.replace(".", "/")


def _unsafe(name: str) -> str:
    return name.removeprefix("bank:").replace("/", ".")
