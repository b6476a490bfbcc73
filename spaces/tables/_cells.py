"""Cells of NAS-Bench-201 as networks (Dong & Yang, 2020, section 2, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["OPERATIONS", "CellNetwork"]

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""In the order of the tidy table's codes."""
NODES = 4
CHANNELS = (16, 32, 64)
CELLS_PER_STAGE = 5


class Zero(nn.Module):
    """The operation `none`."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros of the shape of x."""
        return x * 0


def normed_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution, batch norm."""
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


def operation(name: str, channels: int) -> nn.Module:
    """One of OPERATIONS over `channels` feature maps of constant size."""
    if name == "nor_conv_1x1":
        return normed_conv(channels, channels, 1)
    if name == "nor_conv_3x3":
        return normed_conv(channels, channels, 3)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return nn.Identity() if name == "skip_connect" else Zero()


class Cell(nn.Module):
    """Four nodes; a node is the sum of the operations on its edges from all earlier nodes; the last one is returned."""

    def __init__(self, operations: Sequence[str], channels: int) -> None:
        super().__init__()
        ends = [(i, j) for j in range(1, NODES) for i in range(j)]
        named = zip(ends, operations, strict=True)
        self.edges = nn.ModuleDict(
            {f"{i}_{j}": nn.ModuleDict({name: operation(name, channels)}) for (i, j), name in named}
        )
        self.operations = {f"{i}_{j}": name for (i, j), name in zip(ends, operations, strict=True)}

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape."""
        nodes = [x]
        for j in range(1, NODES):
            terms = [self._edge(f"{i}_{j}", nodes[i]) for i in range(j)]
            nodes.append(sum(terms[1:], terms[0]))
        return nodes[-1]

    def _edge(self, edge: str, x: Tensor) -> Tensor:
        choice = self.edges[edge]
        assert isinstance(choice, nn.ModuleDict)
        y: Tensor = choice[self.operations[edge]](x)
        return y


class Reduction(nn.Module):
    """The residual block of stride 2 between stages; its short cut is a pooled 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_a = normed_conv(inputs, outputs, 3, 2)
        self.conv_b = normed_conv(outputs, outputs, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Half the height and width."""
        y: Tensor = self.shortcut(x) + self.conv_b(self.conv_a(x))
        return y


class CellNetwork(nn.Module):
    """Stem, three stages of equal cells with reductions between them, pooled classifier."""

    def __init__(self, operations: Sequence[str], outputs: int) -> None:
        super().__init__()
        first, last = CHANNELS[0], CHANNELS[-1]
        self.stem = nn.Sequential(nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first))
        blocks: list[nn.Module] = []
        for stage, channels in enumerate(CHANNELS):
            if stage:
                blocks.append(Reduction(CHANNELS[stage - 1], channels))
            blocks += [Cell(operations, channels) for _ in range(CELLS_PER_STAGE)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 3, pixels, pixels) -> logits (batch, outputs)."""
        y: Tensor = self.head(self.blocks(self.stem(x)))
        return y
