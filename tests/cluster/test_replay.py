"""Replay: a study's strategy, asked again as it was asked, proposes the same; what was changed is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import update

from archfront import search
from archfront.cluster.store import Store
from archfront.cluster.store._models import ProposalRow
from archfront.cluster.study import Study
from archfront.spaces._errors import UsageError
from tests.cluster.command import in_process
from tests.cluster.studies import own


@pytest.mark.parametrize("strategy", search.names())
def test_every_strategy_replays(store: Store, strategy: str) -> None:
    own(store, strategy=strategy, parameters=dict(search.load(strategy).test_parameters)).run(trials=16)
    found = Study.open("own", store=store).replay()
    assert (found.proposals, found.same, found.difference) == (16, 16, None)


def test_interrupted_extended_and_foreign(store: Store) -> None:
    study = own(store)

    def interrupt(progress: object) -> None:
        if getattr(progress, "told", 0) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run(trials=12, watch=interrupt)
    Study.open("own", store=store).run()
    Study.open("own", store=store).tell({"depth": 3, "width": 16}, {"error": 0.5, "cost": 1.0})
    Study.open("own", store=store).run(trials=20)
    found = Study.open("own", store=store).replay()
    assert (found.proposals, found.difference) == (20, None)


@pytest.mark.ray
@pytest.mark.parametrize("options", [{}, {"reproducible": True, "lookahead": 4}])
@pytest.mark.parametrize("strategy", ["nsga2", "random"])
def test_what_ran_in_parallel(store: Store, ray_cluster: int, strategy: str, options: dict[str, object]) -> None:
    own(store, strategy=strategy, **options).run(trials=40, workers=ray_cluster)
    found = Study.open("own", store=store).replay()
    assert (found.proposals, found.difference) == (40, None)


def test_a_proposal_that_was_changed_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own(store, strategy="random").run(trials=8)
    fifth = store.proposals("own")[5].proposal
    with store._writer.begin() as connection:
        connection.execute(update(ProposalRow).where(ProposalRow.id == fifth.id).values(key="0" * 64))
    monkeypatch.setenv("ARCHFRONT_STORE", store.url)
    run = in_process(monkeypatch, capsys)
    done = run("replay", "own")
    assert done.code == 1
    assert "proposal 5 differs, after 5 evaluations were told" in done.out
    said = json.loads(run("replay", "own", "--json").out)
    assert said["same"] == 5
    assert said["difference"]["number"] == 5
    assert said["difference"]["proposed"] == fifth.config


def test_the_command_says_that_all_are_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own(store).run(trials=8)
    monkeypatch.setenv("ARCHFRONT_STORE", store.url)
    done = in_process(monkeypatch, capsys)("replay", "own")
    assert (done.code, done.err) == (0, "")
    assert done.out.strip() == "study 'own': all 8 proposals of nsga2 are the same"


def test_a_study_of_before_is_refused(store: Store, tmp_path: Path) -> None:
    own(store).run(trials=4)
    with store._writer.begin() as connection:
        connection.execute(update(ProposalRow).values(ask_number=None))
    with pytest.raises(UsageError, match="before archfront kept when each proposal was asked"):
        Study.open("own", store=store).replay()
