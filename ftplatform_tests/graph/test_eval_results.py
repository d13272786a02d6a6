"""Evaluations on the graph: an unchanged adapter answers only what is new, and the numbers carry their errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.closure.rehearsal import read_scores
from ftplatform.defs import running
from ftplatform.defs.access import ledger
from ftplatform.defs.rehearsals import rehearse_with_seeds
from ftplatform.store.access_log import AccessKind
from ftplatform_tests.integration.chat_server import chat_server
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl

RESULTS = "eval_results/first"
#: With all that it stands on.
UPSTREAM = f'+key:"{RESULTS}"'
NEW_QUESTIONS = 15


def one_adapter(project: dict[str, Any]) -> None:
    del project["adapters"]["second"], project["datasets"]["two"], project["sources"]["chats"]


def one_set_more(project: dict[str, Any]) -> None:
    project["eval_sets"]["more"] = {**project["eval_sets"]["questions"], "path": "data/more.jsonl"}


def materialized(outcome: running.RunOutcome) -> None:
    assert not outcome.errors
    assert RESULTS in outcome.materialized, outcome.refusals


def kept_answers(root: Path) -> int:
    return sum(pq.read_metadata(piece).num_rows for piece in root.rglob("answers/*/*.parquet"))


def test_one_new_eval_set_generates_the_answers_to_that_set_only(tmp_path: Path) -> None:
    file = small_project(tmp_path, one_adapter)
    with dg.DagsterInstance.ephemeral() as instance:
        materialized(running.materialize(plan_of(file), instance, UPSTREAM))
        store = plan_of(file).open_store()
        first = store.current(RESULTS)
        before = first.read_table("answers.parquet")
        assert kept_answers(tmp_path) == 2 * before.num_rows, "every answer of both models is kept once"

        write_jsonl(
            tmp_path / "data" / "more.jsonl",
            [
                {"prompt": d["messages"][0]["content"], "completion": "by " + d["slices"][0], "group": d["group"]}
                for d in dialogues(NEW_QUESTIONS, seed=4)
            ],
        )
        plan = edit(file, one_set_more)
        materialized(running.materialize(plan, instance, UPSTREAM))
        second = plan.open_store().current(RESULTS)
        assert second.digest != first.digest
        assert kept_answers(tmp_path) == 2 * (before.num_rows + NEW_QUESTIONS)

        materialized(running.materialize(plan, instance, RESULTS, rebuild=True))
        assert plan.open_store().current(RESULTS).digest == second.digest, (
            "generated anew or taken from the cache: the same answers"
        )

        event = instance.get_latest_materialization_event(dg.AssetKey(RESULTS.split("/")))
    assert event is not None
    assert event.asset_materialization is not None
    table = event.asset_materialization.metadata["results"]
    assert isinstance(table, dg.TableMetadataValue)
    shown = {record.data["eval_set"]: record.data for record in table.records}
    assert shown.keys() == {"questions", "more", "reserve"}
    assert " ± " in str(shown["questions"]["tuned score"])
    assert " ± " in str(shown["reserve"]["gain"])
    facts = second.read_json("summary.json")["questions"]["plain"]
    assert facts["clusters"] == facts["n"] == 40
    assert facts["tuned_score_se"] is not None
    assert second.read_table("transcripts.parquet").num_rows == 0


def test_a_rubric_is_graded_by_the_judge_it_names_and_nobody_is_asked_twice(tmp_path: Path) -> None:
    with chat_server() as server:

        def judged(project: dict[str, Any]) -> None:
            one_adapter(project)
            license_ = project["sources"]["tickets"]["license"]
            project["judges"] = {"reader": {"family": "test", "url": server.url, "model": "judge-2026-10-01"}}
            by = {"purpose": "eval", "author": "kim@example.com"}
            project["rubrics"] = {
                "helpful": {**by, "judge": "reader", "criteria": [{"id": "correct", "text": "Is it right?"}]},
                "short": {
                    **by,
                    "judge": "rules",
                    "criteria": [{"id": "brief", "text": "?", "rule": {"kind": "max_words", "value": "9"}}],
                },
            }
            exam = {"path": "data/few.jsonl", "license": license_, "max_new_tokens": 4}
            project["eval_sets"] = {name: {**exam, "rubric": name} for name in ("helpful", "short")}

        file = small_project(tmp_path, judged)
        few = [
            {"prompt": d["messages"][0]["content"], "completion": "by tomorrow", "group": d["group"]} for d in dialogues(8, seed=5)
        ]
        write_jsonl(tmp_path / "data" / "few.jsonl", few)
        with dg.DagsterInstance.ephemeral() as instance:
            materialized(running.materialize(plan_of(file), instance, UPSTREAM))
            results = plan_of(file).open_store().current(RESULTS)
            answers = [row for row in results.read_table("answers.parquet").to_pylist() if row["eval_set"] == "helpful"]
            transcripts = results.read_table("transcripts.parquet")
            asked = len(server.requests)
            # Equal questions about equal answers are one exchange.
            assert 8 <= asked == transcripts.num_rows <= 16
            for row in answers:
                assert row["tuned_score"] == float("right" in row["tuned_answer"])
            scores = [row["tuned_score"] for row in results.read_table("answers.parquet").to_pylist() if row["eval_set"] == "short"]
            assert scores == [1.0] * 8, "four tokens are at most nine words"

            running.materialize(plan_of(file), instance, RESULTS, rebuild=True)
            assert len(server.requests) == asked
            assert plan_of(file).open_store().current(RESULTS).digest == results.digest

    shown = CliRunner().invoke(app, ["evals", "results", "first", "--project", str(file), "--json"])
    assert {row["eval_set"] for row in json.loads(shown.stdout)["results"]} == {"helpful", "short", "reserve"}
    plain = CliRunner().invoke(app, ["evals", "results", "first", "--project", str(file)])
    assert " ± " in plain.stdout


def test_replicates_are_scored_as_the_evaluation_is_and_a_vault_hears_of_it(tmp_path: Path) -> None:
    def judged(project: dict[str, Any]) -> None:
        one_adapter(project)
        rule = {"kind": "max_words", "value": "9"}
        project["rubrics"] = {
            "short": {
                "purpose": "eval",
                "author": "kim@example.com",
                "judge": "rules",
                "criteria": [{"id": "brief", "text": "?", "rule": rule}],
            }
        }
        project["eval_sets"]["questions"] |= {"rubric": "short", "vault": True}
        # Nothing but the vault's size and families stands in the way of this question.
        project["gates"] = {
            name: {"severity": "warn"} for name in ("contamination_paraphrase", "contamination_near", "triage_leak")
        }

    file = small_project(tmp_path, judged)
    with dg.DagsterInstance.ephemeral() as instance:
        materialized(running.materialize(plan_of(file), instance, UPSTREAM))
    plan = plan_of(file)
    store = plan.open_store()
    rehearsal, _ = rehearse_with_seeds(plan, store, "first", replicates=1, by="kim@example.com")
    assert rehearsal.scores is not None
    for table in read_scores(store.backend, [rehearsal.scores.adapter, rehearsal.scores.replicates[0]["scores"]]):
        assert set(table["score"].to_pylist()) == {1.0}, "four tokens are at most nine words; word for word none is right"
    seen = [record for record in ledger(store, "questions") if record.by == "kim@example.com"]
    assert [(record.kind, record.purpose) for record in seen] == [(AccessKind.DECISION, "replicates of adapters/first")]
