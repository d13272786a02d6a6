"""kill -9 at a hundred random points of a run, training, evaluation and release included, on disk and on S3 that fails besides: the
store holds the old or the new version, and the next run finishes.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftplatform.store import Store
from ftplatform_tests.fault_proxy import FaultProxy
from ftplatform_tests.projects import NEED_PROBES, REPOSITORY, dialogues, on_faulty_s3, plan_of, small_project, write_jsonl

KILLS, KILLS_ON_S3 = 100, 15
RELEASED = "releases/first"


def without_probes(project: dict[str, Any]) -> None:
    """Release although no probe was asked: here the question is whether a release is torn, not whether it is deserved."""
    project["gates"] = {name: {"severity": "warn"} for name in NEED_PROBES}


class Runner:
    """The process that forks runs, see `kill_runner`."""

    def __init__(self, file: Path, log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ftplatform_tests.acceptance.kill_runner", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=REPOSITORY,
        )

    def __call__(self, order: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._log.close()


def kill_runs(file: Path, kills: int, tmp_path: Path) -> dict[str, set[str]]:
    """Start and kill runs of a changed project; check the store after each. Returns the snapshots each asset had in between."""
    runner = Runner(file, tmp_path / "runner.log")
    try:
        plan = plan_of(file)
        assets = plan.lineage.assets
        assert runner("everything")["code"] == 0, (tmp_path / "runner.log").read_text()

        def store() -> Store:
            return Store.open(plan.store_url, plan.project.store_options, cache_dir=tmp_path / "cache")

        def change(number: int) -> None:
            # New bytes in a source, so that every run has something to build.
            write_jsonl(
                file.parent / "data" / "tickets.jsonl", [*dialogues(120, seed=1), *dialogues(1 + number % 7, seed=10 + number)]
            )

        change(kills)
        length = runner("finish")["seconds"]
        rng = random.Random(0)
        known: dict[str, set[str]] = {asset: set() for asset in assets}
        killed = number = 0
        while killed < kills:
            assert number < 3 * kills, "the kills come too late to hit anything"
            change(number)
            before = {asset: head.snapshot for asset in assets if (head := store().head(asset))}
            ended = runner(str(rng.randrange(20, int(length * 1000))))
            killed += ended["killed"]
            # A machine that got faster meanwhile ends runs before their kill: aim within what they take now.
            length = length if ended["killed"] else ended["seconds"]
            opened = store()
            for asset in assets:
                head = opened.head(asset)
                assert (head is None) == (asset not in before)
                if head is not None and head.snapshot not in known[asset]:
                    # Old or new, never half: a head that moved names a snapshot all of whose bytes hash to their names.
                    assert opened.verify(head.snapshot) == []
                    known[asset].add(head.snapshot)
            number += 1

        assert runner("everything")["code"] == 0, (tmp_path / "runner.log").read_text()
        read = store().current("raw/tickets").facts["counts"]["read"]
        assert read == 120 + 1 + (number - 1) % 7
        assert store().verify(RELEASED) == []
        assert store().current(RELEASED).digest not in known[RELEASED], "the last change has reached the release"
        return known
    finally:
        runner.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_a_hundred_random_points(tmp_path):
    known = kill_runs(small_project(tmp_path / "project", without_probes), KILLS, tmp_path)
    reached = {asset: len(snapshots) for asset, snapshots in known.items()}
    assert reached["raw/tickets"] > reached["adapters/first"] > 1, "kills fell before and after the training step"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_on_s3_that_fails_besides(tmp_path, proxy: FaultProxy, prefix):
    file = small_project(tmp_path / "project", lambda p: (without_probes(p), on_faulty_s3(p, proxy.url, prefix)))
    faults = ("status", "reset", "cut", "shorten", "lose_response")
    proxy.chaos(0.02, *faults)
    known = kill_runs(file, KILLS_ON_S3, tmp_path)
    assert len(known["adapters/first"]) > 1
    assert all(proxy.hits(fault) for fault in faults)
