"""The differentiable variant of pflayer: a mixture, its gradients, and what is chosen."""

from __future__ import annotations

import pytest
import torch

from archfront import spaces
from archfront.spaces import ModelSpace
from archfront.spaces._errors import UsageError
from archfront.spaces.vision.pflayer import PfLayer
from archfront.spaces.vision.pflayer._differentiable import MixedOperation
from archfront.trainers._bilevel import choose_operations

SMALL = {"width_mult": 0.25, "depth[1]": 1}


@pytest.fixture
def space() -> PfLayer:
    loaded: ModelSpace = spaces.load("pflayer")
    assert isinstance(loaded, PfLayer)
    return loaded


def test_a_mixture_that_is_sure_equals_the_chosen_network(space: PfLayer) -> None:
    config = space.search_space.canonicalise({**space.search_space.default, **SMALL})
    net = space.mixed(config).eval()
    wanted = {"spatial_op[0]": "dw3", "down_op[1]": "max3s2", "down_op[2]": "conv3s2"}
    for module, kind in zip((m for m in net.modules() if isinstance(m, MixedOperation)), wanted.values(), strict=True):
        with torch.no_grad():
            module.alpha[module.kinds.index(kind)] = 1e4
    chosen = space.discretised(net, config)
    assert {name: chosen[name] for name in wanted} == wanted
    alone = space.build(chosen).eval()
    alone.load_state_dict({n: t for n, t in net.state_dict().items() if n in alone.state_dict()})
    x = torch.randn(3, 1, 32, 32)
    with torch.no_grad():
        assert torch.allclose(net(x), alone(x), atol=1e-6)


def test_both_kinds_of_parameter_learn(space: PfLayer) -> None:
    config = space.search_space.canonicalise({**space.search_space.default, **SMALL})
    losses: list[float] = []
    start = torch.get_rng_state()
    chosen = choose_operations(space, config, epochs=2, seed=1, watch=lambda epoch, loss, so_far: losses.append(loss))
    assert torch.equal(start, torch.get_rng_state())
    assert space.search_space.validate(chosen) == []
    assert chosen["width_mult"] == 0.25
    assert losses[1] < losses[0]


def test_what_cannot_be_summed_is_refused(space: PfLayer) -> None:
    with pytest.raises(UsageError, match="block='basic' cannot be mixed"):
        space.mixed({**space.search_space.default, "block": "basic"})
    vit = spaces.load("pflayer/vit_ti")
    assert isinstance(vit, PfLayer)
    with pytest.raises(UsageError, match="vit_ti"):
        vit.mixed(vit.search_space.default)
