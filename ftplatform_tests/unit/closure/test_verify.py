"""A real closure, and what is told of it when one thing in it changes (CLO-02)."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.canonical import digest
from ftplatform.closure.contents import contradictions
from ftplatform.closure.diff import diff
from ftplatform.closure.finding import CLOSURE_FILE, Found, find_closure, stored_document
from ftplatform.closure.verify import Verification, verify_closure
from ftplatform.errors import InputDataError, StoreError
from ftplatform.store import Snapshot, Store
from ftplatform.training.tensors import tensors_digest

Path_ = tuple[str | int, ...]


def leaves(node: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every value of a JSON document that holds no other, empty lists and mappings included."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    entries = list(items)
    if not entries:
        yield path, node
    for key, value in entries:
        yield from leaves(value, (*path, key))


def with_leaf(document: dict[str, Any], path: Path_, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    node = changed
    for key in path[:-1]:
        node = node[key]  # type: ignore[index]
    node[path[-1]] = value  # type: ignore[index]
    return changed


def other(value: Any) -> Any:
    """Something of the same kind that is not `value`."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value[:-1] + ("0" if value[-1:] != "0" else "1") if value else "x"
        case None:
            return "x"
    return ["x"] if isinstance(value, list) else {"x": 1}


@pytest.fixture(scope="session")
def manifest(adapter: Snapshot) -> dict[str, Any]:
    return json.loads(adapter.read_bytes(CLOSURE_FILE))


@pytest.fixture(scope="session")
def all_leaves(manifest: dict[str, Any]) -> list[tuple[Path_, Any]]:
    return list(leaves(manifest))


def verified(manifest: dict[str, Any], store: Store) -> Verification:
    return verify_closure(Found(manifest, digest(manifest), None, "a file"), store, tensors_digest=tensors_digest)


def test_a_real_closure_is_intact(trained_store: Store, adapter: Snapshot, manifest: dict[str, Any]) -> None:
    seen = verify_closure(find_closure("support", trained_store), trained_store, tensors_digest=tensors_digest)
    assert seen.intact, (seen.complete.summary, seen.contradicted)
    assert stored_document(trained_store, str(adapter.facts["closure"])) == manifest


@settings(max_examples=60)
@given(data=st.data())
def test_any_changed_field_changes_the_hash_and_is_named(
    trained_store: Store, manifest: dict[str, Any], all_leaves: list[tuple[Path_, Any]], data: st.DataObject
) -> None:
    path, value = data.draw(st.sampled_from(all_leaves))
    changed = with_leaf(manifest, path, other(value))
    assert digest(changed) != digest(manifest)
    seen = diff(stored_document(trained_store, digest(manifest)) or {}, changed)
    assert seen
    field = str(path[-1]).replace("~", "~0").replace("/", "~1")
    # An entry of a list that is known by a name moves with its name: it is then one entry less and one more.
    assert all(change.path.startswith(f"/{path[0]}") for change in seen)
    # An empty list that gets an entry is named with the entry.
    assert len(seen) > 1 or seen[0].path.endswith((f"/{field}", f"/{field}/0"))


def test_every_single_field_is_named_by_the_comparison(manifest: dict[str, Any], all_leaves: list[tuple[Path_, Any]]) -> None:
    assert len(all_leaves) > 200
    for path, value in all_leaves:
        changed = with_leaf(manifest, path, other(value))
        assert digest(changed) != digest(manifest), path
        assert {str(change.path).split("/")[1] for change in diff(manifest, changed)} == {str(path[0])}, path


def test_verify_names_the_field_of_an_edited_file(trained_store: Store, manifest: dict[str, Any]) -> None:
    edited = with_leaf(manifest, ("hyperparameters", "optimization", "learning_rate"), 0.004)
    seen = verified(edited, trained_store)
    assert not seen.intact
    assert [str(change) for change in seen.edited] == ["/hyperparameters/optimization/learning_rate: 0.005 -> 0.004"]
    assert "other-name" in [row["rule"] for row in seen.complete.evidence]


#: Fields that nothing beside the closure says again; their guard is the closure's hash alone.
ONLY_HERE = {
    ("schema",),
    ("kind",),
    ("base_model", "hub"),
    ("base_model", "revision"),
    ("rows", "asset"),
    ("rows", "snapshot"),
    ("rows", "path"),
    ("code", "package", "name"),
    ("code", "package", "version"),
    ("code", "project", "vcs"),
    ("code", "project", "commit"),
    ("code", "project", "dirty"),
    ("code", "project", "path"),
    ("environment", "direct"),
    ("hyperparameters", "safety_mix"),
    ("seeds", "safety_mix"),
    ("licenses", "ledger"),
    ("licenses", "uses"),
    ("waivers",),
    ("human_steps",),
}


def test_a_change_under_a_new_name_still_contradicts_the_store(
    trained_store: Store, adapter: Snapshot, manifest: dict[str, Any], all_leaves: list[tuple[Path_, Any]]
) -> None:
    """ADV: whoever edits a closure can hash it again; a comparison with its name then finds nothing.

    Most fields are said a second time by rows, weights, lock, recipe or verdicts. One field of each kind is tried, of lists the first
    entry.
    """
    tried: dict[tuple[str, ...], Path_] = {}
    for path, _ in all_leaves:
        kind = tuple(str(part) for part in path if not isinstance(part, int))
        tried.setdefault(kind[:2] if kind[:2] == ("environment", "packages") else kind[:4], path)
    unseen = []
    for path in tried.values():
        value = next(v for p, v in all_leaves if p == path)
        changed = with_leaf(manifest, path, other(value))
        renamed = digest(changed)
        assert renamed == digest(changed), "its name fits"
        if path[:2] == ("base_model", "snapshot"):
            with pytest.raises(StoreError):  # nothing to compare with: `closure_complete` names it
                contradictions(changed, adapter, trained_store)
        elif not contradictions(changed, adapter, trained_store, tensors_digest=tensors_digest):
            unseen.append(tuple(str(part) for part in path))
    assert {next((known for known in ONLY_HERE if u[: len(known)] == known), u) for u in unseen} <= ONLY_HERE
    assert len(tried) > 80
    assert len(unseen) / len(tried) < 0.3


def test_files_are_found_and_named(trained_store: Store, adapter: Snapshot, manifest: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "closure.json"
    file.write_text(json.dumps(manifest, indent=2))
    found = find_closure(str(file), trained_store)
    assert found.snapshot == adapter
    for name in (f"support@{adapter.digest[:12]}", f"adapters/support@{found.digest[:8]}", "adapters/support"):
        assert find_closure(name, trained_store).snapshot == adapter


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "no schema"), ("{}", "no schema"), ("{", "is no closure"), ('{"schema": NaN}', "is no closure")],
)
def test_files_that_are_no_closure(trained_store: Store, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(InputDataError, match=message):
        find_closure(str(file), trained_store)


@pytest.mark.parametrize("version", ["abc", "zzzzzzzz", "00000000"])
def test_versions_that_there_are_not(trained_store: Store, version: str) -> None:
    with pytest.raises(InputDataError, match=r"names no version|has no version"):
        find_closure(f"support@{version}", trained_store)
