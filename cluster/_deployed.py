"""A network as it runs where it is deployed: in onnxruntime, as it is or quantised to eight bits."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archfront.spaces._errors import ExportError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._search_space import Configuration
from archfront.spaces._task import Split
from archfront.trainers._trainer import outputs_of

__all__ = ["OnnxNetwork", "calibration_rows", "onnx_bytes", "quantised", "quiet", "scores"]

CALIBRATION_ROWS = 128
"""Rows of the training split from which the ranges of activations are taken."""
CALIBRATION_BATCH = 32
SCORED_BATCH = 256


class OnnxNetwork(nn.Module):
    """An ONNX file as a module: tensors in, tensors out. A copy is a session of its own, elsewhere in memory."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        super().__init__()
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.model, self.threads = model, threads
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.names = [given.name for given in self.session.get_inputs()]

    def forward(self, *inputs: Tensor) -> Tensor:
        given = {name: tensor.numpy() for name, tensor in zip(self.names, inputs, strict=True)}
        return torch.from_numpy(self.session.run(None, given)[0])

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNetwork:
        return OnnxNetwork(self.model, self.threads)


def onnx_bytes(net: nn.Module, example: tuple[Tensor, ...], *, batched: bool) -> bytes:
    """The network as an ONNX file with a free batch, made in a second: what `export` writes takes ten and runs as fast.

    Raises ExportError for what ONNX cannot express.
    """
    _onnxruntime()
    names = [f"input_{i}" for i in range(len(example))]
    axes = {name: {0: "batch"} for name in names} if batched else {}
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                net.eval(), example, str(path), dynamo=False, input_names=names, dynamic_axes=axes, opset_version=17
            )
        except Exception as error:
            raise ExportError(f"ONNX: {type(error).__name__}: {str(error).splitlines()[0]}") from error
        return path.read_bytes()


def quantised(model: bytes, calibration: Sequence[tuple[Tensor, ...]]) -> bytes:
    """Static post-training quantisation: weights to int8 per channel, activations to uint8 with the ranges that they
    have on `calibration` (inputs, batch by batch). Raises ExportError for an operator that has no such form.

    Weights use seven of their eight bits: a processor without VNNI adds two products in sixteen bits, which eight
    overflow (half of the largest logit, on a network where seven cost a hundredth on every processor)."""
    ort = _onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = [given.name for given in ort.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()]

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.left, None)
            return None if batch is None else {n: t.numpy() for n, t in zip(names, batch, strict=True)}

    with tempfile.TemporaryDirectory() as folder, quiet():
        plain, clean, small = (Path(folder) / f"{name}.onnx" for name in ("plain", "clean", "small"))
        plain.write_bytes(model)
        try:
            quant_pre_process(str(plain), str(clean))
            quantize_static(
                str(clean),
                str(small),
                Batches(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
                reduce_range=True,
            )
        except Exception as error:
            raise ExportError(f"int8: {type(error).__name__}: {str(error).splitlines()[0]}") from error
        return small.read_bytes()


def calibration_rows(space: ModelSpace, config: Configuration) -> list[tuple[Tensor, ...]]:
    """The first rows of the training split as the network sees them, in batches; a graph as a whole."""
    split = space.task().split("train")
    if split.rows is not None:
        return [space.prepare(config, split.inputs)]
    few = Split(tuple(t[:CALIBRATION_ROWS] for t in split.inputs), split.target[:CALIBRATION_ROWS])
    inputs = space.prepared(config, few).inputs
    size = len(few.target)
    return [tuple(t[i : i + CALIBRATION_BATCH] for t in inputs) for i in range(0, size, CALIBRATION_BATCH)]


def scores(net: nn.Module, space: ModelSpace, config: Configuration, split: Split | None = None) -> dict[str, float]:
    """The task's metrics of a network quantised to eight bits, on a split (validation). Raises ExportError."""
    example = space.prepared_example(config)
    model = quantised(onnx_bytes(net, example, batched=space.signature.batched), calibration_rows(space, config))
    data = space.prepared(config, space.task().split("val") if split is None else split)
    return space.task().score(*data.chosen(outputs_of(OnnxNetwork(model), data, batch=SCORED_BATCH)))


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401 - the exporter needs it
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ExportError(
            f"runtime 'onnxruntime' needs {error.name}, which is not installed", "pip install 'archfront[export]'"
        ) from error
    return onnxruntime


@contextmanager
def quiet() -> Iterator[None]:
    """The exporters warn about their own internals and about torchvision, the quantiser about what it was not asked."""
    names = ("torch.onnx._internal.exporter._registration", "root")
    loggers = [logging.getLogger(None if name == "root" else name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
