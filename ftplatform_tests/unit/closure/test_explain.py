"""Closures for people."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.closure.diff import diff
from ftplatform.closure.explain import MEANINGS, RowChanges, composition, grouped, row_changes, row_order
from ftplatform.closure.finding import CLOSURE_FILE, find_closure
from ftplatform.closure.manifest import SCHEMA
from ftplatform.store import Snapshot, Store

IDS = st.lists(st.sampled_from("abcdefgh"), max_size=12)


@given(IDS, IDS)
def test_counts_of_rows_add_up(before: list[str], after: list[str]) -> None:
    changes = row_changes(before, after)
    assert changes.common + changes.added == len(after)
    assert changes.common + changes.removed == len(before)
    assert changes.moved <= changes.common
    assert (changes == RowChanges(0, 0, 0, len(after))) == (before == after)


def test_rows_that_moved_and_rows_that_only_shifted() -> None:
    assert row_changes(list("abcd"), list("xabcd")) == RowChanges(added=1, removed=0, moved=0, common=4)
    assert row_changes(list("abcd"), list("bacd")) == RowChanges(added=0, removed=0, moved=2, common=4)
    assert row_changes(list("aab"), list("ab")) == RowChanges(added=0, removed=1, moved=0, common=2)


def test_causes_come_before_the_result_and_every_part_has_a_meaning(adapter: Snapshot) -> None:
    manifest = json.loads(adapter.read_bytes(CLOSURE_FILE))
    assert manifest["schema"] == SCHEMA
    assert set(manifest) <= set(MEANINGS)
    changed: dict[str, Any] = copy.deepcopy(manifest)
    changed["subject"]["tensors"]["digest"] = "0" * 64
    changed["seeds"]["adapter_init"] = 5
    changed["rows"]["count"] = 3
    changed["unheard_of"] = 1
    parts = [part for part, meaning, _ in grouped(diff(manifest, changed)) if meaning]
    assert parts == ["rows", "seeds", "subject", "unheard_of"]


def test_what_it_is_made_of(trained_store: Store) -> None:
    found = find_closure("support", trained_store)
    made = composition(found)
    assert made["rows"]["count"] == 40
    assert made["seeds"]["adapter_init"] == 0
    assert made["checks"] == ["splits/support: row_schema 1, pass"]
    assert "findings" not in made, "nothing in a fresh closure fails to hold elsewhere"
    assert made["runtime"]["capability_class"]
    assert json.loads(json.dumps(made)) == made


def test_the_order_of_rows_comes_out_of_the_store(trained_store: Store) -> None:
    found = find_closure("support", trained_store)
    order = row_order(found, trained_store)
    assert order is not None
    assert len(order) == 40
    assert row_changes(order, order[::-1]).moved == 40
    broken = copy.deepcopy(dict(found.manifest))
    broken["rows"] = {"order": {"sha256": "0" * 64}}
    assert row_order(type(found)(broken, found.digest, None, "x"), trained_store) is None


@pytest.mark.parametrize("hidden", [{}, {"rows": {}}, {"rows": {"order": {"sha256": 5}}}])
def test_a_closure_without_rows_has_no_order(trained_store: Store, hidden: dict[str, Any]) -> None:
    found = find_closure("support", trained_store)
    assert row_order(type(found)(hidden, found.digest, None, "x"), trained_store) is None
