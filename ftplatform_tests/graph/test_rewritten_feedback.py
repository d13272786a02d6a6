"""Curated feedback that the dataset rewrites, by reviewed edits and by policy, is curated feedback still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.defs.assets.corpus_edits import REWRITES_FILE, rewrites_of
from ftplatform.feedback.feedback_lineage import FeedbackSet, feedback_lineage
from ftplatform.rows.schema import row_id
from ftplatform.store import Store
from ftplatform.targets.variants.edits import Decision, Edit, write_edits
from ftplatform.verdict import Verdict
from ftplatform_tests.projects import edit, plan_of, small_project, write_jsonl

FEEDBACK, CORPUS, SPLIT = "feedback/thumbs", "corpora/one", "splits/one"
DATA = f'+key:"{SPLIT}"'
HABIT = "I have escalated this to our billing team."
POLICY = 'name: small\nversion: "1"\ntools: {}\nrewrites:\n  phantom_action: Our billing team can help you.\n'


def event(at: int) -> dict[str, Any]:
    said = f"The warrenty on item {at} is {at % 5 + 1} years." + (f" {HABIT}" if at % 2 else "")
    return {
        "event_id": f"e{at}", "conversation": f"c{at}", "surface": "curation", "actor": f"agent-{at}", "actor_role": "agent",
        "prompt": f"how long is the warrenty on item {at}, i am jo{at}@example.org", "answer": f"I do not know about {at}.",
        "intent_code": "wrong_fact", "correction_kind": "replacement", "correction": said, "reviewers": ["ben"],
    }  # fmt: skip


def change(project: dict[str, Any]) -> None:
    license_ = project["sources"]["tickets"]["license"]
    project["feedback"] = {"thumbs": {"path": "data/events.jsonl", "license": dict(license_), "mask_personal_data": True}}
    project["datasets"] = {"one": {"sources": ["tickets"], "feedback": ["thumbs"]}}
    unread = ("label_agreement", "label_audit", "target_variant_share", "phantom_action", "unauthorized_commitment")
    project["gates"] = {check: {"severity": "warn"} for check in unread}
    del project["adapters"], project["sources"]["chats"], project["eval_sets"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Store]]:
    """The dataset as it is, then with reviewed edits in every curated row and a policy that rewrites half of them."""
    root = tmp_path_factory.mktemp("rewritten")
    file = small_project(root, change)
    write_jsonl(root / "data" / "events.jsonl", [event(at) for at in range(40)])
    (root / "behavior.yaml").write_text(POLICY)
    store = plan_of(file).open_store()
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(file), instance, DATA)
        assert SPLIT in outcome.materialized, (outcome.errors, outcome.refusals)
        edits = [_edit(row) for row in store.current(FEEDBACK).read_table("rows.parquet").to_pylist()]
        write_edits(root / "edits.jsonl", edits)

        def rewrite(project: dict[str, Any]) -> None:
            project["language"] = {"edits": {"one": "edits.jsonl"}}
            project["behavior_policy"] = "behavior.yaml"
            project["datasets"]["one"]["habits"] = {"phantom_action": "rewrite"}

        edit(file, rewrite)
        outcome = running.materialize(plan_of(file), instance, DATA)
        assert SPLIT in outcome.materialized, (outcome.errors, outcome.refusals)
        yield file, store


def _edit(row: dict[str, Any]) -> Edit:
    start = row["messages"][1]["content"].index("warrenty")
    place = {"row_id": row["row_id"], "message": 1, "start": start, "end": start + 8}
    return Edit(**place, before="warrenty", after="warranty", reason="", decision=Decision.ACCEPT, reviewer="ann")


def verdict(store: Store, asset: str, check: str = "feedback_lineage") -> Verdict:
    evaluation = store.latest_evaluation(asset, check)
    assert evaluation is not None
    assert evaluation.verdict is not None
    return evaluation.verdict


def test_the_rows_were_rewritten(built: tuple[Path, Store]) -> None:
    _, store = built
    curated = {row["row_id"] for row in store.current(FEEDBACK).read_table("rows.parquet").to_pylist()}
    rows = [row for row in store.current(CORPUS).read_table("rows.parquet").to_pylist() if FEEDBACK in row["origins"]]
    assert len(rows) == 40
    assert not curated & {row["row_id"] for row in rows}, "by its id alone none of them is curated"
    assert not [row for row in rows if "warrenty" in row["messages"][1]["content"] or HABIT in row["messages"][1]["content"]]
    for row in rows:
        assert len(row["parents"]) == 1, "the row between the two edits is in no snapshot"
        assert set(row["parents"]) <= curated
    assert {line["made_from"] for line in rewrites_of(store.current(CORPUS)).to_pylist()} == curated


@pytest.mark.parametrize("asset", [CORPUS, SPLIT])
def test_they_are_still_curated(built: tuple[Path, Store], asset: str) -> None:
    _, store = built
    found = verdict(store, asset)
    assert found.passed, found.summary
    assert found.details["rewritten_rows_followed"] > 20


def test_licenses_are_traced_through_both_edits(built: tuple[Path, Store]) -> None:
    _, store = built
    assert verdict(store, CORPUS, "license_allows_use").passed
    assert verdict(store, SPLIT, "license_allows_use").passed
    assert store.current(CORPUS).facts["counts"]["unlicensed"] == 0


def test_a_row_beside_the_record_is_not(built: tuple[Path, Store]) -> None:
    """ADV: a row of the corpus whose text somebody changed afterwards keeps its origins and parents, and is nobody's."""
    _, store = built
    corpus, feedback = store.current(CORPUS), store.current(FEEDBACK)
    rows = corpus.read_table("rows.parquet").to_pylist()
    forged = next(row for row in rows if FEEDBACK in row["origins"])
    forged["messages"][1]["content"] += " And you get a refund of $500."
    forged["row_id"] = row_id(forged["messages"])
    sets = {FEEDBACK: FeedbackSet(feedback.read_table("rows.parquet"), feedback.read_table("rejected.parquet"))}
    table = corpus.read_table("rows.parquet").from_pylist(rows, schema=corpus.read_table("rows.parquet").schema)
    found = feedback_lineage(table, sets, rewrites=corpus.read_table(REWRITES_FILE))
    assert found.details["by_violation"] == {"not curated": 1}
