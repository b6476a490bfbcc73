"""Files are content-addressed, found again, and swept; tables and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from tests.cluster.studies import own

from archfront.cluster.store import Snapshot, Store
from archfront.cluster.store._engine import address
from archfront.search._types import Value
from archfront.spaces._errors import StoreError, UnknownNameError, UsageError


def files(tmp_path: Path) -> set[bytes]:
    return {path.read_bytes() for path in (tmp_path / "files").rglob("*") if path.is_file()}


def test_files_are_kept_once_and_found(store: Store, lab: Any, tmp_path: Path) -> None:
    study = lab.study()
    source = tmp_path / "weights.pt"
    source.write_bytes(b"w" * 100)
    one = store.put_artefact("a", "weights", b"w" * 100, study=study, meta={"epochs": 3})
    two = store.put_artefact("a", "weights", source)
    assert one.sha256 == two.sha256
    assert len(files(tmp_path)) == 1
    assert Path(one.location).read_bytes() == store.read_artefact(one) == b"w" * 100
    assert store.artefact("a", "weights") == two
    assert store.artefact("a", "weights", study=study) == one
    assert store.artefacts(study) == [one]
    assert (one.size, one.study, one.meta) == (100, study, {"epochs": 3})
    assert store.artefact("a", "onnx") is None
    assert store.drop_artefacts(["a"], study=study) == 1
    assert store.drop_artefacts(["a"], kind="onnx") == 0
    assert store.drop_artefacts(["a"]) == 1
    assert store.artefact("a", "weights") is None


def test_a_lost_or_damaged_file_is_said(store: Store) -> None:
    kept = store.put_artefact("a", "bank", b"content")
    Path(kept.location).write_bytes(b"other")
    with pytest.raises(StoreError, match="damaged"):
        store.read_artefact(kept)
    Path(kept.location).unlink()
    with pytest.raises(StoreError, match="is gone"):
        store.read_artefact(kept)


def test_gc_keeps_fronts_banks_snapshots_and_the_young(store: Store, lab: Any, tmp_path: Path) -> None:
    study, keeper = lab.study("one"), lab.study("all", options={"keep": "all"})
    for name, key, error in ((study, "a", 0.5), (study, "b", 0.1), (keeper, "a", 0.5), (keeper, "b", 0.1)):
        record = lab.tell(name, key, {"error": error, "latency_ms@cpu": 1.0})
        store.put_artefact(key, "weights", f"{name}-{key}".encode(), study=name, proposal=record.proposal.id)
    (waiting,) = lab.propose(study, "c", snapshot=Snapshot(2, 3, {}, {"net": b"blob"}))
    store.put_artefact("c", "weights", b"waiting", study=study, proposal=waiting.proposal.id)
    store.put_artefact("", "bank", b"bank", study=study)
    store.put_artefact("x", "onnx", b"dropped")
    (tmp_path / "files" / "trials").mkdir()
    (tmp_path / "files" / "trials" / "checkpoint").write_bytes(b"somebody's")
    store.drop_artefacts(["x"])
    assert store.gc() == []
    assert b"dropped" in files(tmp_path)
    assert len(store.gc(older_than_s=0)) == 2
    assert files(tmp_path) == {b"one-b", b"all-a", b"all-b", b"waiting", b"bank", b"blob", b"somebody's"}
    assert store.artefact("a", "weights", study=study) is None
    store.remove_study(study)
    store.gc(older_than_s=0)
    assert files(tmp_path) == {b"all-a", b"all-b", b"somebody's"}


def test_two_sweeps_at_once_do_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one removes a file between our listing and our removing."""
    for content in (b"one", b"two"):
        store.put_artefact("a", "weights", content)
    store.drop_artefacts(["a"])
    remove = LocalFileSystem.rm_file
    monkeypatch.setattr(LocalFileSystem, "rm_file", lambda system, path: [remove(system, path) for _ in range(2)])
    assert store.gc(older_than_s=0) == [], "none of them is ours"
    monkeypatch.undo()
    assert store.gc(older_than_s=0) == [], "and none is left"


def test_a_sweep_that_cannot_remove_says_so_and_a_search_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(system: LocalFileSystem, path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    store.put_artefact("a", "weights", b"one")
    store.drop_artefacts(["a"])
    monkeypatch.setattr(LocalFileSystem, "rm_file", refused)
    with pytest.raises(StoreError, match="cannot be cleaned up: Permission denied"):
        store.gc(older_than_s=0)
    monkeypatch.setattr(Store, "gc", lambda store: store._files.remove_all_but([], older_than_s=0))
    assert own(store).run(trials=3)["status"] == "done"
    assert "study own: the files in" in caplog.text


def test_files_lie_beside_the_sqlite_file_or_where_one_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHFRONT_FILES", raising=False)
    with Store(str(tmp_path / "archfront.db")) as store:
        assert store.gc() == []
        kept = store.put_artefact("a", "weights", b"x")
        assert Path(kept.location).is_relative_to(tmp_path / "archfront.files")
    monkeypatch.setenv("ARCHFRONT_FILES", "memory://archfront-test")
    with Store(str(tmp_path / "archfront.db")) as store:
        kept = store.put_artefact("b", "weights", b"far away")
        assert kept.location.startswith("memory://")
        assert store.read_artefact(kept) == b"far away"


def test_a_server_keeps_its_files_in_the_working_folder(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url.startswith("sqlite"):
        pytest.skip("an SQLite store has a place for files")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCHFRONT_FILES", raising=False)
    with Store(url) as store:
        assert store.gc() == []
        kept = store.put_artefact("a", "weights", b"x")
        assert Path(kept.location).is_relative_to(tmp_path / f"archfront-{address(url).database}.files")


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with (
        Store(str(tmp_path / "archfront.db"), files=str(tmp_path / "files")) as store,
        pytest.raises(StoreError, match=r"files/.* cannot be written"),
    ):
        store.put_artefact("a", "weights", b"x")


def test_evaluations(store: Store, lab: Any) -> None:
    one, two = lab.study("one"), lab.study("two", space="other/large", identity="other-1")
    assert list(store.evaluations()["status"]) == []
    lab.tell(one, "a", {"error": 0.5, "latency_ms@cpu": 1.0})
    lab.tell(one, "b", {"error": Value(float("nan"), "trained")}, status="failed")
    lab.tell(two, "c", {"error": 0.1})
    frame = store.evaluations("toy")
    assert list(frame["key"]) == ["a", "b"]
    assert list(frame["status"]) == ["ok", "failed"]
    assert frame["config.x"][0] == "a"
    assert frame["latency_ms@cpu"][0] == 1.0
    assert frame["error"].isna().tolist() == [False, True]
    assert list(store.evaluations(study=two)["study"]) == ["two"]
    assert len(store.evaluations()) == 3
    assert len(store.evaluations(space="other-1")) == 1


def test_keys_are_found_by_their_first_digits(store: Store, lab: Any) -> None:
    one, two = lab.study("one"), lab.study("two")
    lab.propose(one, "abc123", "abd999", "50%")
    lab.propose(two, "abc123")
    assert [(m.study, m.key) for m in store.find_key("abc")] == [("two", "abc123"), ("one", "abc123")]
    assert [(m.identity, m.space) for m in store.find_key("abc123", study=one)] == [(lab.identity, "toy/small")]
    assert store.find_key("50%")[0].key == "50%"
    with pytest.raises(UsageError, match="2 keys begin with 'ab': abc123, abd999"):
        store.find_key("ab")
    for unknown in ("f", "%", "ABC"):
        with pytest.raises(UnknownNameError, match="no key begins with"):
            store.find_key(unknown)
