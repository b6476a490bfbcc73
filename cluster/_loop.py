"""The study loop: ask, insert, launch, measure, tell, commit. Engines drive it; it knows neither Ray nor time."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from archfront.cluster._front import Front
from archfront.cluster._measuring import Measuring
from archfront.cluster._observed import observed_name, told_name
from archfront.cluster._plan import Plan
from archfront.cluster._trial import TrialResult
from archfront.cluster._volume import Volume
from archfront.cluster.store import Ask, Outcome, ProposalRecord, Report, Snapshot, Store
from archfront.search._strategy import Strategy
from archfront.search._types import Configuration, Evaluation, Proposal, Status, Value
from archfront.spaces._errors import ArchfrontError, StoreError

__all__ = ["Progress", "Step", "StudyLoop"]

_log = logging.getLogger(__name__)

Step = Sequence[Proposal] | Literal["wait", "done"]
GC_EVERY = 64
"""Weights that left the front are removed after this many evaluations, and at the end."""


@dataclass(frozen=True)
class Progress:
    """How far a sitting is: totals of the study. `hypervolume` is None while too little is known; `epoch` is that of
    the newest report."""

    told: int
    failed: int
    running: int
    front_size: int
    hypervolume: float | None
    trials: int | None
    epoch: int = 0


@dataclass(frozen=True)
class _Ended:
    """A trial that ended, or a stored fact (`reused` is its observation) that stands in for one."""

    proposal: Proposal
    result: TrialResult
    reused: int | None = None


class StudyLoop:
    """One sitting of a study. `capacity` is how many trials may run at once; `elapsed` gives the seconds that the study
    has taken, earlier sittings included.

    An engine calls `next` for what to launch ("wait": ask again when something has ended; "done": nothing will come),
    `reported` and `completed` as trials speak, and `finish` when all have ended. It may take and give back many at
    once, which cost the store one transaction each way. Every method may raise ArchfrontError; what was told before is
    committed.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        epoch: int,
        *,
        capacity: int,
        elapsed: Callable[[], float] | None = None,
        watch: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.store, self.plan, self.epoch, self.capacity = store, plan, epoch, capacity
        self._elapsed, self._watch = elapsed, watch
        self.record = plan.record
        self.study = plan.record.name
        self.measuring = Measuring(store, plan)
        self.strategy: Strategy = plan.strategy()
        self._queue: deque[Proposal] = deque()
        self._queued: set[str] = set()
        """Those of the queue that the store does not call running yet."""
        self._running: dict[str, Proposal] = {}
        self._unmeasured: dict[str, _Ended] = {}
        self._ready: dict[int, Outcome] = {}
        """Reproducible studies: outcomes by proposal number that wait for earlier ones."""
        self._numbers: dict[str, int] = {}
        self._asks = 0
        self._told = 0
        self._failed = 0
        self._epoch = 0
        self._next_number = 0
        self._front = Front(len(self.record.objectives))
        self._volume = Volume(self.record.objectives, self.record.reference)
        variants = {name for name, device in plan.devices.items() if device.own_quality}
        self._own_quality = [o for o in self.record.objectives if o.device in variants]
        """Objectives on devices that quantise: a fact may know those of the weights alone."""
        self._ended: str = ""
        options = self.record.options
        self._lookahead: int | None = options["lookahead"] if options["reproducible"] else None
        self._restore()

    def _restore(self) -> None:
        """Continue where the store says the study is."""
        snapshot = self.store.latest_snapshot(self.study)
        if snapshot is None:
            return
        records = self.store.proposals(self.study)
        batches: dict[int, list[Evaluation]] = {}
        for _, batch, evaluation in self.store.told(self.study):
            batches.setdefault(batch, []).append(evaluation)
            self._count(evaluation)
        self.strategy.load_state_dict(snapshot.state, [r.proposal for r in records], list(batches.values()))
        done = {e.proposal for batch in batches.values() for e in batch}
        self._queue.extend(r.proposal for r in records if r.proposal.id not in done)
        self._queued.update(r.proposal.id for r in records if r.state == "queued")
        self._numbers = {r.proposal.id: r.proposal.number for r in records}
        self._asks = 1 + max((r.ask.number for r in records if r.ask is not None), default=-1)
        while self._next_number < len(records) and records[self._next_number].proposal.id in done:
            self._next_number += 1

    # -- what to launch

    def next(self, n: int = 1) -> Step:
        """At most n proposals to launch, already in the store; "wait" or "done"."""
        while True:
            if self._must_measure():
                self._measure()
                continue
            if self._out_of_time():
                self._ended = "time"
                return "done"
            room = min(n, self.capacity - len(self._running))
            if room < 1:
                return "wait"
            if len(self._queue) < room or self._lookahead is not None:
                self._ask_more(room - len(self._queue))
            if not self._queue:
                if self._unmeasured and not self._ended:  # the strategy waits for them
                    self._measure()
                    continue
                return "wait" if self._running else "done"
            taken = [self._queue.popleft() for _ in range(min(room, len(self._queue)))]
            stored = self._stored(taken)
            self._settle(list(stored.values()))
            launched = [proposal for proposal in taken if proposal.id not in stored]
            if launched:
                self._running.update({proposal.id: proposal for proposal in launched})
                self._mark_running(launched)
                return launched

    def _mark_running(self, launched: Sequence[Proposal]) -> None:
        waited = [proposal.id for proposal in launched if proposal.id in self._queued]
        if waited:
            self.store.mark_running(waited)
            self._queued.difference_update(waited)

    def _ask_more(self, n: int) -> None:
        """Queue n more proposals, or as far as a reproducible study looks ahead.

        There proposal i is asked when exactly the evaluations before i - K are told, so after every single tell, and
        first thing where a killed sitting had no time to.
        """
        if self._lookahead is None:
            self._ask(n)
            return
        while self.strategy.asked - self._next_number < self._lookahead and self._ask(1):
            pass

    def _ask(self, n: int) -> bool:
        """Ask for n proposals; False when the strategy has nothing now."""
        if self._ended:
            return False
        asked = self.strategy.ask(n)
        if asked.proposals:
            self._insert(asked.proposals, Ask(self._asks, n, self._told))
            self._asks += 1
            self._queue.extend(asked.proposals)
            return True
        if asked.reason in ("budget", "exhausted"):
            self._ended = asked.reason
        elif not (self._running or self._unmeasured or self._ready or self._queue):
            raise ArchfrontError(
                f"strategy {self.record.strategy!r} waits although nothing is running", "its propose() must return some"
            )
        return False

    def _insert(self, proposals: Sequence[Proposal], ask: Ask | None) -> None:
        """What a reproducible study asks may wait for its turn; all else is launched at once."""
        state: Literal["queued", "running"] = "running" if self._lookahead is None else "queued"
        if state == "queued":
            self._queued.update(p.id for p in proposals)
        keys = self.plan.architecture_keys(proposals)
        records = [ProposalRecord(p, key, state, ask) for p, key in zip(proposals, keys, strict=True)]
        snapshot = Snapshot(self._told, self.strategy.asked, self.strategy.state_dict())
        self.store.insert_proposals(self.study, self.epoch, records, snapshot)
        self._numbers.update({p.id: p.number for p in proposals})

    def enter(self, config: Configuration) -> Proposal:
        """A proposal for a result that was found elsewhere: stored and running, for `completed` to end."""
        proposal = self.strategy.enter(config)
        self._insert([proposal], None)
        self._running[proposal.id] = proposal
        return proposal

    # -- what came back

    def reported(self, reports: Sequence[Report]) -> None:
        """Running trials' validation metrics after an epoch. A step reported twice is kept once."""
        known = [
            Report(r.proposal, r.step, _finite(r.metrics), _finite(r.attributes))
            for r in reports
            if r.proposal in self._running
        ]
        if known:
            self.store.add_reports(known)
            self._epoch = known[-1].step
            self._watch(self.progress())

    def completed(self, results: Sequence[TrialResult]) -> None:
        """Trials ended, in whatever way. Measured soon if their device values are not known, else told at once. One
        that is not running was told already: it comes from an orphan of an earlier attempt."""
        known = [(self._running.pop(result.proposal, None), result) for result in results]
        self._settle([_Ended(proposal, result) for proposal, result in known if proposal is not None])

    def _settle(self, ended: Sequence[_Ended]) -> None:
        told = []
        for one in ended:
            if one.result.status == "ok" and self.measuring.needed(one.proposal):
                self._unmeasured[one.proposal.id] = one
            else:
                told.append(self._outcome(one, {}))
        self._deliver(told)

    def _out_of_time(self) -> bool:
        limit = self.record.budget.seconds
        return limit is not None and self._elapsed is not None and self._elapsed() >= limit

    def _must_measure(self) -> bool:
        """Whether enough waits, or nothing else happens."""
        waiting = len(self._unmeasured)
        return waiting > 0 and (waiting >= 2 * self.capacity or not self._running)

    def _measure(self) -> None:
        """Measure all that waits, back to back in shuffled order, and tell it. The host's trainings pause meanwhile."""
        waiting = sorted(self._unmeasured.values(), key=lambda ended: ended.proposal.number)
        measured = self.measuring.measure([ended.proposal for ended in waiting])
        self._unmeasured.clear()
        self._deliver([self._outcome(ended, measured[ended.proposal.id]) for ended in waiting])

    def _outcome(self, ended: _Ended, measured: Mapping[str, Value | str]) -> Outcome:
        """What the store and the strategy are told: values of every kind, and a verdict on them."""
        proposal, result = ended.proposal, ended.result
        values = {name: Value(value, result.kind) for name, value in result.quality.items()}
        quality = {observed_name(name, self.record.devices): value for name, value in values.items()}
        if self.record.private:  # a user's function knows its devices by name
            quality = {name: value for name, value in quality.items() if "@" not in name}
        values |= {name: Value(value, "analytic") for name, value in result.analytic.items()}
        values |= self.measuring.known(proposal)
        missing = {name: error for name, error in measured.items() if isinstance(error, str)}
        values |= {name: value for name, value in measured.items() if isinstance(value, Value)}
        status, error = result.status, result.error
        if status == "ok":
            status, error = self._verdict(proposal, values, missing, error)
        evaluation = Evaluation(
            proposal.config,
            proposal.key,
            status,
            values,
            proposal.id,
            {"epochs": float(result.epochs)},
            result.seconds,
            error,
        )
        quality |= {name: Value(value, result.kind) for name, value in result.test.items()}
        if result.weights:
            self._keep_weights(proposal, result)
        return Outcome(
            evaluation,
            quality,
            ended.reused,
            sessions=tuple(self.measuring.taken_sessions(proposal)),
            analytic=result.analytic,
        )

    def _verdict(
        self, proposal: Proposal, values: Mapping[str, Value], missing: Mapping[str, str], said: str
    ) -> tuple[Status, str]:
        """What to make of values. `missing` says why some were not measured; `said` is why some are not numbers, where
        the evaluator knows."""
        if (refusal := self.measuring.refusal(proposal)) is not None:
            return "invalid", refusal
        for objective in self.record.objectives:
            if objective.name in missing:
                continue
            if objective.name not in values:
                known = ", ".join(sorted(values)) or "nothing"
                return "failed", f"objective {objective.name!r} was not returned: {known} was"
            if not math.isfinite(values[objective.name].value):
                if said and objective.device is not None:
                    return "invalid", said
                return "failed", f"objective {objective.name!r} is {values[objective.name].value}"
        return ("unmeasured", next(iter(missing.values()))) if missing else ("ok", "")

    def _stored(self, proposals: Sequence[Proposal]) -> dict[str, _Ended]:
        """The facts that stand in for trials, by proposal id: nothing is trained twice under one protocol and seed."""
        record = self.record
        if record.options["fresh"] or record.private:
            return {}
        facts = self.store.facts(
            record.identity,
            record.task_identity,
            [proposal.key for proposal in proposals],
            protocol=record.protocol,
            train_seed=record.train_seed,
            study=self.study,
        )
        found = {}
        for proposal in proposals:
            if (fact := facts.get(proposal.key)) is None:
                continue
            told = {told_name(name, record.devices): v.value for name, v in fact.values.items()}
            quality = {
                name: value
                for name, value in told.items()
                if not name.startswith("test_") and name.partition("@")[2] in ("", *record.devices)
            }
            if any(o.name not in quality for o in self._own_quality if o.metric in fact.values):
                continue  # known for the weights alone
            kind = next(iter(fact.values.values())).kind
            result = TrialResult(proposal.id, "ok", quality, {}, self._costs(proposal), kind)
            found[proposal.id] = _Ended(proposal, result, fact.observation)
        return found

    def _costs(self, proposal: Proposal) -> Mapping[str, float]:
        """Analytic costs, from the store where they are known."""
        if self.plan.model_space is None:
            return {}
        (key,) = self.plan.architecture_keys([proposal])
        stored = self.store.analytic_values(self.record.identity, self.record.signature, [key])
        return stored.get(key) or self.plan.costs(proposal.config)

    # -- telling

    def _deliver(self, outcomes: Sequence[Outcome]) -> None:
        """Tell now, or in the order of the proposals' numbers for a reproducible study."""
        if self._lookahead is None:
            self._tell(outcomes)
            return
        self._ready.update({self._numbers[o.proposal]: o for o in outcomes})
        while self._next_number in self._ready:
            self._tell([self._ready.pop(self._next_number)])
            self._ask_more(0)

    def _sweep(self) -> None:
        """Remove files that nothing names. What cannot be removed now is found by the next sweep: no reason to stop."""
        try:
            self.store.gc()
        except StoreError as error:
            _log.warning("study %s: %s", self.study, error)

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        """Commit, then tell the strategy: what it knows is always in the store."""
        if not outcomes:
            return
        seconds = None if self._elapsed is None else self._elapsed()
        self.store.record(self.study, self.epoch, outcomes, seconds=seconds)
        self.strategy.tell([outcome.evaluation for outcome in outcomes])
        for outcome in outcomes:
            self._count(outcome.evaluation)
            self._next_number = self._numbers.pop(outcome.proposal) + 1
            if self.plan.evaluator.trains:
                self.plan.files.remove(f"{outcome.proposal}.checkpoint", f"{outcome.proposal}.weights")
        if self.plan.evaluator.trains and self._told % GC_EVERY < len(outcomes):
            self._sweep()
        self._watch(self.progress())

    def _count(self, evaluation: Evaluation) -> None:
        self._told += 1
        self._failed += evaluation.status not in ("ok", "stopped")
        names = [o.name for o in self.record.objectives]
        if evaluation.status == "ok" and evaluation.finite(names):
            losses = [o.loss(evaluation.values[o.name].value) for o in self.record.objectives]
            self._volume.saw(losses)
            self._front.add(evaluation.key, losses)

    def progress(self) -> Progress:
        """How far the study is."""
        trials = self.record.budget.trials
        return Progress(
            self._told, self._failed, len(self._running), len(self._front), self._volume.value, trials, self._epoch
        )

    def _keep_weights(self, proposal: Proposal, result: TrialResult) -> None:
        if self.record.options["keep"] == "none":
            return
        data = self.plan.files.read(f"{proposal.id}.weights")
        if data is not None:
            self.store.put_artefact(proposal.key, "weights", data, study=self.study, proposal=proposal.id)

    # -- the end

    def finish(self) -> None:
        """Nothing runs any more: measure and tell what waits, measure the front once more, tidy up."""
        if self._unmeasured:
            self._measure()
        self.measuring.measure_front()
        self._sweep()

    def close(self) -> None:
        """End the measuring processes."""
        self.measuring.close()

    @property
    def running(self) -> list[Proposal]:
        """What was launched and has not come back."""
        return list(self._running.values())

    @property
    def told(self) -> int:
        """Evaluations of the study so far."""
        return self._told

    @property
    def complete(self) -> bool:
        """Whether the search ended by itself (budget, time, exhausted space)."""
        return bool(self._ended) and not self._running and not self._queue


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Those that are numbers: JSON has no others."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
