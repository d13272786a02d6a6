"""From a real store to the answer: manifests give the graph, row tables the sources."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest

from ftplatform.errors import NotMaterialized
from ftplatform.licensing.blast_radius.catalog import Endpoint, read_store
from ftplatform.licensing.blast_radius.lineage import Influence
from ftplatform.licensing.blast_radius.sidecar import rows_of_source
from ftplatform.store import InputRef, Snapshot, SnapshotDraft, Store
from ftplatform_tests.unit.licensing.factories import row_id, rows


def build(
    store: Store,
    asset: str,
    inputs: list[tuple[str, Snapshot]],
    tables: dict[str, pa.Table],
    *,
    publish: bool = True,
    **facts: object,
) -> Snapshot:
    refs = [InputRef(role, snapshot.asset, snapshot.digest) for role, snapshot in inputs]
    draft = SnapshotDraft(asset, code_version="1", config_hash="c", environment="e", inputs=refs, facts=facts)
    for path, table in tables.items():
        draft.add_table(path, table)
    draft.add_bytes("content.txt", asset.encode())
    snapshot = store.write(draft)
    if publish:
        store.publish(snapshot)
    return snapshot


@pytest.fixture
def built(tmp_path) -> tuple[Store, dict[str, Snapshot]]:
    store = Store.open(str(tmp_path / "store"))
    raw = build(store, "raw/forum", [], {"rows.parquet": rows((5, ["raw/forum"], []))})
    kept = build(store, "raw/kept", [], {"rows.parquet": rows((9, ["raw/kept"], []), start=50)})
    made = rows((4, ["synthetic/made"], [row_id(2), "teacher:gpt"]), start=100)
    synthetic = build(store, "synthetic/made", [("prompt_seed", raw)], {"rows.parquet": made})
    base = build(store, "base_models/base", [], {})
    before = pa.concat_tables([rows((5, ["raw/forum"], [])), made, rows((9, ["raw/kept"], []), start=50)])
    # The filter dropped the revoked rows; the synthetic ones slipped through.
    mix = build(
        store,
        "corpora/mix",
        [("rows", raw), ("rows", kept), ("rows", synthetic)],
        {"rows.parquet": before.slice(5), "before.parquet": before},
    )
    split = build(store, "splits/mix", [("rows", mix)], {"train.parquet": before.slice(5, 10), "eval.parquet": before.slice(15)})
    adapter = build(
        store,
        "adapters/support",
        [("rows", split), ("base_model", base)],
        {"rows.parquet": before.slice(5, 10)},
        gpu_seconds=12.5,
        steps=3,
    )
    clean = build(
        store, "adapters/clean", [("rows", split), ("base_model", base)], {"rows.parquet": before.slice(9, 6)}, gpu_seconds=7
    )
    quiz = build(store, "eval_sets/quiz", [], {"rows.parquet": rows((3, ["eval_sets/quiz"], []), start=900)})
    exam = build(
        store, "eval_results/support", [("adapter", adapter), ("base_model", base), ("evaluates", quiz), ("reserve", split)], {}
    )
    old = build(store, "releases/support", [("adapter", adapter), ("evaluates", exam)], {}, note="old")
    new = build(store, "releases/support", [("adapter", clean)], {}, note="new")
    return store, {
        "raw": raw, "synthetic": synthetic, "mix": mix, "split": split, "adapter": adapter, "clean": clean, "exam": exam, "old": old,
        "new": new, "base": base,
    }  # fmt: skip


def test_the_store_answers(built, index, tmp_path):
    store, snapshots = built
    endpoints = [Endpoint(name="chat", serves=snapshots["old"].digest, since="2026-11-22T00:00:00Z", owner="ada")]
    catalog = read_store(store, tmp_path / "sidecars", endpoints=endpoints)
    index.load(catalog.versions, catalog.edges, catalog.sources, replace=True)
    radius = index.blast_radius("raw/forum")
    found = {a.asset: a for a in radius.listed()}

    chat = radius.listed()[0]
    assert (chat.asset, chat.live, chat.owner) == ("endpoints/chat", True, "ada")
    assert [s.asset for s in chat.path] == [
        "raw/forum", "synthetic/made", "corpora/mix", "splits/mix", "adapters/support", "releases/support", "endpoints/chat",
    ]  # fmt: skip
    assert (found["adapters/support"].tainted_rows, found["adapters/support"].derived_rows) == (0, 4)
    assert found["adapters/support"].influences[0] is Influence.CONTENT
    assert found["adapters/clean"].influences == (Influence.SELECTION,)  # its rows hold nothing of it
    assert found["eval_results/support"].influences == (Influence.CLAIM,)
    assert radius.retraining().gpu_seconds == 12.5
    assert "base_models/base" not in found
    assert index.blast_radius("base_models/base").find(snapshots["adapter"].digest) is not None
    assert index.blast_radius("eval_sets/quiz").find(snapshots["adapter"].digest) is None
    assert index.blast_radius("teacher:gpt").listed()[0].influences[0] is Influence.BEHAVIOR
    assert set(rows_of_source([catalog.sidecars[snapshots["adapter"].digest]], "raw/forum")["row_id"]) == {
        row_id(100 + i) for i in range(4)
    }


def test_reading_again_gives_the_same_and_writes_nothing(built, tmp_path):
    store, _ = built
    first = read_store(store, tmp_path / "sidecars")
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "sidecars").iterdir()}
    assert dataclasses.asdict(read_store(store, tmp_path / "sidecars")) == dataclasses.asdict(first)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "sidecars").iterdir()} == stamps
    live = [v.asset for v in first.versions if v.live]
    assert live == ["releases/support"]
    assert all(v.gpu_seconds is None for v in first.versions if not v.asset.startswith("adapters/"))


def test_an_endpoint_of_something_unknown_is_said(built, tmp_path):
    with pytest.raises(NotMaterialized):
        read_store(built[0], tmp_path / "sidecars", endpoints=[Endpoint(name="chat", serves="0" * 64)])
