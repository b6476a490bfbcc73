"""The restricted unpickler reads data and runs nothing."""

from __future__ import annotations

import collections
import io
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from archfront.spaces._errors import DataError
from archfront.spaces._unpickle import unpickle

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@given(plain, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_survives(value: Any, protocol: int) -> None:
    assert unpickle(io.BytesIO(pickle.dumps(value, protocol))) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_survive(protocol: int) -> None:
    graph = collections.defaultdict(list, {0: [1, 2], 1: [0]})
    value = {"x": np.arange(6, dtype=np.uint8).reshape(2, 3), "n": np.float32(2.5), "graph": graph, "s": {1, 2}}
    found = unpickle(io.BytesIO(pickle.dumps(value, protocol)))
    assert (found["x"] == value["x"]).all()
    assert found["x"].dtype == np.uint8
    assert found["n"] == 2.5
    assert found["graph"] == graph
    assert found["graph"][9] == []
    assert found["s"] == {1, 2}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sparse_matrices_survive(protocol: int) -> None:
    found = unpickle(io.BytesIO(pickle.dumps(csr_matrix(np.eye(3)), protocol)))
    assert (found.toarray() == np.eye(3)).all()


def test_a_sparse_matrix_that_points_outside_is_refused() -> None:
    matrix = csr_matrix(np.eye(3))
    matrix.indices[0] = 99
    with pytest.raises(DataError, match="not a readable pickle"):
        unpickle(io.BytesIO(pickle.dumps(matrix)))


def test_python_2_text_is_read_as_latin1() -> None:
    assert unpickle(io.BytesIO(b"S'caf\\xe9'\np0\n.")) == "café"


class Call:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("function", "args", "named"),
    [
        (os.system, ("touch harm",), "posix.system|nt.system"),
        (eval, ("1",), "builtins.eval|__builtin__.eval"),
        (getattr, ("", "join"), "getattr"),
        (subprocess.Popen, ("ls",), "Popen"),
        (Path, ("x",), "pathlib.*Path"),
        (np.load, ("x",), "numpy.*load"),
    ],
)
def test_other_globals_are_refused_by_name_and_not_run(
    function: Any, args: tuple[Any, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"data": Call(function, *args)}, 2))
    with pytest.raises(DataError, match=rf"bad.pkl.*({named})"):
        unpickle(tmp_path / "bad.pkl")
    assert not (tmp_path / "harm").exists()


def test_a_method_reached_through_an_allowed_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"numpy\.ndarray\.tofile"):
        unpickle(io.BytesIO(b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."))


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04K", b"\x80\xffabc", pickle.dumps([1] * 99)[:-40]])
def test_broken_files_are_data_errors(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(DataError, match="broken"):
        unpickle(tmp_path / "broken")


def test_persistent_ids_are_refused() -> None:
    with pytest.raises(DataError, match="outside object"):
        unpickle(io.BytesIO(b"Pelsewhere\n."))
