"""Analytic costs of a network: parameters, multiply-accumulates, peak activation memory; counted while it runs once."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from archfront.spaces._search_space import Configuration

if TYPE_CHECKING:
    from archfront.spaces._model_space import ModelSpace

__all__ = ["analytic_costs", "count_macs", "count_parameters", "peak_activation_bytes"]


def analytic_costs(space: ModelSpace, config: Configuration) -> dict[str, float]:
    """params_m and macs_m in millions, memory_mb (peak activations) in 1e6 bytes: for one sample, or the whole graph.

    Parameters are the trainable ones. Where the paper gives a closed form it is used; the contract kit compares both.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = space.build(config).eval()
    inputs = space.prepared_example(config, batch=1)
    counted = {
        "params_m": count_parameters(net) / 1e6,
        "macs_m": count_macs(net, inputs) / 1e6,
        "memory_mb": peak_activation_bytes(net, inputs) / 1e6,
    }
    return {**counted, **space.closed_form(config)}


def count_parameters(net: nn.Module) -> int:
    """Number of trainable scalars; tied ones once."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def count_macs(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of one call, message passing included (one per gathered-and-added number)."""
    with _countable(), torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_FORMULAE) as counter:
        net(*inputs)
    return int(counter.get_total_flops()) // 2


def peak_activation_bytes(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Largest number of bytes alive at once in tensors that the call itself creates."""
    memory = _PeakMemory()
    with torch.inference_mode(), memory:
        net(*inputs)
    return memory.peak


class _PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds a storage when an operation creates it, subtracts it when it dies."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive, self.peak = 0, 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_storage(t) for t in _flat((args, kwargs))}
        for tensor in _flat(result):
            storage = tensor.untyped_storage()
            if storage.data_ptr() in given or storage.data_ptr() in self._seen or not storage.nbytes():
                continue
            self._seen.add(storage.data_ptr())
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._freed, storage.data_ptr(), storage.nbytes())
        return result

    def _freed(self, pointer: int, size: int) -> None:
        self._seen.discard(pointer)
        self.alive -= size


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _flat(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.layout == torch.strided:
            yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, dict):
        yield from _flat(list(value.values()))


@contextmanager
def _countable() -> Iterator[None]:
    """Transformer layers otherwise take a fused path whose operations have no formula."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    batch, heads, queries, width = query
    keys, out_width = key[2], value[3]
    return int(2 * batch * heads * queries * keys * (width + out_width))


def _lstm(inputs: Any, w_ih: Any, w_hh: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    steps = inputs[0] * inputs[1]
    return int(2 * steps * (w_ih[0] * w_ih[1] + w_hh[0] * w_hh[1]))


def _added(inputs: Any, axis: Any, index: Any, source: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    size = 1
    for length in source:
        size *= length
    return 2 * size


_FORMULAE: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten.mkldnn_rnn_layer: _lstm,
    torch.ops.aten.scatter_add_: _added,
    torch.ops.aten.scatter_add: _added,
    torch.ops.aten.index_add_: _added,
    torch.ops.aten.index_add: _added,
}
