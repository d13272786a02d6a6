"""M9 as a user meets it: a project with a synthetic set, its production inputs, and what the checks say about both."""

from __future__ import annotations

import datetime
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.defs.asset_checks.realism_checks import realism_checks
from ftplatform.defs.checks import evaluate
from ftplatform.project.synthesis import Realism
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl
from ftplatform_tests.unit.synthesis.toy import TOPICS, clean, real

COMPARISONS = ("input_surface_match", "input_feature_gaps", "input_tail_coverage", "content_mix_match")
TEACHER = "imagined-1"


def with_synthetic(project: dict[str, Any]) -> None:
    license_ = project["sources"]["tickets"]["license"]
    project["sources"]["typed"] = {"path": "data/typed.jsonl", "surface": "production", "license": dict(license_)}
    made = {"path": "data/made.jsonl", "production_inputs": "typed", "teacher": {"id": TEACHER, "license": dict(license_)}}
    project["synthetic"] = {"made": made}
    project["datasets"] = {"one": {"sources": ["tickets"], "synthetic": ["made"], "production_inputs": "typed"}}
    project["eval_sets"]["imagined"] = {**project["eval_sets"]["questions"], "path": "data/imagined.jsonl"}
    project["adapters"] = {"first": {**project["adapters"]["first"], "release": False}}
    # The inputs are what is judged here; the rest of the pipeline has to go on.
    project["gates"] = {name: {"severity": "warn"} for name in ("input_surface_match", "contamination_near")}


def write_inputs(root: Path) -> None:
    rng, now = random.Random(1), datetime.datetime.now(datetime.UTC)
    typed: list[Mapping[str, Any]] = [
        {
            "messages": [{"role": "user", "content": f"{real(rng, rng.choice(list(TOPICS)))} {i}"}],
            "group": f"c{i}",
            "created_at": (now - datetime.timedelta(hours=rng.random() * 500)).isoformat(),
        }
        for i in range(700)
    ]
    made: list[Mapping[str, Any]] = [
        {"prompt": f"{clean(rng, rng.choice(list(TOPICS)))} My number is {i}.", "completion": f"Your number {i} is noted."}
        for i in range(700)
    ]
    imagined: list[Mapping[str, Any]] = [
        {"prompt": d["messages"][0]["content"], "completion": "by " + d["slices"][0], "parents": [f"teacher:{TEACHER}"]}
        for d in dialogues(20, seed=9)
    ]
    write_jsonl(root / "data" / "typed.jsonl", typed)
    write_jsonl(root / "data" / "made.jsonl", made)
    write_jsonl(root / "data" / "imagined.jsonl", imagined)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("m09")
    file = small_project(root, with_synthetic)
    write_inputs(root)
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(file), instance)
    assert outcome.errors == {}
    assert "eval_results/first" in outcome.materialized, outcome.refusals
    verdicts = {(check.asset, check.name): evaluation for check, evaluation in outcome.checks if evaluation is not None}
    return file, verdicts


def verdict(judged: Any, asset: str, name: str) -> Verdict:
    return judged[1][asset, name].verdict


def test_the_synthetic_set_fails_by_its_style_and_not_by_its_topics(judged) -> None:
    found = {name: verdict(judged, "synthetic/made", name).decision for name in COMPARISONS}
    assert found["input_surface_match"] is Decision.FAIL
    assert found["input_feature_gaps"] is Decision.FAIL
    assert found["content_mix_match"] is not Decision.FAIL
    assert all(("splits/one", name) in judged[1] for name in COMPARISONS)


def test_the_yardstick_is_judged_once_and_is_fresh(judged) -> None:
    health = verdict(judged, "raw/typed", "reference_health")
    assert health.decision is Decision.PASS, health.summary
    assert health.n == 700


def test_an_eval_by_the_teacher_of_the_training_rows_may_not_decide(judged) -> None:
    population = verdict(judged, "eval_results/first", "eval_population")
    assert population.decision is Decision.FAIL
    assert "imagined" in population.summary
    labels = {e["eval_set"]: e["population"] for e in population.evidence}
    assert labels["imagined"] == "in-distribution synthetic"
    assert labels["questions"] == "origin not declared"
    assert labels["reserve"] == "in-distribution synthetic"


def test_calibration_and_declared_evals_are_part_of_what_decided(judged) -> None:
    file, _ = judged
    plan = plan_of(file)
    assert plan.project.realism == Realism()
    plain = {(c.asset, c.name): c for c in realism_checks(plan)}
    declared_plan = edit(file, lambda p: p.update(realism={"calibrate_by": "source", "real_evals": ["questions"]}))
    changed = {(c.asset, c.name): c for c in realism_checks(declared_plan)}
    surface, population = ("synthetic/made", "input_surface_match"), ("eval_results/first", "eval_population")
    for key in (surface, population):
        assert changed[key].binding != plain[key].binding
    store = plan.open_store()
    calibrated = evaluate(changed[surface], store).verdict
    assert calibrated is not None
    assert calibrated.details["calibration"]["reason"]
    declared = evaluate(changed[population], store).verdict
    assert declared is not None
    assert {e["eval_set"]: e["population"] for e in declared.evidence}["questions"] == "real inputs"
