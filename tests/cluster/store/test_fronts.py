"""The questions a front answers."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import pytest

from archfront.cluster.store import DeviceRecord, NoFrontError, Store
from archfront.search._types import Constraint, Objective, Value
from archfront.spaces._errors import UnknownNameError, UsageError

ERROR = Objective("error", "min")
CPU = Objective("latency_ms", "min", "cpu", "ms")
PI = Objective("latency_ms", "min", "pi", "ms")
SPEED = Objective("throughput_per_s", "max", "cpu")


def test_two_stores_see_each_others_fronts(url: str, store: Store, lab: Any) -> None:
    one, two = lab.study("one"), lab.study("two")
    with Store(url) as other:
        lab.tell(one, "b", {"error": 0.5, "latency_ms@cpu": 2.0}, sessions=(lab.session("b", 2.0),))
        records = lab.propose(two, "a", "c")
        told = {"error": 0.4, "latency_ms@cpu": 1.0}, {"error": 0.6, "latency_ms@cpu": 3.0}
        outcomes = [
            lab.outcome(r, v, sessions=(lab.session(r.architecture_key, v["latency_ms@cpu"]),))
            for r, v in zip(records, told, strict=True)
        ]
        other.record(two, 1, outcomes)
        lab.tell(one, "d", {"error": 0.45, "latency_ms@cpu": 1.5}, sessions=(lab.session("d", 1.5),))
        assert lab.keys(space="toy") == ["a"]
        assert lab.keys(study=one) == ["d"]


def test_a_front_travels(store: Store, lab: Any) -> None:
    study = lab.study()
    lab.tell(study, "a", {"error": 0.5, "latency_ms@cpu": 2.0})
    front = store.front(study=study)
    assert len(front) == 1
    assert pickle.loads(pickle.dumps(front)) == copy.deepcopy(front) == front


def test_a_late_measurement_re_ranks_every_study(store: Store, lab: Any) -> None:
    one, two = lab.study("one"), lab.study("two")
    for study in (one, two):
        for key, error, latency in (("a", 0.1, 3.0), ("b", 0.2, 2.0), ("c", 0.3, 4.0)):
            lab.tell(study, key, {"error": error, "latency_ms@cpu": latency})
    assert lab.keys(study=one) == ["b", "a"]
    assert lab.keys(space="toy") == []  # measured values that nobody stored are nobody's fact
    store.add_device_sessions([lab.session("a", 1.0), lab.session("c", 0.5)])
    assert lab.keys(study=one) == lab.keys(study=two) == lab.keys(space="toy") == ["c", "a"]
    point = store.front(study=one).points[0]
    assert point.values["latency_ms@cpu"] == Value(0.5, "measured")
    store.add_device_sessions([lab.session("c", math.inf), lab.session("c", 9.0)])
    assert lab.keys(study=one) == ["a"]


def test_guesses_failures_and_infeasible_points_never_enter(store: Store, lab: Any) -> None:
    study = lab.study(constraints=(Constraint("params_m", "<=", 2.0),))
    good = {"error": 0.5, "latency_ms@cpu": 5.0, "params_m": Value(1.0, "analytic")}
    better = {**good, "error": 0.1}
    lab.tell(study, "good", good)
    lab.tell(study, "predicted", {**good, "error": Value(0.1, "predicted")})
    lab.tell(study, "proxy", {**good, "latency_ms@cpu": Value(0.1, "proxy")})
    lab.tell(study, "big", {**better, "params_m": Value(3.0, "analytic")})
    lab.tell(study, "unknown", {"error": 0.1, "latency_ms@cpu": 1.0})
    lab.tell(study, "nan", {**better, "latency_ms@cpu": math.nan})
    lab.tell(study, "inf", {**better, "latency_ms@cpu": -math.inf})
    for status in ("stopped", "failed", "invalid", "timeout", "cancelled", "poisoned"):
        lab.tell(study, status, better, status=status)
    assert lab.keys(study=study) == ["good"]


def test_maximised_objectives_and_ties(store: Store, lab: Any) -> None:
    study = lab.study(objectives=(ERROR, SPEED))
    for key, error, speed in (("a", 0.1, 10.0), ("b", 0.2, 20.0), ("c", 0.2, 20.0), ("d", 0.3, 15.0)):
        lab.tell(study, key, {"error": error, "throughput_per_s@cpu": speed})
    front = store.front(study=study)
    assert [p.key for p in front.points] == ["b", "c", "a"]
    assert front.reference == pytest.approx((0.32, 9.0))
    assert front.hypervolume == pytest.approx((0.32 - 0.1) * 1.0 + (0.32 - 0.2) * 10.0)
    assert front.best("error", throughput_per_s=15).key == "b"


def test_one_device_or_none_or_all(store: Store, lab: Any) -> None:
    study = lab.study(objectives=(ERROR, CPU, PI))
    for key, *numbers in (("a", 0.5, 1.0, 9.0), ("b", 0.5, 9.0, 1.0), ("c", 0.6, 5.0, 5.0)):
        lab.tell(study, key, dict(zip(("error", "latency_ms@cpu", "latency_ms@pi"), numbers, strict=True)))
    with pytest.raises(UsageError, match=r"devices cpu, pi.*--device cpu"):
        store.front(study=study)
    front = store.front(study=study, device="pi")
    assert (front.stored, front.device, [o.name for o in front.objectives]) == (True, "pi", ["error", "latency_ms@pi"])
    assert [p.key for p in front.points] == ["b"]
    assert front.points[0].metrics == {"error": 0.5, "latency_ms": 1.0}
    assert lab.keys(study=study, device="cpu-1") == ["a"]
    everything = store.front(study=study, device="*")
    assert everything.stored
    assert [p.key for p in everything.points] == ["a", "c", "b"]
    assert everything.points[0].metrics["latency_ms@pi"] == 9.0
    assert len(store.hypervolume_history(study)) == 3
    assert len(store.hypervolume_history(study, "pi")) == 2
    none = lab.study("none", objectives=(ERROR,))
    assert store.front(study=none).device is None
    with pytest.raises(UsageError, match="leave --device out"):
        store.front(study=none, device="cpu")


def test_a_device_measured_later_ranks_the_same_keys(store: Store, lab: Any) -> None:
    study = lab.study()
    for key, error in (("a", 0.1), ("b", 0.2)):
        lab.tell(study, key, {"error": error, "latency_ms@cpu": 1.0}, sessions=(lab.session(key, 1.0),))
    with pytest.raises(UnknownNameError, match="unknown device 'phone'"):
        store.front(study=study, device="phone")
    store.put_devices([DeviceRecord("phone-7", "phone", "remote")])
    assert lab.keys(study=study, device="phone") == []
    store.add_device_sessions([lab.session("a", 5.0, device="phone-7"), lab.session("b", 3.0, device="phone-7")])
    for question in ({"study": study}, {"space": "toy/small"}):
        front = store.front(**question, device="phone")
        assert [p.key for p in front.points] == ["b", "a"]
        assert not front.stored
        assert front.objectives[1].name == "latency_ms@phone"
        assert front.hypervolume is not None
        assert front.hypervolume > 0
    store.put_devices([DeviceRecord("phone-8", "phone", "remote")])
    with pytest.raises(UsageError, match="phone-7, phone-8"):
        store.front(study=study, device="phone")
    assert lab.keys(study=study, device="phone-7") == ["b", "a"]


def test_other_objectives_and_bounds(store: Store, lab: Any) -> None:
    study = lab.study()
    for key, error, latency, params in (("a", 0.1, 9.0, 5.0), ("b", 0.2, 2.0, 9.0), ("c", 0.3, 3.0, 1.0)):
        told = {"error": error, "latency_ms@cpu": latency, "params_m": Value(params, "analytic")}
        lab.tell(study, key, told, sessions=(lab.session(key, latency),))
    assert lab.keys(study=study) == ["b", "a"]
    front = store.front(study=study, objectives=["error", "params_m"])
    assert ([p.key for p in front.points], front.stored) == (["c", "a"], False)
    assert front.reference == pytest.approx((0.32, 9.8))
    fast = store.front(study=study, where=[Constraint.parse("latency_ms<=5")])
    assert ([p.key for p in fast.points], fast.stored) == (["b"], True)
    slow = store.front(study=study, where=[Constraint.parse("latency_ms>=2.5")])
    assert ([p.key for p in slow.points], slow.stored) == (["c", "a"], False)
    small = store.front("toy", where=[Constraint.parse("params_m<=4")])
    assert ([p.key for p in small.points], small.stored) == (["c"], False)
    only = store.front("toy", objectives=[ERROR])
    assert ([p.key for p in only.points], only.stored) == (["a"], False)
    lab.study("later", objectives=(ERROR,))
    asked = store.front("toy", objectives=[ERROR])
    assert ([p.key for p in asked.points], asked.stored) == (["a"], True)


def test_history(store: Store, lab: Any) -> None:
    study = lab.study(reference=(1.0, 10.0))
    for key, error, latency in (("a", 0.5, 5.0), ("b", 0.9, 9.0), ("c", 0.25, 2.0), ("d", 0.75, 1.0)):
        lab.tell(study, key, {"error": error, "latency_ms@cpu": latency})
    assert [lab.keys(study=study, at_sequence=s) for s in range(5)] == [[], ["a"], ["a"], ["c"], ["d", "c"]]
    assert store.hypervolume_history(study) == [(1, 2.5), (3, 6.0), (4, 6.25)]
    assert store.front(study=study).hypervolume == 6.25
    assert lab.keys(study=study, objectives=["error"], at_sequence=2) == ["a"]
    store.add_device_sessions([lab.session("c", 0.5)])
    assert lab.keys(study=study) == ["c"]
    assert store.hypervolume_history(study)[-1] == (4, 0.75 * 9.5)


def test_entering_and_leaving_within_one_batch_is_remembered(store: Store, lab: Any) -> None:
    study = lab.study()
    records = lab.propose(study, "a", "b")
    told = [{"error": 0.5, "latency_ms@cpu": 5.0}, {"error": 0.4, "latency_ms@cpu": 4.0}]
    store.record(study, 1, [lab.outcome(r, v) for r, v in zip(records, told, strict=True)])
    assert [lab.keys(study=study, at_sequence=s) for s in (1, 2)] == [["a"], ["b"]]


def test_what_is_not_said_comes_from_the_newest_fitting_study(store: Store, lab: Any) -> None:
    with pytest.raises(NoFrontError, match="no study of space 'toy'") as caught:
        store.front("toy")
    assert caught.value.code == "no_front"
    with pytest.raises(UnknownNameError):
        store.front(study="nobody")
    lab.study("first", objectives=(ERROR,), protocol="long")
    lab.study("second", objectives=(ERROR,))
    lab.study("large", objectives=(ERROR,), space="toy/large", identity="toy-large")
    lab.study("tricky", objectives=(ERROR,), space="toy_x/small", identity="toy-x")
    lab.study("mine", objectives=(ERROR,), private=True)
    assert store.front("toy/small").protocol == "p1"
    assert store.front("toy").space == "toy/large"
    assert store.front("toy", protocol="long").protocol == "long"
    assert store.front("toy/small").others
    assert store.front("toy/small", objectives=["error"], task="digits").task_identity == "digits-1"
    with pytest.raises(NoFrontError, match="task 'flowers'"):
        store.front("toy", task="flowers")
    assert store.front().study in ("", "mine")


def test_a_private_study_answers_for_itself(store: Store, lab: Any) -> None:
    study = lab.study("mine", objectives=(Objective("loss", "min"),), private=True, space="fn", identity="fn-1")
    lab.tell(study, "a", {"loss": 1.0})
    front = store.front("fn")
    assert (front.study, front.stored, [p.key for p in front.points]) == ("mine", True, ["a"])


def test_points_tell_what_else_was_seen(store: Store, lab: Any) -> None:
    study = lab.study()
    quality = {"error": Value(0.5, "sliced"), "test_error": Value(0.6, "sliced"), "nll": Value(1.0, "sliced")}
    record = lab.tell(study, "a.1", {"error": Value(0.5, "sliced"), "latency_ms@cpu": 1.0}, quality=quality)
    (point,) = store.front(study=study).points
    assert point.metrics == {"error": 0.5, "latency_ms": 1.0, "test_error": 0.6, "nll": 1.0}
    assert (point.kind, point.origin, point.study) == ("sliced", "random", study)
    assert (point.proposal, point.architecture_key, point.config) == (record.proposal.id, "a", {"x": "a.1", "w": 0.5})


def test_document(store: Store, lab: Any) -> None:
    study = lab.study(reference=(1.0, 10.0))
    lab.tell(study, "a", {"error": 0.5, "latency_ms@cpu": 1.0})
    assert json.loads(json.dumps(store.front(study=study).document(), allow_nan=False)) == {
        "space": "toy/small",
        "task": "digits",
        "study": "one",
        "device": "cpu",
        "protocol": "p1",
        "stored": True,
        "objectives": [
            {"metric": "error", "direction": "min", "unit": "", "device": None},
            {"metric": "latency_ms", "direction": "min", "unit": "ms", "device": "cpu"},
        ],
        "reference": [1.0, 10.0],
        "hypervolume": 4.5,
        "points": [
            {
                "key": "a",
                "config": {"x": "a", "w": 0.5},
                "metrics": {"error": 0.5, "latency_ms": 1.0},
                "study": "one",
                "origin": "random",
                "kind": "trained",
            }
        ],
    }


def test_several_seeds_are_one_point(store: Store, lab: Any) -> None:
    lab.tell(lab.study("one", objectives=(ERROR,)), "a", {"error": 0.2})
    lab.tell(lab.study("two", objectives=(ERROR,), train_seed=1), "a", {"error": 0.4})
    lab.tell(lab.study("three", objectives=(ERROR,)), "b", {"error": 0.25})
    assert lab.keys(space="toy") == ["b"]
    lab.tell(lab.study("four", objectives=(ERROR,), train_seed=1), "a", {"error": 0.1})
    (point,) = store.front("toy").points
    value = point.values["error"]
    assert (point.key, value.n) == ("a", 2)
    assert (value.value, value.std) == pytest.approx((0.15, 0.0707), abs=1e-4)


def test_best(store: Store, lab: Any) -> None:
    study = lab.study()
    for key, error, latency in (("a", 0.1, 9.0), ("b", 0.2, 2.0), ("c", 0.3, 1.0)):
        lab.tell(study, key, {"error": error, "latency_ms@cpu": latency})
    front = store.front(study=study)
    assert front.best("error").key == "a"
    assert front.best("error", latency_ms=2.0).key == "b"
    assert front.best("latency_ms", [Constraint.parse("error<=0.25")]).key == "b"
    with pytest.raises(UsageError, match=r"no point .* metric 'acuracy'.*known: error, latency_ms"):
        front.best("acuracy")
    with pytest.raises(UsageError, match=r"none of the 3 points .* latency_ms<=0.5"):
        front.best("error", latency_ms=0.5)
