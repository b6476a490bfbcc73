"""One-shot by a hypernetwork: the weights of every sub-network of a model space, generated from its configuration
(SMASH, Brock et al., 2018, with the parametrisation of Gonzalez Ortiz et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archfront.predictors._context import Context
from archfront.predictors._prediction import Fitted, Model
from archfront.predictors._predictor import Predictor
from archfront.spaces._errors import TrainingError, UsageError
from archfront.spaces._lookup import LookupSpace, LookupTask
from archfront.spaces._parameter import Floats
from archfront.spaces._search_space import Configuration

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archfront.spaces._mip import HyperNetwork
    from archfront.spaces._model_space import ModelSpace
    from archfront.spaces._task import Batch, Task

__all__ = ["Hypernetwork", "Generator"]

HIDDEN = (16, 128)
CLIP = 1.0


class Hypernetwork(Predictor):
    """Scores a configuration by the task's metrics, on the validation split, of the network with generated weights;
    they are known without a fit, in their own units. Only ranks are meant: the network was not trained alone.

    theta(c) = theta0 + Delta(c), theta0 being the tensors of a supernet's bank: the sub-network takes the slices that
    it would take of the bank. Both are trained once, when the first guess is wanted, for `steps` batches of `batch`
    rows, each with a random configuration of the model space. `head` (low-rank, chunked, full) with `rank`: memory and
    time grow with the number of the bank's weights, times `rank` for low-rank, times 128 for full. To keep the bank
    small, hold what is not searched (`space.narrowed`).

    Nothing is fitted to labels, so a state holds nothing: a predictor of the same seed, context and parameters trains
    the same hypernetwork again.
    """

    minimum = 0
    test_parameters = {"steps": 3, "batch": 8, "rank": 2}

    def __init__(
        self,
        *base: Any,
        steps: int = 400,
        batch: int = 128,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        head: str = "low-rank",
        rank: int = 4,
        **rest: Any,
    ) -> None:
        super().__init__(*base, **rest)
        if steps < 0 or batch < 1 or not lr > 0 or weight_decay < 0 or rank < 1:
            raise UsageError(
                f"steps={steps}, batch={batch}, lr={lr}, weight_decay={weight_decay}, rank={rank}",
                "steps and weight_decay at least 0, batch and rank at least 1, lr above 0",
            )
        if head not in ("low-rank", "chunked", "full"):
            raise UsageError(f"head={head!r}", "choose low-rank, chunked or full")
        self.steps, self.batch, self.lr, self.weight_decay, self.head, self.rank = (
            steps, batch, lr, weight_decay, head, rank,
        )  # fmt: skip
        self._generator: Generator | None = None

    @classmethod
    def supports(cls, context: Context) -> str | None:
        space = context.model_space
        if space is None:
            return "it builds the networks: the study's space has none"
        if isinstance(space, LookupSpace):
            return f"it trains networks: space {space.name!r} is a table, without data to train on"
        if not space.elastic:
            return f"{space.name!r} has no elastic parameter: there is nothing to share"
        task = context.task or space.task()
        if isinstance(task, LookupTask) or not task.metrics:
            return f"it trains networks: task {task.name!r} has no data"
        return None

    def untrained(self) -> Mapping[str, Model]:
        return {metric.name: {"metric": metric.name} for metric in self._task.metrics}

    def inputs(self, configs: Sequence[Configuration]) -> NDArray[Any]:
        return self.rows_of(configs)

    def fit_metric(self, inputs: NDArray[Any], y: Floats, weights: Floats | None) -> Fitted:
        """Raises UsageError."""
        raise UsageError(
            "predictor 'hypernetwork' learns no labels", f"predict {', '.join(self.metrics)} without a fit"
        )

    def predict_metric(self, model: Model, inputs: NDArray[Any]) -> tuple[Floats, None]:
        """Raises TrainingError where the hypernetwork's training diverged."""
        name, limits = model["metric"], np.finfo(np.float64)
        scores = np.array([self.generator_of_weights.score(config)[name] for config in inputs], np.float64)
        worst = limits.max if self._task.metric(name).direction == "min" else limits.min
        return np.nan_to_num(scores, nan=worst), None

    @property
    def generator_of_weights(self) -> Generator:
        """The trained hypernetwork; the first call trains it and leaves torch's generator as it was."""
        import torch

        if self._generator is None:
            with torch.inference_mode(False), torch.enable_grad():
                made = Generator(self._space, self._task, self.seed, head=self.head, rank=self.rank)
                made.train(self.steps, self.batch, self.lr, self.weight_decay)
            self._generator = made
        return self._generator

    @property
    def _space(self) -> ModelSpace:
        assert self.context.model_space is not None  # `supports`
        return self.context.model_space

    @property
    def _task(self) -> Task:
        return self.context.task or self._space.task()


class Generator:
    """A hypernetwork over the bank of a model space: configuration -> network."""

    def __init__(self, space: ModelSpace, task: Task, seed: int, *, head: str, rank: int) -> None:
        import torch

        from archfront.spaces._mip import HyperNetwork, MipShape
        from archfront.spaces._supernet import Supernet

        self.space, self.task, self.seed = space, task, seed
        self.bank = Supernet(space, seed=seed)
        self._scores: dict[str, dict[str, float]] = {}
        theta0 = {name: self.bank.bank_tensor(name).detach() for name in self._trained_names()}
        shapes = {name: tuple(tensor.shape) for name, tensor in theta0.items()}
        features = self._features(space.search_space.default).shape[1:]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            shape = MipShape(hidden=HIDDEN, head=head, rank=rank, unit=True)
            self.hyper: HyperNetwork = HyperNetwork({"features": features}, shapes, shape, theta0=theta0)

    def _trained_names(self) -> list[str]:
        """The trainable tensors of the bank, of tied ones the first name."""
        names: dict[str, None] = {}
        for config in self.space.cover():
            trained = self.bank.extract(config).named_parameters()
            names.update(dict.fromkeys(name for name, tensor in trained if tensor.requires_grad))
        return list(names)

    def _features(self, config: Configuration) -> Tensor:
        """The configuration as a row (1, features) in 0..1, the input of the hypernetwork."""
        import torch

        return torch.from_numpy(self.space.search_space.to_features([config])).float()

    def weights(self, config: Configuration, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """theta of the tensors of a sub-network, sliced as the bank would be. Rows that it has not are not generated,
        unless the space slices by a rule of its own."""
        from archfront.spaces._model_space import ModelSpace
        from archfront.spaces._supernet import corner

        row = {"features": self._features(config)}
        if type(self.space).slice_rule is ModelSpace.slice_rule:
            return self.hyper(row, shapes)  # type: ignore[no-any-return]
        own = {name: self.bank.bank_tensor(name).detach() for name in self.space.bank_only()}
        whole = self.hyper(row, {name: self.hyper.outputs[name] for name in shapes})
        ruled = {name: self.space.slice_rule(name, whole[name], shape, config, own) for name, shape in shapes.items()}
        return {n: corner(whole[n], shapes[n]) if part is None else part for n, part in ruled.items()}

    def _skeleton(self, config: Configuration) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
        """The sub-network, and the shapes of its generated tensors."""
        net = self.bank.extract(config)
        return net, {name: tuple(t.shape) for name, t in net.named_parameters() if name in self.hyper.outputs}

    def train(self, steps: int, batch: int, lr: float, weight_decay: float) -> None:
        """AdamW on the head, Adam on the rest, the rate falling to 0 by a cosine. Raises TrainingError."""
        import torch
        from torch.func import functional_call

        from archfront.spaces._task import Split

        optimiser = torch.optim.AdamW(self.hyper.parameter_groups(weight_decay), lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
        rng, rows = np.random.default_rng(self.seed), self.task.split("train").rows
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for _, (inputs, target) in zip(range(steps), self._batches(batch), strict=False):
                (config,) = self.space.search_space.sample(rng, 1)
                net, shapes = self._skeleton(config)
                theta = self.weights(config, shapes)
                output = functional_call(net.train(), theta, self.space.prepare(config, inputs))
                loss = self.task.loss(*Split(inputs, target, rows).chosen(output))
                if not bool(torch.isfinite(loss)):
                    raise TrainingError(f"the hypernetwork's loss is {float(loss.detach())}", f"lower lr={lr:g}")
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.hyper.parameters(), CLIP)
                optimiser.step()
                schedule.step()

    def _batches(self, size: int) -> Iterator[Batch]:
        """Epoch after epoch."""
        import torch

        from archfront.trainers._batches import batches

        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield from batches(self.task, self.task.split("train"), size, generator)

    def network(self, config: Configuration) -> nn.Module:
        """The network with its generated weights, in eval mode, batch norm recalibrated on the training split."""
        import torch

        from archfront.trainers._recalibrate import recalibrate

        own = {name: config[name] for name in self.space.search_space.names}
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            net, shapes = self._skeleton(own)
            self.hyper.eval()
            net.load_state_dict(self.weights(own, shapes), strict=False)
            self.hyper.train()
            return recalibrate(net, self.space.prepared(own, self.task.split("train")))

    def score(self, config: Configuration) -> dict[str, float]:
        """The task's metrics of `network` on the validation split; computed once for a configuration."""
        from archfront.trainers._trainer import outputs_of

        own = {name: config[name] for name in self.space.search_space.names}
        key = self.space.search_space.key(own)
        if key not in self._scores:
            data = self.space.prepared(own, self.task.split("val"))
            output, target = data.chosen(outputs_of(self.network(own), data))
            self._scores[key] = self.task.score(output, target)
        return self._scores[key]
