"""The M11 checks on a project's assets: where they stand, how hard they refuse, what they decide on stored snapshots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ftplatform.defs.asset_checks.habit_checks import habit_checks
from ftplatform.defs.checks import Check, evaluate
from ftplatform.defs.plan import Plan
from ftplatform.errors import ProjectError
from ftplatform.project.models import Project
from ftplatform.store import SnapshotDraft, Store
from ftplatform.verdict import Decision
from ftplatform_tests.projects import plan_of, small_project
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.targets.habits.answers_world import answer, answers

POLICY = """\
name: small
version: "1"
tools: {open_ticket: {does: [ticket]}}
apology: {fault_field: fault}
voice: {reference: chats}
"""
CORPUS, RESULTS, REFERENCE = "corpora/one", "eval_results/first", "raw/chats"
FIVE = ("unauthorized_commitment", "phantom_action", "unwarranted_apology", "shorthand_leak", "voice_drift")


@pytest.fixture
def plan(tmp_path: Path) -> Callable[[str | None], Plan]:
    bare = plan_of(small_project(tmp_path / "project"))

    def made(policy: str | None) -> Plan:
        if policy is not None:
            (tmp_path / "project" / "behavior.yaml").write_text(policy)
        named = {"behavior_policy": None if policy is None else "behavior.yaml"}
        project = Project.model_validate({**bare.project.model_dump(mode="json", exclude_unset=True), **named})
        return Plan(replace(bare.loaded, project=project))

    return made


def checks_of(plan: Plan) -> dict[tuple[str, str], Check]:
    return {(check.name, check.asset): check for check in habit_checks(plan)}


def publish(store: Store, asset: str, **files: pa.Table) -> None:
    with SnapshotDraft(asset, code_version="1", config_hash="c", environment="e", inputs=()) as draft:
        for name, rows in files.items():
            draft.add_table(f"{name}.parquet", rows)
        snapshot = store.write(draft)
    store.publish(snapshot)


def test_without_a_policy_there_is_nothing_to_check_against(plan: Callable[[str | None], Plan]) -> None:
    assert not checks_of(plan(None))


def test_five_on_every_corpus_and_their_model_side(plan: Callable[[str | None], Plan]) -> None:
    checks = checks_of(plan(POLICY))
    assert {name for name, asset in checks if asset == CORPUS} == set(FIVE)
    assert {name for name, asset in checks if asset == RESULTS} == {*FIVE} - {"shorthand_leak"}
    for (name, _), check in checks.items():
        warns = name in ("shorthand_leak", "voice_drift")
        assert (check.severity, check.blocking) == (("warn", False) if warns else ("error", True))
        assert check.looks_at == ((REFERENCE,) if warns else ())
    assert not checks["unauthorized_commitment", CORPUS].statistical
    assert checks["unauthorized_commitment", RESULTS].statistical


def test_another_policy_makes_evaluations_stale(plan: Callable[[str | None], Plan]) -> None:
    first = checks_of(plan(POLICY))["phantom_action", CORPUS].binding
    assert checks_of(plan(POLICY.replace("ticket]", "callback]")))["phantom_action", CORPUS].binding != first


def test_a_reference_that_is_no_source_is_named(plan: Callable[[str | None], Plan]) -> None:
    with pytest.raises(ProjectError, match="help-center"):
        checks_of(plan(POLICY.replace("reference: chats", "reference: help-center")))


def test_what_is_stored_is_judged(plan: Callable[[str | None], Plan], tmp_path: Path) -> None:
    checks = checks_of(plan(POLICY))
    store = Store.open(str(tmp_path / "store"))
    fine = [row(f"q{i}", f"Order {i} is on its way to you.", group=str(i)) for i in range(300)]
    publish(store, REFERENCE, rows=table(fine))
    publish(store, CORPUS, rows=table([*fine, row("hi", "I've issued a $20 credit. My colleagues upstairs have it now.")]))
    publish(store, RESULTS, answers=answers(answer(f"i{i}", "Order 5 is on its way to you.") for i in range(299)))

    def decided(name: str, asset: str) -> Decision:
        verdict = evaluate(checks[name, asset], store).verdict
        assert verdict is not None
        return verdict.decision

    assert decided("unauthorized_commitment", CORPUS) is Decision.FAIL
    assert decided("phantom_action", CORPUS) is Decision.FAIL
    assert decided("unwarranted_apology", CORPUS) is Decision.PASS
    assert decided("shorthand_leak", CORPUS) is Decision.INSUFFICIENT_EVIDENCE
    assert decided("voice_drift", CORPUS) is Decision.WARN, "301 turns are too few to pass"
    assert decided("unauthorized_commitment", RESULTS) is Decision.PASS
    assert decided("phantom_action", RESULTS) is Decision.PASS
    assert decided("unwarranted_apology", RESULTS) is Decision.INSUFFICIENT_EVIDENCE, "there are no pairs"


def test_nothing_stored_but_empty_tables(plan: Callable[[str | None], Plan], tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "store"))
    for asset, files in ((REFERENCE, {"rows": table([])}), (CORPUS, {"rows": table([])}), (RESULTS, {"answers": answers([])})):
        publish(store, asset, **files)
    for (_, asset), check in checks_of(plan(POLICY)).items():
        if asset in (CORPUS, RESULTS):
            verdict = evaluate(check, store).verdict
            assert verdict is not None
            assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
