"""What runs by itself: at night nothing is rebuilt, a change requests exactly its descendants, failures are told."""

from __future__ import annotations

import http.server
import json
import os
import threading
from typing import ClassVar

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.defs.build import build_defs
from ftplatform.defs.changes import data_digests, license_digests, rebuild
from ftplatform.defs.checks import Mode
from ftplatform.defs.keys import from_key
from ftplatform.defs.resources import StoreResource
from ftplatform.store import Store
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project that was run once."""
    file = small_project(tmp_path_factory.mktemp("built"))
    with dg.DagsterInstance.ephemeral() as instance:
        running.materialize(plan_of(file), instance)
        yield file, instance


def tick(plan, instance, name: str, cursor: str | None):
    definitions = build_defs(plan.loaded)
    sensor = definitions.get_repository_def().get_sensor_def(name)
    resources = {"store": StoreResource(url=plan.store_url)}
    with dg.build_sensor_context(instance=instance, definitions=definitions, cursor=cursor, resources=resources) as context:
        return sensor.evaluate_tick(context)


def test_the_night_judges_everything_and_materializes_nothing(built):
    file, instance = built
    plan = plan_of(file)
    store = Store.open(plan.store_url)
    heads = {a: store.head(a) for a in plan.lineage.assets}
    before = {a: len(instance.fetch_materializations(dg.AssetKey(a.split("/")), limit=100).records) for a in plan.lineage.assets}
    outcome = running.check(plan, instance, mode=Mode.NIGHTLY)
    assert outcome.materialized == ()
    existing = [c for c in plan.checks if heads[c.asset] and all(heads[o] for o in c.looks_at)]
    judged = [c for c, e in outcome.checks if e is not None and e.verdict is not None and e.run_id == outcome.run_id]
    assert sorted(c.id for c in judged) == sorted(c.id for c in existing)
    assert len(judged) > 20
    assert {a: store.head(a) for a in plan.lineage.assets} == heads
    after = {a: len(instance.fetch_materializations(dg.AssetKey(a.split("/")), limit=100).records) for a in plan.lineage.assets}
    assert after == before


def test_the_nightly_schedule_launches_that_job(built):
    file, instance = built
    definitions = build_defs(plan_of(file).loaded)
    repository = definitions.get_repository_def()
    (schedule,) = repository.schedule_defs
    assert schedule.job_name == "revalidate"
    result = repository.get_job("revalidate").execute_in_process(instance=instance, raise_on_error=False)
    assert result.get_asset_materialization_events() == []
    assert len(result.get_asset_check_evaluations()) > 20


def test_a_changed_byte_requests_exactly_its_descendants(built):
    file, instance = built
    plan = plan_of(file)
    baseline = tick(plan, instance, "source_content", None)
    assert not baseline.run_requests

    path = file.parent / "data" / "tickets.jsonl"
    os.utime(path, (1, 1))
    assert not tick(plan, instance, "source_content", baseline.cursor).run_requests, "touching a file is not a change"

    status = path.stat()
    write_jsonl(path, [*dialogues(120, seed=1), *dialogues(1, seed=9)])
    os.utime(path, (status.st_atime, status.st_mtime))  # an edit that preserves the date is still one
    result = tick(plan, instance, "source_content", baseline.cursor)
    (request,) = result.run_requests
    descendants = {"raw/tickets", "corpora/one", "splits/one", "adapters/first", "eval_results/first", "releases/first"}
    assert {from_key(k) for k in request.asset_selection} == descendants
    assert {from_key(k.asset_key) for k in request.asset_check_keys} == descendants
    assert not tick(plan, instance, "source_content", result.cursor).run_requests, "one change, one request"

    # the run it asks for rebuilds those and confirms nothing else
    store = Store.open(plan.store_url)
    heads = {a: store.head(a) for a in plan.lineage.assets}
    selection = " or ".join(f'key:"{a}"' for a in sorted(descendants))
    running.materialize(plan, instance, selection)
    moved = {a for a in plan.lineage.assets if store.head(a) != heads[a]}
    assert moved >= {"raw/tickets", "corpora/one", "splits/one", "adapters/first"}
    assert moved <= descendants


def test_a_license_edit_stops_training(tmp_path):
    file = small_project(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        plan = plan_of(file)
        running.materialize(plan, instance, 'not key:"adapters/*" and not key:"eval_results/*" and not key:"releases/*"')
        baseline = tick(plan, instance, "license_declarations", None)
        (tmp_path / "LICENSE-NC.txt").write_text("SPDX-License-Identifier: CC-BY-NC-4.0\n")
        nc = {"declared": "CC-BY-NC-4.0", "concluded": "CC-BY-NC-4.0", "evidence": "LICENSE-NC.txt", "concluded_by": "counsel"}
        changed = edit(file, lambda p: p["sources"]["tickets"].update(license=nc))
        # the sensor of the running code location reads the file anew
        request, judging = tick(plan, instance, "license_declarations", baseline.cursor).run_requests
        assert judging.job_name == "revalidate"
        assert not judging.asset_selection
        assert {from_key(k.asset_key) for k in judging.asset_check_keys} == {"raw/tickets", "corpora/one", "splits/one"}, (
            "what exists"
        )
        descendants = {"raw/tickets", "corpora/one", "splits/one", "adapters/first", "eval_results/first", "releases/first"}
        assert {from_key(k) for k in request.asset_selection} == descendants | {"license_ledger"}

        outcome = running.materialize(changed, instance)
        assert "adapters/first" not in outcome.materialized
        assert "adapters/second" in outcome.materialized, "the other source is not affected"
        denied = {c.asset for c, e in outcome.checks if c.name == "license_allows_use" and e and e.verdict and not e.verdict.passed}
        assert "raw/tickets" in denied
        assert "raw/chats" not in denied
        alone = running.materialize(changed, instance, "adapters/first")
        assert "license_allows_use on raw/tickets" in next(iter(alone.refusals.values()))


def test_a_license_that_comes_back_asks_again(tmp_path):
    """A, B, A: the digest repeats, and Dagster drops repeated run keys for ever."""
    file = small_project(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        plan = plan_of(file)
        result, keys = tick(plan, instance, "license_declarations", None), []
        for spdx in ("Apache-2.0", "MIT", "Apache-2.0"):
            edit(file, lambda p, spdx=spdx: p["sources"]["tickets"]["license"].update(declared=spdx, concluded=spdx))
            result = tick(plan, instance, "license_declarations", result.cursor)
            keys += [r.run_key for r in result.run_requests if r.job_name == "build"]
        assert len(set(keys)) == 3


def test_comments_and_layout_of_the_project_file_change_nothing(tmp_path):
    file = small_project(tmp_path)
    before = plan_of(file)
    file.write_text("# a comment\n" + file.read_text())
    after = plan_of(file)
    assert license_digests(before) == license_digests(after)
    assert data_digests(before) == data_digests(after)


def test_a_source_that_is_only_compared_with_requests_checks_not_training(tmp_path):
    def compare(project: dict) -> None:
        project["sources"]["typed"] = {**project["sources"]["chats"], "surface": "production"}
        project["datasets"]["one"]["production_inputs"] = "typed"

    plan = plan_of(small_project(tmp_path, compare))
    request = rebuild(plan, ["raw/typed"])
    assert request.assets == ("raw/typed",)
    assert ("splits/one", "input_surface_match") in request.checks


class Webhook(http.server.BaseHTTPRequestHandler):
    received: ClassVar[list[dict]] = []
    answer: ClassVar[int] = 200

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).received.append(body)
        self.send_response(type(self).answer)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def webhook(monkeypatch):
    Webhook.received, Webhook.answer = [], 200
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TEAM_WEBHOOK", f"http://127.0.0.1:{server.server_port}/secret-path")
    yield server
    server.shutdown()


def test_new_failures_are_told_once_and_again_if_delivery_failed(built, webhook):
    file, instance = built
    plan = edit(file, lambda p: p.update(alerts={"webhook_env": "TEAM_WEBHOOK"}))
    Webhook.answer = 500
    with pytest.raises(Exception, match="webhook") as failure:
        tick(plan, instance, "check_failure_alert", None)
    assert "secret-path" not in str(failure.value)
    Webhook.answer = 200
    told = tick(plan, instance, "check_failure_alert", None)
    assert "refusal_retention on eval_results/first: insufficient_evidence" in Webhook.received[-1]["text"]
    count = len(Webhook.received)
    tick(plan, instance, "check_failure_alert", told.cursor)
    assert len(Webhook.received) == count, "a known failure is not told again"
