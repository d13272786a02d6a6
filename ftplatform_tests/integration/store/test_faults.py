"""The store on a network that fails: the right answer or a typed error, never a wrong answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from ftplatform.errors import CorruptArtifact, PublishConflict, StoreError, StoreUnavailable
from ftplatform.store import SnapshotDraft, Store, s3
from ftplatform.store.local import hash_file
from ftplatform.store.names import blob_key
from ftplatform.store.s3 import S3Backend, parse_options
from ftplatform_tests.fault_proxy import Fault, FaultProxy, Kind
from ftplatform_tests.s3 import BUCKET, S3Server
from ftplatform_tests.unit.store.builders import build, record

Opener = Callable[..., Store]
TABLE = pa.table({"x": list(range(2000))})


def with_table(store: Store, asset: str = "raw/a"):
    made = SnapshotDraft(asset, code_version="1", config_hash="c", environment="e")
    made.add_table("rows.parquet", TABLE)
    return store.write(made)


# ---- passing faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("status", times=2)],
        [Fault("status", times=2, status=500)],
        [Fault("status", times=1, status=429)],
        [Fault("reset", times=3)],
        [Fault("delay", times=1, seconds=0.2)],
        [Fault("lose_response", method="PUT", path="blobs/")],
        [Fault("lose_response", method="PUT", path="manifests/")],
        [Fault("lose_response", method="PUT", path="heads/")],
        [Fault("lose_response", method="PUT", path="format.json")],
        [Fault("reset", method="PUT", path="heads/"), Fault("lose_response", method="PUT", path="heads/")],
        [Fault("lose_response", method="PUT", path="heads/"), Fault("flip", method="GET", path="heads/")],
        [Fault("lose_response", method="PUT", path="heads/"), Fault("status", method="GET", path="heads/")],
    ],
    ids=lambda faults: "+".join(f"{fault.kind}{fault.status if fault.kind == 'status' else ''}-{fault.path}" for fault in faults),
)
def test_a_publish_survives_passing_faults(open_s3: Opener, proxy: FaultProxy, faults: list[Fault]) -> None:
    proxy.plan(*faults)
    store = open_s3(proxy.url)
    snapshot = with_table(store)
    head = store.publish(snapshot, expected=None)
    assert sum(bool(hit) for _, _, hit in proxy.log) >= len(faults)
    assert head.generation == 1
    assert open_s3().head("raw/a") == head
    assert open_s3().verify("raw/a") == []


@pytest.mark.parametrize("path", ["heads/", "manifests/", "blobs/"])
@pytest.mark.parametrize("kind", ["status", "reset", "cut", "shorten", "flip", "delay"])
def test_a_read_survives_passing_faults(open_s3: Opener, proxy: FaultProxy, path: str, kind: Kind) -> None:
    store = open_s3()
    store.publish(with_table(store))
    proxy.plan(Fault(kind, method="GET", path=path, seconds=0.1))
    assert open_s3(proxy.url).current("raw/a").read_table("rows.parquet").equals(TABLE)
    assert proxy.hits(kind) == 1


# ---- lasting faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("status", times=None), StoreUnavailable),
        (Fault("reset", times=None), StoreUnavailable),
        (Fault("delay", times=None, seconds=2.0), StoreUnavailable),
        (Fault("cut", method="GET", path="blobs/", times=None), StoreUnavailable),
        (Fault("cut", method="GET", path="heads/", times=None), StoreUnavailable),
        (Fault("shorten", method="GET", path="heads/", times=None), CorruptArtifact),
        (Fault("shorten", method="GET", path="manifests/", times=None), CorruptArtifact),
        (Fault("shorten", method="GET", path="blobs/", times=None), StoreUnavailable),
        (Fault("flip", method="GET", path="heads/", times=None), CorruptArtifact),
        (Fault("flip", method="GET", path="manifests/", times=None), CorruptArtifact),
        (Fault("flip", method="GET", path="blobs/", times=None), CorruptArtifact),
        (Fault("status", times=None, status=403), StoreError),
    ],
    ids=lambda value: f"{value.kind}-{value.path}" if isinstance(value, Fault) else value.__name__,
)
def test_lasting_faults_are_typed_errors_within_the_deadline(
    open_s3: Opener, proxy: FaultProxy, fault: Fault, error: type[StoreError]
) -> None:
    store = open_s3()
    snapshot = with_table(store)
    store.publish(snapshot)
    proxy.plan(fault)
    slow = open_s3(proxy.url, deadline="1", read_timeout="0.3")
    with pytest.raises(error) as caught:
        slow.current("raw/a").read_table("rows.parquet")
    assert caught.value.remedy
    if fault.method == "":
        with pytest.raises(error):
            slow.publish(snapshot)
        with pytest.raises(error):
            slow.write(SnapshotDraft("raw/b", code_version="1", config_hash="c", environment="e"))
    proxy.clear()
    assert slow.current("raw/a").read_table("rows.parquet").equals(TABLE)


def test_a_server_that_is_not_there(open_s3: Opener) -> None:
    with pytest.raises(StoreUnavailable, match="run again; nothing is half-done"):
        open_s3("http://127.0.0.1:9", deadline="0.5").head("raw/a")


def test_flipped_heads_never_name_another_snapshot(open_s3: Opener, proxy: FaultProxy) -> None:
    head = open_s3().publish(build(open_s3(), "raw/a", "x"))
    store = open_s3(proxy.url)
    for _ in range(15):
        proxy.plan(Fault("flip", method="GET", path="heads/", times=2))
        assert store.head("raw/a") == head


@pytest.mark.parametrize("kind", ["cut", "shorten", "reset", "status"])
def test_a_listing_survives_passing_faults(open_s3: Opener, proxy: FaultProxy, kind: Kind) -> None:
    store = open_s3()
    store.publish(with_table(store))
    proxy.plan(Fault(kind, method="GET", path="list-type=2"))
    assert open_s3(proxy.url).assets() == ["raw/a"]
    assert proxy.hits(kind) == 1


def test_flipped_listings_never_hide_or_invent_an_asset(open_s3: Opener, proxy: FaultProxy) -> None:
    # Garbage collection believes a listing of heads: what it misses is deleted.
    truth = open_s3()
    for name in "abc":
        truth.publish(build(truth, f"raw/{name}", "x"))
    store = open_s3(proxy.url)
    for _ in range(25):
        proxy.plan(Fault("flip", method="GET", path="list-type=2"))
        assert store.assets() == ["raw/a", "raw/b", "raw/c"]


# ---- lost responses ----------------------------------------------------------------------------------------------------------


def test_a_lost_response_is_no_lost_race_although_it_is_for_the_obvious_client(
    open_s3: Opener, proxy: FaultProxy, prefix: str
) -> None:
    # The obvious implementation: exclusive creation by the file system library, which repeats requests by itself.
    import s3fs

    naive = s3fs.S3FileSystem(
        endpoint_url=proxy.url, client_kwargs={"region_name": "us-east-1"}, use_listings_cache=False, skip_instance_cache=True
    )
    proxy.plan(Fault("lose_response", method="PUT", path="naive"))
    with pytest.raises(FileExistsError):
        naive.pipe_file(f"{BUCKET}/{prefix}/naive", b"mine", mode="create")
    assert naive.cat_file(f"{BUCKET}/{prefix}/naive") == b"mine"

    proxy.plan(Fault("lose_response", method="PUT", path="ours"))
    backend = S3Backend(BUCKET, prefix, parse_options({"endpoint_url": proxy.url}))
    assert backend.put_if_absent("ours", b"mine")
    assert proxy.hits("lose_response") == 2
    assert not backend.put_if_absent("ours", b"yours")


def test_a_lost_swap_that_others_built_upon_is_known_to_have_happened(open_s3: Opener, proxy: FaultProxy) -> None:
    rival = open_s3()
    ours, theirs = build(rival, "raw/a", "ours"), build(rival, "raw/a", "theirs")
    proxy.plan(Fault("lose_response", method="PUT", path="heads/", then=lambda: rival.publish(theirs)))
    head = open_s3(proxy.url).publish(ours, expected=None)
    assert (head.generation, head.snapshot) == (1, ours.digest)
    now = rival.head("raw/a")
    assert now is not None
    assert (now.generation, now.snapshot, now.previous) == (2, theirs.digest, ours.digest)


def test_a_swap_that_never_arrived_is_a_conflict_when_others_were_faster(open_s3: Opener, proxy: FaultProxy) -> None:
    rival = open_s3()
    ours, theirs = build(rival, "raw/a", "ours"), build(rival, "raw/a", "theirs")
    store = open_s3(proxy.url)
    proxy.plan(Fault("reset", method="PUT", path="heads/"))
    rival.publish(theirs)
    with pytest.raises(PublishConflict):
        store.publish(ours, expected=None)
    assert rival.current("raw/a") == theirs


def test_a_lost_response_to_a_finished_multipart_upload(
    s3_server: S3Server, proxy: FaultProxy, prefix: str, tmp_path: Path
) -> None:
    backend = S3Backend(BUCKET, prefix, parse_options({"endpoint_url": proxy.url}), part=5 * 2**20)
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(11 * 2**20))
    key = blob_key(hash_file(path))
    proxy.plan(
        Fault("reset", method="PUT", path="partNumber=2"),
        Fault("lose_response", method="PUT", path="partNumber=3"),
        Fault("lose_response", method="POST", path="uploadId="),
    )
    backend.ensure(key, path, hash_file(path))
    assert proxy.hits("lose_response") == 2
    assert b"".join(backend.chunks(key)) == path.read_bytes()
    assert "Uploads" not in s3_server.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)


def test_every_lost_publish_counts_exactly_once(open_s3: Opener, proxy: FaultProxy) -> None:
    workers, turns = 4, 6
    stores = [open_s3(proxy.url) for _ in range(workers)]
    pairs = [[build(store, "raw/a", f"{worker}-{turn}") for turn in "ab"] for worker, store in enumerate(stores)]
    proxy.chaos(0.15, "lose_response", "reset", "flip")

    def publish(worker: int) -> list[int]:
        return [stores[worker].publish(pairs[worker][turn % 2]).generation for turn in range(turns)]

    with ThreadPoolExecutor(workers) as pool:
        generations = [generation for made in pool.map(publish, range(workers)) for generation in made]
    assert proxy.hits("lose_response") > 0
    assert sorted(generations) == list(range(1, workers * turns + 1))
    head = open_s3().head("raw/a")
    assert head is not None
    assert head.generation == workers * turns


@pytest.mark.parametrize("header", ["if-none-match", "if-match"])
def test_a_server_that_ignores_conditional_writes_is_refused(s3_server: S3Server, open_s3: Opener, header: str) -> None:
    # Such a server answers 200 to both of two rivals; one publish would be lost without a trace.
    with FaultProxy(s3_server.url, without=(header,)) as proxy:
        store = open_s3(proxy.url)
        snapshot = build(store, "raw/a", "x")
        with pytest.raises(StoreError, match=r"the server ignores If(None)?Match"):
            store.publish(snapshot)
    assert open_s3().head("raw/a") is None


def test_an_old_orphan_is_sent_again_so_that_it_counts_as_new(
    open_s3: Opener, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sent() -> int:
        return sum(method == "PUT" for method, _, _ in proxy.log)

    store = open_s3(proxy.url)
    build(store, "raw/a", "x")
    assert sent() == 2
    build(store, "raw/a", "x")
    assert sent() == 2
    monkeypatch.setattr(s3, "_TOUCH_AFTER_S", -5.0)
    build(store, "raw/a", "x")
    assert sent() == 4


# ---- everything at once ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_chaos_gives_right_answers_or_typed_errors(open_s3: Opener, s3_server: S3Server, seed: int) -> None:
    kinds: tuple[Kind, ...] = ("status", "reset", "lose_response", "cut", "shorten", "flip", "delay")
    errors, known = 0, 0
    with FaultProxy(s3_server.url, seed=seed) as proxy:
        store, truth = open_s3(proxy.url, deadline="1"), open_s3()
        source = with_table(truth)
        truth.publish(source)
        for step in range(6):
            proxy.chaos(0.3, *kinds)
            content = f"version {step}"
            before = truth.head("splits/a")
            try:
                snapshot = build(store, "splits/a", content, [store.snapshot(source.digest)])
                head = store.publish(snapshot)
                record(store, "splits/a", "survival", snapshot, f"run {step}")
                known += 1
            except StoreError:
                errors += 1
                proxy.clear()
                after = truth.head("splits/a")
                # The old version or the new one, and exactly one step.
                assert (after.generation if after else 0) - (before.generation if before else 0) in {0, 1}
                assert after == before or truth.current("splits/a").read_bytes("content.txt") == content.encode()
            else:
                assert truth.head("splits/a") == head
                assert truth.evaluation_history("splits/a", "survival", 1)[0].run_id == f"run {step}"
            proxy.chaos(0.3, *kinds)
            for read in (
                lambda: store.current("raw/a").read_table("rows.parquet").equals(TABLE),
                lambda: store.head("raw/a") == truth.head("raw/a"),
                lambda: set(store.assets()) <= {"raw/a", "splits/a"},
            ):
                try:
                    assert read()
                except StoreError:
                    errors += 1
        try:
            store.collect_garbage(timedelta(0))
        except StoreError:
            errors += 1
        proxy.clear()
        assert {kind for _, _, kind in proxy.log} >= set(kinds)
    assert known > 0
    assert truth.verify("raw/a") == []
    assert truth.head("splits/a") is None or truth.verify("splits/a") == []
    for evaluation in truth.evaluation_history("splits/a", "survival", None):
        assert truth.verify(evaluation.judged["splits/a"]) == []
