"""Waivers: append-only, bound, bounded in time; a damaged or forged one is an error, never a permission."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.store import Evaluation, Store
from ftplatform.store.names import blob_key
from ftplatform.store.waivers import MAX_LIFETIME, Standing, Waiver, WaiverError
from ftplatform.verdict import Decision
from ftplatform_tests.s3 import BUCKET, S3Server
from ftplatform_tests.unit.store.builders import build, record

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def failure(store: Store, asset: str = "splits/a", check: str = "survival") -> Evaluation:
    snapshot = build(store, asset)
    store.publish(snapshot)
    return record(store, asset, check, snapshot, decision=Decision.FAIL)


def issue(store: Store, evaluation: Evaluation, **changes: Any) -> Waiver:
    settings = {
        "check": evaluation.check,
        "check_version": "1",
        "binding": "b1nd",
        "by": "jo@example.com",
        "why": "two rows, both read",
        "lifetime": 7 * DAY,
        "now": NOW,
    }
    return store.issue_waiver(evaluation, **{**settings, **changes})


def key_of(waiver: Waiver) -> str:
    return f"waivers/{waiver.asset}/{waiver.check}/{waiver.id}.json"


def test_a_waiver_names_everything_and_is_named_by_its_hash(open_store: Callable[[], Store]) -> None:
    store = open_store()
    evaluation = failure(store)
    waiver = issue(store, evaluation)
    (again,) = open_store().waivers("splits/a", "survival")
    assert again == waiver
    assert (waiver.evaluation, dict(waiver.judged)) == (evaluation.record, dict(evaluation.judged))
    assert (waiver.decision, waiver.summary) == (Decision.FAIL, "97 of 100 rows survived")
    assert (waiver.issued_at, waiver.expires_at) == (NOW, NOW + 7 * DAY)
    stored = store.backend.get(key_of(waiver))
    assert stored is not None
    assert sha256_hex(stored.data) == waiver.id
    assert orjson.loads(stored.data) == waiver.to_record()
    assert store.latest_evaluation("splits/a", "survival") == evaluation, "the failure stays a failure"


def test_there_must_be_something_to_waive(store: Store) -> None:
    snapshot = build(store, "splits/a")
    passed = record(store, "splits/a", "survival", snapshot)
    with pytest.raises(WaiverError, match="passed; there is nothing to waive"):
        issue(store, passed)
    store.begin_evaluation("splits/a", "survival", judged={"splits/a": snapshot.digest}, run_id="killed")
    running = store.latest_evaluation("splits/a", "survival")
    assert running is not None
    with pytest.raises(WaiverError, match="has not finished"):
        issue(store, running)
    assert store.all_waivers() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"by": "  "},
        {"why": "\n"},
        {"why": "x" * 2001},
        {"lifetime": timedelta(0)},
        {"lifetime": -DAY},
        {"lifetime": MAX_LIFETIME + timedelta(microseconds=1)},
        {"now": datetime(2026, 3, 1)},
    ],
)
def test_no_waiver_without_signer_reason_or_a_near_end(store: Store, changes: dict[str, Any]) -> None:
    with pytest.raises(WaiverError) as error:
        issue(store, failure(store), **changes)
    assert error.value.remedy
    assert store.all_waivers() == []


@given(lifetime=st.timedeltas(timedelta(microseconds=1), MAX_LIFETIME), later=st.timedeltas(-40 * DAY, 40 * DAY))
def test_it_is_in_force_from_issue_until_expiry_and_at_no_other_time(lifetime: timedelta, later: timedelta) -> None:
    store = Store.open("memory://waivers-in-time")
    waiver = issue(store, failure(store), lifetime=lifetime)
    expected = Standing.NOT_YET if later < timedelta(0) else Standing.IN_FORCE if later < lifetime else Standing.EXPIRED
    assert waiver.standing(NOW + later) is expected


def test_a_revocation_is_another_record(open_store: Callable[[], Store]) -> None:
    store = open_store()
    waiver = issue(store, failure(store))
    before = store.backend.get(key_of(waiver))
    revoked = store.revoke_waiver(waiver, by="kim", why="the rows were worse", now=NOW + DAY)
    (again,) = open_store().waivers("splits/a", "survival")
    assert again == revoked
    assert again.revocation is not None
    assert (again.revocation.by, again.revocation.why, again.revocation.at) == ("kim", "the rows were worse", NOW + DAY)
    assert before == store.backend.get(key_of(waiver))
    # A clock that runs ahead must not keep a revoked waiver in force.
    assert again.standing(NOW + timedelta(hours=1)) is Standing.REVOKED
    with pytest.raises(WaiverError, match="already, by kim"):
        store.revoke_waiver(again, by="jo", why="again")
    # Two people revoking at once: the earlier record counts.
    store.revoke_waiver(waiver, by="ann", why="too late", now=NOW + 2 * DAY)
    assert open_store().waivers("splits/a", "survival") == [revoked]


def test_all_of_them_newest_first_and_each_check_its_own(store: Store) -> None:
    first = issue(store, failure(store))
    second = issue(store, failure(store), now=NOW + DAY)
    other = issue(store, failure(store, "raw/a", "row_rule"), now=NOW + 2 * DAY)
    # An asset whose name continues with the name of a check is another folder, not another waiver.
    deeper = issue(store, failure(store, "splits/a/survival", "rule"), now=NOW + 3 * DAY)
    assert store.all_waivers() == [deeper, other, second, first]
    assert store.waivers("splits/a", "survival") == [second, first]
    assert store.waivers("splits/a", "other") == []
    nightly = issue(store, failure(store, check="nightly-survival"), check="survival", now=NOW + 4 * DAY)
    assert store.waivers("splits/a", "survival")[0] == nightly


def test_an_asset_name_too_long_to_be_listed_again_is_refused_when_it_is_written(store: Store) -> None:
    with pytest.raises(StoreError, match="not a valid asset name"):
        issue(store, failure(store, "a/b/c/d/e/f/g"))
    assert store.all_waivers() == []


def put(store: Store, waiver: Waiver, **changes: Any) -> str:
    """Place a record by hand, under the hash it has: what somebody with access to the place can do."""
    data = canonical_json({**waiver.to_record(), **changes})
    key = f"waivers/{waiver.asset}/{waiver.check}/{sha256_hex(data)}.json"
    assert store.backend.put_if_absent(key, data)
    return key


def test_an_expiry_moved_in_place_is_damage(store: Store) -> None:
    waiver = issue(store, failure(store))
    stored = store.backend.get(key_of(waiver))
    assert stored is not None
    moved = stored.data.replace(b'"expires_at":"2026-03-08', b'"expires_at":"2026-03-28')
    assert moved != stored.data
    store.backend.compare_and_swap(key_of(waiver), moved, stored.etag)
    # Whoever only parses the document goes on for twenty days more.
    assert orjson.loads(moved)["expires_at"] > orjson.loads(stored.data)["expires_at"]
    with pytest.raises(CorruptArtifact, match="does not hash to its name"):
        store.waivers("splits/a", "survival")


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": "2027-03-01T12:00:00.000000Z"},
        {"expires_at": "2026-02-01T12:00:00.000000Z"},
        {"expires_at": "2026-03-08T12:00:00"},
        {"expires_at": "never"},
        {"decision": "fine"},
        {"extra": 1},
    ],
)
def test_a_forged_record_that_breaks_the_rules_is_no_waiver(store: Store, changes: dict[str, Any]) -> None:
    put(store, issue(store, failure(store)), **changes)
    with pytest.raises(CorruptArtifact, match="is no waiver"):
        store.waivers("splits/a", "survival")


def test_a_record_of_another_check_or_a_newer_version_is_refused(store: Store) -> None:
    waiver = issue(store, failure(store))
    key = put(store, waiver, check="other")
    with pytest.raises(CorruptArtifact, match="about another check"):
        store.waivers("splits/a", "survival")
    store.backend.delete_if_older(key, float("inf"))
    put(store, waiver, schema="ftplatform.waiver/9")
    with pytest.raises(StoreError, match="waiver/9"):
        store.waivers("splits/a", "survival")


def test_people_sign_at_the_same_time(store: Store) -> None:
    evaluation = failure(store)
    threads = [threading.Thread(target=issue, args=(store, evaluation)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({waiver.id for waiver in store.waivers("splits/a", "survival")}) == 8


def test_garbage_collection_keeps_the_waiver_and_what_it_waives(store: Store) -> None:
    evaluation = failure(store)
    waiver = issue(store, evaluation)
    store.collect_garbage(grace=timedelta(0))
    assert store.waivers("splits/a", "survival") == [waiver]
    assert store.backend.stat(blob_key(waiver.evaluation)) is not None


def test_on_s3(s3_server: S3Server, prefix: str) -> None:
    options = {"endpoint_url": s3_server.url, "region": "us-east-1"}
    store = Store.open(f"s3://{BUCKET}/{prefix}", options)
    waiver = issue(store, failure(store))
    store.revoke_waiver(issue(store, failure(store), now=NOW + DAY), by="kim", why="no")
    again = Store.open(f"s3://{BUCKET}/{prefix}", options)
    newest, oldest = again.waivers("splits/a", "survival")
    assert oldest == waiver
    assert newest.standing(NOW + DAY) is Standing.REVOKED
    assert again.all_waivers() == [newest, oldest]
