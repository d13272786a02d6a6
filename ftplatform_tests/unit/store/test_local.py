"""The folder backend: exactly one winner, nothing lost, and a full disk that breaks nothing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftplatform.canonical import sha256_hex
from ftplatform.store import Store
from ftplatform.store.backend import Backend
from ftplatform.store.local import LocalBackend
from ftplatform.store.memory import MemoryBackend
from ftplatform_tests.unit.store.builders import build


@pytest.fixture(params=["local", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return LocalBackend(tmp_path / "store") if request.param == "local" else MemoryBackend(str(tmp_path))


def test_of_sixteen_racing_creators_one_wins(backend: Backend) -> None:
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


def test_swaps_need_the_right_tag(backend: Backend) -> None:
    assert backend.compare_and_swap("heads/a.json", b"1", "no such tag") is None
    first = backend.compare_and_swap("heads/a.json", b"1", None)
    assert first is not None
    assert backend.compare_and_swap("heads/a.json", b"2", None) is None
    second = backend.compare_and_swap("heads/a.json", b"2", first)
    assert second is not None
    assert backend.compare_and_swap("heads/a.json", b"3", first) is None
    stored = backend.get("heads/a.json")
    assert stored is not None
    assert (stored.data, stored.etag) == (b"2", second)


def test_objects_are_listed_streamed_and_aged(backend: Backend) -> None:
    data = bytes(range(256)) * 70_000
    digest = sha256_hex(data)
    key = f"blobs/sha256/{digest[:2]}/{digest}"
    backend.ensure(key, data, digest)
    backend.ensure("manifests/ab/x.json", b"{}", sha256_hex(b"{}"))
    assert [(entry.key, entry.size) for entry in backend.list("blobs/")] == [(key, len(data))]
    assert list(backend.list("nothing/")) == []
    chunks = list(backend.chunks(key))
    assert len(chunks) > 1
    assert b"".join(chunks) == data
    with pytest.raises(KeyError):
        list(backend.chunks("blobs/sha256/00/absent"))
    entry = backend.stat(key)
    assert entry is not None
    assert not backend.delete_if_older(key, entry.modified - 1)
    assert backend.delete_if_older(key, entry.modified)
    assert not backend.delete_if_older(key, entry.modified)
    assert backend.stat(key) is None


def test_eight_publishers_times_ten_is_generation_eighty(tmp_path: Path) -> None:
    url = str(tmp_path / "store")

    def publish(worker: int) -> list[int]:
        store = Store.open(url)
        return [store.publish(build(store, "raw/a", f"{worker}-{i}")).generation for i in range(10)]

    with ThreadPoolExecutor(8) as pool:
        generations = [generation for made in pool.map(publish, range(8)) for generation in made]
    assert sorted(generations) == list(range(1, 81))
    head = Store.open(url).head("raw/a")
    assert head is not None
    assert head.generation == 80


def test_blobs_are_read_only(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    path = build(store, "raw/a", "x").local_path("content.txt")
    assert path.stat().st_mode & 0o222 == 0


_FILL = textwrap.dedent(
    """
    import resource, sys, pathlib
    import pyarrow as pa
    from ftplatform.errors import StoreFull
    from ftplatform.store import SnapshotDraft, Store

    root, big = sys.argv[1], pathlib.Path(sys.argv[2])
    store = Store.open(root)

    def draft():
        return SnapshotDraft("raw/a", code_version="2", config_hash="c", environment="e", scratch_folder=pathlib.Path(sys.argv[3]))

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    full = 0
    with draft() as made:
        made.add_file("weights", big)
        try:
            store.write(made)
        except StoreFull as error:
            full += 1
            print(error)
    with draft() as made:
        try:
            made.add_table("rows.parquet", pa.table({"x": [str(hash(i)) for i in range(200_000)]}))
        except StoreFull as error:
            full += 1
            print(error)
        assert not made.files
    assert store.current("raw/a").read_bytes("content.txt") == b"old"
    sys.exit(0 if full == 2 else 1)
    """
)


def test_a_full_disk_keeps_the_old_version_and_leaves_no_litter(tmp_path: Path) -> None:
    # RLIMIT_FSIZE makes the kernel refuse what a full disk would: write() fails with EFBIG instead of ENOSPC.
    root = tmp_path / "store"
    store = Store.open(str(root))
    store.publish(build(store, "raw/a", "old"))
    before = {path for path in root.rglob("*") if path.is_file() and ".owner" not in path.name and "locks" not in path.parts}
    (tmp_path / "weights").write_bytes(b"w" * 300_000)
    arguments = [sys.executable, "-c", _FILL, str(root), str(tmp_path / "weights"), str(tmp_path / "scratch")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("No space to write") == 2
    assert "untouched" in done.stdout
    after = {path for path in root.rglob("*") if path.is_file() and ".owner" not in path.name and "locks" not in path.parts}
    assert after == before
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []
    assert store.verify("raw/a") == []
