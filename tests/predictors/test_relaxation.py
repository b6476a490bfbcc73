"""Configurations as matrices: exact round trips, what is refused, and the linear map to features."""

from __future__ import annotations

import numpy as np
import pytest

from archfront.predictors._context import Context
from archfront.predictors._relaxation import BINS, Relaxation
from archfront.predictors.testing import ADDITIVE, CONDITIONAL
from archfront.spaces._choices import Categorical, Ordinal
from archfront.spaces._condition import Equals, IndexBelow
from archfront.spaces._errors import UsageError
from archfront.spaces._numbers import Integer, Real
from archfront.spaces._parameter import Repeated
from archfront.spaces._search_space import SearchSpace
from archfront.spaces._wiring import descendants
from archfront.spaces.tables.nasbench201 import NasBench201

MIXED = SearchSpace(
    Integer("depth", 1, 3),
    Categorical("kind", ("conv", "attention")),
    Ordinal("heads", (1, 2, 4), when=(Equals("kind", "attention"),)),
    Repeated(Categorical("op", ("a", "b")), 3, when=IndexBelow("depth")),
    Integer("width", 8, 512, log=True),
    Integer("fixed", 3, 3),
    Real("lr", 1e-4, 1e-1, log=True, bins=10),
    Real("decay", 1e-5, 1e-1, log=True, zero=True, bins=6),
)


def test_what_can_never_be_active_has_no_row() -> None:
    narrow = MIXED.narrow({"depth": (1, 2)}).fix({"kind": "conv"})
    relaxation = Relaxation.of(narrow)
    assert relaxation.wiring.rows == ["depth", "op[0]", "op[1]", "width", "lr", "decay"]
    configs = relaxation.repaired(np.random.default_rng(0).normal(size=(20, *relaxation.shape)))
    assert relaxation.decode(relaxation.encode(configs)) == configs
    assert all(narrow.validate(config) == [] for config in configs)


@pytest.mark.parametrize("space", [MIXED, CONDITIONAL], ids=["mixed", "conditional"])
def test_decoding_what_was_encoded_is_the_identity_on_bin_centres(space: SearchSpace) -> None:
    relaxation = Relaxation.of(space)
    configs = space.sample(np.random.default_rng(0), 200)
    once = relaxation.decode(relaxation.encode(configs))
    assert all(config is not None for config in once)
    kept = [config for config in once if config is not None]
    assert relaxation.decode(relaxation.encode(kept)) == kept
    for config, given in zip(kept, configs, strict=True):
        exact = {n: v for n, v in config.items() if n not in ("width", "lr", "decay")}
        assert exact == {n: given[n] for n in exact}


def test_every_cell_of_nasbench201_survives_scaling_and_rounding() -> None:
    space = NasBench201.search_space
    relaxation = Relaxation(space, NasBench201.wiring(None))  # type: ignore[arg-type]
    cells = space.enumerate()
    matrices = relaxation.encode(cells)
    assert matrices.shape == (15_625, 8, 7)
    assert (matrices.sum(axis=2) == 1).all()
    assert (matrices[:, 0, 0] == 1).all()
    assert (matrices[:, 7, 1] == 1).all()
    scaled = 2 * matrices - 1
    assert relaxation.decode((scaled + 1) / 2) == cells


def test_flipped_bits_are_refused_and_nothing_else() -> None:
    """A row with two ones or with none, a constant that moved."""
    relaxation = Relaxation(NasBench201.search_space, NasBench201.wiring(None))  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    (cell,) = NasBench201.search_space.sample(rng, 1)
    for _ in range(100):
        matrix = relaxation.encode([cell])
        for row, column in zip(rng.integers(8, size=2), rng.integers(7, size=2), strict=True):
            matrix[0, row, column] = 1 - matrix[0, row, column]
        ones = matrix[0].sum(axis=1)
        legal = (ones == 1).all() and matrix[0, 0, 0] == 1 and matrix[0, 7, 1] == 1
        legal = bool(legal and (matrix[0, 1:7, :2] == 0).all())
        assert (relaxation.decode(matrix)[0] is not None) == legal


def test_the_line_graph_is_the_true_one_of_the_decoders_order() -> None:
    """Specification: 0->{1,2,4}; 1->{3,5}; 2->{6}; 3->{6}; 4->{7}; 5->{7}; 6->{7}, edges in the order of EDGES."""
    flow = NasBench201.wiring(None).flow  # type: ignore[arg-type]
    after = [set(np.flatnonzero(row).tolist()) for row in flow]
    assert after == [{1, 2, 4}, {3, 5}, {6}, {6}, {7}, {7}, {7}, set()]


def test_the_closure_of_the_official_matrix() -> None:
    """Parity check 4."""
    official = np.zeros((8, 8), bool)
    for row, columns in {0: [1, 2, 3], 1: [4, 5], 2: [6], 3: [7], 4: [6], 5: [7], 6: [7]}.items():
        official[row, columns] = True
    rows = ["".join(str(int(v)) for v in row) for row in descendants(official)]
    assert rows == [
        "01111111", "00001111", "00000011", "00000001", "00000011", "00000001", "00000001", "00000000",
    ]  # fmt: skip


def test_inactive_rows_are_empty_and_must_be() -> None:
    relaxation = Relaxation.of(CONDITIONAL)
    config = CONDITIONAL.canonicalise({**CONDITIONAL.default, "depth": 1, "kind": "conv"})
    matrix = relaxation.encode([config])
    row = list(relaxation.wiring.rows).index("op[2]")
    assert not matrix[0, row].any()
    matrix[0, row, 0] = 1
    assert relaxation.decode(matrix) == [None]
    assert relaxation.repaired(matrix) == [config]


def test_repairing_takes_the_largest_entry_of_each_row() -> None:
    relaxation = Relaxation.of(CONDITIONAL)
    noise = np.random.default_rng(0).normal(size=(50, *relaxation.shape))
    for config in relaxation.repaired(noise):
        assert CONDITIONAL.validate(config) == []
    configs = CONDITIONAL.sample(np.random.default_rng(1), 50)
    assert relaxation.repaired(relaxation.encode(configs)) == configs


def test_numbers_are_drawn_from_their_bin() -> None:
    relaxation = Relaxation.of(MIXED)
    rng = np.random.default_rng(0)
    configs = MIXED.sample(rng, 100)
    matrices = relaxation.encode(configs)
    drawn = [config for config in relaxation.decode(matrices, rng) if config is not None]
    assert len(drawn) == 100
    assert all(MIXED.validate(config) == [] for config in drawn)
    reals = [p for p in ("lr", "decay") for _ in (0,)]
    again = relaxation.encode(drawn)
    for name in reals:
        row = list(relaxation.wiring.rows).index(name)
        assert np.array_equal(again[:, row], matrices[:, row])
    assert len({config["lr"] for config in drawn}) > 50


def test_features_are_a_linear_map_of_matrices() -> None:
    for space in (CONDITIONAL, ADDITIVE.binned(BINS), MIXED):
        relaxation = Relaxation.of(space)
        configs = [c for c in relaxation.decode(relaxation.encode(space.sample(np.random.default_rng(0), 60))) if c]
        linear, offset = relaxation.features
        flat = relaxation.encode(configs).reshape(len(configs), -1)
        assert flat @ linear + offset == pytest.approx(space.to_features(configs))


def test_a_continuum_without_bins_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="rate is a continuum without bins"):
        Relaxation.of(ADDITIVE)


def test_a_model_spaces_wiring_counts_only_for_its_own_parameters() -> None:
    bare = Relaxation.of(NasBench201.search_space, Context())
    assert bare.shape == (6, 5)
    assert bare.attention.all()


def test_the_identity_follows_the_content() -> None:
    one, same = (Relaxation.of(SearchSpace(Categorical("a", ("x", "y")), Integer("n", 1, 4))) for _ in range(2))
    other = Relaxation.of(SearchSpace(Categorical("a", ("x", "z")), Integer("n", 1, 4)))
    assert one.id == same.id != other.id
