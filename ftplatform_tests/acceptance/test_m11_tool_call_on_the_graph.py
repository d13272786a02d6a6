"""M11, `habits: {phantom_action: tool_call}`: what agents claimed to have done becomes what the model does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.defs.plan import Plan
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.projects import dialogues, plan_of, small_project, write_jsonl

TICKET, BOOKING = "I have opened a ticket for you.", "I have booked a table for you."
POLICY = """
name: small
version: "1"
tools:
  open_ticket:
    does: [ticket]
    call:
      arguments: '{"about": {"customer": "{group}", "kind": "{kind}"}, "note": "{claim}", "urgent": false}'
      result: '{"ticket":"T-1"}'
  book_table: {does: [booking]}
"""
Made = Callable[[str, str], Plan]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A project with 120 dialogues, 40 of which claim a ticket and 10 a table, and one dataset with the remedy."""

    def change(project: dict[str, Any]) -> None:
        project["behavior_policy"] = "behavior.yaml"
        project["sources"] = {"tickets": project["sources"]["tickets"]}
        project["datasets"] = {"one": {"sources": ["tickets"], "habits": {"phantom_action": "tool_call"}}}
        project["adapters"] = {"first": {**project["adapters"]["first"], "release": False}}

    def project(remedy: str, policy: str) -> Plan:
        file = small_project(tmp_path, lambda p: (change(p), p["datasets"]["one"]["habits"].update(phantom_action=remedy))[0])
        (tmp_path / "behavior.yaml").write_text(policy)
        rows = dialogues(120, seed=1)
        for i, row in enumerate(rows):
            if i < 50:
                row["messages"][1]["content"] += f" {TICKET if i < 40 else BOOKING}"
        write_jsonl(tmp_path / "data" / "tickets.jsonl", [*rows])
        return plan_of(file)

    return project


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def checked(run: running.RunOutcome, check: str) -> Verdict:
    (found,) = (e for c, e in run.checks if (c.asset, c.name) == ("corpora/one", check))
    assert found is not None
    assert found.verdict is not None
    return found.verdict


def test_the_claim_becomes_a_call_and_no_row_is_lost(made: Made, instance: dg.DagsterInstance) -> None:
    plan = made("tool_call", POLICY)
    run = running.materialize(plan, instance)
    assert "adapters/first" in run.materialized, (run.errors, run.refusals)
    assert checked(run, "phantom_action").decision is Decision.PASS
    assert checked(run, "row_schema").decision is Decision.PASS
    corpus = plan.open_store().current("corpora/one")
    rows = corpus.read_table("rows.parquet").to_pylist()
    assert len(rows) == 120
    called = [row for row in rows if len(row["messages"]) == 4]
    assert len(called) == 40
    for row in called:
        _, call, result, said = row["messages"]
        assert [(m["role"], m["trainable"]) for m in (call, result, said)] == [
            ("assistant", True),
            ("tool", False),
            ("assistant", True),
        ]
        written = json.loads(call["content"])
        assert written["name"] == "open_ticket"
        assert written["arguments"] == {
            "about": {"customer": row["group"], "kind": "ticket"},
            "note": TICKET,
            "urgent": False,
        }
        assert result["content"] == '{"ticket":"T-1"}'
        assert said["content"].endswith(TICKET), "what was said stays, now true"
        assert (row["origins"], len(row["parents"])) == (["raw/tickets"], 1)
    changes = corpus.read_table("rewritten.parquet").to_pylist()
    assert {(change["action"], change["before"].strip()) for change in changes} == {("tool_call", TICKET)}
    assert {change["new_row_id"] for change in changes} == {row["row_id"] for row in called}
    # The policy has a tool that books and says nothing of how it is called: no call is made up.
    assert corpus.facts["habits"] == {"masked": 10, "rewritten": 0, "tool_calls": 40}
    masked = {part["row_id"] for part in corpus.read_table("masks.parquet").to_pylist()}
    assert {row["messages"][1]["content"].endswith(BOOKING) for row in rows if row["row_id"] in masked} == {True}


def test_without_a_call_in_the_policy_the_run_says_so(made: Made, instance: dg.DagsterInstance) -> None:
    run = running.materialize(made("tool_call", 'name: small\nversion: "1"\n'), instance, '+key:"corpora/one"')
    assert "corpora/one" not in run.materialized
    assert any("tool_call" in error for error in run.errors.values())


def test_another_template_is_another_corpus(made: Made, instance: dg.DagsterInstance) -> None:
    digests = []
    for policy in (POLICY, POLICY.replace("urgent", "now")):
        plan = made("tool_call", policy)
        running.materialize(plan, instance, '+key:"corpora/one"')
        digests.append(plan.open_store().current("corpora/one").digest)
    assert digests[0] != digests[1]
