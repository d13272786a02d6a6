"""Garbage collection removes orphans and nothing else."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.errors import CorruptArtifact, NotMaterialized, StoreError
from ftplatform.store import Store
from ftplatform.store.names import blob_key, manifest_key
from ftplatform.store.scratch import Scratch, sweep
from ftplatform_tests.unit.store.builders import build, draft, record

NOW = timedelta(0)


def test_orphans_go_and_everything_reachable_stays(store: Store) -> None:
    source = build(store, "raw/a", "source")
    published = build(store, "splits/a", "split", [source])
    store.publish(published)
    judged = build(store, "splits/a", "judged, never published", [build(store, "raw/b", "other source")])
    store.begin_evaluation("splits/a", "survival", judged={"splits/a": judged.digest}, run_id="crashed")
    done = record(store, "splits/a", "leakage", judged)
    record(store, "splits/a", "leakage", published)
    orphan = build(store, "raw/c", "orphan")
    shared = build(store, "raw/d", "source")  # its manifest is an orphan, its blob is not

    found = store.orphans()
    assert sorted(found.manifests) == sorted([manifest_key(orphan.digest), manifest_key(shared.digest)])
    assert found.blobs == (blob_key(orphan.files[0].sha256),)

    assert store.collect_garbage(timedelta(hours=1)).blobs == 0
    counts = store.collect_garbage(NOW)
    assert (counts.manifests, counts.blobs, counts.bytes > 0) == (2, 1, True)
    assert store.orphans().manifests == store.orphans().blobs == ()
    for snapshot in (published, judged):
        assert store.verify(snapshot.digest) == []
    assert store.evaluation_history("splits/a", "leakage")[-1] == done
    with pytest.raises(NotMaterialized):
        store.snapshot(orphan.digest)
    with pytest.raises(StoreError, match="cannot be published"):
        store.publish(orphan)


@settings(max_examples=25, deadline=None)
@given(
    parents=st.lists(st.sets(st.integers(0, 11), max_size=3), min_size=1, max_size=12),
    published=st.sets(st.integers(0, 11), max_size=4),
    judged=st.sets(st.integers(0, 11), max_size=3),
)
def test_kept_is_exactly_what_brute_force_reaches(parents: list[set[int]], published: set[int], judged: set[int]) -> None:
    store = Store.open(f"memory://{os.urandom(8).hex()}")
    made = []
    for number, wanted in enumerate(parents):
        made.append(build(store, f"raw/n{number}", f"content {number}", [made[i] for i in sorted(wanted) if i < number]))
    for number in published:
        if number < len(made):
            store.publish(made[number])
    for number in judged:
        if number < len(made):
            record(store, "raw/checked", f"check{number}", made[number])
    expected: set[str] = set()

    def reach(number: int) -> None:
        expected.add(made[number].digest)
        for parent in parents[number]:
            if parent < number:
                reach(parent)

    for number in (published | judged) & set(range(len(made))):
        reach(number)
    store.collect_garbage(NOW)
    kept = set()
    for snapshot in made:
        try:
            assert store.verify(snapshot.digest) == []
            kept.add(snapshot.digest)
        except NotMaterialized:
            continue
    assert kept == expected


def test_writing_again_restarts_the_grace(tmp_path: Path) -> None:
    # A run that finds its blob in the store relies on it, however old the orphan is.
    store = Store.open(str(tmp_path / "store"))
    snapshot = build(store, "raw/a", "content")
    old = time.time() - 90 * 86_400
    for key in (blob_key(snapshot.files[0].sha256), manifest_key(snapshot.digest)):
        os.utime(tmp_path / "store" / key, (old, old))
    build(store, "raw/a", "content")
    assert store.collect_garbage(timedelta(days=7)).blobs == 0
    store.publish(snapshot)
    assert store.verify("raw/a") == []


def test_nothing_is_deleted_when_something_live_is_damaged(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    source = build(store, "raw/a", "source")
    store.publish(build(store, "splits/a", "split", [source]))
    orphan = build(store, "raw/b", "orphan")
    path = tmp_path / "store" / manifest_key(source.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptArtifact):
        store.collect_garbage(NOW)
    assert Store.open(str(tmp_path / "store")).snapshot(orphan.digest) == orphan


def test_negative_grace_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="at least zero"):
        store.collect_garbage(timedelta(seconds=-1))


def test_folders_of_collected_snapshots_go_too(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    kept, orphan = build(store, "raw/a", "kept"), build(store, "raw/b", "orphan")
    store.publish(kept)
    folders = [kept.local_folder(), orphan.local_folder()]
    store.collect_garbage(NOW)
    assert [folder.exists() for folder in folders] == [True, False]


# ---- leftovers of dead writers ---------------------------------------------------------------------------------------------


def dead_scratch(parent: Path, age_s: float) -> Path:
    """A folder as a killed writer leaves it: the kernel has dropped its lock."""
    folder = parent / f"dead-{age_s}"
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(b"half a blob")
    (folder / ".owner").touch()
    for path in (folder / "half", folder / ".owner", folder):
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    return folder


def test_leftovers_go_when_the_store_is_opened_after_the_grace(tmp_path: Path) -> None:
    old, young = dead_scratch(tmp_path / "store" / "tmp", 7200), dead_scratch(tmp_path / "store" / "tmp", 10)
    Store.open(str(tmp_path / "store"))
    assert not old.exists()
    assert young.exists()


def test_collecting_removes_leftovers_and_counts_them(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    store.publish(store.write(draft("raw/a", "x")))
    dead_scratch(tmp_path / "store" / "tmp", 600)
    assert store.collect_garbage(timedelta(seconds=300)).leftovers == 1


def test_a_living_writer_is_never_swept(tmp_path: Path) -> None:
    alive = Scratch(tmp_path)
    for path in (alive.path / ".owner", alive.path):
        os.utime(path, (0, 0))
    assert sweep(tmp_path, time.time()) == 0
    assert alive.path.exists()
    alive.close()
    assert not alive.path.exists()
