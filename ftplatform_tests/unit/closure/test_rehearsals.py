"""Records of replays, and what closure_replay and bus_factor make of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ftplatform.closure.diff import Change
from ftplatform.closure.equivalence import SCORES_SCHEMA
from ftplatform.closure.outcome import Comparison, Outcome, compare
from ftplatform.closure.rehearsal import (
    PLATFORM,
    Rehearsal,
    Scores,
    keep_scores,
    read_scores,
    record_rehearsal,
    rehearsals,
)
from ftplatform.closure.rehearsal_checks import bus_factor, closure_replay
from ftplatform.closure.replay import Replay
from ftplatform.errors import CorruptArtifact, InputDataError
from ftplatform.store import Snapshot, SnapshotDraft, Store
from ftplatform.verdict import Decision
from ftplatform_tests.unit.closure.test_equivalence import scores
from ftplatform_tests.unit.closure.trained import put

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def shown(outcome: Outcome = Outcome.IDENTICAL, *, whole: bool = True, failed: bool = False) -> Replay:
    return Replay(
        comparison=Comparison(outcome=outcome, steps=3, max_loss_difference=0.0, reason="Because."),
        machine="x86_64/AVX512",
        same_class=True,
        losses=(2.0, 1.5, 1.25),
        recorded=(2.0, 1.5, 1.25),
        failed=failed,
        adapter=Path("anywhere") if whole else None,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def snapshot(store: Store) -> Snapshot:
    def fill(draft: SnapshotDraft) -> None:
        draft.add_bytes("weights", b"w")
        draft.facts["closure"] = "c" * 64

    return put(store, "adapters/support", fill)


def test_records_are_read_back_as_they_were_written(store: Store, snapshot: Snapshot) -> None:
    kept = Scores(adapter="a" * 64, replicates=({"data_order": 1, "adapter_init": 2, "scores": "b" * 64},))
    first = record_rehearsal(store.backend, snapshot, shown(), by="ada", now=NOW)
    second = record_rehearsal(store.backend, snapshot, shown(Outcome.DIVERGED), by=" ben ", scores=kept, now=NOW + timedelta(1))
    assert rehearsals(store.backend, "adapters/support") == [first, second]
    assert second.by == "ben"
    assert second.closure == "c" * 64
    assert rehearsals(store.backend, "adapters/other") == []


def test_equal_acts_are_two_records(store: Store, snapshot: Snapshot) -> None:
    for _ in range(2):
        record_rehearsal(store.backend, snapshot, shown(), by="ada", now=NOW)
    assert len(rehearsals(store.backend, "adapters/support")) == 2


def test_a_damaged_record_is_an_error_and_not_one_rehearsal_less(store: Store, snapshot: Snapshot, tmp_path: Path) -> None:
    kept = record_rehearsal(store.backend, snapshot, shown(), by="ada", now=NOW)
    (file,) = (tmp_path / "store").rglob(f"{kept.id}.json")
    file.chmod(0o644)
    file.write_bytes(file.read_bytes().replace(b"ada", b"eve"))
    with pytest.raises(CorruptArtifact):
        rehearsals(store.backend, "adapters/support")


@pytest.mark.parametrize("by", ["", "  ", "x" * 201])
def test_somebody_did_it(store: Store, snapshot: Snapshot, by: str) -> None:
    with pytest.raises(InputDataError, match="name of who"):
        record_rehearsal(store.backend, snapshot, shown(), by=by)


def test_scores_are_kept_by_their_hash(store: Store, tmp_path: Path) -> None:
    table = scores(3, 2, easy=20, hard=10)
    digest = keep_scores(store.backend, table)
    assert keep_scores(store.backend, table) == digest
    (read,) = read_scores(store.backend, [digest])
    assert read.equals(table)
    assert read.schema == SCORES_SCHEMA
    (file,) = (tmp_path / "store").rglob(f"{digest}.parquet")
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptArtifact, match="does not hash"):
        read_scores(store.backend, [digest])


def rehearsal(replay: Replay, *, by: str = "ada", at: datetime = NOW) -> Rehearsal:
    c = replay.comparison
    return Rehearsal(
        asset="adapters/support",
        snapshot="s" * 64,
        closure="c" * 64,
        by=by,
        at=at,
        machine=replay.machine,
        same_class=replay.same_class,
        outcome=c.outcome,
        reason=c.reason,
        failed=replay.failed,
        whole=replay.adapter is not None,
        steps=c.steps,
        max_loss_difference=c.max_loss_difference,
        losses=replay.losses,
        recorded=replay.recorded,
        differences=tuple(map(str, replay.differences)),
    )


# ---- closure_replay


@pytest.mark.parametrize(
    ("outcome", "failed", "expected"),
    [
        (Outcome.IDENTICAL, False, Decision.PASS),
        (Outcome.EQUIVALENT, False, Decision.WARN),
        (Outcome.DIVERGED, False, Decision.WARN),
        (Outcome.NOT_TRIED, True, Decision.FAIL),
        (Outcome.NOT_TRIED, False, Decision.INSUFFICIENT_EVIDENCE),
    ],
)
def test_what_a_replay_decides(outcome: Outcome, failed: bool, expected: Decision) -> None:
    replay = shown(outcome, failed=failed)
    if outcome is Outcome.NOT_TRIED:
        replay = Replay(comparison=compare([1.0], [], same_bytes=None), failed=failed)
    verdict = closure_replay(rehearsal(replay))
    assert verdict.decision is expected
    assert verdict.remedy


def test_another_class_of_hardware_warns_and_names_it() -> None:
    """ADV: other kernels round otherwise; a check for equal bytes would refuse every second machine."""
    recorded, replayed = [2.0, 1.5, 1.25], [2.0, 1.5 + 3e-7, 1.25 - 2e-7]
    assert recorded != replayed, "what a check for equality concludes"
    replay = Replay(
        comparison=compare(recorded, replayed, same_bytes=None),
        machine="x86_64/AVX2",
        same_class=False,
        losses=tuple(replayed),
        recorded=tuple(recorded),
        differences=(Change("/runtime/capability_class", "changed", "x86_64/AVX512", "x86_64/AVX2"),),
    )
    verdict = closure_replay(rehearsal(replay))
    assert verdict.decision is Decision.WARN
    assert "another hardware class (x86_64/AVX2)" in verdict.summary
    assert verdict.estimate == pytest.approx(3e-7)
    assert "/runtime/capability_class" in str(verdict.evidence)


def test_without_a_replay_there_is_no_evidence() -> None:
    verdict = closure_replay(None, waiting="Due tonight.")
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.summary == "Due tonight."


# ---- bus_factor


def test_the_author_alone_is_not_enough_and_a_second_person_is() -> None:
    own = rehearsal(shown(), by="Ada@example.com")
    assert bus_factor([own], author="ada@example.com", now=NOW).decision is Decision.WARN
    verdict = bus_factor([own, rehearsal(shown(), by="ben")], author="ada@example.com", now=NOW)
    assert verdict.decision is Decision.PASS
    assert [row["by"] for row in verdict.evidence][1:] == ["ben"]
    assert "example.com" not in str(verdict.evidence), "evidence travels further than the records; addresses are masked"


def test_where_the_author_is_unknown_one_person_is_the_author() -> None:
    assert bus_factor([rehearsal(shown())], author=None, now=NOW).decision is Decision.WARN
    assert bus_factor([rehearsal(shown()), rehearsal(shown(), by="ben")], author=None, now=NOW).passed


@pytest.mark.parametrize(
    "worthless",
    [
        rehearsal(shown(Outcome.DIVERGED), by="ben"),
        rehearsal(shown(whole=False), by="ben"),
        rehearsal(shown(), by=PLATFORM),
        rehearsal(shown(), by="ben", at=NOW - timedelta(days=181)),
        rehearsal(shown(), by="ben", at=NOW + timedelta(days=1)),
        rehearsal(shown(), by=" ADA "),
    ],
    ids=["diverged", "first steps only", "the nightly run", "too long ago", "in the future", "the same person"],
)
def test_what_does_not_count(worthless: Rehearsal) -> None:
    """ADV: a count of records would say two in each case."""
    listed = [rehearsal(shown()), worthless]
    assert len(listed) == 2
    assert bus_factor(listed, author="ada", now=NOW).decision is Decision.WARN


def test_nobody_at_all() -> None:
    verdict = bus_factor([], author="ada", now=NOW)
    assert verdict.decision is Decision.WARN
    assert "Nobody" in verdict.summary
