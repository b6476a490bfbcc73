"""The paper's measure of over-smoothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archfront import spaces
from archfront.spaces._errors import UsageError
from archfront.spaces.graph._smoothness import smoothness


def test_known_values() -> None:
    assert smoothness(torch.tensor([[1.0, 2.0], [2.0, 4.0], [0.5, 1.0]])) == pytest.approx(0, abs=1e-7)
    assert smoothness(torch.tensor([[1.0, 0.0], [-3.0, 0.0]])) == pytest.approx(1)
    assert smoothness(torch.eye(5)) == pytest.approx(0.5 * 2**0.5)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 12), st.integers(1, 5), st.integers(0, 99))
def test_it_lies_in_0_1_and_equals_the_double_sum(n: int, width: int, seed: int) -> None:
    x = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    unit = [row / row.norm() for row in x.double()]
    pairs = [0.5 * float((unit[i] - unit[j]).norm()) for i in range(n) for j in range(n) if i != j]
    value = smoothness(x)
    assert value == pytest.approx(sum(pairs) / len(pairs), abs=1e-7)
    assert -1e-9 <= value <= 1 + 1e-9


def test_it_falls_as_a_gcn_grows_deeper_and_hardly_with_hops() -> None:
    """Untrained networks without bias, on digits: many graph convolutions make the nodes alike."""
    space = spaces.load("dagnn")
    values = {}
    for entangled, K in [(True, 1), (True, 8), (True, 20), (False, 20)]:
        config = space.search_space.canonicalise({**space.search_space.default, "entangled": entangled, "K": K})
        torch.manual_seed(0)
        net = space.build(config).eval()
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
            values[entangled, K] = smoothness(net(*space.prepared_example(config)))
    assert values[True, 1] > values[True, 8] > values[True, 20], values
    assert values[True, 20] < 0.5 * values[False, 20], values


def test_one_node_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\(1, 3\)"):
        smoothness(torch.ones(1, 3))
