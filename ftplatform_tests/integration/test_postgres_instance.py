"""A real Postgres behind the instance: run, checks, schedule and sensor."""

from __future__ import annotations

import datetime

import dagster as dg
import pytest
import yaml

from ftplatform.defs import running
from ftplatform.defs.build import build_defs
from ftplatform.defs.ledger import open_ledger
from ftplatform.defs.resources import StoreResource
from ftplatform_tests.projects import REPOSITORY, edit, plan_of, small_project


@pytest.fixture
def instance(postgres_url, tmp_path, monkeypatch):
    """The instance of deploy/dagster.yaml, on a real server; only what needs containers is left out."""
    config = yaml.safe_load((REPOSITORY / "deploy" / "dagster.yaml").read_text())
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in config.items() if key in {"concurrency", "run_retries", "telemetry"}}
    kept["storage"] = {"postgres": {"postgres_url": postgres_url}}
    (home / "dagster.yaml").write_text(yaml.safe_dump(kept))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def test_run_checks_schedule_and_sensor(instance, postgres_url, tmp_path, monkeypatch):
    # As in deploy/compose.yaml: the ledger's index lies in the same server.
    monkeypatch.setenv("FTPLATFORM_LEDGER_URL", postgres_url)
    assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
    file = small_project(tmp_path / "project")
    plan = plan_of(file)
    outcome = running.materialize(plan, instance)
    assert {"adapters/first", "eval_results/second"} <= set(outcome.materialized)
    assert instance.get_latest_materialization_event(dg.AssetKey(["adapters", "first"])) is not None

    nightly = running.check(plan, instance)
    assert nightly.materialized == ()
    key = dg.AssetCheckKey(dg.AssetKey(["splits", "one"]), "contamination_exact")
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert record.run_id == nightly.run_id
    assert record.status.value == "SUCCEEDED"

    with open_ledger(plan.root, plan.open_store(), verify=True) as ledger:
        assert ledger.state("raw/tickets").concluded == "MIT"
    assert not (plan.root / ".ftplatform" / "ledger.sqlite").exists()

    definitions = build_defs(plan.loaded)
    repository = definitions.get_repository_def()
    schedule = repository.get_schedule_def("nightly")
    resources = {"store": StoreResource(url=plan.store_url)}
    now = datetime.datetime.now(datetime.UTC)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=now, resources=resources) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    assert (
        repository.get_job(schedule.job_name).execute_in_process(instance=instance, tags=request.tags, raise_on_error=False).run_id
    )

    sensor = repository.get_sensor_def("license_declarations")
    with dg.build_sensor_context(instance=instance, definitions=definitions) as context:
        baseline = sensor.evaluate_tick(context)
    edit(file, lambda p: p["sources"]["chats"]["license"].update(declared="Apache-2.0", concluded="Apache-2.0"))
    with dg.build_sensor_context(instance=instance, definitions=definitions, cursor=baseline.cursor) as context:
        tick = sensor.evaluate_tick(context)
    assert [k.path[1] for k in tick.run_requests[0].asset_selection if k.path[0] == "raw"] == ["chats"]
