"""Zero-cost proxies: what an untrained network shows on one batch (Abdelfattah et al., 2021, and others)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._context import Context
from archfront.predictors._prediction import Fitted, Model
from archfront.predictors._predictor import Predictor
from archfront.spaces._errors import UnknownNameError, UsageError
from archfront.spaces._lookup import LookupSpace, LookupTask
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration

if TYPE_CHECKING:
    from torch import Tensor

    from archfront.predictors._proxies import Batch, Probe
    from archfront.spaces._model_space import ModelSpace
    from archfront.spaces._task import Signature, Split, Task

__all__ = ["ZeroCost", "PROXIES", "Proxy"]

ROWS_PER_CLASS = 4
"""At least so many of a batch's rows share a class, so that there is something to correlate within one."""


@dataclass(frozen=True)
class Proxy:
    """Where the function (probe) -> score stands, and what it supposes of the task.

    `loss`: a loss of the outputs; `classes`: labels that are classes; `samples`: rows that the network treats one by
    one, which the nodes of a graph are not; `real`: an input of real numbers.
    """

    module: str
    loss: bool = False
    classes: bool = False
    samples: bool = False
    real: bool = False

    def reason_against(self, signature: Signature) -> str | None:
        """Why it does not apply to a task, or None."""
        if self.samples and not signature.batched:
            return "it compares samples, and the nodes of a graph are not independent ones"
        if self.classes and not _of_classes(signature):
            return f"it compares classes, and the task is of kind {signature.kind!r}"
        if self.real and not any(spec.dtype.startswith(("float", "bfloat")) for spec in signature.inputs):
            return "it changes the input, and none of the inputs is real"
        return None


COSTS = {"flops": "macs_m", "params": "params_m"}
"""Proxies that are analytic costs, in millions."""
PROXIES: Mapping[str, Proxy] = {
    "epe_nas": Proxy("_proxies_of_samples", classes=True, samples=True, real=True),
    "fisher": Proxy("_proxies_of_weights", loss=True),
    "flops": Proxy(""),
    "grad_norm": Proxy("_proxies_of_weights", loss=True),
    "grasp": Proxy("_proxies_of_weights", loss=True),
    "jacov": Proxy("_proxies_of_samples", samples=True, real=True),
    "l2_norm": Proxy("_proxies_of_weights"),
    "nwot": Proxy("_proxies_of_samples", samples=True),
    "params": Proxy(""),
    "plain": Proxy("_proxies_of_weights", loss=True),
    "snip": Proxy("_proxies_of_weights", loss=True),
    "synflow": Proxy("_proxies_of_weights", real=True),
    "zen": Proxy("_proxies_of_samples", samples=True, real=True),
}
"""By name. Higher is meant to be better; `flops` and `params` are in millions, of the others only ranks matter."""


class ZeroCost(Predictor):
    """Scores networks at their initial values on one batch; nothing is trained, so metrics are known without a fit.

    `proxy`: a name of PROXIES, several joined by commas, or "all" for those that apply to the task; a metric is called
    as its proxy. `batch`: rows of the batch, taken from the start of the training split, at least four of a class and
    as many of each; a task without data (a table whose networks can be built) gets random inputs and labels. On a
    graph the batch is the graph. The seed draws initial values and random batches.

    Scores beyond float64 are held at its largest numbers; one that is not a number counts as the lowest.
    """

    minimum = 0
    test_parameters = {"batch": 8}

    def __init__(self, *base: Any, proxy: str = "synflow", batch: int = 64, **rest: Any) -> None:
        super().__init__(*base, **rest)
        if batch < ROWS_PER_CLASS:
            raise UsageError(f"batch={batch} is too small", f"at least {ROWS_PER_CLASS} rows")
        self.rows = batch
        signature = self._space.signature
        wanted = [name.strip() for name in proxy.split(",")]
        if wanted == ["all"]:
            wanted = [name for name, one in PROXIES.items() if one.reason_against(signature) is None]
        for name in wanted:
            if name not in PROXIES:
                raise UnknownNameError.of("zero-cost proxy", name, [*PROXIES, "all"])
            if (reason := PROXIES[name].reason_against(signature)) is not None:
                raise UsageError(f"proxy {name!r} cannot be used here", reason)
        self.proxies = wanted

    @classmethod
    def supports(cls, context: Context) -> str | None:
        """A proxy may suppose more, see PROXIES: the constructor then says what."""
        space = context.model_space
        if space is None:
            return "it builds the networks: the study's space has none"
        if isinstance(space, LookupSpace) and not space.builds:
            return f"it builds the networks: space {space.name!r} is a table of values"
        return None

    def untrained(self) -> Mapping[str, Model]:
        return {name: {"proxy": name} for name in self.proxies}

    def inputs(self, configs: Sequence[Configuration]) -> NDArray[Any]:
        return self.rows_of(configs)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        """Raises UsageError."""
        raise UsageError("predictor 'zero_cost' learns nothing", f"predict {', '.join(self.proxies)} without a fit")

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, None]:
        scores = np.array([self._score(model["proxy"], config) for config in inputs], np.float64)
        return np.nan_to_num(scores, nan=np.finfo(np.float64).min), None

    @property
    def _space(self) -> ModelSpace:
        assert self.context.model_space is not None  # `supports`
        return self.context.model_space

    @cached_property
    def batch(self) -> Batch:
        """The one batch of this predictor."""
        import torch

        with torch.inference_mode(False):
            return batch_of(self.context.task or self._space.task(), self.rows, self.seed)

    def _score(self, proxy: str, config: Configuration) -> float:
        """A network's score; the caller's generators, grad mode and the batch are left as they were."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        from archfront.predictors._proxies import Probe
        from archfront.spaces._costs import analytic_costs

        space = self._space
        own = {name: config[name] for name in space.search_space.names}
        if proxy in COSTS:
            return analytic_costs(space, own)[COSTS[proxy]]
        batch = self.batch
        score: Callable[[Probe], float] = getattr(
            importlib.import_module(f"archfront.predictors.{PROXIES[proxy].module}"), proxy
        )
        twice_differentiable = sdpa_kernel(SDPBackend.MATH)  # what attention does by itself on processors is not
        with twice_differentiable, torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(self.seed)
            net = space.build(own).float()
            return float(score(Probe(net, space.prepare(own, batch.inputs), batch, self.seed)))


def batch_of(task: Task, rows: int, seed: int) -> Batch:
    """One batch of a task: the first rows of its classes, the first rows, the whole graph, or random numbers.

    A function of the task's data, `rows` and, without data, `seed`. Raises DataError for data that is not there.
    """
    import torch

    from archfront.predictors._proxies import Batch

    if isinstance(task, LookupTask) or not task.metrics:  # a table, or a signature without a task
        inputs = task.signature.random_input(rows, seed)
        labels = torch.arange(len(inputs[0])) % min(task.signature.outputs, max(1, rows // ROWS_PER_CLASS))
        known = _of_classes(task.signature)
        return Batch(inputs, labels, None, torch.nn.functional.cross_entropy if known else _no_loss)
    split = task.split("train")
    if split.rows is not None:
        return Batch(split.inputs, split.target, split.rows, task.loss)
    chosen = torch.from_numpy(_first_rows(split, rows, _of_classes(task.signature)))
    return Batch(tuple(x[chosen] for x in split.inputs), split.target[chosen], None, task.loss)


def _of_classes(signature: Signature) -> bool:
    """Whether a row has one class; a sentence has one for each of its words."""
    return "classification" in signature.kind and signature.kind != "token_classification"


def _no_loss(output: Tensor, target: Tensor) -> Tensor:
    raise UsageError("the task has no data, and is no classification: there is no loss to guess", _WITHOUT_LOSS)


_WITHOUT_LOSS = "choose " + ", ".join(name for name, one in PROXIES.items() if not (one.loss or one.classes))


def _first_rows(split: Split, rows: int, classes: bool) -> NDArray[np.int64]:
    """Ascending; with classes as many of each as fit, at least four."""
    if not classes:
        return np.arange(min(rows, len(split)))
    labels = split.target.numpy()
    kinds = np.unique(labels)
    share = max(ROWS_PER_CLASS, rows // len(kinds))
    return np.sort(np.concatenate([np.flatnonzero(labels == kind)[:share] for kind in kinds[: rows // share]]))
