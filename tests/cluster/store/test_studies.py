"""Studies and proposals: created once, sat, ended, removed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from archfront.cluster.store import Counts, DeviceRecord, Report, Snapshot, Store, StudyRecord
from archfront.search._types import Constraint, Objective, SearchBudget
from archfront.spaces._errors import ExistsError, StoreError, UnknownNameError, UsageError

ERROR = Objective("error", "min")
FULL = StudyRecord(
    "all",
    "toy/small",
    "toy-1",
    (ERROR, Objective("latency_ms", "min", "pi", "ms")),
    searched={"parameters": [{"name": "x"}]},
    definition={"parameters": []},
    task="digits",
    task_identity="digits-1",
    signature="s",
    protocol="p",
    trainer="backprop",
    strategy="nsga2",
    parameters={"population": 50},
    constraints=(Constraint("latency_ms", "<=", 5.0, "pi"),),
    devices={"pi": "pi-1"},
    budget=SearchBudget(trials=40),
    seed=3,
    train_seed=2**40,
    options={"keep": "front", "lookahead": 8},
    reference=(0.9, None),
)


def test_a_study_comes_back_as_it_was(store: Store) -> None:
    made = store.create_study(FULL)
    assert replace(made, created=0.0) == FULL
    assert made.created > 0
    assert store.study("all") == made
    assert store.studies() == [made]


def test_a_name_is_taken_once(store: Store) -> None:
    store.create_study(FULL)
    with pytest.raises(ExistsError, match=r"study 'all' exists.*archfront resume all.*archfront studies rm all"):
        store.create_study(FULL)


def test_an_unknown_study_has_a_suggestion(store: Store) -> None:
    store.create_study(replace(FULL, name="laptop"))
    with pytest.raises(UnknownNameError, match="unknown study 'labtop': did you mean 'laptop'"):
        store.study("labtop")
    for ask in (store.begin_sitting, store.proposals, store.told, store.latest_snapshot, store.remove_study):
        with pytest.raises(UnknownNameError):
            ask("labtop")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"objectives": ()}, "no objective"),
        ({"name": ""}, "without a name"),
        ({"objectives": (ERROR, ERROR), "reference": None}, "twice"),
        ({"devices": {}}, "devices are none"),
        ({"reference": (1.0,)}, "1 values for 2 objectives"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(FULL, **changes)


def test_a_sitting_fences_the_one_before(store: Store, lab: Any) -> None:
    study = lab.study()
    first, second = lab.propose(study, "a", "b")
    store.mark_running([first.proposal.id, second.proposal.id])
    assert [p.proposal.key for p in store.proposals(study, "running")] == ["a", "b"]
    assert store.begin_sitting(study) == lab.epochs[study] + 1
    assert store.proposals(study, "running") == []
    assert [p.proposal.key for p in store.proposals(study, "queued")] == ["a", "b"]
    with pytest.raises(StoreError, match=r"sitting 2; a write of sitting 1 was refused"):
        lab.propose(study, "c")
    with pytest.raises(StoreError, match="refused"):
        store.record(study, 1, [lab.outcome(first, {"error": 1.0})])
    with pytest.raises(StoreError, match="refused"):
        store.end_sitting(study, "done", seconds=1, startup_seconds=0, epoch=1)
    store.end_sitting(study, "interrupted", seconds=12.5, startup_seconds=2.0, epoch=2)
    ended = store.study(study)
    assert (ended.status, ended.seconds, ended.startup_seconds, ended.run_epoch) == ("interrupted", 12.5, 2.0, 2)


def test_proposals_come_back_as_they_were(store: Store, lab: Any) -> None:
    study = lab.study()
    made = lab.propose(study, *"abc")
    predicted = replace(
        made[0].proposal,
        id="f" * 32,
        number=3,
        key="d",
        parents=(made[0].proposal.id,),
        predicted={"error": (0.1, 0.2)},
    )
    more = replace(made[0], proposal=predicted, architecture_key="d")
    store.insert_proposals(study, 1, [more], None)
    assert store.proposals(study) == [*made, more]
    store.insert_proposals(study, 1, [more], None)  # again, after a lost acknowledgement
    assert len(store.proposals(study)) == 4
    with pytest.raises(StoreError, match="refused a change"):
        store.insert_proposals(study, 1, [replace(more, proposal=replace(predicted, id="e" * 32))], None)
    with pytest.raises(ValueError, match="state='lost'"):
        store.proposals(study, "lost")  # type: ignore[arg-type]


def test_only_the_newest_snapshot_stays_and_it_is_as_old_as_its_proposals(store: Store, lab: Any) -> None:
    study = lab.study()
    assert store.latest_snapshot(study) is None
    lab.propose(study, "a", snapshot=Snapshot(0, 1, {"generator": [1, 2]}))
    newest = Snapshot(3, 2, {"generator": [3], "position": 0.1}, {"net": b"\0weights", "other": b""})
    lab.propose(study, "b", snapshot=newest)
    assert store.latest_snapshot(study) == newest
    with pytest.raises(StoreError):
        lab.propose(study, "b", snapshot=Snapshot(9, 9, {}))  # the key is taken: neither is stored
    assert store.latest_snapshot(study) == newest


def test_reports_are_idempotent(store: Store, lab: Any) -> None:
    (record,) = lab.propose(lab.study(), "a")
    id_ = record.proposal.id
    store.add_reports([Report(id_, 2, {"error": 0.5}), Report(id_, 1, {"error": float("inf")})])
    store.add_reports([Report(id_, 2, {"error": 0.1}), Report(id_, 3, {"error": 0.2})])
    store.add_reports([])
    assert store.reports(id_) == [
        Report(id_, 1, {"error": float("inf")}),
        Report(id_, 2, {"error": 0.5}),
        Report(id_, 3, {"error": 0.2}),
    ]


def test_devices_are_remembered_once(store: Store) -> None:
    store.put_devices([DeviceRecord("pi-1", "pi", "remote", {"threads": 4})])
    store.put_devices([DeviceRecord("pi-1", "pi", "local"), DeviceRecord("cpu-1", "cpu", "local")])
    assert store.devices() == [
        DeviceRecord("cpu-1", "cpu", "local"),
        DeviceRecord("pi-1", "pi", "remote", {"threads": 4}),
    ]


def test_reference_is_set_and_checked(store: Store) -> None:
    store.create_study(FULL)
    store.set_reference("all", [0.5, 9.0])
    assert store.study("all").reference == (0.5, 9.0)
    with pytest.raises(UsageError, match="1 values"):
        store.set_reference("all", [0.5])
    with pytest.raises(UsageError, match="not finite"):
        store.set_reference("all", [0.5, float("inf")])


def test_removal_leaves_facts_to_others(store: Store, lab: Any) -> None:
    one, two = lab.study("one"), lab.study("two")
    kept = lab.tell(one, "a", {"error": 0.1, "latency_ms@cpu": 2.0}, sessions=(lab.session("a", 2.0),))
    store.add_reports([Report(kept.proposal.id, 1, {"error": 0.1})])
    store.put_artefact("a", "weights", b"w", study=one, proposal=kept.proposal.id)
    lab.tell(two, "b", {"error": 0.5, "latency_ms@cpu": 1.0}, sessions=(lab.session("b", 1.0),))
    store.remove_study(one)
    assert [study.name for study in store.studies()] == ["two"]
    assert store.reports(kept.proposal.id) == []
    assert store.artefact("a", "weights") is None
    where = {"identity": lab.identity, "task": "digits-1", "protocol": "p1", "train_seed": 0}
    fact = store.fact(key="a", **where)
    assert fact is not None
    assert fact.values["error"].value == 0.1
    front = store.front("toy")
    assert [(p.key, p.study, p.proposal, p.config["x"]) for p in front.points[1:]] == [("a", "", None, "a")]
    assert lab.keys(study=two) == ["b"]
    assert lab.study(one) == one  # the name is free again
    assert store.counts(one) == Counts(0, 0, 0, 0)


def test_a_private_study_makes_no_facts(store: Store, lab: Any) -> None:
    study = lab.study("mine", objectives=(Objective("loss", "min"),), private=True)
    lab.tell(study, "a", {"loss": 0.1})
    where = {"identity": lab.identity, "task": "digits-1", "protocol": "p1", "train_seed": 0}
    assert store.fact(key="a", study=study, **where) is None
    assert [point.key for point in store.front(study=study).points] == ["a"]
    with store._reader.begin() as connection:
        assert connection.exec_driver_sql("select count(*) from observation").scalar() == 0
        assert connection.exec_driver_sql("select count(*) from observation_value").scalar() == 0


def test_what_a_private_study_told_beside_its_objectives_is_on_its_front(store: Store, lab: Any) -> None:
    study = lab.study("mine", objectives=(Objective("loss", "min"),), private=True)
    lab.tell(study, "a", {"loss": 0.1, "accuracy": 0.9})
    (point,) = store.front(study=study).points
    assert {name: value.value for name, value in point.others.items()} == {"accuracy": 0.9}
