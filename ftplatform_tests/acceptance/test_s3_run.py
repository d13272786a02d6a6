"""A whole run on S3 that answers 503, resets connections, truncates and loses responses after writing: the same snapshots as on disk."""

from __future__ import annotations

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.defs.keys import Family, family_of
from ftplatform.defs.plan import Plan
from ftplatform.store import Store
from ftplatform_tests.acceptance.test_kill import RELEASED, without_probes
from ftplatform_tests.fault_proxy import Fault, FaultProxy, Kind
from ftplatform_tests.projects import on_faulty_s3, plan_of, small_project

FAULTS: tuple[Kind, ...] = ("status", "reset", "cut", "shorten", "lose_response")


def contents(plan: Plan, tmp_path) -> dict[str, dict[str, str]]:
    """Digests of the files of every asset, without the copies of the project file, which names the store."""
    store = Store.open(plan.store_url, plan.project.store_options, cache_dir=tmp_path / "fresh")
    return {
        asset: {
            entry.path: entry.sha256
            for entry in store.current(asset).files
            if family_of(asset) is not Family.RELEASES and not entry.path.startswith("closure/")
        }
        for asset in plan.lineage.assets
    }


def run(plan: Plan) -> running.RunOutcome:
    with dg.DagsterInstance.ephemeral() as instance:
        return running.materialize(plan, instance)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    plan = plan_of(small_project(folder / "project", without_probes))
    assert run(plan).success
    return contents(plan, folder)


def test_faults_change_nothing(tmp_path, on_disk, proxy: FaultProxy, prefix):
    plan = plan_of(small_project(tmp_path / "s3", lambda p: (without_probes(p), on_faulty_s3(p, proxy.url, prefix))))
    proxy.chaos(0.03, *FAULTS)
    outcome = run(plan)
    assert outcome.errors == {}
    assert outcome.success
    assert {kind: proxy.hits(kind) > 0 for kind in FAULTS} == dict.fromkeys(FAULTS, True)
    proxy.clear()
    assert contents(plan, tmp_path) == on_disk
    assert Store.open(plan.store_url, plan.project.store_options, cache_dir=tmp_path / "fresh").verify(RELEASED) == []


def test_an_outage_stops_the_run_with_a_reason_and_the_next_one_finishes(tmp_path, on_disk, proxy: FaultProxy, prefix):
    plan = plan_of(small_project(tmp_path / "s3", lambda p: (without_probes(p), on_faulty_s3(p, proxy.url, prefix))))
    plan.project.store_options["deadline"] = "1"
    proxy.plan(Fault("status", method="PUT", path="heads/adapters", times=None))
    stopped = run(plan)
    assert not stopped.success
    assert any("run again; nothing is half-done" in reason for reason in stopped.errors.values()), stopped.errors
    store = Store.open(plan.store_url, plan.project.store_options, cache_dir=tmp_path / "fresh")
    assert store.head("splits/one") is not None
    assert store.head("adapters/first") is None
    proxy.clear()
    assert run(plan).success
    assert contents(plan, tmp_path) == on_disk
