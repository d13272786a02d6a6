"""The access ledger: append-only, verified; a damaged, forged or missing record is an error, never a clean slate."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.errors import CorruptArtifact, StoreError
from ftplatform.store import Store
from ftplatform.store.access_log import ALL, AccessKind, AccessRecord, of_set, record
from ftplatform_tests.s3 import BUCKET, S3Server

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
A, B, C = (letter * 64 for letter in "abc")


def act(store: Store, kind: str = "view", **changes: Any) -> AccessRecord:
    items = {"view": ALL, "export": ALL, "decision": (), "refresh": [A, B]}.get(kind, ())
    settings = {"by": "jo@example.com", "purpose": "triage of the refunds", "items": items, "now": NOW}
    return record(store.backend, "splits/vault", kind, **{**settings, **changes})


def key_of(entry: AccessRecord) -> str:
    return f"access/{entry.eval_set}/{entry.id}.json"


def test_a_record_is_named_by_its_hash_and_read_back_whole(open_store: Callable[[], Store]) -> None:
    store = open_store()
    written = act(store, items=[B, A, A], snapshot=C, adapter=A)
    (again,) = of_set(open_store().backend, "splits/vault")
    assert again == written
    assert (again.kind, again.items, again.at) == (AccessKind.VIEW, (A, B), NOW)
    assert again.item_level
    stored = store.backend.get(key_of(written))
    assert stored is not None
    assert sha256_hex(stored.data) == written.id
    assert orjson.loads(stored.data) == written.to_record()


def test_oldest_first_and_each_set_its_own(store: Store) -> None:
    later = act(store, "decision", now=NOW + HOUR)
    opening = act(store, "refresh")
    other = record(store.backend, "splits/vault/deeper", "export", by="kim", purpose="audit", items=ALL, now=NOW)
    assert of_set(store.backend, "splits/vault") == [opening, later]
    assert of_set(store.backend, "splits/vault/deeper") == [other]
    assert of_set(store.backend, "splits/working") == []


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("view", {"by": "  "}),
        ("view", {"purpose": "\n"}),
        ("view", {"purpose": "x" * 2001}),
        ("view", {"now": datetime(2026, 3, 1)}),
        ("view", {"items": ()}),
        ("view", {"items": A}),
        ("view", {"items": ["item-1"]}),
        ("view", {"snapshot": "latest"}),
        ("view", {"adapter": "../x"}),
        ("glance", {}),
        ("decision", {"items": [A]}),
        ("decision", {"items": ALL}),
        # "All of it is new" is how an old vault would be declared fresh.
        ("refresh", {"items": ALL}),
        ("refresh", {"items": ()}),
    ],
)
def test_what_cannot_be_recorded(store: Store, kind: str, changes: dict[str, Any]) -> None:
    with pytest.raises(StoreError) as error:
        act(store, kind, **changes)
    assert error.value.remedy
    assert of_set(store.backend, "splits/vault") == []


@pytest.mark.parametrize("eval_set", ["../heads", "Vault", "", "a/b/c/d/e/f/g"])
def test_names_that_are_no_eval_set(store: Store, eval_set: str) -> None:
    with pytest.raises(StoreError, match="not a valid asset name"):
        record(store.backend, eval_set, "view", by="jo", purpose="p", items=ALL)


def put(store: Store, entry: AccessRecord, **changes: Any) -> str:
    """Place a record by hand under the hash it has: what somebody with access to the place can do."""
    data = canonical_json({**entry.to_record(), **changes})
    key = f"access/{entry.eval_set}/{sha256_hex(data)}.json"
    assert store.backend.put_if_absent(key, data)
    return key


def test_a_name_changed_in_place_is_damage(store: Store) -> None:
    entry = act(store)
    stored = store.backend.get(key_of(entry))
    assert stored is not None
    changed = stored.data.replace(b"jo@example.com", b"no@example.com")
    store.backend.compare_and_swap(key_of(entry), changed, stored.etag)
    assert orjson.loads(changed)["by"] == "no@example.com", "whoever only parses the document believes it"
    with pytest.raises(CorruptArtifact, match="does not hash to its name"):
        of_set(store.backend, "splits/vault")


def test_a_deleted_view_leaves_a_hole(store: Store) -> None:
    act(store, "refresh")
    view = act(store, now=NOW + HOUR)
    last = act(store, "decision", now=NOW + 2 * HOUR)
    assert view.id in last.after
    store.backend.delete_if_older(key_of(view), float("inf"))
    # A listing alone looks like a ledger in which nobody ever viewed an item.
    names = [entry.key for entry in store.backend.list("access/splits/vault/")]
    assert len(names) == 2
    with pytest.raises(CorruptArtifact, match=r"1 record\(s\) are missing"):
        of_set(store.backend, "splits/vault")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "glance"},
        {"at": "2026-03-01T12:00:00"},
        {"at": "never"},
        {"items": []},
        {"items": "most"},
        {"items": [1]},
        {"by": ""},
        {"by": 7},
        {"after": ["x"]},
        {"extra": 1},
        {"snapshot": "x"},
    ],
)
def test_a_forged_record_that_breaks_the_rules(store: Store, changes: dict[str, Any]) -> None:
    put(store, act(store), **changes)
    with pytest.raises(CorruptArtifact, match="is no access record"):
        of_set(store.backend, "splits/vault")


def test_a_record_of_another_set_a_newer_version_or_no_object(store: Store) -> None:
    entry = act(store)
    key = put(store, entry, eval_set="other")
    with pytest.raises(CorruptArtifact, match="another eval set"):
        of_set(store.backend, "splits/vault")
    store.backend.delete_if_older(key, float("inf"))
    key = put(store, entry, schema="ftplatform.access/9")
    with pytest.raises(StoreError, match="access/9"):
        of_set(store.backend, "splits/vault")
    store.backend.delete_if_older(key, float("inf"))
    for data, reason in ((b"[]", "no JSON object"), (b"{", "not valid JSON")):
        key = f"access/splits/vault/{sha256_hex(data)}.json"
        assert store.backend.put_if_absent(key, data)
        with pytest.raises(CorruptArtifact, match=reason):
            of_set(store.backend, "splits/vault")
        store.backend.delete_if_older(key, float("inf"))
    assert of_set(store.backend, "splits/vault") == [entry]


def test_people_look_at_the_same_time(store: Store) -> None:
    threads = [threading.Thread(target=act, args=(store,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({entry.id for entry in of_set(store.backend, "splits/vault")}) == 8


def test_garbage_collection_keeps_the_ledger(store: Store) -> None:
    entry = act(store)
    store.collect_garbage(grace=timedelta(0))
    assert of_set(store.backend, "splits/vault") == [entry]


def test_on_s3(s3_server: S3Server, prefix: str) -> None:
    options = {"endpoint_url": s3_server.url, "region": "us-east-1"}
    store = Store.open(f"s3://{BUCKET}/{prefix}", options)
    first, second = act(store, "refresh"), act(store, now=NOW + HOUR)
    assert second.after == (first.id,)
    assert of_set(Store.open(f"s3://{BUCKET}/{prefix}", options).backend, "splits/vault") == [first, second]
