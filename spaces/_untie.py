"""Weights of a network whose layers were tied while it was built, and are not any more."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["load_weights"]


def load_weights(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dictionary into a freshly built network. A tensor that the network ties, and for which `state` has
    two values (a self-tuned embedding has answered, its decoder has not), is untied first."""
    first: dict[int, str] = {}
    for prefix, module in net.named_modules():
        for name, parameter in module._parameters.items():
            full = f"{prefix}.{name}".lstrip(".")
            if parameter is None or (known := first.setdefault(id(parameter), full)) == full:
                continue
            if known in state and full in state and not torch.equal(state[known], state[full]):
                module._parameters[name] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
    net.load_state_dict(dict(state))
