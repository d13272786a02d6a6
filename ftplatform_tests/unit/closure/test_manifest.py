"""The manifest: what changes its hash, what does not, and what `diff` says about it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.canonical import digest, sha256_hex
from ftplatform.closure.diff import diff
from ftplatform.closure.manifest import CheckFact, ordered_rows_digest, recipe_digest, row_order_bytes
from ftplatform.errors import FtplatformError
from ftplatform_tests.unit.closure.factories import ROW_IDS, clean_closure, hex_of, small_package, verdict


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_package(tmp_path_factory.mktemp("closure"))


def test_the_same_facts_have_the_same_name(package: Path) -> None:
    first, _ = clean_closure(package)
    second, _ = clean_closure(package)
    assert first.document == second.document
    assert first.digest == sha256_hex(first.document) == digest(dict(first.manifest))


def test_same_rows_in_another_order() -> None:
    """ADV: a storage layer returned the same rows in another order; the adapter comes out different, the set hash does not."""
    ids = ROW_IDS.to_pylist()
    reordered = pa.array([*ids[1:], ids[0]])
    naive = [sha256_hex("".join(sorted(column.to_pylist())).encode()) for column in (ROW_IDS, reordered)]
    assert naive[0] == naive[1]
    assert ordered_rows_digest(ROW_IDS) != ordered_rows_digest(reordered)


def test_order_changes_the_closure_and_diff_names_it(package: Path) -> None:
    first, _ = clean_closure(package)
    second, _ = clean_closure(package, row_ids=pa.array(ROW_IDS.to_pylist()[::-1]))
    assert first.manifest["rows"]["set"] == second.manifest["rows"]["set"]
    assert first.digest != second.digest
    assert [change.path for change in diff(first.manifest, second.manifest)] == ["/rows/order/sha256"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([hex_of(str(i)) for i in range(6)]), max_size=8), st.integers(1, 4))
def test_order_digest_is_injective_and_ignores_chunking(ids: list[str], chunk: int) -> None:
    column = pa.array(ids, pa.string())
    chunked = pa.chunked_array([column[i : i + chunk] for i in range(0, len(ids), chunk)], type=pa.string())
    assert ordered_rows_digest(chunked) == ordered_rows_digest(column)
    assert row_order_bytes(column).decode().split() == ids


@pytest.mark.parametrize("bad", ["", "abc", "A" * 64, "a" * 63 + "\n", None])
def test_row_ids_must_be_hashes(bad: str | None) -> None:
    with pytest.raises(FtplatformError, match="Row 1 "):
        ordered_rows_digest(pa.array([hex_of("x"), bad], pa.string()))


def test_every_attachment_is_referred_to_by_its_hash(package: Path) -> None:
    closure, _ = clean_closure(package)
    text = closure.document.decode()
    assert all(sha256_hex(data) in text for data in closure.attachments.values())


def test_nothing_of_this_machine_or_moment_gets_in(package: Path) -> None:
    closure, _ = clean_closure(package)
    text = closure.document.decode()
    assert str(package) not in text
    for word in ("evaluated_at", "run_id", "created", "hostname", "timestamp"):
        assert word not in text
    assert "packages" not in closure.manifest["runtime"], "versions stand in one place"


def _leaves(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in _leaves(value, (*path, key))] or [path]
    if isinstance(node, list):
        return [leaf for index, value in enumerate(node) for leaf in _leaves(value, (*path, index))] or [path]
    return [path]


def _changed(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return hex_of(value) if len(value) == 64 else value + "x"
        case None:
            return "something"
        case list():
            return [{"who": "somebody"}]
    return {"key": "value"}


def test_changing_any_one_field_changes_the_hash_and_diff_names_it(package: Path) -> None:
    closure, _ = clean_closure(package)
    original = json.loads(closure.document)
    leaves = _leaves(original)
    assert len(leaves) >= 90
    for leaf in leaves:
        mutated = copy.deepcopy(original)
        node = mutated
        for key in leaf[:-1]:
            node = node[key]
        node[leaf[-1]] = _changed(node[leaf[-1]])
        assert digest(mutated) != closure.digest, leaf
        changes = diff(original, mutated)
        assert changes, leaf
        # A changed identity of a list entry shows as one entry gone and one new; anything else as the field itself.
        named = {key for key in leaf if isinstance(key, str)}
        assert all(any(str(name) in change.path for name in named) for change in changes), (leaf, changes)
        assert len(changes) <= 2, (leaf, changes)


def test_diff_of_equals_is_empty_and_kinds_are_told_apart() -> None:
    assert diff({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]}) == []
    changes = diff({"gone": 1, "same": 2, "kind": True}, {"new": 1, "same": 2, "kind": 1})
    assert [(c.path, c.kind) for c in changes] == [("/gone", "removed"), ("/kind", "changed"), ("/new", "added")]
    assert str(changes[1]) == "/kind: True -> 1"


def test_an_added_file_is_one_addition_not_a_shift() -> None:
    def manifest(names: str) -> dict[str, Any]:
        return {"files": [{"path": name, "sha256": hex_of(name)} for name in names]}

    assert [c.path for c in diff(manifest("bcd"), manifest("abcd"))] == ["/files/a"]


def test_the_recipe_is_the_closure_without_its_result(package: Path) -> None:
    closure, _ = clean_closure(package)
    other = json.loads(closure.document)
    other["subject"]["tensors"]["digest"] = hex_of("other bits")
    assert digest(other) != closure.digest
    assert recipe_digest(other) == recipe_digest(closure.manifest)
    other["seeds"]["adapter_init"] = 8
    assert recipe_digest(other) != recipe_digest(closure.manifest)


def test_what_has_no_canonical_form_is_refused_by_name(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftplatform_tests.unit.closure import factories

    monkeypatch.setitem(factories.RUNTIME, "threads", float("nan"))
    with pytest.raises(FtplatformError, match="adapters/support has no canonical JSON form"):
        clean_closure(package)


def test_evidence_of_checks_is_hashed_without_its_picture(package: Path) -> None:
    closure, _ = clean_closure(package)
    path = "checks/splits/support/contamination_exact.json"
    record = json.loads(closure.attachments[path])
    assert "plot" not in record["verdict"]
    with_plot = CheckFact(asset="a", check="c", judged={}, verdict=replace(verdict(), plot="<svg/>"))
    without = CheckFact(asset="a", check="c", judged={}, verdict=verdict())
    from ftplatform.closure.manifest import _check_bytes

    assert _check_bytes(with_plot) == _check_bytes(without)
