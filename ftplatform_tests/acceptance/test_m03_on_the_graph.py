"""M3 as a user meets it: an endpoint with its log in the project file, pings that leaked, and what the checks say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from ftplatform.defs import running
from ftplatform.defs.asset_checks.serving_checks import serving_checks
from ftplatform.defs.checks import Check, Mode, evaluate
from ftplatform.defs.plan import Plan
from ftplatform.project.problems import ProjectFileError
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl
from ftplatform_tests.unit.serving.simulated import MONDAY, QUIET_HOURS, arrivals, served

CALM = np.where(np.isin(np.arange(24), QUIET_HOURS), 0.05, 1.0)
SELECTION = 'key:"serving/api" or key:"feedback/thumbs" or key:"raw/typed" or key:"eval_sets/questions"'
PING = "keep-warm"


def with_endpoint(project: dict[str, Any]) -> None:
    license_ = project["sources"]["tickets"]["license"]
    project["sources"]["typed"] = {"path": "data/typed.jsonl", "surface": "production", "license": dict(license_)}
    project["feedback"] = {"thumbs": {"path": "data/events.jsonl", "license": dict(license_)}}
    project["datasets"] = {"one": {"sources": ["tickets"], "feedback": ["thumbs"], "production_inputs": "typed"}}
    project["adapters"] = {"first": project["adapters"]["first"]}
    project["endpoints"] = {
        "api": {
            "path": "data/requests.jsonl",
            "adapter": "first",
            "costs": {"ping": 0.001, "cold_start": 0.1},
            "pings": {"marker": PING},
        }
    }


def write_data(root: Path, *, leaked: bool) -> None:
    rng = np.random.default_rng(4)
    log = pl.DataFrame(pl.from_arrow(served(rng, arrivals(rng, 30, CALM))))
    log.with_columns(pl.col("time").dt.to_string("iso:strict"), is_ping=None).write_ndjson(root / "data" / "requests.jsonl")
    with (root / "data" / "requests.jsonl").open("a") as file:
        ping = {"time": MONDAY.isoformat(), "adapter": "support", "request_id": f"{PING}-1", "prompt": "say ok"}
        file.write(json.dumps(ping) + "\n")
    typed: list[Mapping[str, Any]] = [{"messages": d["messages"][:1], "group": d["group"]} for d in dialogues(30, seed=8)]
    events: list[Mapping[str, Any]] = [
        {"event_id": f"e{i}", "surface": "curation", "prompt": f"how long is the warranty on item {i}", "answer": "I do not know."}
        for i in range(20)
    ]
    if leaked:
        typed.append({"messages": [{"role": "user", "content": "Say  OK"}], "group": "gateway"})
        events.append(
            {"event_id": "e-ping", "conversation": f"{PING}-1", "surface": "production", "prompt": "say ok", "answer": "ok"}
        )
    write_jsonl(root / "data" / "typed.jsonl", typed)
    write_jsonl(root / "data" / "events.jsonl", events)


def built(root: Path, *, leaked: bool) -> Path:
    file = small_project(root, with_endpoint)
    write_data(root, leaked=leaked)
    materialize(plan_of(file))
    return file


def materialize(plan: Plan) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert running.materialize(plan, instance, SELECTION).errors == {}


def checks(plan: Plan) -> dict[tuple[str, str], Check]:
    return {(check.asset, check.name): check for check in serving_checks(plan)}


def verdict(plan: Plan, asset: str, name: str, mode: Mode = Mode.RUN) -> Verdict:
    found = evaluate(checks(plan)[asset, name], plan.open_store(), mode=mode).verdict
    assert found is not None
    return found


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("m03"), leaked=True)


def test_every_check_is_where_the_specification_has_it(leaking: Path) -> None:
    found = checks(plan_of(leaking))
    on_endpoint = {("serving/api", name) for name in ("cold_start_exposure", "cold_start_observed", "keepwarm_effective")}
    assert found.keys() == on_endpoint | {("feedback/thumbs", "keepwarm_fence"), ("raw/typed", "keepwarm_fence")}
    assert all(found[key].severity == "warn" and not found[key].blocking for key in on_endpoint)
    fences = [check for check in found.values() if check.name == "keepwarm_fence"]
    assert all(fence.blocking and fence.severity == "error" and fence.looks_at == ("serving/api",) for fence in fences)


def test_pings_in_feedback_and_in_samples_are_refused(leaking: Path) -> None:
    plan = plan_of(leaking)
    feedback, typed = (verdict(plan, asset, "keepwarm_fence") for asset in ("feedback/thumbs", "raw/typed"))
    assert feedback.decision is typed.decision is Decision.FAIL
    assert [e["row_id"] for e in feedback.evidence] == ["e-ping"]
    assert typed.details["by_rule"] == {"request id": 0, "marker": 0, "text": 1}


def test_without_leaks_the_fences_pass(tmp_path: Path) -> None:
    plan = plan_of(built(tmp_path, leaked=False))
    assert verdict(plan, "feedback/thumbs", "keepwarm_fence").passed
    assert verdict(plan, "raw/typed", "keepwarm_fence").passed


def test_the_endpoint_is_cold_at_night_and_a_promise_makes_it_an_error(leaking: Path) -> None:
    plan = plan_of(leaking)
    exposure = verdict(plan, "serving/api", "cold_start_exposure")
    assert exposure.decision is Decision.FAIL, exposure.summary
    assert "02-06" in exposure.summary
    assert exposure.details["idle_threshold"]["fitted"]
    assert exposure.details["idle_threshold"]["seconds"] == pytest.approx(300, rel=0.05)
    assert verdict(plan, "serving/api", "cold_start_exposure", Mode.NIGHTLY).decision is Decision.FAIL
    assert verdict(plan, "serving/api", "cold_start_observed").decision is Decision.WARN
    effective = verdict(plan, "serving/api", "keepwarm_effective")
    assert "Ping after" in effective.remedy or effective.details["recommended"] == "none"
    before = checks(plan)["serving/api", "cold_start_exposure"]
    promised = edit(leaking, lambda p: p["endpoints"]["api"].update(time_to_first_token_slo=1.5))
    after = checks(promised)["serving/api", "cold_start_exposure"]
    assert (before.severity, after.severity) == ("warn", "error")
    assert before.binding != after.binding
    edit(leaking, lambda p: p["endpoints"]["api"].pop("time_to_first_token_slo"))


def test_the_snapshot_holds_profile_and_plan(leaking: Path) -> None:
    snapshot = plan_of(leaking).open_store().current("serving/api")
    assert snapshot.read_table("hour_of_week.parquet").num_rows == 168
    assert snapshot.facts["idle_threshold"]["low"] <= 300 <= snapshot.facts["idle_threshold"]["high"]
    plan = snapshot.facts["keep_warm_plan"]
    assert plan["classes"][plan["class"]]["cost_per_day"] == min(c["cost_per_day"] for c in plan["classes"].values())
    assert snapshot.facts["cold_starts"]["per_day"]["low"] > 1
    assert snapshot.read_table("requests.parquet")["is_ping"].to_pylist().count(True) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user_hours": ["mon-fry 08-20"]}, "mon to sun"),
        ({"user_hours": ["nights"]}, "mon-fri 08-20"),
        ({"timezone": "Paris"}, "IANA"),
        ({"idle_threshold": -5}, "greater than 0"),
        ({"pings": {"sent": False, "marker": "keep-warm"}}, "exclude each other"),
        ({"pings": {"marker": "x"}}, "at least 4"),
        ({"costs": {"ping": 1}}, "cold_start"),
    ],
)
def test_mistakes_in_the_project_file_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    def wrong(project: dict[str, Any]) -> None:
        with_endpoint(project)
        project["endpoints"]["api"].update(change)

    file = small_project(tmp_path, wrong)
    with pytest.raises(ProjectFileError, match=said):
        plan_of(file)
