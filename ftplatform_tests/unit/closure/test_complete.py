"""closure_complete on plain data and on a real store."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ftplatform.canonical import sha256_hex
from ftplatform.closure.complete import REQUIRED, closure_complete, references, store_resolver
from ftplatform.closure.manifest import Closure, ModelFacts, RowFacts, transitive_inputs
from ftplatform.store import InputRef, SnapshotDraft, Store
from ftplatform.verdict import Decision
from ftplatform_tests.unit.closure.factories import ROW_IDS, World, clean_closure, small_package


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Closure, World]:
    return clean_closure(small_package(tmp_path_factory.mktemp("closure")))


def test_a_complete_closure_passes(made: tuple[Closure, World]) -> None:
    closure, world = made
    verdict = closure_complete(closure.manifest, world.resolve, name=closure.digest)
    assert verdict.decision is Decision.PASS, verdict.summary
    assert verdict.estimate == 1.0
    assert verdict.n == len(REQUIRED) + len(references(closure.manifest))
    assert len(references(closure.manifest)) > 15
    assert str(verdict.plot).startswith("<svg")


def _without(manifest: dict[str, Any], pointer: str) -> dict[str, Any]:
    *parents, last = pointer.split("/")[1:]
    node = manifest
    for part in parents:
        node = node[part]
    del node[last]
    return manifest


@pytest.mark.parametrize("pointer", REQUIRED)
def test_each_required_field_is_missed(made: tuple[Closure, World], pointer: str) -> None:
    closure, world = made
    verdict = closure_complete(_without(json.loads(closure.document), pointer), world.resolve)
    assert verdict.decision is Decision.FAIL
    assert pointer in [row["field"] for row in verdict.evidence]
    assert verdict.estimate is not None
    assert verdict.estimate < 1


def test_each_reference_is_followed(made: tuple[Closure, World]) -> None:
    closure, world = made
    for pointer, digest in references(closure.manifest):
        lost = World({key: data for key, data in world.blobs.items() if key != digest})
        verdict = closure_complete(closure.manifest, lost.resolve)
        assert verdict.decision is Decision.FAIL
        assert pointer in [row["field"] for row in verdict.evidence], pointer


def test_bytes_that_no_longer_hash_to_their_name(made: tuple[Closure, World]) -> None:
    closure, world = made
    digest = closure.manifest["base_model"]["files"][0]["sha256"]
    damaged = World({**world.blobs, digest: world.blobs[digest] + b"\x00"})
    naive = set(damaged.blobs) >= {value for _, value in references(closure.manifest)}
    assert naive, "a check that only asks whether the name exists sees nothing"
    assert closure_complete(closure.manifest, damaged.resolve).decision is Decision.FAIL


@pytest.mark.parametrize("empty", [{}, {"schema": "ftplatform.closure/1"}])
def test_a_manifest_without_references_never_passes(empty: dict[str, Any]) -> None:
    verdict = closure_complete(empty, lambda _: None)
    assert verdict.decision is Decision.FAIL


@pytest.mark.parametrize(
    ("where", "value", "rule"),
    [
        (("hyperparameters", "data"), "/home/alice/data.parquet", "home-path"),
        (("code", "project", "dirty"), True, "dirty-tree"),
        (("code", "project", "dirty"), None, "missing-field"),
        (("environment", "packages", "transformers"), ">=4", "unpinned-package"),
        (("rows", "count"), 0, "no-rows"),
        (("schema",), "ftplatform.closure/9", "unknown-schema"),
        (("inputs",), [{"role": "rows", "asset": "other", "snapshot": "0" * 64}], "not-an-input"),
        (("hyperparameters", "learning_rate"), float("nan"), "not-canonical"),
    ],
)
def test_what_else_refuses(made: tuple[Closure, World], where: tuple[str, ...], value: Any, rule: str) -> None:
    closure, world = made
    broken = copy.deepcopy(json.loads(closure.document))
    node = broken
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = value
    verdict = closure_complete(broken, world.resolve)
    assert verdict.decision is Decision.FAIL
    row = next(row for row in verdict.evidence if row["rule"] == rule)
    assert str(row["field"]).startswith("/")
    assert row["remedy"]


def test_an_edited_manifest_does_not_keep_its_name(made: tuple[Closure, World]) -> None:
    closure, world = made
    edited = json.loads(closure.document)
    edited["seeds"]["data_order"] = 1
    assert closure_complete(edited, world.resolve).passed
    verdict = closure_complete(edited, world.resolve, name=closure.digest)
    assert [row["rule"] for row in verdict.evidence] == ["other-name"]


# ---- on a store


def _draft(asset: str, *inputs: InputRef) -> SnapshotDraft:
    return SnapshotDraft(asset, code_version="1", config_hash="c", environment="e", inputs=list(inputs))


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, str, dict[str, Any]]:
    """A store with raw rows, a split, a base model, a ledger, and an adapter that holds its closure."""
    from ftplatform_tests.unit.closure import factories

    store = Store.open(str(tmp_path / "store"))

    def write(draft: SnapshotDraft) -> Any:
        snapshot = store.write(draft)
        store.publish(snapshot)
        return snapshot

    raw = _draft("raw/a")
    raw.add_table("rows.parquet", pa.table({"row_id": ROW_IDS}))
    raw_snapshot = write(raw)
    split = _draft("splits/support", InputRef("rows", "raw/a", raw_snapshot.digest))
    split.add_table("train.parquet", pa.table({"row_id": ROW_IDS}))
    split_snapshot = write(split)
    base = _draft("base_models/tiny")
    base.add_bytes("model/model.safetensors", b"base weights")
    base.add_bytes("model/tokenizer.json", b"{}")
    base_snapshot = write(base)
    ledger = _draft("license_ledger")
    ledger.add_bytes("ledger.json", b"[]")
    ledger_snapshot = write(ledger)

    adapter = _draft(
        "adapters/support",
        InputRef("rows", "splits/support", split_snapshot.digest),
        InputRef("base_model", "base_models/tiny", base_snapshot.digest),
    )
    adapter.add_bytes("adapter/adapter_model.safetensors", b"weights")

    real = factories.build_closure

    def on_store(**facts: Any) -> Closure:
        lineage = [*store.lineage(split_snapshot.digest), *store.lineage(base_snapshot.digest)]
        direct = [{"role": r.role, "asset": r.asset, "snapshot": r.snapshot} for r in adapter.inputs]
        return real(
            **{
                **facts,
                "subject": [draft.entry for draft in adapter.files.values()],
                "base_model": ModelFacts(
                    asset="base_models/tiny",
                    snapshot=base_snapshot.digest,
                    files=base_snapshot.files,
                    chat_template="{{ messages }}",
                ),
                "rows": RowFacts(asset="splits/support", snapshot=split_snapshot.digest, path="train.parquet", row_ids=ROW_IDS),
                "inputs": [*direct, *transitive_inputs(lineage)],
                "licenses": _replace(facts["licenses"], ledger_snapshot=ledger_snapshot.digest),
                "checks": [_replace(fact, judged={"splits/support": split_snapshot.digest}) for fact in facts["checks"]],
            }
        )

    monkeypatch.setattr(factories, "build_closure", on_store)
    closure, _ = clean_closure(small_package(tmp_path))
    for path, data in closure.attachments.items():
        adapter.add_bytes(f"closure/{path}", data)
    adapter.add_bytes("closure/closure.json", closure.document)
    snapshot = write(adapter)
    return store, snapshot.digest, {"closure": closure, "raw": raw_snapshot, "base": base_snapshot}


def _replace(value: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(value, **changes)


def test_an_adapter_in_a_store_is_complete(stored: tuple[Store, str, dict[str, Any]]) -> None:
    store, adapter, parts = stored
    manifest = store.snapshot(adapter).read_json("closure/closure.json")
    verdict = closure_complete(manifest, store_resolver(store, adapter), name=parts["closure"].digest)
    assert verdict.decision is Decision.PASS, [dict(row) for row in verdict.evidence]
    assert ("rows", "raw/a") in {(i["role"], i["asset"]) for i in manifest["inputs"]}, "upstream of upstream is named"


@pytest.mark.parametrize("victim", ["raw", "base"])
def test_a_damaged_or_lost_blob_upstream_is_found_and_named(stored: tuple[Store, str, dict[str, Any]], victim: str) -> None:
    store, adapter, parts = stored
    manifest = store.snapshot(adapter).read_json("closure/closure.json")
    entry = parts[victim].files[0]
    blob = next(Path(store.url.removeprefix("file://")).rglob(entry.sha256))
    original = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    verdict = closure_complete(manifest, store_resolver(store, adapter))
    assert verdict.decision is Decision.FAIL
    assert any(row["rule"] == "unresolved-reference" for row in verdict.evidence)
    blob.unlink()
    assert closure_complete(manifest, store_resolver(store, adapter)).decision is Decision.FAIL
    blob.write_bytes(original)
    assert closure_complete(manifest, store_resolver(store, adapter)).decision is Decision.PASS


def test_a_digest_nobody_stored(stored: tuple[Store, str, dict[str, Any]]) -> None:
    store, adapter, _ = stored
    assert store_resolver(store, adapter)(sha256_hex(b"never written")) == "there are no bytes with this hash in the store"
