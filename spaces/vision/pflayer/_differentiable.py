"""The differentiable variant: every block holds all candidate operations, summed with softmax weights (DARTS)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces._errors import UsageError
from archfront.spaces._search_space import Configuration
from archfront.spaces.vision._choice import Chosen
from archfront.spaces.vision.pflayer._operations import DOWN_OPS, SPATIAL_OPS, spatial_operation
from archfront.spaces.vision.pflayer._resnet import Block, ResNet, ResNetShape

__all__ = ["MixedOperation", "chosen_operations", "mix_operations"]


class MixedOperation(nn.Module):
    """sum_o softmax(alpha / temperature)_o * o(x) over candidates of equal output shape.

    Each candidate's tensors keep the name `<here>.<kind>.*` that they have in a network with that one choice.
    """

    def __init__(self, kinds: Sequence[str], operations: Sequence[Chosen], temperature: float = 1.0) -> None:
        super().__init__()
        self.kinds, self.temperature = tuple(kinds), temperature
        self._names = [operation.kind for operation in operations]
        for operation in operations:
            self.add_module(operation.kind, operation.operation)
        self.alpha = nn.Parameter(torch.zeros(len(operations)))

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs rows columns"]:
        weights = torch.softmax(self.alpha / self.temperature, dim=0)
        outputs = [w * self.get_submodule(name)(x) for w, name in zip(weights, self._names, strict=True)]
        return torch.stack(outputs).sum(dim=0)

    def best(self) -> str:
        """The candidate with the largest weight."""
        return self.kinds[int(self.alpha.argmax())]


def mix_operations(net: ResNet, shape: ResNetShape, config: Configuration, temperature: float = 1.0) -> ResNet:
    """Replace the spatial operation of every bottleneck block by a mixture of all candidates, in place.

    Raises UsageError for other blocks: there a full convolution changes the number of channels, and candidates of
    different shapes cannot be summed.
    """
    if config["block"] != "bottleneck":
        raise UsageError(f"block={config['block']!r} cannot be mixed", "only bottleneck operations have equal shapes")
    for block, candidates in _blocks(net):
        channels = block.expand[0].in_channels
        assert isinstance(channels, int)
        operations = [spatial_operation(kind, channels, channels, config["post_pool_norm"]) for kind in candidates]
        block.spatial = MixedOperation(candidates, operations, temperature)  # type: ignore[assignment]
    return net


def chosen_operations(net: ResNet, shape: ResNetShape, config: Configuration) -> Mapping[str, str]:
    """The best candidate of every block, under the parameter's name in the search space."""
    chosen = {}
    for stage, blocks in enumerate(net.stages):
        assert isinstance(blocks, nn.ModuleList)
        for position, _ in enumerate(blocks):
            halves = stage > 0 and position == 0
            name = f"down_op[{stage}]" if halves else f"spatial_op[{shape.number(stage, position)}]"
            mixed = _block(blocks[position]).spatial
            assert isinstance(mixed, MixedOperation)
            chosen[name] = mixed.best()
    return chosen


def _blocks(net: ResNet) -> list[tuple[Block, tuple[str, ...]]]:
    found: list[tuple[Block, tuple[str, ...]]] = []
    for stage, blocks in enumerate(net.stages):
        assert isinstance(blocks, nn.ModuleList)
        for position, chosen in enumerate(blocks):
            found.append((_block(chosen), DOWN_OPS if stage > 0 and position == 0 else SPATIAL_OPS))
    return found


def _block(chosen: nn.Module) -> Block:
    assert isinstance(chosen, Chosen)
    assert isinstance(chosen.operation, Block)
    return chosen.operation
