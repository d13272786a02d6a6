"""The store as its users see it, in a folder and in memory."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from ftplatform.errors import CorruptArtifact, NotMaterialized, PublishConflict, StoreError
from ftplatform.store import UNSET, InputRef, SnapshotDraft, Store
from ftplatform.store.names import blob_key, head_key, manifest_key
from ftplatform_tests.unit.store.builders import build, draft

Opener = Callable[[], Store]


# ---- writing and reading ---------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_by_another_process_view(open_store: Opener, tmp_path: Path) -> None:
    weights = tmp_path / "in" / "adapter" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"\x00\x01" * 5000)
    (tmp_path / "in" / "card.md").write_text("# Karte ✓")
    table = pa.table({"x": [1, None, 3], "y": ["a", "b", None]})
    made = SnapshotDraft("raw/a", code_version="1", config_hash="c", environment="e")
    made.add_table("rows.parquet", table)
    made.add_json("report.json", {"b": [1, 2.5, None], "a": "✓"})
    made.add_folder("weights", tmp_path / "in")
    made.facts["rows"] = 3
    store = open_store()
    store.publish(store.write(made))

    snapshot = open_store().current("raw/a")
    assert snapshot.read_table("rows.parquet").equals(table)
    assert snapshot.read_table("rows.parquet", ["y"]).column_names == ["y"]
    assert pa.Table.from_batches(snapshot.iter_batches("rows.parquet", ["x"], batch_rows=2)).equals(table.select(["x"]))
    assert snapshot.read_json("report.json") == {"a": "✓", "b": [1, 2.5, None]}
    assert snapshot.read_bytes("report.json") == b'{"a":"\xe2\x9c\x93","b":[1,2.5,null]}'
    assert snapshot.facts == {"rows": 3}
    assert [entry.path for entry in snapshot.files] == [
        "report.json",
        "rows.parquet",
        "weights/adapter/model.safetensors",
        "weights/card.md",
    ]
    assert snapshot.file("rows.parquet").rows == 3
    local = snapshot.local_path("weights/adapter/model.safetensors")
    assert local.name == "model.safetensors"
    assert local.read_bytes() == weights.read_bytes()
    folder = snapshot.local_folder("weights")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "adapter/model.safetensors",
        "card.md",
    ]
    assert (snapshot.local_folder() / "report.json").read_bytes() == snapshot.read_bytes("report.json")
    assert snapshot.local_path("weights/adapter/model.safetensors") == local


def test_the_same_build_gives_the_same_snapshot_anywhere(tmp_path: Path) -> None:
    one, other = Store.open(str(tmp_path / "one")), Store.open("memory://same-build")
    assert build(one, "raw/a", "x") == build(one, "raw/a", "x") == build(other, "raw/a", "x")
    assert build(one, "raw/a", "y") != build(one, "raw/a", "x")


def test_missing_things_are_named(store: Store) -> None:
    with pytest.raises(NotMaterialized, match=r"raw/a has no snapshot .* Run: ftplatform run raw/a"):
        store.current("raw/a")
    with pytest.raises(NotMaterialized, match="no snapshot " + "0" * 64):
        store.snapshot("0" * 64)
    assert store.head("raw/a") is None
    assert store.assets() == []
    snapshot = build(store, "raw/a")
    for read in (snapshot.read_bytes, snapshot.read_table, snapshot.local_path):
        with pytest.raises(StoreError, match=r"raw/a@\w+ has no file 'rows.parquet'. Its files are content.txt."):
            read("rows.parquet")
    with pytest.raises(StoreError, match="no files below 'weights'"):
        snapshot.local_folder("weights")
    with pytest.raises(StoreError, match="not a Parquet table"):
        snapshot.read_table("content.txt")
    with pytest.raises(StoreError, match="is not JSON"):
        snapshot.read_json("content.txt")


def test_a_lineage_cannot_dangle(store: Store) -> None:
    source = build(store, "raw/a")
    with pytest.raises(StoreError, match=r"splits/a names the input raw/b@000000000000 \(rows\), which is not in"):
        store.write(draft("splits/a", inputs=[InputRef("rows", "raw/b", "0" * 64)]))
    with pytest.raises(StoreError, match="as a snapshot of raw/b, but it is one of raw/a"):
        store.write(draft("splits/a", inputs=[InputRef("rows", "raw/b", source.digest)]))


def test_a_file_that_changes_while_it_is_stored_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"before")
    made = draft("adapters/a")
    made.add_file("weights", tmp_path / "weights")
    (tmp_path / "weights").write_bytes(b"after!")
    with pytest.raises(StoreError, match="changed while it was stored"):
        store.write(made)
    (tmp_path / "weights").unlink()
    with pytest.raises(StoreError, match="No such file"):
        store.write(made)


def test_drafts_refuse_what_cannot_be_stored(tmp_path: Path) -> None:
    made = draft("raw/a")
    with pytest.raises(StoreError, match=r"already has a file 'content\.txt'"):
        made.add_bytes("content.txt", b"")
    with pytest.raises(StoreError, match=r"x\.loss is nan"):
        made.add_json("report.json", {"x": {"loss": float("nan")}})
    with pytest.raises(StoreError, match="is not a file"):
        made.add_file("w", tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no files"):
        made.add_folder("w", tmp_path / "empty")
    (tmp_path / "folder" / "real").mkdir(parents=True)
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "folder" / "real")
    with pytest.raises(StoreError, match="is a link to a folder"):
        made.add_folder("w", tmp_path / "folder")
    with pytest.raises(StoreError, match="not a valid asset name"):
        draft("../raw")


def test_links_to_files_are_followed(store: Store, tmp_path: Path) -> None:
    # Model hub caches keep links named like the files and the bytes elsewhere.
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").symlink_to(tmp_path / "blob")
    made = draft("base_models/m")
    made.add_folder("", tmp_path / "model")
    assert store.write(made).read_bytes("model.safetensors") == b"weights"


# ---- publishing ------------------------------------------------------------------------------------------------------------


def test_heads_move_forward_and_remember_one_step(store: Store) -> None:
    a, b = build(store, "raw/a", "a"), build(store, "raw/a", "b")
    first = store.publish(a)
    assert (first.generation, first.snapshot, first.previous) == (1, a.digest, None)
    second = store.publish(b)
    assert (second.generation, second.snapshot, second.previous) == (2, b.digest, a.digest)
    assert store.publish(a).generation == 3
    assert store.current("raw/a") == a
    assert store.assets() == ["raw/a"]


def test_publishing_what_is_current_changes_nothing(store: Store) -> None:
    snapshot = build(store, "raw/a", "a")
    head = store.publish(snapshot)
    assert store.publish(snapshot) == head
    assert store.publish(snapshot, expected=head) == head


def test_expectations_are_kept(store: Store) -> None:
    a, b, c = (build(store, "raw/a", text) for text in "abc")
    first = store.publish(a, expected=None)
    with pytest.raises(PublishConflict, match="expected at nothing but is at generation 1"):
        store.publish(b, expected=None)
    second = store.publish(b, expected=first)
    with pytest.raises(PublishConflict, match=r"expected at generation 1 \(\w+\) but is at generation 2"):
        store.publish(c, expected=first)
    assert store.current("raw/a") == b
    assert store.publish(c, expected=second).generation == 3
    # Back at an old snapshot is not back at the old head.
    store.publish(a, expected=UNSET)
    with pytest.raises(PublishConflict):
        store.publish(b, expected=first)


def test_only_what_is_in_this_store_is_published(tmp_path: Path) -> None:
    here, elsewhere = Store.open(str(tmp_path / "here")), Store.open(str(tmp_path / "elsewhere"))
    with pytest.raises(StoreError, match=r"cannot be published: .* is missing"):
        here.publish(build(elsewhere, "raw/a", "x"))
    assert here.head("raw/a") is None


def test_files_a_desktop_leaves_behind_are_passed_over(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.publish(build(store, "raw/a", "x"))
    (tmp_path / "heads" / ".DS_Store").touch()
    assert store.assets() == ["raw/a"]
    (tmp_path / "heads" / "raw" / "a.json.bak").touch()
    for use in (store.assets, store.collect_garbage):
        with pytest.raises(StoreError, match=r"heads/raw/a\.json\.bak does not belong"):
            use()


def test_a_snapshot_outlives_the_store_object_it_came_from() -> None:
    snapshot = build(Store.open("memory://outlives"), "raw/a", "x")
    gc.collect()
    assert snapshot.local_path("content.txt").read_bytes() == b"x"


def test_one_store_serves_many_threads(store: Store) -> None:
    snapshots = [build(store, "raw/a", f"{n % 3}") for n in range(6)]

    def use(number: int) -> bytes:
        again = store.snapshot(snapshots[number % 6].digest)
        store.publish(build(store, f"raw/t{number}", f"thread {number}"))
        return again.local_path("content.txt").read_bytes() + again.read_bytes("content.txt")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(24))) == [f"{n % 6 % 3}".encode() * 2 for n in range(24)]


def test_assets_may_be_prefixes_of_each_other(store: Store) -> None:
    for asset in ("license_ledger", "raw/a", "raw", "raw/a/b"):
        store.publish(build(store, asset, asset))
    assert store.assets() == ["license_ledger", "raw", "raw/a", "raw/a/b"]
    assert store.current("raw/a").read_bytes("content.txt") == b"raw/a"


# ---- damage ----------------------------------------------------------------------------------------------------------------


def damage(path: Path, position: int | None = None) -> None:
    """Flip one bit of a stored file, or cut its last byte off."""
    data = bytearray(path.read_bytes())
    if position is None:
        data = data[:-1]
    else:
        data[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("position", [0, 2000, None])
def test_damaged_blobs_are_named_and_a_rebuild_heals_them(tmp_path: Path, position: int | None) -> None:
    url = str(tmp_path / "store")
    made = draft("raw/a")
    made.add_table("rows.parquet", pa.table({"x": list(range(1000))}))
    store = Store.open(url)
    snapshot = store.write(made)
    store.publish(snapshot)
    blob = snapshot.file("rows.parquet").sha256
    damage(tmp_path / "store" / blob_key(blob), position)
    damaged = Store.open(url).current("raw/a")
    for read in (damaged.read_table, damaged.read_bytes, damaged.local_path, damaged.read_schema):
        with pytest.raises(CorruptArtifact, match=rf"raw/a@\w+: file 'rows.parquet' .*{blob}.* materialize the asset again"):
            read("rows.parquet")
    with pytest.raises(CorruptArtifact):
        damaged.local_folder()
    assert damaged.read_bytes("content.txt") == b""
    assert [(problem.kind, problem.path, problem.blob) for problem in store.verify("raw/a")] == [("corrupt", "rows.parquet", blob)]
    store.write(made)
    assert store.verify("raw/a") == []
    assert damaged.read_table("rows.parquet").num_rows == 1000


def test_damage_after_the_first_read_is_noticed_too(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    snapshot = build(store, "raw/a", "content")
    assert snapshot.read_bytes("content.txt") == b"content"
    damage(tmp_path / "store" / blob_key(snapshot.files[0].sha256), 0)
    with pytest.raises(CorruptArtifact):
        snapshot.read_bytes("content.txt")


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    snapshot = build(store, "raw/a", "content")
    store.publish(snapshot)
    (tmp_path / "store" / blob_key(snapshot.files[0].sha256)).unlink()
    with pytest.raises(CorruptArtifact, match=r"'content\.txt' .* it is missing"):
        snapshot.read_bytes("content.txt")
    assert [problem.kind for problem in store.verify(snapshot.digest)] == ["missing"]


def test_a_damaged_view_is_made_anew(tmp_path: Path) -> None:
    store = Store.open("memory://damaged-view", cache_dir=tmp_path)
    snapshot = build(store, "raw/a", "content")
    view = snapshot.local_path("content.txt")
    damage(view, 0)
    assert snapshot.local_path("content.txt").read_bytes() == b"content"


def test_damaged_manifests_and_heads_are_named(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    store = Store.open(url)
    source = build(store, "raw/a", "a")
    snapshot = build(store, "splits/a", "b", [source])
    store.publish(snapshot)
    manifest = tmp_path / "store" / manifest_key(source.digest)
    damage(manifest, 30)
    with pytest.raises(CorruptArtifact, match=source.digest):
        Store.open(url).snapshot(source.digest)
    assert [(problem.kind, problem.asset, problem.path) for problem in store.verify("splits/a")] == [("corrupt", "raw/a", None)]
    manifest.unlink()
    assert [(problem.kind, problem.asset, problem.path) for problem in store.verify("splits/a")] == [("missing", "raw/a", None)]
    with pytest.raises(CorruptArtifact, match="which is gone"):
        Store.open(url).lineage(snapshot.digest)
    damage(tmp_path / "store" / head_key("splits/a"), 80)
    for use in (store.head, store.current, lambda asset: store.publish(snapshot)):
        with pytest.raises(CorruptArtifact, match=r"heads/splits/a\.json"):
            use("splits/a")


def test_a_head_whose_snapshot_is_gone_is_corrupt_not_absent(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    store = Store.open(url)
    snapshot = build(store, "raw/a", "a")
    store.publish(snapshot)
    (tmp_path / "store" / manifest_key(snapshot.digest)).unlink()
    with pytest.raises(CorruptArtifact, match=f"names the snapshot {snapshot.digest}, which is gone"):
        Store.open(url).current("raw/a")


# ---- lineage ---------------------------------------------------------------------------------------------------------------


def test_lineage_is_breadth_first_and_lists_each_once(store: Store) -> None:
    a, b = build(store, "raw/a"), build(store, "raw/b")
    left, right = build(store, "corpora/left", inputs=[a, b]), build(store, "corpora/right", inputs=[a])
    top = build(store, "adapters/top", inputs=[right, left, a])
    assert [snapshot.asset for snapshot in store.lineage(top.digest)] == [
        "adapters/top",
        "corpora/left",
        "corpora/right",
        "raw/a",
        "raw/b",
    ]
    assert store.lineage(a.digest) == [a]
    assert store.verify(top.digest) == []


def test_verify_needs_something_to_verify(store: Store) -> None:
    for name in ("raw/a", "0" * 64):
        with pytest.raises(NotMaterialized):
            store.verify(name)


# ---- opening ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://host/x", "abfs://c/x", "hf://datasets/a/b", "sftp://h/x"])
def test_places_without_compare_and_swap_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="offers no atomic compare-and-swap"):
        Store.open(url)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("s3://key:secret@bucket/x", {}, "holds credentials"),
        ("s3://Bucket_/x", {}, "not a valid S3 store"),
        ("s3://bucket/a/../b", {}, "not a valid S3 store"),
        ("s3://bucket/x", {"endpoint": "u"}, "Did you mean 'endpoint_url'"),
        ("s3://bucket/x", {"secret": "s"}, "credentials into the environment"),
        ("s3://bucket/x", {"deadline": "soon"}, "'deadline' is 'soon'"),
        ("s3://bucket/x", {"addressing_style": "p"}, "addressing_style"),
        ("folder", {"endpoint_url": "u"}, "takes no options"),
        ("file://host/x", {}, "not a local folder"),
        ("", {}, "not a folder"),
    ],
)
def test_unusable_urls_and_options_are_explained(url: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(url, options)
    assert "key:secret" not in str(caught.value)


def test_opening_creates_nothing(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    assert store.assets() == []
    assert store.head("raw/a") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="is a file"):
        Store.open(str(tmp_path / "file"))


def test_file_urls_and_paths_are_the_same_store(tmp_path: Path) -> None:
    snapshot = build(Store.open(f"file://{tmp_path}/my%20store"), "raw/a", "x")
    assert Store.open(str(tmp_path / "my store")).snapshot(snapshot.digest) == snapshot


def test_importing_the_store_loads_nothing_heavy() -> None:
    heavy = "{'s3fs', 'fsspec', 'aiobotocore', 'botocore', 'boto3', 'polars', 'pandas', 'pyarrow.parquet', 'torch', 'dagster'}"
    code = f"import sys, ftplatform.store; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
