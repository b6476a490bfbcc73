"""The contract of a model space, as tests: subclass `ModelSpaceContract` and give it a `space` fixture.

class TestMine(ModelSpaceContract):
    @pytest.fixture
    def space(self) -> ModelSpace:
        return archfront.spaces.load("my_lab.spaces:Mine")
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archfront.spaces._costs import analytic_costs, count_macs, count_parameters
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration, SearchSpace
from archfront.spaces._supernet import Supernet

__all__ = ["ModelSpaceContract", "hook_macs"]


class ModelSpaceContract:
    """Laws of DESIGN §2-§3 for one bound space. `samples` random configurations are tried beside the default."""

    samples = 4

    @pytest.fixture
    def space(self) -> ModelSpace:
        """The space under test: override."""
        raise TypeError("a contract needs a `space` fixture")

    @pytest.fixture
    def configs(self, space: ModelSpace) -> list[Configuration]:
        """The default and a few random configurations."""
        drawn = space.search_space.sample(np.random.default_rng(7), self.samples)
        return [space.search_space.default, *drawn]

    def test_identity_is_stable_and_survives_restriction(self, space: ModelSpace) -> None:
        again = type(space)(space.task(), space.variant)
        assert again.search_space.identity == space.search_space.identity
        name = space.search_space.names[0]
        fixed = space.search_space.fix({name: space.search_space.default[name]})
        assert fixed.key(space.search_space.default) == space.search_space.key(space.search_space.default)

    def test_search_space_survives_json(self, space: ModelSpace) -> None:
        assert SearchSpace.from_dict(space.search_space.to_dict()) == space.search_space

    def test_builds_and_runs(self, space: ModelSpace, configs: list[Configuration]) -> None:
        for config in configs:
            net = _seeded(space, config).eval()
            output = net(*space.prepared_example(config, batch=2))
            assert output.shape[-1] == space.signature.outputs
            assert torch.isfinite(output).all(), f"{config} gives non-finite outputs"

    def test_building_is_deterministic_given_the_seed(self, space: ModelSpace, configs: list[Configuration]) -> None:
        for config in configs[:2]:
            one, other = _seeded(space, config).state_dict(), _seeded(space, config).state_dict()
            assert all(torch.equal(one[name], other[name]) for name in one)

    def test_every_tensor_is_registered_and_nothing_is_lazy(
        self, space: ModelSpace, configs: list[Configuration]
    ) -> None:
        for config in configs:
            for name, module in _seeded(space, config).named_modules():
                assert not isinstance(module, nn.modules.lazy.LazyModuleMixin), f"{name} is lazy: give its sizes"
                loose = [n for n, v in vars(module).items() if isinstance(v, Tensor)]
                assert not loose, f"{name} holds unregistered tensors {loose}: register parameters or buffers"

    def test_sorting_channels_changes_no_function(self, space: ModelSpace) -> None:
        bank = _randomised(Supernet(space))
        largest = space.search_space.canonicalise({p.name: p.largest() for p in space.search_space})
        inputs = space.prepared_example(largest, batch=2)
        before = bank.extract(largest)
        for channels in space.channels():
            bank.sort(channels)
            name, axis = channels.importance
            importance = bank.bank_tensor(name).abs().movedim(axis, 0).flatten(1).sum(1)
            assert (importance.diff() <= 1e-4 * importance[0]).all(), f"{channels.importance} does not descend"
        with torch.no_grad():
            wanted, got = before.eval()(*inputs), bank.extract(largest).eval()(*inputs)
        assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())), "a member is missing"

    def test_subnet_equals_extract(self, space: ModelSpace, configs: list[Configuration]) -> None:
        bank = _randomised(Supernet(space))
        for config in configs:
            inputs = space.prepared_example(config, batch=2)
            with torch.no_grad():
                sliced = bank.subnet(config).eval()(*inputs)
                alone = bank.extract(config).eval()(*inputs)
            assert torch.equal(sliced, alone), config

    def test_extract_has_the_shapes_and_constants_of_build(
        self, space: ModelSpace, configs: list[Configuration]
    ) -> None:
        bank = Supernet(space)
        for config in configs:
            alone, built = bank.extract(config), _seeded(space, config)
            assert {n: t.shape for n, t in alone.state_dict().items()} == {
                n: t.shape for n, t in built.state_dict().items()
            }
            persistent = set(built.state_dict())
            constants = dict(built.named_buffers())
            for name, tensor in alone.named_buffers():
                assert name in persistent or torch.equal(tensor, constants[name]), f"constant {name} differs"

    def test_gradient_is_zero_outside_the_slice(self, space: ModelSpace, configs: list[Configuration]) -> None:
        bank = _randomised(Supernet(space))
        for config in configs[:3]:
            bank.zero_grad(set_to_none=True)
            net = bank.subnet(config).eval()
            net(*space.prepared_example(config, batch=2)).square().sum().backward()
            inside = _inside(bank, config)
            for name, parameter in bank.named_parameters():
                if parameter.grad is not None:
                    assert name in inside, f"{name} got a gradient that {config} does not use"
                    outside = parameter.grad[~inside[name]]
                    assert not outside.any(), f"{name} got a gradient outside the slice of {config}"

    def test_subnet_leaves_the_generator_and_the_bank_alone(
        self, space: ModelSpace, configs: list[Configuration]
    ) -> None:
        bank = Supernet(space)
        before = {name: tensor.clone() for name, tensor in bank.state_dict().items()}
        state = torch.get_rng_state()
        nets = [bank.subnet(config).train() for config in configs]
        assert torch.equal(state, torch.get_rng_state())
        with torch.no_grad():
            for net, config in zip(nets, configs, strict=True):
                net(*space.prepared_example(config, batch=2))
        assert all(torch.equal(before[name], tensor) for name, tensor in bank.state_dict().items())

    def test_costs_equal_hook_counters(self, space: ModelSpace, configs: list[Configuration]) -> None:
        for config in configs:
            net = _seeded(space, config).eval()
            inputs = space.prepared_example(config, batch=1)
            costs = analytic_costs(space, config)
            assert costs["params_m"] * 1e6 == pytest.approx(count_parameters(net), abs=0.5)
            assert costs["macs_m"] * 1e6 == pytest.approx(count_macs(net, inputs), rel=1e-9, abs=0.5)
            assert costs["macs_m"] * 1e6 >= hook_macs(net, inputs) - 0.5
            assert costs["memory_mb"] > 0

    def test_task_declares_what_it_scores(self, space: ModelSpace) -> None:
        task = space.task()
        split = space.prepared(space.search_space.default, task.split("val"))
        net = _seeded(space, space.search_space.default).eval()
        with torch.no_grad():
            output, target = split.chosen(net(*split.inputs))
        scores = task.score(output, target)
        assert set(scores) == {metric.name for metric in task.metrics}
        assert task.metrics[0].name in scores
        assert torch.isfinite(task.loss(output, target))

    def test_recipe_names_trainers_and_their_parameters(self, space: ModelSpace) -> None:
        assert space.recipe, f"{space.name} has no recipe: name at least one trainer"

    def test_exports_give_reasons(self, space: ModelSpace) -> None:
        assert "torch" not in space.exports, "a space that can be built can be saved"
        assert all(space.exports.values()), "say why a format does not work"


def hook_macs(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of Linear and Conv layers by module hooks: an independent lower count."""
    total = 0

    def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            total += output.numel() * module.weight[0].numel()

    handles = [module.register_forward_hook(count) for module in net.modules()]
    with torch.no_grad():
        net(*inputs)
    for handle in handles:
        handle.remove()
    return total


def _seeded(space: ModelSpace, config: Configuration) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return space.build(config)


def _randomised(bank: Supernet) -> Supernet:
    """Random statistics and affines: at their initial values a wrong slice would go unseen."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for tensor in _floats(bank):
            if tensor.dim() <= 1:
                tensor.uniform_(0.5, 1.5, generator=generator)
    return bank


def _floats(bank: Supernet) -> Iterator[Tensor]:
    for tensor in bank.state_dict(keep_vars=True).values():
        if tensor.is_floating_point():
            yield tensor


def _inside(bank: Supernet, config: Configuration) -> dict[str, Tensor]:
    """Which entries of each bank parameter the sub-network reads: the gradient of the sum of its slices."""
    net = bank.subnet(config)
    held = [t for module in net.modules() for t in (*vars(module).values(), *module._parameters.values())]
    slices = [t for t in held if isinstance(t, Tensor) and t.requires_grad]
    trained = [(name, parameter) for name, parameter in bank.named_parameters() if parameter.requires_grad]
    names, parameters = zip(*trained, strict=True)
    grads = torch.autograd.grad([t.sum() for t in slices], parameters, allow_unused=True)
    return {name: grad != 0 for name, grad in zip(names, grads, strict=True) if grad is not None}
