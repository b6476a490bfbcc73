"""Extracted networks travel as torch.export programs and ONNX, to graphs of another size."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.export import Dim

from archfront import spaces
from archfront.spaces import ModelSpace, Supernet

NETWORKS: list[dict[str, Any]] = [
    {"K": 3},
    {"K": 1, "gate": "ppr", "mlp_layers": 1},
    {"K": 2, "gate": "softmax", "gate_input": "hop_and_embedding"},
    {"K": 0, "gate": "mean"},
    {"K": 2, "entangled": True},
    {"K": 0, "entangled": True},
]


@pytest.fixture(scope="module")
def bank() -> Supernet:
    return Supernet(spaces.load("dagnn", task="karate"))


def sizes(space: ModelSpace, config: dict[str, Any]) -> list[tuple[Tensor, ...]]:
    """The club, its first 13 members, and a ring of 50 strangers."""
    x, edge_index = space.task().example_input
    inside = (edge_index < 13).all(dim=0)
    ring = torch.stack([torch.arange(50), (torch.arange(50) + 1) % 50])
    other = (torch.rand(50, x.shape[1]), torch.cat([ring, ring.flip(0)], dim=1))
    return [space.prepare(config, graph) for graph in ((x, edge_index), (x[:13], edge_index[:, inside]), other)]


@pytest.mark.parametrize("values", NETWORKS, ids=str)
def test_exports_agree_on_graphs_of_three_sizes(bank: Supernet, values: dict[str, Any], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'archfront[export]'")
    pytest.importorskip("onnxscript", reason="pip install 'archfront[export]'")
    space = bank.space
    config = space.search_space.canonicalise({**space.search_space.default, **values})
    net = bank.extract(config).eval()
    nodes, edges = Dim("nodes", min=2), Dim("edges", min=2)
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn about their own internals
        shapes = ({0: nodes}, {1: edges}, {0: edges})
        program = torch.export.export(net, space.prepared_example(config), dynamic_shapes=shapes)
        onnx = torch.onnx.export(program, dynamo=True, verbose=False)
    assert onnx is not None
    onnx.save(str(tmp_path / "net.onnx"), external_data=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    for inputs in sizes(space, config):
        with torch.no_grad():
            wanted = net(*inputs)
            assert torch.allclose(program.module()(*inputs), wanted, atol=1e-6)
        got = session.run(None, dict(zip(names, (t.numpy() for t in inputs), strict=True)))[0]
        assert np.abs(got - wanted.numpy()).max() < 1e-5
