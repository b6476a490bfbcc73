"""A network whose weights a hypernetwork makes from its own hyperparameters: another best response for self-tuning."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archfront.spaces._errors import UsageError
from archfront.spaces._mip import HyperNetwork, freed
from archfront.spaces._mip_layers import MipShape
from archfront.spaces._parameter import Parameter
from archfront.trainers._convert import ResponseNet, Strengths, declared, with_rates
from archfront.trainers._hyper_vector import HyperVector
from archfront.trainers._response import Rows

__all__ = ["GeneratedNet", "generated"]

INPUT = "hyperparameters"
SHAPE = MipShape(hidden=(16, 64), head="low-rank", rank=8, unit=True)
"""A full head would have as many weights for each hidden unit as the network has."""


class GeneratedNet(ResponseNet):
    """theta = theta0 + Delta(E(g)) (Gonzalez Ortiz et al., 2024) for every trained tensor, theta0 where the network
    starts, g the hyperparameters in 0..1: the logistic function of their inner values, unbounded ones from their start.

    Any layer can respond, as none is replaced; all examples of a batch have one row of hyperparameters.
    """

    def __init__(self, net: nn.Module, hypers: HyperVector, strengths: Strengths) -> None:
        by_identity: dict[int, list[str]] = {}
        for name, parameter in net.named_parameters(remove_duplicate=False):
            if parameter.requires_grad:
                by_identity.setdefault(id(parameter), []).append(name)
        if not by_identity:
            raise UsageError("this network has no weight that could respond to hyperparameters", "it has none to train")
        self._tied = {names[0]: names for names in by_identity.values()}
        theta0 = {name: net.get_parameter(name).detach() for name in self._tied}
        shapes = {name: tuple(tensor.shape) for name, tensor in theta0.items()}
        freed(net, [name for names in self._tied.values() for name in names])
        super().__init__(net, hypers, Rows(), strengths, centred=False, one_row=True)
        self.generator = HyperNetwork({INPUT: (len(hypers.members),)}, shapes, SHAPE, theta0=theta0)
        self.centre: Tensor
        starts = [0.0 if member.transform == "logit" else member.inner_start for member in hypers.members]
        self.register_buffer("centre", torch.tensor(starts), persistent=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        assert self.rows.h is not None
        made = self._made(self.rows.h)
        theta = {name: made[first] for first, names in self._tied.items() for name in names}
        with _listed(self.net, theta):
            output: Tensor = torch.func.functional_call(self.net, theta, inputs)
        return output

    def _made(self, h: Float[Tensor, "1 hypers"]) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = self.generator({INPUT: torch.sigmoid(h - self.centre)})
        return tensors

    @property
    def response_parameters(self) -> list[nn.Parameter]:
        """The hypernetwork without theta0."""
        general = {id(p) for p in self.general_parameters}
        return [p for p in self.generator.parameters() if id(p) not in general]

    @property
    def general_parameters(self) -> list[nn.Parameter]:
        """theta0."""
        return list(self.generator.base.parameters())

    @torch.no_grad()
    def plain(self, h: Float[Tensor, " hypers"] | None) -> nn.Module:
        assert h is not None
        made = self._made(h[None])
        for first, names in self._tied.items():
            parameter = nn.Parameter(made[first].clone())
            for name in names:
                path, _, own = name.rpartition(".")
                self.net.get_submodule(path)._parameters[own] = parameter
        for module in self.net.modules():
            if isinstance(module, nn.RNNBase):
                module._init_flat_weights()
        return super().plain(h)


@contextmanager
def _listed(net: nn.Module, theta: Mapping[str, Tensor]) -> Iterator[None]:
    """torch's recurrent layers keep a list of their weights beside, and look into it before anything else: it holds
    theta within, and nothing afterwards, so that networks stay copyable."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, nn.RNNBase)}
    for name, layer in layers.items():
        layer._flat_weights = [theta[f"{name}.{own}".lstrip(".")] for own in layer._flat_weights_names]
    try:
        yield
    finally:
        for layer in layers.values():
            layer._init_flat_weights()


def generated(
    model: nn.Module,
    parameters: Sequence[Parameter],
    config: Mapping[str, Any],
    *,
    scale: float = 1.0,
    elsewhere: Collection[str] = (),
) -> GeneratedNet:
    """Take `model` over, as `convert` does, with a hypernetwork for its weights. Raises UsageError."""
    strengths, hypers = declared(model, parameters, config, per_batch=True, scale=scale, elsewhere=elsewhere)
    net, strengths = with_rates(model, strengths)
    return GeneratedNet(net, hypers, strengths)
