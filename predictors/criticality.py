"""Criticality of a network at its initialisation (Roberts, Yaida, Hanin: The Principles of Deep Learning Theory, 2022).

The kernel, the susceptibilities and the four-point vertex of a random network follow from its widths, its activations
and the variances of its weights, without a backward pass. The features are the book's quantities; the score is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._context import Context
from archfront.predictors._prediction import Fitted, Model
from archfront.predictors._predictor import Predictor
from archfront.spaces._choices import Categorical
from archfront.spaces._critical_advice import Advice, LayerAdvice, advice, advice_of
from archfront.spaces._critical_point import critical_point, optimal_x2
from archfront.spaces._errors import ArchfrontError, UsageError
from archfront.spaces._lookup import LookupSpace, LookupTask
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archfront.spaces._critical_network import RandomNetwork
    from archfront.spaces._model_space import ModelSpace

__all__ = ["Criticality", "Advice", "LayerAdvice", "advice_of", "features_of", "score_of"]

METRIC = "criticality"
MOST_X2 = 20.0
"""Larger values of x2 only say that the perturbation theory has ended."""
LEAST = 1e-70
"""What logarithms are taken of is not below: a layer that starts at 0 passes nothing."""


class Criticality(Predictor):
    """Scores networks by -|P| - min(x2, 20), known without a fit; higher is meant to be better, only ranks matter.

    P is the logarithm of what a gradient's square is multiplied by on its way through the layers (0 is best), x2 the
    relative size of finite-width fluctuations at the output. `features`, `score` and `advice` tell more.

    The score was chosen on the networks it was first measured on; see docs/results/criticality.md for others.

    `rows`: of the training split, evenly spaced, for the mean |x|^2/n_0 of the inputs; a task without data gets random
    ones. The seed draws initial values. Networks with norms are refused, so are others than chains of linear and
    convolutional layers with skips; a space whose default, or an option of it, is such a network is not supported:
    hold that parameter (`space.narrowed`).
    """

    minimum = 0

    def __init__(self, *base: Any, rows: int = 256, **rest: Any) -> None:
        super().__init__(*base, **rest)
        if rows < 1:
            raise UsageError(f"rows={rows} is too small", "at least 1 row")
        self.rows = rows
        self._inputs: tuple[Tensor, ...] | None = None

    @classmethod
    def supports(cls, context: Context) -> str | None:
        """Reads the network of the default and those that differ from it by one option: a norm or an unknown link
        between layers in any of them is a reason."""
        space = context.model_space
        if space is None:
            return "it builds the networks: the study's space has none"
        if isinstance(space, LookupSpace) and not space.builds:
            return f"it builds the networks: space {space.name!r} is a table of values"
        for config in _one_option_changed(space):
            try:
                read_configuration(space, config, space.prepared_example(config), 0).blocks()
            except ArchfrontError as error:
                return str(error)
        return None

    def untrained(self) -> Mapping[str, Model]:
        return {METRIC: {}}

    def inputs(self, configs: Sequence[Configuration]) -> NDArray[Any]:
        return self.rows_of(configs)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        """Raises UsageError."""
        raise UsageError("predictor 'criticality' learns nothing", f"predict {METRIC} without a fit")

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, None]:
        """Raises UsageError for a network that cannot be read."""
        return np.array([score_of(self.features(config)) for config in inputs], np.float64), None

    def features(self, config: Configuration) -> dict[str, float]:
        """What `features_of` tells. Raises UsageError for a network that cannot be read."""
        return _features(self._network(config))

    def advice(self, config: Configuration) -> Advice:
        """How to initialise and train it. Raises UsageError where the theory has no advice, see `advice_of`."""
        return advice(self._network(config))

    @property
    def _space(self) -> ModelSpace:
        assert self.context.model_space is not None  # `supports`
        return self.context.model_space

    def _network(self, config: Configuration) -> RandomNetwork:
        own = {name: config[name] for name in self._space.search_space.names}
        if self._inputs is None:
            self._inputs = self._real_inputs()
        return read_configuration(self._space, own, self._space.prepare(own, self._inputs), self.seed)

    def _real_inputs(self) -> tuple[Tensor, ...]:
        import torch

        task = self.context.task or self._space.task()
        if isinstance(task, LookupTask) or not task.metrics:  # a table, or a signature without a task
            return task.signature.random_input(self.rows, self.seed)
        split = task.split("train")
        if split.rows is not None:
            return split.inputs
        chosen = torch.linspace(0, len(split) - 1, min(self.rows, len(split))).round().long()
        return tuple(x[chosen] for x in split.inputs)


def features_of(net: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, float]:
    """The book's quantities of a freshly initialised network, or of a slice of one, on inputs (rows, ...).

    `P`, `Q`: sums of log chi_perp and log chi_par over all layers but the first. `k`: log(K^L/K_target) at the output,
    where the target is the last activation's K* or, if that is free or 0, 1 (our choice). `x2` at the output. `rho`:
    (L/n)/r*, L/n the sum of 1/fan_in, each layer with its own activation's nu; where an activation has no critical
    point, and with skips, x2/x2*, which it is in the first order. `H`: log of the tangent kernel at the output, for one
    learning rate for all weights; `worst_share`: the largest part that one layer has in it, between 1/layers and 1.

    Raises UsageError that names the layer for a network that cannot be read.
    """
    from archfront.spaces._critical_network import read_network

    return _features(read_network(net, inputs))


def score_of(features: Mapping[str, float]) -> float:
    """-|P| - min(x2, 20)."""
    return -abs(features["P"]) - min(features["x2"], MOST_X2)


def read_configuration(
    space: ModelSpace, config: Configuration, inputs: tuple[Tensor, ...], seed: int
) -> RandomNetwork:
    """The network of a configuration as `seed` initialises it; the caller's generators and grad mode are left as they
    were. Raises UsageError for one that cannot be read."""
    import torch

    from archfront.spaces._critical_network import read_network

    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.manual_seed(seed)
        return read_network(space.build(config), inputs)


def _one_option_changed(space: ModelSpace) -> Iterator[Configuration]:
    """The default, and it with one option of one categorical parameter; members of a group change together."""
    searched = space.search_space
    yield searched.default
    groups: dict[str, list[Categorical]] = {}
    for parameter in searched:
        if isinstance(parameter, Categorical):
            groups.setdefault(parameter.group or parameter.name, []).append(parameter)
    for members in groups.values():
        for option in members[0].options:
            if option != members[0].default:
                change = {p.name: option for p in members if p.position(option) is not None}
                yield searched.canonicalise({**searched.default, **change})


def _features(network: RandomNetwork) -> dict[str, float]:
    states = network.flow()
    x2 = float(states.x2[-1])
    outputs = network.layers[-1].outputs
    return {
        "P": float(_log(states.chi_perp[1:]).sum()),
        "Q": float(_log(np.abs(states.chi_par[1:])).sum()),
        "k": float(_log(states.kernel[-1:])[0] - np.log(_target(network))),
        "x2": x2,
        "rho": _first_order_x2(network, x2) / optimal_x2(outputs),
        "H": float(_log(states.tangent[-1:])[0]),
        "worst_share": float(states.shares.max()),
    }


def _log(values: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(values, LEAST)))


def _target(network: RandomNetwork) -> float:
    critical = critical_point(network.layers[-1].activation)
    return critical.K if critical is not None and critical.K > 0 else 1.0


def _first_order_x2(network: RandomNetwork, x2: float) -> float:
    """Sum of nu/n over the layers that have an activation before them, or x2 itself where that is not defined."""
    points = [critical_point(layer.activation) for layer in network.layers[1:]]
    if network.skips or None in points:
        return x2
    return sum(
        point.nu / layer.fan_in for point, layer in zip(points, network.layers[1:], strict=True) if point is not None
    )
