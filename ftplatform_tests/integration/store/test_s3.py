"""The store in a real S3 API: the same promises as in a folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from ftplatform.canonical import sha256_hex
from ftplatform.errors import CorruptArtifact, NotMaterialized, PublishConflict, StoreError
from ftplatform.store import SnapshotDraft, Store, s3
from ftplatform.store.local import hash_file
from ftplatform.store.names import blob_key
from ftplatform.store.s3 import S3Backend, parse_options
from ftplatform_tests.s3 import BUCKET, S3Server
from ftplatform_tests.unit.store.builders import build, record

Opener = Callable[..., Store]


@pytest.fixture
def backend(s3_server: S3Server, prefix: str) -> S3Backend:
    """A backend with the smallest parts S3 allows, so that a small file is a large one."""
    return S3Backend(BUCKET, prefix, parse_options({"endpoint_url": s3_server.url}), part=5 * 2**20)


def test_round_trip_through_another_machine(open_s3: Opener, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(os.urandom(100_000))
    table = pa.table({"x": [1, None, 3], "y": ["a", "b", None]})
    made = SnapshotDraft("raw/a", code_version="1", config_hash="c", environment="e", facts={"rows": 3})
    made.add_table("rows.parquet", table)
    made.add_bytes("empty", b"")
    made.add_file("weights/model.safetensors", tmp_path / "weights")
    written = open_s3().write(made)
    with pytest.raises(NotMaterialized):
        open_s3().current("raw/a")
    head = open_s3().publish(written, expected=None)
    assert head.generation == 1

    store = open_s3()
    snapshot = store.current("raw/a")
    assert snapshot == written
    assert snapshot.read_table("rows.parquet").equals(table)
    assert pa.Table.from_batches(snapshot.iter_batches("rows.parquet")).equals(table)
    assert snapshot.read_bytes("empty") == b""
    local = snapshot.local_folder("weights") / "model.safetensors"
    assert local.read_bytes() == (tmp_path / "weights").read_bytes()
    assert store.assets() == ["raw/a"]
    assert store.verify("raw/a") == []
    assert store.publish(written) == head
    other = build(store, "raw/a", "other", [snapshot])
    with pytest.raises(PublishConflict):
        store.publish(other, expected=None)
    assert store.publish(other, expected=head).generation == 2
    assert [item.digest for item in store.lineage(other.digest)] == [other.digest, snapshot.digest]


def test_evaluations(open_s3: Opener) -> None:
    store = open_s3()
    snapshot = build(store, "splits/a", "x")
    store.begin_evaluation("splits/a", "survival", judged={"splits/a": snapshot.digest}, run_id="r1")
    running = open_s3().latest_evaluation("splits/a", "survival")
    assert running is not None
    assert running.state == "running"
    done = [record(store, "splits/a", "survival", snapshot, run) for run in ("r1", "r2")]
    assert open_s3().latest_evaluation("splits/a", "survival") == done[-1]
    assert open_s3().evaluation_history("splits/a", "survival") == done[::-1]


def test_of_sixteen_racing_creators_one_wins(backend: S3Backend) -> None:
    start = threading.Barrier(16)

    def create(number: int) -> bool:
        start.wait()
        return backend.put_if_absent("heads/a.json", f"creator {number}".encode())

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(create, range(16)))
    assert sum(won) == 1
    stored = backend.get("heads/a.json")
    assert stored is not None
    assert stored.data == f"creator {won.index(True)}".encode()


def test_eight_publishers_times_ten_is_generation_eighty(open_s3: Opener) -> None:
    stores = [open_s3() for _ in range(8)]
    pairs = [[build(store, "raw/a", f"{worker}-{turn}") for turn in "ab"] for worker, store in enumerate(stores)]

    def publish(worker: int) -> list[int]:
        return [stores[worker].publish(snapshot).generation for snapshot in pairs[worker] * 5]

    with ThreadPoolExecutor(8) as pool:
        generations = [generation for made in pool.map(publish, range(8)) for generation in made]
    assert sorted(generations) == list(range(1, 81))
    head = open_s3().head("raw/a")
    assert head is not None
    assert head.generation == 80


def test_large_blobs_go_in_parts_and_stay_exclusive(backend: S3Backend, s3_server: S3Server, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(12 * 2**20 + 17))
    digest = hash_file(path)
    key = blob_key(digest)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: backend.ensure(key, path, digest), range(2)))
    assert b"".join(backend.chunks(key)) == path.read_bytes()
    found = s3_server.client.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}")
    assert found["ETag"].strip('"').endswith("-3")  # three parts
    # Nothing is left of the loser's upload.
    assert "Uploads" not in s3_server.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)


def test_a_large_file_that_changes_is_refused_and_its_upload_abandoned(
    backend: S3Backend, s3_server: S3Server, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(bytes(11 * 2**20))
    with pytest.raises(StoreError, match="changed while it was stored"):
        backend.ensure(blob_key("a" * 64), tmp_path / "weights", "a" * 64)
    assert backend.stat(blob_key("a" * 64)) is None
    assert "Uploads" not in s3_server.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)


def test_damage_at_rest_is_named_and_healed_by_writing_again(open_s3: Opener, s3_server: S3Server, prefix: str) -> None:
    made = SnapshotDraft("raw/a", code_version="1", config_hash="c", environment="e")
    made.add_table("rows.parquet", pa.table({"x": list(range(5000))}))
    store = open_s3()
    snapshot = store.write(made)
    store.publish(snapshot)
    blob = snapshot.files[0].sha256
    key = f"{prefix}/{blob_key(blob)}"
    intact = s3_server.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    flipped = bytes([*intact[:3000], intact[3000] ^ 1, *intact[3001:]])
    for damaged in (flipped, intact[:-1]):
        s3_server.client.put_object(Bucket=BUCKET, Key=key, Body=damaged)
        reader = open_s3().current("raw/a")
        for read in (reader.read_table, reader.read_bytes, reader.local_path):
            with pytest.raises(CorruptArtifact, match=rf"raw/a@\w+: file 'rows.parquet' .*{blob}"):
                read("rows.parquet")
        assert [problem.kind for problem in open_s3().verify("raw/a")] == ["corrupt"]
        store.write(made)
        assert open_s3().current("raw/a").read_table("rows.parquet").num_rows == 5000
    s3_server.client.delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(CorruptArtifact, match="it is missing"):
        open_s3().current("raw/a").read_table("rows.parquet")
    assert [problem.kind for problem in open_s3().verify("raw/a")] == ["missing"]


def test_a_damaged_cache_is_downloaded_again(s3_server: S3Server, prefix: str, tmp_path: Path) -> None:
    options = {"endpoint_url": s3_server.url}
    snapshot = build(Store.open(f"s3://{BUCKET}/{prefix}", options, cache_dir=tmp_path), "raw/a", "content")
    snapshot.read_bytes("content.txt")
    cached = tmp_path / "blobs" / snapshot.files[0].sha256[:2] / snapshot.files[0].sha256
    cached.chmod(0o644)
    cached.write_bytes(b"CONTENT")
    assert snapshot.read_bytes("content.txt") == b"content"
    again = Store.open(f"s3://{BUCKET}/{prefix}", options, cache_dir=tmp_path).snapshot(snapshot.digest)
    assert again.read_bytes("content.txt") == b"content"


def test_garbage_and_stale_uploads_are_collected(open_s3: Opener, s3_server: S3Server, prefix: str) -> None:
    store = open_s3()
    kept = build(store, "splits/a", "kept", [build(store, "raw/a", "source")])
    store.publish(kept)
    judged = build(store, "splits/a", "judged")
    record(store, "splits/a", "survival", judged)
    build(store, "raw/a", "orphan")
    s3_server.client.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/blobs/sha256/aa/{'a' * 64}")
    young = store.collect_garbage(timedelta(hours=1))
    old = store.collect_garbage(timedelta(0))
    assert (young.manifests, young.blobs, old.manifests, old.blobs) == (0, 0, 1, 1)
    # The server dates every upload to 2010, so the first collection takes it already.
    assert young.leftovers + old.leftovers == 1
    assert "Uploads" not in s3_server.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    for snapshot in (kept, judged):
        assert open_s3().verify(snapshot.digest) == []
    assert len(store.evaluation_history("splits/a", "survival")) == 1


def test_listings_go_over_pages(s3_server: S3Server, prefix: str) -> None:
    backend = S3Backend(BUCKET, prefix, parse_options({"endpoint_url": s3_server.url}), page=5)
    for number in range(12):
        s3_server.client.put_object(Bucket=BUCKET, Key=f"{prefix}/heads/a{number:02}.json", Body=b"")
    assert [entry.key for entry in backend.list("heads/")] == [f"heads/a{number:02}.json" for number in range(12)]


def test_setup_mistakes_are_explained(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open("s3://no-such-bucket/x", {"endpoint_url": s3_server.url})
    with pytest.raises(StoreError, match="There is no bucket 'no-such-bucket'"):
        store.head("raw/a")
    with pytest.raises(StoreError, match="cannot be set up"):
        Store.open(f"s3://{BUCKET}/x", {"endpoint_url": "not a url"}).head("raw/a")
    with pytest.raises(StoreError, match=r"cannot be set up: .*no-such-profile"):
        Store.open(f"s3://{BUCKET}/x", {"profile": "no-such-profile"}).head("raw/a")
    monkeypatch.setattr(s3, "_sessions", {})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(StoreError, match="credentials"):
        Store.open(f"s3://{BUCKET}/x", {"endpoint_url": s3_server.url, "deadline": "7"}).head("raw/a")


def test_a_blob_that_exists_is_not_sent_again(backend: S3Backend, s3_server: S3Server, prefix: str) -> None:
    data = b"content"
    key = blob_key(sha256_hex(data))
    backend.ensure(key, data, sha256_hex(data))
    before = s3_server.client.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["LastModified"]
    backend.ensure(key, data, sha256_hex(data))
    assert s3_server.client.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["LastModified"] == before
