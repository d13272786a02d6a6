"""kill -9 at random points of publishing: the store always holds the old version or the new one, and stays usable."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from ftplatform.store import Store, scratch
from ftplatform_tests.integration.store.publisher import ASSET, CHECK
from ftplatform_tests.s3 import BUCKET, S3Server
from ftplatform_tests.unit.store.builders import build, record

KILLS = 30


def kill_publishers(url: str, options: dict[str, str], work: Path, repository: Path, check: Callable[[Store], None]) -> None:
    """Start and kill publishers `KILLS` times; `check` the store, opened anew, after each."""
    temporary = work / "tmp"
    temporary.mkdir(parents=True)
    errors = (work / "errors").open("w+")
    launcher = subprocess.Popen(
        [sys.executable, "-m", "ftplatform_tests.integration.store.publisher", url, json.dumps(options), str(work / "cache")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=repository,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert launcher.stdin
    assert launcher.stdout
    chance = random.Random(7)
    duration = 0.0
    try:
        for number in range(KILLS):
            launcher.stdin.write("\n")
            launcher.stdin.flush()
            child = int(launcher.stdout.readline())
            # Somewhere in its first round or a later one, however fast this machine is just now.
            for _ in range(2 if number == 0 else chance.randrange(2)):
                started = time.monotonic()
                assert launcher.stdout.readline() == "round\n"
                duration = time.monotonic() - started
            time.sleep(chance.uniform(0, duration))
            os.kill(child, signal.SIGKILL)
            while (line := launcher.stdout.readline()) == "round\n":
                continue
            assert line == "dead\n"
            check(Store.open(url, options, cache_dir=work / f"cache-{number % 2}"))
    finally:
        launcher.stdin.close()
        launcher.wait(timeout=60)
        errors.seek(0)
        assert errors.read() == ""


class Watch:
    """What must hold after every kill."""

    def __init__(self) -> None:
        self.generation = 0
        self.states: set[str] = set()

    def __call__(self, store: Store) -> None:
        head = store.head(ASSET)
        if head is None:
            assert self.generation == 0
            return
        assert head.generation >= self.generation
        self.generation = head.generation
        snapshot = store.current(ASSET)
        mark = snapshot.facts["mark"]
        assert snapshot.read_bytes("mark.txt") == mark.encode()
        assert snapshot.read_bytes("padding.bin") == mark.encode() * 20_000
        assert snapshot.read_table("rows.parquet")["mark"].to_pylist() == [mark] * 500
        latest = store.latest_evaluation(ASSET, CHECK)
        if latest is not None:
            self.states.add(latest.state)


def usable_afterwards(store: Store, watch: Watch) -> None:
    """The next run finishes, and nothing that is needed is garbage."""
    assert watch.generation > KILLS // 4
    snapshot = build(store, ASSET, "after the storm")
    assert store.publish(snapshot).generation == watch.generation + 1
    record(store, ASSET, CHECK, snapshot, "after")
    records = len(store.evaluation_history(ASSET, CHECK, None))
    store.collect_garbage(timedelta(0))
    assert store.orphans().blobs == store.orphans().manifests == ()
    assert len(store.evaluation_history(ASSET, CHECK, None)) == records
    assert store.verify(ASSET) == []


def test_folder(tmp_path: Path, repository: Path) -> None:
    watch = Watch()
    root = tmp_path / "store"
    kill_publishers(str(root), {}, tmp_path / "work", repository, watch)
    usable_afterwards(Store.open(str(root)), watch)
    # What the dead left half-done is known to be theirs, and goes.
    for parent in (root / "tmp", tmp_path / "work" / "tmp" / scratch.drafts_folder().name):
        scratch.sweep(parent, time.time() + 1)
        left = [path for path in parent.rglob("*") if path.is_file() and path.name != ".owner"]
        assert left == []


def test_s3(s3_server: S3Server, prefix: str, tmp_path: Path, repository: Path) -> None:
    watch = Watch()
    url, options = f"s3://{BUCKET}/{prefix}", {"endpoint_url": s3_server.url, "region": "us-east-1"}
    kill_publishers(url, options, tmp_path, repository, watch)
    usable_afterwards(Store.open(url, options, cache_dir=tmp_path / "cache"), watch)
