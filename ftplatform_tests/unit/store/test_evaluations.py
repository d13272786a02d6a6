"""Evaluations: the latest is what the gate reads, a crash is visible, history is append-only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.store import Store
from ftplatform.store.names import blob_key
from ftplatform.verdict import Decision
from ftplatform_tests.unit.store.builders import build, record, verdict


def begin(store: Store, snapshot, run_id: str) -> None:
    store.begin_evaluation("splits/a", "survival", judged={"splits/a": snapshot.digest}, run_id=run_id)


def state(store: Store) -> tuple[str, str] | None:
    latest = store.latest_evaluation("splits/a", "survival")
    return (latest.state, latest.run_id) if latest else None


def test_from_never_to_running_to_done(open_store: Callable[[], Store]) -> None:
    store = open_store()
    snapshot = build(store, "splits/a")
    assert state(store) is None
    begin(store, snapshot, "r1")
    running = open_store().latest_evaluation("splits/a", "survival")
    assert running is not None
    assert (running.state, running.judged, running.verdict, running.record) == (
        "running",
        {"splits/a": snapshot.digest},
        None,
        None,
    )
    done = record(store, "splits/a", "survival", snapshot, "r1", Decision.FAIL)
    latest = open_store().latest_evaluation("splits/a", "survival")
    assert latest == done
    assert done.verdict == verdict(Decision.FAIL)
    assert (done.state, done.blocking, done.severity, done.evaluated_at) == ("done", True, "error", "2025-01-01T00:00:00Z")
    assert store.checks("splits/a") == ["survival"]
    assert store.latest_evaluation("splits/a", "other") is None


def test_a_crash_stays_visible_until_a_later_run_finishes(store: Store) -> None:
    snapshot = build(store, "splits/a")
    begin(store, snapshot, "r1")
    passed = record(store, "splits/a", "survival", snapshot, "r1")
    begin(store, snapshot, "crashed")
    latest = store.latest_evaluation("splits/a", "survival")
    assert latest is not None
    assert (latest.state, latest.run_id, latest.previous) == ("running", "crashed", passed.record)
    begin(store, snapshot, "r3")
    assert state(store) == ("running", "r3")
    record(store, "splits/a", "survival", snapshot, "r3")
    assert state(store) == ("done", "r3")


def test_an_older_run_that_finishes_does_not_hide_a_younger_one(store: Store) -> None:
    # Naively the last writer wins: "old" would turn the crash of "young" into a pass.
    snapshot = build(store, "splits/a")
    begin(store, snapshot, "old")
    begin(store, snapshot, "young")
    record(store, "splits/a", "survival", snapshot, "old")
    assert state(store) == ("running", "young")
    record(store, "splits/a", "survival", snapshot, "young", Decision.FAIL)
    assert state(store) == ("done", "young")


def test_a_retried_run_replaces_its_own_announcement(store: Store) -> None:
    snapshot = build(store, "splits/a")
    begin(store, snapshot, "r1")
    begin(store, snapshot, "r1")
    record(store, "splits/a", "survival", snapshot, "r1")
    assert state(store) == ("done", "r1")


def test_recording_without_announcing_does_not_settle_others(store: Store) -> None:
    snapshot = build(store, "splits/a")
    record(store, "splits/a", "survival", snapshot, "audit")
    assert state(store) == ("done", "audit")
    begin(store, snapshot, "crashed")
    record(store, "splits/a", "survival", snapshot, "audit")
    assert state(store) == ("running", "crashed")


def test_a_run_settled_by_a_younger_one_settles_nothing(store: Store) -> None:
    snapshot = build(store, "splits/a")
    begin(store, snapshot, "old")
    begin(store, snapshot, "young")
    record(store, "splits/a", "survival", snapshot, "young")
    begin(store, snapshot, "crashed")
    record(store, "splits/a", "survival", snapshot, "old")
    assert state(store) == ("running", "crashed")


def test_history_is_newest_first_and_chained(store: Store) -> None:
    snapshot = build(store, "splits/a")
    made = [record(store, "splits/a", "survival", snapshot, f"r{i}") for i in range(5)]
    begin(store, snapshot, "crashed")
    assert store.evaluation_history("splits/a", "survival") == made[::-1]
    assert store.evaluation_history("splits/a", "survival", 2) == made[:2:-1]
    assert store.evaluation_history("splits/a", "survival", None)[-1].previous is None
    assert [item.previous for item in made[1:]] == [item.record for item in made[:-1]]
    assert store.evaluation_history("splits/a", "other") == []


def test_concurrent_records_are_all_kept(store: Store) -> None:
    snapshot = build(store, "splits/a")

    def work(name: str) -> None:
        for i in range(5):
            record(store, "splits/a", "survival", snapshot, f"{name}-{i}")

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = [item.run_id for item in store.evaluation_history("splits/a", "survival", None)]
    assert sorted(runs) == sorted(f"t{n}-{i}" for n in range(6) for i in range(5))


def test_a_verdict_that_cannot_be_kept_leaves_the_check_running(store: Store) -> None:
    snapshot = build(store, "splits/a")
    begin(store, snapshot, "r1")
    with pytest.raises(StoreError, match=r"survival on splits/a: verdict\.details\.rate is nan"):
        store.record_evaluation(
            "splits/a",
            "survival",
            judged={"splits/a": snapshot.digest},
            verdict=verdict(rate=float("nan")),
            blocking=True,
            severity="error",
            run_id="r1",
            evaluated_at="2025-01-01T00:00:00Z",
        )
    assert state(store) == ("running", "r1")


@pytest.mark.parametrize(
    ("asset", "check", "judged"),
    [("../a", "c", {}), ("a", "../c", {}), ("a", "a/b", {}), ("a", "c", {"..": "0" * 64}), ("a", "c", {"a": "latest"})],
)
def test_invalid_names_are_refused(store: Store, asset: str, check: str, judged: dict[str, str]) -> None:
    with pytest.raises(StoreError):
        store.begin_evaluation(asset, check, judged=judged, run_id="r")


def test_damaged_and_missing_records_are_named(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    done = record(store, "splits/a", "survival", build(store, "splits/a"))
    assert done.record
    path = tmp_path / "store" / blob_key(done.record)
    intact = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(intact.replace(b'"decision":"pass"', b'"decision":"fail"'))
    with pytest.raises(CorruptArtifact, match=f"record {done.record} of survival on splits/a does not hash to its name"):
        store.latest_evaluation("splits/a", "survival")
    path.unlink()
    with pytest.raises(CorruptArtifact, match="is missing"):
        store.latest_evaluation("splits/a", "survival")
