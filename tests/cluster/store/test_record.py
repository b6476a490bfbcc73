"""Recording: exactly once, in order, all or nothing; facts and values."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from archfront.cluster.store import Counts, Outcome, Store
from archfront.search._types import Evaluation, Objective, Value
from archfront.spaces._errors import StoreError


def test_evaluations_come_back_as_told_and_in_order(store: Store, lab: Any) -> None:
    study = lab.study()
    a, b, c, d = lab.propose(study, *"abcd")
    values = {"error": Value(0.25, "trained", 0.01, 3), "latency_ms@cpu": Value(2.0, "measured")}
    first = [lab.outcome(b, values), lab.outcome(a, {"error": math.nan}, "failed")]
    assert store.record(study, 1, first) == 2
    assert store.record(study, 1, [lab.outcome(d, {"error": math.inf}, "stopped")], batch=7) == 1
    assert store.record(study, 1, [lab.outcome(c, {}, "timeout")]) == 1
    told = store.told(study)
    assert [(sequence, batch, e.key, e.status) for sequence, batch, e in told] == [
        (1, 1, "b", "ok"),
        (2, 1, "a", "failed"),
        (3, 7, "d", "stopped"),
        (4, 8, "c", "timeout"),
    ]
    assert told[0][2] == first[0].evaluation
    assert math.isnan(told[1][2].values["error"].value)
    assert told[2][2].values["error"].value == math.inf
    assert [sequence for sequence, *_ in store.told(study, after_sequence=2)] == [3, 4]
    assert store.counts(study) == Counts(proposed=4, told=4, failed=2, reused=0)
    assert {p.state for p in store.proposals(study)} == {"done"}


def test_exactly_once_per_proposal(store: Store, lab: Any) -> None:
    study = lab.study()
    a, b = lab.propose(study, "a", "b")
    one, other = lab.outcome(a, {"error": 0.5}), lab.outcome(a, {"error": 0.1})
    assert store.record(study, 1, [one, other]) == 1
    assert store.record(study, 1, [other, lab.outcome(b, {"error": 0.2})]) == 1
    assert store.record(study, 1, [other]) == 0
    assert store.record(study, 1, []) == 0
    assert [(s, e.key, e.values["error"].value) for s, _, e in store.told(study)] == [
        (1, "a", 0.5),
        (2, "b", 0.2),
    ]


def test_a_refused_batch_leaves_nothing(store: Store, lab: Any) -> None:
    study = lab.study()
    (a,) = lab.propose(study, "a")
    stranger = Outcome(Evaluation({}, "z", "ok", {"error": Value(0.1, "trained")}, "0" * 32))
    with pytest.raises(StoreError, match="no proposal '000000"):
        store.record(study, 1, [lab.outcome(a, {"error": 0.1}), stranger])
    wrong = Outcome(Evaluation({}, "z", "ok", {"error": Value(0.1, "trained")}, a.proposal.id))
    with pytest.raises(ValueError, match="has key 'a', its evaluation 'z'"):
        store.record(study, 1, [wrong])
    assert store.told(study) == []
    assert lab.keys(study=study) == []
    assert store.record(study, 1, [lab.outcome(a, {"error": 0.1, "latency_ms@cpu": 1.0})]) == 1
    assert lab.keys(study=study) == ["a"]
    with pytest.raises(ValueError, match="has no proposal"):
        Outcome(Evaluation({}, "z", "ok"))


def test_numpy_scalars_are_welcome(store: Store, lab: Any) -> None:
    np = pytest.importorskip("numpy")
    (a,) = lab.propose(lab.study(), "a")
    p = a.proposal
    values = {"error": Value(np.float32(0.5), "trained", np.float64(0.1), 1)}
    evaluation = Evaluation({"x": np.int64(3)}, p.key, "ok", values, p.id, {"epochs": np.float32(2.0)})
    assert store.record("one", 1, [Outcome(evaluation)]) == 1
    assert store.told("one")[0][2].fidelity == {"epochs": 2.0}


def facts(lab: Any, **changes: Any) -> dict[str, Any]:
    return {"identity": lab.identity, "task": "digits-1", "protocol": "p1", "train_seed": 0, **changes}


def test_a_fact_is_the_newest_usable_observation(store: Store, lab: Any) -> None:
    one, two = lab.study("one"), lab.study("two")
    lab.tell(one, "a", {"error": 0.5}, quality={"error": Value(0.5, "trained"), "test_error": Value(0.6, "trained")})
    old = store.fact(key="a", **facts(lab))
    assert old is not None
    assert {name: value.value for name, value in old.values.items()} == {"error": 0.5, "test_error": 0.6}
    lab.tell(two, "a", {"error": 0.3}, status="stopped")
    assert store.fact(key="a", **facts(lab)) == old
    lab.tell(lab.study("three"), "a", {"error": 0.4})
    new = store.fact(key="a", **facts(lab))
    assert new is not None
    assert new.values["error"].value == 0.4
    lab.tell(lab.study("four"), "a", {"error": 0.9}, train_seed=1, protocol="p2")
    assert store.fact(key="a", **facts(lab)) == new
    seeded = store.facts(keys=["a", "b"], **facts(lab, train_seed=1, protocol="p2"))
    assert seeded["a"].values["error"].value == 0.9
    assert store.facts(keys=[], **facts(lab)) == {}


def test_reuse_points_at_the_fact_and_makes_no_new_one(store: Store, lab: Any) -> None:
    lab.tell(lab.study("one"), "a", {"error": 0.5, "latency_ms@cpu": 1.0})
    fact = store.fact(key="a", **facts(lab))
    assert fact is not None
    two = lab.study("two")
    lab.tell(two, "a", {"error": fact.values["error"], "latency_ms@cpu": 1.0}, reused=fact.observation)
    assert store.fact(key="a", **facts(lab)) == fact
    assert store.counts(two).reused == 1
    assert lab.keys(study=two) == ["a"]


def test_withdrawing_takes_the_fact_and_the_points(store: Store, lab: Any) -> None:
    one, two = lab.study("one"), lab.study("two")
    sessions = (lab.session("a", 1.0), lab.session("b", 2.0))
    lab.tell(one, "b", {"error": 0.5, "latency_ms@cpu": 2.0}, sessions=sessions)
    lab.tell(one, "a", {"error": 0.4, "latency_ms@cpu": 1.0})
    fact = store.fact(key="a", **facts(lab))
    assert fact is not None
    lab.tell(two, "a", {"error": 0.4, "latency_ms@cpu": 1.0}, reused=fact.observation)
    assert lab.keys(study=one) == lab.keys(space="toy") == lab.keys(study=two) == ["a"]
    store.withdraw(fact.observation)
    assert store.fact(key="a", **facts(lab)) is None
    assert lab.keys(study=one) == lab.keys(space="toy") == ["b"]
    assert lab.keys(study=two) == []
    with pytest.raises(StoreError, match="no observation 999999"):
        store.withdraw(999_999)


def test_device_values_are_medians_over_sessions(store: Store, lab: Any) -> None:
    lab.study()
    ask = (lab.identity, "s1", "a", "cpu-1", "latency_ms")
    assert store.device_value(*ask) is None
    sessions = [lab.session("a", value, minimum=value, spread=0.1, n=20) for value in (3.0, 1.0, 2.0)]
    assert store.add_device_sessions(sessions) == 1
    assert store.add_device_sessions(sessions) == 0
    assert store.add_device_sessions([]) == 0
    value = store.device_value(*ask)
    assert value is not None
    assert (value.value, value.kind, value.std, value.n) == (2.0, "measured", 1.0, 3)
    store.add_device_sessions([lab.session("b", math.nan)])
    invalid = store.device_values(lab.identity, "s1", ["a", "b", "c"], "cpu-1", "latency_ms")
    assert sorted(invalid) == ["a", "b"]
    assert math.isnan(invalid["b"].value)


def test_looked_up_and_analytic_values_are_kept_for_others(store: Store, lab: Any) -> None:
    objectives = (Objective("error", "min"), Objective("latency_ms", "min", "pi"), Objective("params_m", "min"))
    study = lab.study("table", objectives=objectives)
    table = {
        "error": Value(0.1, "looked_up"),
        "latency_ms@pi": Value(4.0, "looked_up"),
        "params_m": Value(1.5, "analytic"),
    }
    lab.tell(study, "a.1", table, analytic={"macs_m": 20.0})
    lab.tell(study, "a.2", table)
    value = store.device_value(lab.identity, "s1", "a", "pi-1", "latency_ms")
    assert value == Value(4.0, "looked_up")
    assert store.analytic_values(lab.identity, "s1", ["a", "z"]) == {"a": {"params_m": 1.5, "macs_m": 20.0}}
    store.add_analytic_values(lab.identity, "s1", {"a": {"params_m": 9.0}, "b": {"params_m": 2.0}})
    assert store.analytic_values(lab.identity, "s1", ["a", "b"])["a"]["params_m"] == 1.5
    own = lab.study("own", objectives=objectives, private=True)
    lab.tell(own, "p", table)
    assert store.device_value(lab.identity, "s1", "p", "pi-1", "latency_ms") is None


def test_the_reference_freezes_at_the_twentieth_ok_value(store: Store, lab: Any) -> None:
    study = lab.study(reference=(1.0, None))
    lab.tell(study, "bad", {"error": math.nan, "latency_ms@cpu": 1000.0})
    lab.tell(study, "worse", {"error": 0.1, "latency_ms@cpu": 1000.0}, status="failed")
    for i in range(19):
        lab.tell(study, str(i), {"error": 0.5, "latency_ms@cpu": float(i)})
    assert store.study(study).reference == (1.0, None)
    assert store.front(study=study).reference == pytest.approx((1.0, 19.8))
    lab.tell(study, "last", {"error": 0.5, "latency_ms@cpu": 20.0})
    lab.tell(study, "later", {"error": 0.5, "latency_ms@cpu": 500.0})
    assert store.study(study).reference == pytest.approx((1.0, 22.0))
    assert store.front(study=study).reference == pytest.approx((1.0, 22.0))


WRITER = """
    import sys, uuid
    from archfront.cluster.store import Outcome, ProposalRecord, Store, StudyRecord
    from archfront.search._types import Evaluation, Objective, Proposal, Value
    store = Store(sys.argv[1])
    store.create_study(StudyRecord("victim", "toy", "toy-1", (Objective("error", "min"), Objective("nll", "min"))))
    epoch, number = store.begin_sitting("victim"), 0
    while True:
        made = [Proposal(uuid.uuid4().hex, number + i, {}, str(number + i), "random") for i in range(5)]
        number += 5
        store.insert_proposals("victim", epoch, [ProposalRecord(p, p.key) for p in made])
        values = [{"error": Value(p.number % 7, "trained"), "nll": Value(p.number % 5, "trained")} for p in made]
        store.record("victim", epoch, [
            Outcome(Evaluation({}, p.key, "ok", v, p.id)) for p, v in zip(made, values, strict=True)
        ])
        print(number, flush=True)
"""


def test_kill_9_keeps_every_acknowledged_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "archfront.db"
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(0.3)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    with Store(str(path)) as store:
        told = store.told("victim")
        assert acknowledged > 5
        assert len(told) >= acknowledged
        assert [sequence for sequence, *_ in told] == list(range(1, len(told) + 1))
        epoch = store.begin_sitting("victim")
        waiting = store.proposals("victim", "queued")
        again = [Outcome(Evaluation({}, p.proposal.key, "failed", {}, p.proposal.id)) for p in waiting]
        assert store.record("victim", epoch, again) == len(waiting)
        best = {e.key for _, _, e in told if e.values["error"].value == 0 and e.values["nll"].value == 0}
        assert {p.key for p in store.front(study="victim").points} == best
