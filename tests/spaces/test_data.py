"""Finding data files and cutting splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archfront.spaces._data import cut, data_folder, find, split_indices
from archfront.spaces._errors import DataError

labels = st.dictionaries(st.integers(0, 9), st.integers(3, 40), min_size=1).map(
    lambda counts: [kind for kind, count in counts.items() for _ in range(count)]
)


@given(labels, st.integers(0, 5), st.randoms(use_true_random=False))
def test_splits_are_a_stratified_partition(rows: list[int], seed: int, random: object) -> None:
    random.shuffle(rows)  # type: ignore[attr-defined]
    splits = split_indices(rows, seed)
    assert list(splits) == ["train", "val", "test"]
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(rows)))
    for part in splits.values():
        assert list(part) == sorted(part)
        assert set(np.asarray(rows)[part]) == set(rows), "every class is in every split"
    for kind in set(rows):
        share = np.isin(splits["test"], np.flatnonzero(np.asarray(rows) == kind)).sum()
        assert abs(share - 0.2 * rows.count(kind)) <= 1


def test_large_sets_are_cut_60_20_20_and_only_the_seed_matters() -> None:
    rows = np.arange(1000) % 10
    sizes = {name: len(part) for name, part in split_indices(rows).items()}
    assert sizes == {"train": 600, "val": 200, "test": 200}
    one, same, other = split_indices(rows, 3), split_indices(rows.copy(), 3), split_indices(rows, 4)
    assert all((one[name] == same[name]).all() for name in one)
    assert (one["test"] != other["test"]).any()


def test_labels_may_be_text() -> None:
    splits = split_indices(["cat", "dog"] * 10)
    assert len(splits["train"]) == 12


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_too_small_to_split_is_named(count: int) -> None:
    with pytest.raises(DataError, match=f"class 7 has {count} rows?, too few .* at least 3"):
        split_indices([1] * 10 + [7] * count)


def test_cut_takes_what_is_asked_and_leaves_one_of_each() -> None:
    rows, kinds = np.arange(9), np.array([0] * 6 + [1] * 3)
    kept, taken = cut(rows, kinds, 8, np.random.default_rng(0), into="test split")
    assert set(kinds[kept]) == {0, 1}
    assert len(kept) + len(taken) == 9


def test_data_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.delenv("ARCHFRONT_DATA")
    assert data_folder().name == "archfront"


def test_find_takes_the_first_that_exists_and_says_where_it_looked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ARCHFRONT_DATA", str(tmp_path))
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    assert find("a", "b", "c") == tmp_path / "b"
    with pytest.raises(DataError, match=r"'x/y\.gz' or 'z'.*ARCHFRONT_DATA") as caught:
        find("x/y.gz", "z")
    assert str(tmp_path) in str(caught.value)
