"""M4 as a team meets it: events come in, people annotate, decide and audit, and the platform refuses until they have."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.defs import running
from ftplatform.errors import InputDataError
from ftplatform.store import Store
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.projects import edit, plan_of, small_project, write_jsonl
from ftplatform_tests.unit.feedback.comments import ARTICLE

FEEDBACK, CORPUS, SPLIT, RESULTS = "feedback/thumbs", "corpora/one", "splits/one", "eval_results/first"
DATA = f'+key:"{SPLIT}" or key:"eval_sets/questions" or key:"base_models/base"'
EVENTS = 260


def event(at: int, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{at}",
        "conversation": f"c{at}",
        "surface": "curation",
        "actor": f"agent-{at % 26}",
        "actor_role": "agent",
        "prompt": f"how long is the warranty on item {at}, i am jo{at}@example.org",
        "answer": f"I do not know the warranty on item {at}, sorry.",
        "intent_code": "wrong_fact",
        "correction_kind": "replacement",
        "correction": f"The warranty on item {at} is {at % 5 + 1} years. We write to jo{at}@example.org when it ends.",
        "reviewers": ["ben"],
        "created_at": "2026-01-05T10:00:00Z",
        **changes,
    }


def with_feedback(project: dict[str, Any]) -> None:
    license_ = project["sources"]["tickets"]["license"]
    logs = {name: f"feedback/{name}.jsonl" for name in ("adjudication", "annotations", "reviews")}
    project["feedback"] = {"thumbs": {"path": "data/events.jsonl", "license": license_, "mask_personal_data": True, **logs}}
    project["datasets"] = {"one": {"sources": ["tickets"], "feedback": ["thumbs"]}}
    project["adapters"] = {"first": project["adapters"]["first"]}
    del project["sources"]["chats"]


@dataclass
class Team:
    """A project, and what its people do at the command line."""

    file: Path
    instance: dg.DagsterInstance
    desk: Path

    @property
    def store(self) -> Store:
        return plan_of(self.file).open_store()

    def run(self, selection: str) -> running.RunOutcome:
        return running.materialize(plan_of(self.file), self.instance, selection)

    def check(self, selection: str) -> None:
        running.check(plan_of(self.file), self.instance, selection)

    def verdict(self, asset: str, check: str) -> Verdict:
        evaluation = self.store.latest_evaluation(asset, check)
        assert evaluation is not None, check
        assert evaluation.verdict is not None
        return evaluation.verdict

    def cli(self, *arguments: str) -> Any:
        done = CliRunner().invoke(app, ["feedback", *arguments, "--project", str(self.file), "--json"])
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    def fill(self, purpose: str, answers: Callable[[dict[str, str]], dict[str, str]], *more: str, by: str = "kim") -> Any:
        """Get a sheet, answer every line, and hand it in."""
        sheet = self.desk / f"{purpose}.csv"
        written = self.cli("sample", "thumbs", "--for", purpose, "--out", str(sheet), *more)["sheets"]
        for path in written:
            with Path(path).open(newline="", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
            with Path(path).open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(lines[0]))
                writer.writeheader()
                writer.writerows({**line, **answers(line)} for line in lines)
            who = path.removesuffix(".csv").rpartition("-")[2] if "--annotator" in more else by
            yield self.cli("import", "thumbs", path, "--for", purpose, "--by", who)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    root = tmp_path_factory.mktemp("m04")
    file = small_project(root / "project", with_feedback)
    others = [event(EVENTS, correction=ARTICLE), event(EVENTS + 1, surface="qa"), event(EVENTS + 2, intent_code=None)]
    write_jsonl(file.parent / "data" / "events.jsonl", [*(event(at) for at in range(EVENTS)), *others])
    with dg.DagsterInstance.ephemeral() as instance:
        yield Team(file, instance, root)


# The tests run in this order on one project: what each leaves behind is what the next begins with.


def test_a_comment_that_nobody_read_refuses_the_dataset(team: Team) -> None:
    outcome = team.run(DATA)
    verdict = team.verdict(FEEDBACK, "correction_is_target")
    assert verdict.decision is Decision.FAIL, verdict.summary
    assert verdict.details["unreviewed"] == 1
    assert [line["event_id"] for line in verdict.evidence] == [f"e{EVENTS}"]
    assert FEEDBACK in outcome.materialized
    assert CORPUS not in outcome.materialized
    assert team.verdict(FEEDBACK, "label_agreement").decision is Decision.INSUFFICIENT_EVIDENCE
    assert team.verdict(FEEDBACK, "label_audit").decision is Decision.INSUFFICIENT_EVIDENCE
    assert team.verdict(FEEDBACK, "actor_concentration").passed
    checks = {(c.asset, c.name): c for c in plan_of(team.file).checks}
    for name in ("correction_is_target", "label_agreement", "label_audit"):
        assert checks[FEEDBACK, name].blocking
    assert checks[CORPUS, "feedback_lineage"].blocking
    assert checks[SPLIT, "feedback_lineage"].blocking
    assert checks[RESULTS, "metric_breadth"].blocking
    assert not checks[FEEDBACK, "actor_concentration"].blocking


def test_what_was_curated_holds_no_address_and_says_what_it_lost(team: Team) -> None:
    snapshot = team.store.current(FEEDBACK)
    rows = repr(snapshot.read_table("rows.parquet").to_pylist())
    assert "@example.org" not in rows
    assert "[EMAIL_1]" in rows
    assert snapshot.facts["masked"] == {"EMAIL": 2 * EVENTS + 1}
    assert snapshot.read_table("masked.parquet").num_rows == 2 * EVENTS + 1


def test_an_adjudicator_takes_it_out(team: Team) -> None:
    (imported,) = team.fill("adjudication", lambda _line: {"decision": "reject", "correction_kind": "comment", "why": "about tone"})
    assert imported["added"] == 2, "the comment, and the event that nobody gave an intent"
    outcome = team.run(DATA)
    assert outcome.errors == {}
    assert team.verdict(FEEDBACK, "correction_is_target").passed
    assert team.store.current(FEEDBACK).facts["rejections"] == {"adjudicated_out": 2, "debug_surface": 1}
    assert CORPUS not in outcome.materialized, "a release is built from it, and nobody has annotated or audited"
    (nothing,) = [team.cli("sample", "thumbs", "--for", "adjudication", "--out", str(team.desk / "none.csv"))]
    assert list(nothing["sheets"].values()) == [0]


def test_two_annotators_agree(team: Team) -> None:
    def code(line: dict[str, str]) -> dict[str, str]:
        number = int(line["event_id"][1:])
        kind = "comment" if number == EVENTS else "replacement" if number % 3 else "instruction"
        return {"intent_code": ("tone", "wrong_fact", "format")[number % 3], "correction_kind": kind}

    people = ("--annotator", "ann", "--annotator", "ben", "--size", "220")
    assert [done["added"] for done in team.fill("annotation", code, *people)] == [220, 220]
    team.check(FEEDBACK)
    agreed = team.verdict(FEEDBACK, "label_agreement")
    assert agreed.passed, agreed.summary
    assert agreed.n == 220
    assert agreed.details["annotators"] == ["ann", "ben"]
    again = team.cli("sample", "thumbs", "--out", str(team.desk / "again.csv"), *people)
    assert set(again["sheets"].values()) == {0}, "nobody is asked twice"


def test_the_audit(team: Team) -> None:
    (done,) = team.fill("review", lambda _line: {"quality": "ship"})
    assert done["added"] == 153
    team.check(FEEDBACK)
    audited = team.verdict(FEEDBACK, "label_audit")
    assert audited.passed, audited.summary
    status = team.cli("status", "thumbs")
    assert status["curated"] == EVENTS
    assert (status["annotated by two or more"], status["audited"], status["waiting for the audit"]) == (220, 153, 0)
    assert status["rejected: debug_surface"] == 1


def test_then_the_dataset_is_built(team: Team) -> None:
    outcome = team.run(DATA)
    assert outcome.errors == {}
    for asset in (CORPUS, SPLIT):
        assert asset in outcome.materialized, outcome.refusals
        lineage = team.verdict(asset, "feedback_lineage")
        assert lineage.passed, lineage.summary
        assert lineage.details["rows_of_feedback"] > 150


def test_what_people_say_rebuilds_no_dataset_and_makes_old_verdicts_stale(team: Team) -> None:
    before = team.store.current(FEEDBACK).digest
    bound = {c.name: c.binding for c in plan_of(team.file).checks if c.asset == FEEDBACK}
    log = team.file.parent / "feedback" / "reviews.jsonl"
    kept = log.read_bytes()
    lines = kept.splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    team.run(f'key:"{FEEDBACK}"')
    assert team.store.current(FEEDBACK).digest == before
    after = {c.name: c.binding for c in plan_of(team.file).checks if c.asset == FEEDBACK}
    assert {name for name in bound if bound[name] != after[name]} == {"label_audit"}
    log.write_bytes(kept)


def test_an_edited_log_is_refused_with_its_line(team: Team) -> None:
    log = team.file.parent / "feedback" / "adjudication.jsonl"
    kept = log.read_bytes()
    log.write_bytes(kept.replace(b'"reject"', b'"rejekt"'))
    done = CliRunner().invoke(app, ["feedback", "status", "thumbs", "--project", str(team.file)])
    assert isinstance(done.exception, InputDataError)
    assert "line 1" in str(done.exception)
    assert "allowed: accept, reject" in str(done.exception)
    log.write_bytes(kept)


def test_the_events_file_read_as_a_source_fails_the_dataset(team: Team) -> None:
    """ADV: under another name, as an ordinary corpus of prompts and corrections."""
    data = team.file.parent / "data"
    shutil.copy(data / "events.jsonl", data / "clean.jsonl")

    def smuggle(project: dict[str, Any]) -> None:
        license_ = project["sources"]["tickets"]["license"]
        fields = {"user": "prompt", "assistant": "correction"}
        project["sources"]["clean"] = {"path": "data/clean.jsonl", "license": license_, "fields": fields}
        project["datasets"]["one"]["sources"] = ["tickets", "clean"]

    edit(team.file, smuggle)
    outcome = team.run(DATA)
    verdict = team.verdict(CORPUS, "feedback_lineage")
    assert verdict.decision is Decision.FAIL, verdict.summary
    found = verdict.details["by_violation"]
    assert found["event file read as rows"] == 1
    # The third, of surface `qa`, no reader of rows lets in.
    assert found["rejected event"] == 2
    assert SPLIT not in outcome.materialized or "feedback_lineage" in repr(outcome.refusals)
    edit(team.file, lambda project: project["datasets"]["one"].update(sources=["tickets"]))
    edit(team.file, lambda project: project["sources"].pop("clean"))


def test_every_eval_set_is_a_metric(team: Team) -> None:
    outcome = team.run("*")
    assert RESULTS in outcome.materialized, (outcome.refusals, outcome.errors)
    verdict = team.verdict(RESULTS, "metric_breadth")
    assert {line["metric"]: line["n"] for line in verdict.details["metrics"]}["questions"] == 40
    assert verdict.details["without_scores"] == []
    assert verdict.baseline is not None
    assert verdict.baseline.startswith("base_models/base@")


def test_a_base_model_gives_the_fourth_signal(team: Team) -> None:
    edit(team.file, lambda project: project["feedback"]["thumbs"].update(base_model="base"))
    team.run(f'key:"{FEEDBACK}" or key:"base_models/base"')
    verdict = team.verdict(FEEDBACK, "correction_is_target")
    assert verdict.tier == "rules and base model"
    assert 0 < verdict.details["fired"]["log_probability"] <= 0.06 * verdict.n
    edit(team.file, lambda project: project["feedback"]["thumbs"].pop("base_model"))


def test_an_export_is_read_and_nothing_of_it_is_a_label_yet(team: Team) -> None:
    score = {"id": "s1", "traceId": "t1", "name": "user-feedback", "value": 0, "dataType": "NUMERIC", "comment": ARTICLE}
    trace = {"id": "t1", "input": "Hi", "output": "Hello.", "environment": "staging", "scores": [score]}
    (team.file.parent / "data" / "traces.json").write_text(json.dumps([trace]))

    def add(project: dict[str, Any]) -> None:
        license_ = project["sources"]["tickets"]["license"]
        block = {"path": "data/traces.json", "license": license_, "export": "langfuse", "surfaces": {"staging": "qa"}}
        project["feedback"]["traces"] = block

    edit(team.file, add)
    outcome = team.run('key:"feedback/traces"')
    assert outcome.errors == {}
    snapshot = team.store.current("feedback/traces")
    assert (snapshot.facts["counts"]["kept"], snapshot.facts["rejections"]) == (1, {"debug_surface": 1})
    assert team.verdict("feedback/traces", "correction_is_target").decision is Decision.INSUFFICIENT_EVIDENCE


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"adjudication": "../out.jsonl"}, "inside the project"),
        ({"annotations": "/tmp/out.jsonl"}, "inside the project"),
        ({"reviews": "s3://bucket/out.jsonl"}, "inside the project"),
        ({"surface": "production"}, "for an 'export'"),
        ({"export": "langfuse", "fields": {"prompt": "p"}}, "leave out"),
        ({"export": "phoenix"}, "phoenix"),
        ({"base_model": "nobody"}, "nobody"),
    ],
)
def test_bad_blocks(tmp_path: Path, block: dict[str, Any], message: str) -> None:
    file = small_project(tmp_path, with_feedback)
    write_jsonl(tmp_path / "data" / "events.jsonl", [event(0)])
    with pytest.raises(Exception, match=message):
        edit(file, lambda project: project["feedback"]["thumbs"].update(block))
