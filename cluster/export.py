"""Take a network home: a file in the user's format, loaded back and compared before success is reported."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from archfront import spaces
from archfront.cluster._bank import bank_of
from archfront.cluster._deployed import OnnxNetwork, calibration_rows, quantised, quiet
from archfront.cluster._plan import bound_space
from archfront.cluster._trial_files import TrialFiles
from archfront.cluster.store import Store, StudyRecord
from archfront.search._types import Configuration
from archfront.spaces._errors import DataError, ExportError, UnknownNameError
from archfront.spaces._model_space import ModelSpace
from archfront.spaces._task import Signature, TensorSpec
from archfront.spaces._untie import load_weights
from archfront.trainers._slice import calibrated_subnet, load_bank
from archfront.trainers._trainer import outputs_of

__all__ = ["FORMATS", "SUFFIXES", "Exported", "export", "load", "load_network"]

FORMATS = ("torch", "torch-export", "onnx", "onnx-int8")
SUFFIXES = {"torch": ".pt", "torch-export": ".pt2", "onnx": ".onnx", "onnx-int8": ".int8.onnx"}
TORCH_FORMAT = "archfront-network-1"
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Exported:
    """A file that agrees with its module: `difference` is the largest seen over the batches compared, for onnx-int8 by
    how much its first metric on the validation split is worse; `scores` then are the task's metrics of the file."""

    path: Path
    format: str
    key: str
    difference: float
    scores: Mapping[str, float] = field(default_factory=dict)


def export(
    store: Store,
    key: str,
    path: Path,
    *,
    format: str = "torch",
    study: str | None = None,
    device: str | None = None,
    space: ModelSpace | None = None,
) -> Exported:
    """Write the network of a key (a unique prefix will do) and compare what is loaded back.

    Outputs must agree within 1e-5 * max(1, max|y|) on batches of 1, 2 and 5 rows, or on two graphs of different size.
    A quantised file is scored on the validation split: it must be better than doing nothing, where the module is.
    The file says what it is: space, task, study, key, configuration, metrics, shapes of its inputs, and the device
    that it is meant for. Raises UnknownNameError, UsageError, and ExportError; a file that disagrees is removed.
    """
    if format not in FORMATS:
        raise UnknownNameError.of("format", format, FORMATS)
    match = store.find_key(key, study)[0]
    record = store.study(match.study)
    space = space or bound_space(record)
    plain = "onnx" if format == "onnx-int8" else format
    if plain in space.exports:
        raise ExportError(f"{space.name!r} has no {format}: {space.exports[plain]}", "use --format torch")
    config = _config(store, record, match.key, space)
    net = load_network(store, match.key, study=match.study, space=space)
    meta = {**_meta(record, space, match.key, config), **_known(store, record, match.key, device)}
    scored: dict[str, float] = {}
    try:
        _WRITERS[format](net, space, config, path, meta)
        if format == "onnx-int8":
            difference, scored = _score(net, space, config, path)
        else:
            difference = _compare(net, space, config, path, format)
    except Exception as error:
        path.unlink(missing_ok=True)
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{format} export of {match.key[:12]} failed: {type(error).__name__}: {error}") from error
    return Exported(path, format, match.key, difference, scored)


def load_network(store: Store, key: str, *, study: str | None = None, space: ModelSpace | None = None) -> nn.Module:
    """The network of a key with its stored weights, in eval mode; a slice study's is cut from its bank.

    Raises ExportError that names the command to train it when no weights are stored.
    """
    match = store.find_key(key, study)[0]
    record = store.study(match.study)
    space = space or bound_space(record)
    config = _config(store, record, match.key, space)
    if record.options["supernet"] is not None:
        found = bank_of(record, space, store, TrialFiles(f"{store.files_url}/trials"))
        assert found is not None
        return calibrated_subnet(load_bank(space, found[1]), config)
    kept = store.artefact(match.key, "weights")
    if kept is None:
        raise ExportError(
            f"no weights of {match.key[:12]} are stored",
            f"train it: archfront train {match.key[:12]} (or search --keep all)",
        )
    net = space.build(config)
    load_weights(net, torch.load(io.BytesIO(store.read_artefact(kept)), weights_only=True))
    return net.eval()


def load(path: str | Path) -> nn.Module:
    """An exported `torch` or `torch-export` file as a module in eval mode; `archfront.load`. Raises DataError."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"no file {str(path)!r}")
    try:
        saved = torch.load(path, weights_only=True)
    except Exception:
        return _program_file(path)
    if not isinstance(saved, dict) or saved.get("format") != TORCH_FORMAT:
        raise DataError(f"{str(path)!r} is not an archfront network")
    return _rebuilt(saved)


def _program_file(path: Path) -> nn.Module:
    """A torch-export file as a module."""
    try:
        with quiet():
            module: nn.Module = torch.export.load(io.BytesIO(path.read_bytes())).module()
    except Exception as error:
        raise DataError(f"{str(path)!r} is not a file that archfront exported", str(error).splitlines()[0]) from error
    return module


def _rebuilt(saved: Mapping[str, Any]) -> nn.Module:
    """The network of a torch file: the space builds it, for the signature it was trained on."""
    meta = json.loads(saved["meta"])
    given = meta["signature"]
    inputs = tuple(TensorSpec(tuple(t["shape"]), t["dtype"], t["high"]) for t in given["inputs"])
    signature = Signature(given["kind"], inputs, given["outputs"], given["batched"])
    name, _, variant = meta["space"].partition("/")
    space = spaces.registry.load(name).of_signature(signature, variant or None)
    net = space.build(meta["config"])
    load_weights(net, saved["weights"])
    return net.eval()


def _config(store: Store, record: StudyRecord, key: str, space: ModelSpace) -> Configuration:
    """The model space's part of the configuration with this key."""
    config = store.proposal_of(record.name, key).proposal.config
    return {name: value for name, value in config.items() if name in space.search_space}


def _meta(record: StudyRecord, space: ModelSpace, key: str, config: Configuration) -> dict[str, Any]:
    return {
        "space": space.full_name,
        "task": record.task,
        "study": record.name,
        "key": key,
        "config": config,
        "signature": asdict(space.signature),
        "input_shapes": [list(t.shape) for t in space.prepared_example(config)],
        "prepared": type(space).prepare is not ModelSpace.prepare,
    }


def _known(store: Store, record: StudyRecord, key: str, device: str | None) -> dict[str, Any]:
    """What the study was told of the key, and the device that the file is meant for."""
    told = store.evaluation_of(record.name, key)
    values = {} if told is None else {name: value.value for name, value in told.values.items()}
    if device is None:
        return {"metrics": values, "device": None}
    known = {d.name: d for d in store.devices()}
    if device not in known:
        raise UnknownNameError.of("device", device, known)
    return {"metrics": values, "device": dict(known[device].definition)}


# -- writers


def _write_torch(net: nn.Module, space: ModelSpace, config: Configuration, path: Path, meta: dict[str, Any]) -> None:
    torch.save({"format": TORCH_FORMAT, "meta": json.dumps(meta), "weights": net.state_dict()}, path)


def _write_torch_export(
    net: nn.Module, space: ModelSpace, config: Configuration, path: Path, meta: dict[str, Any]
) -> None:
    program = _program(net, space, config)
    buffer = io.BytesIO()  # torch complains of a file that does not end in .pt2
    with quiet():
        torch.export.save(program, buffer, extra_files={"archfront.json": json.dumps(meta)})
    path.write_bytes(buffer.getvalue())


def _write_onnx(net: nn.Module, space: ModelSpace, config: Configuration, path: Path, meta: dict[str, Any]) -> None:
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ModuleNotFoundError as error:
        raise ExportError(
            f"ONNX needs {error.name}, which is not installed", "pip install 'archfront[export]'"
        ) from error
    with quiet():
        program = torch.onnx.export(_program(net, space, config), dynamo=True, verbose=False)
    assert program is not None
    for name, value in meta.items():
        program.model.metadata_props[f"archfront.{name}"] = json.dumps(value)
    program.save(str(path), external_data=False)


def _write_onnx_int8(
    net: nn.Module, space: ModelSpace, config: Configuration, path: Path, meta: dict[str, Any]
) -> None:
    _write_onnx(net, space, config, path, meta)
    import onnx

    model = onnx.load_from_string(quantised(path.read_bytes(), calibration_rows(space, config)))
    onnx.helper.set_model_props(model, {f"archfront.{name}": json.dumps(value) for name, value in meta.items()})
    onnx.save(model, str(path))


def _program(net: nn.Module, space: ModelSpace, config: Configuration) -> torch.export.ExportedProgram:
    """Exported with a dynamic batch (or nodes and edges), from an example of two rows."""
    example = space.prepared_example(config, batch=2)
    with quiet():
        return torch.export.export(net.eval(), example, dynamic_shapes=_dynamic(space, example))


def _dynamic(space: ModelSpace, example: tuple[Tensor, ...]) -> tuple[dict[int, Any], ...]:
    """Axis 0 is the batch; of a graph (x, edge_index[, edge_weight]) nodes and edges."""
    if space.signature.batched:
        batch = torch.export.Dim("batch", min=1)
        return tuple({0: batch} for _ in example)
    nodes, edges = torch.export.Dim("nodes", min=2), torch.export.Dim("edges", min=2)
    shapes: list[dict[int, Any]] = [{0: nodes}, {1: edges}]
    shapes += [{0: edges} for _ in example[2:]]
    return tuple(shapes)


_WRITERS = {
    "torch": _write_torch,
    "torch-export": _write_torch_export,
    "onnx": _write_onnx,
    "onnx-int8": _write_onnx_int8,
}


# -- comparing


def _compare(net: nn.Module, space: ModelSpace, config: Configuration, path: Path, format: str) -> float:
    """Largest difference between the file's outputs and the module's. Raises ExportError above the tolerance."""
    run = _onnx_runner(path) if format == "onnx" else _torch_runner(_loaded_back(path, net, format))
    worst = 0.0
    for inputs in _examples(space, config):
        with torch.no_grad():
            wanted = net(*inputs).numpy()
        difference = float(np.abs(run(inputs) - wanted).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):
            raise ExportError(f"the {format} file differs by {difference:g} from the module on shape {wanted.shape}")
        worst = max(worst, difference)
    return worst


def _score(net: nn.Module, space: ModelSpace, config: Configuration, path: Path) -> tuple[float, dict[str, float]]:
    """By how much the first metric of a file is worse than the module's on the validation split, and all of its
    metrics. Raises ExportError for a file that does no better than nothing although the module does."""
    data, task = space.prepared(config, space.task().split("val")), space.task()
    own = task.score(*data.chosen(outputs_of(net, data)))
    file = task.score(*data.chosen(outputs_of(OnnxNetwork(path.read_bytes()), data)))
    metric = task.metrics[0]
    sign = -1.0 if metric.direction == "max" else 1.0
    worst = task.reference(metric.name)
    if worst is not None and sign * own[metric.name] < sign * worst <= sign * file[metric.name]:
        raise ExportError(
            f"quantised to int8 its {metric.name} is {file[metric.name]:.4g} instead of {own[metric.name]:.4g}: no "
            "better than doing nothing",
            "use --format onnx",
        )
    return sign * (file[metric.name] - own[metric.name]), file


def _loaded_back(path: Path, net: nn.Module, format: str) -> nn.Module:
    """The file as a module: a torch file's weights go into a fresh copy of the network."""
    if format == "torch-export":
        return load(path)
    saved = torch.load(path, weights_only=True)
    fresh = copy.deepcopy(net)
    for tensor in fresh.state_dict().values():
        tensor.zero_()
    fresh.load_state_dict(saved["weights"])
    return fresh.eval()


def _torch_runner(module: nn.Module) -> Any:
    def run(inputs: tuple[Tensor, ...]) -> Any:
        with torch.no_grad():
            return module(*inputs).numpy()

    return run


def _onnx_runner(path: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def run(inputs: tuple[Tensor, ...]) -> Any:
        return session.run(None, dict(zip(names, (t.numpy() for t in inputs), strict=True)))[0]

    return run


def _examples(space: ModelSpace, config: Configuration) -> Iterator[tuple[Tensor, ...]]:
    if space.signature.batched:
        for batch in (1, 2, 5):
            yield space.prepared_example(config, batch)
        return
    whole = space.task().example_input
    yield space.prepare(config, whole)
    yield space.prepare(config, _half(whole))


def _half(graph: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The first half of a graph's nodes with the edges between them."""
    x, edge_index, *weights = graph
    nodes = max(2, len(x) // 2)
    inside = (edge_index < nodes).all(dim=0)
    return (x[:nodes], edge_index[:, inside], *(w[inside] for w in weights))
