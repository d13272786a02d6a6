"""kill -9 at a hundred random points of a run: the store holds the old or the new version, and the next run finishes."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from ftplatform.store import Store
from ftplatform_tests.projects import REPOSITORY, dialogues, plan_of, small_project, write_jsonl

KILLS = 100


@pytest.fixture
def runner(tmp_path):
    file = small_project(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "ftplatform_tests.acceptance.kill_runner", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
    )

    def ask(order: str) -> dict:
        process.stdin.write(order + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield file, ask
    process.stdin.close()
    process.wait(timeout=60)


@pytest.mark.timeout(1200)
def test_killed_at_a_hundred_random_points(runner):
    file, ask = runner
    plan = plan_of(file)
    assert ask("everything")["code"] == 0
    length = ask("finish")["seconds"]
    rng = random.Random(0)
    known: dict[str, set[str]] = {asset: set() for asset in plan.lineage.assets}
    killed = 0
    for number in range(KILLS):
        # New bytes in a source, so that every run has something to build.
        write_jsonl(file.parent / "data" / "tickets.jsonl", [*dialogues(120, seed=1), *dialogues(1 + number % 7, seed=10 + number)])
        before = {a: h.snapshot for a in plan.lineage.assets if (h := Store.open(plan.store_url).head(a))}
        answer = ask(str(rng.randrange(20, max(40, int(length * 1000)))))
        killed += answer["killed"]
        store = Store.open(plan.store_url)
        for asset in plan.lineage.assets:
            head = store.head(asset)
            if head is None:
                assert asset not in before
                continue
            if head.snapshot not in known[asset]:
                # Old or new, never half: a head that moved names a snapshot all of whose bytes hash to their names.
                assert store.verify(head.snapshot) == []
                known[asset].add(head.snapshot)
    assert killed >= KILLS * 0.6, "the kills came too late to hit anything"
    assert len(known["raw/tickets"]) > 1, "no run got anywhere between two kills"

    assert ask("everything")["code"] == 0
    store = Store.open(plan.store_url)
    assert store.current("raw/tickets").facts["counts"]["read"] == 120 + 1 + (KILLS - 1) % 7
    assert store.verify("splits/one") == []
