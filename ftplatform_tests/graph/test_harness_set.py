"""A task of lm-evaluation-harness as an eval set: in the graph, in the checks, in the sensor that watches files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftplatform.defs import running
from ftplatform.defs.changes import changed, data_digests
from ftplatform.errors import EvaluationError, ProjectError
from ftplatform.evaluation.generation import Generator
from ftplatform.evaluation.harness.task import HarnessTask
from ftplatform.verdict import Verdict
from ftplatform_tests.projects import BASE_MODEL, dialogues, edit, plan_of, small_project, write_jsonl

RESULTS, EXAM = "eval_results/first", "eval_sets/colors"
COLORS = ["red", "green", "blue"]
TASK = """
task: colors
dataset_path: json
dataset_kwargs: {data_files: {test: colors.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{['red', 'green', 'blue'].index(right)}}"
doc_to_choice: ["red", "green", "blue"]
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}, {metric: acc_norm, aggregation: mean, higher_is_better: true}]
"""


def exam_files(root: Path, count: int = 24) -> Path:
    folder = root / "exams"
    write_jsonl(
        folder / "colors.jsonl",
        [
            {"question": f"which color has lamp {i} of the hall?", "right": COLORS[i % 3], "hall": f"hall {i % 2}"}
            for i in range(count)
        ],
    )
    (folder / "colors.yaml").write_text(TASK)
    return folder / "colors.yaml"


def with_exam(project: dict[str, Any]) -> None:
    del project["adapters"]["second"], project["datasets"]["two"], project["sources"]["chats"]
    license_ = project["sources"]["tickets"]["license"]
    project["eval_sets"]["colors"] = {"kind": "lm_eval", "path": "exams/colors.yaml", "slice_field": "hall", "license": license_}


def verdict(outcome: running.RunOutcome, asset: str, check: str) -> Verdict:
    (found,) = (evaluation for c, evaluation in outcome.checks if (c.asset, c.name) == (asset, check))
    assert found is not None, (outcome.errors, outcome.refusals)
    assert found.verdict is not None
    return found.verdict


@pytest.fixture
def project(tmp_path: Path) -> Path:
    exam_files(tmp_path)
    return small_project(tmp_path, with_exam)


def test_its_items_are_rows_its_scores_are_judged_and_a_new_document_is_a_new_exam(project: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(project), instance, f'+key:"{RESULTS}"')
    assert RESULTS in outcome.materialized, (outcome.errors, outcome.refusals)
    plan = plan_of(project)
    store = plan.open_store()
    exam = store.current(EXAM)
    rows = exam.read_table("rows.parquet").to_pylist()
    assert [m["content"] for m in rows[1]["messages"]] == ["which color has lamp 1 of the hall?", "green"]
    assert {row["surface"] for row in rows} == {"eval"}
    assert [row["slices"] for row in rows[:2]] == [["hall 0"], ["hall 1"]]

    answers = [row for row in store.current(RESULTS).read_table("answers.parquet").to_pylist() if row["eval_set"] == "colors"]
    assert {row["item_id"] for row in answers} == {row["row_id"] for row in rows}
    weights = store.current("adapters/first").local_folder("adapter")
    generator = Generator.load(project.parent / "base_model", weights)
    for who in ("base", "tuned"):
        asked = [[{"role": "user", "content": row["prompt"]}] for row in answers]
        likely = [generator.teacher_forced_logprob(asked, [color] * len(asked), adapter=who == "tuned").total for color in COLORS]
        for place, row in enumerate(answers):
            best = COLORS[max(range(3), key=lambda color: likely[color][place])]
            assert row[f"{who}_answer"] == best
            assert row[f"{who}_score"] == float(best == row["reference"])
    judged = store.current(RESULTS).read_table("answers.parquet").to_pylist()
    assert verdict(outcome, RESULTS, "task_regression").n == sum(row["kind"] == "task" for row in judged) >= 24

    before = data_digests(plan)
    exam_files(project.parent, count=25)
    assert changed(data_digests(plan_of(project)), before) == [EXAM], "the data file counts, and not only the task file"


def test_a_training_row_that_copies_an_item_is_contamination(tmp_path: Path) -> None:
    exam_files(tmp_path)
    file = small_project(tmp_path, with_exam)
    item = {
        "messages": [{"role": "user", "content": "which color has lamp 5 of the hall?"}, {"role": "assistant", "content": "blue"}]
    }
    write_jsonl(tmp_path / "data" / "tickets.jsonl", [*dialogues(120, seed=1), item])
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = running.materialize(plan_of(file), instance, f'+key:"{RESULTS}"')
    assert RESULTS not in outcome.materialized
    found = verdict(outcome, "splits/one", "contamination_exact")
    assert found.decision == "fail"
    assert "lamp 5" in json.dumps([dict(row) for row in found.evidence])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "data/questions.jsonl"}, "one local task file"),
        ({"metric": "contains"}, "'metric' is up to the task file"),
        ({"temperature": "0.7"}, "'temperature' is up to the task file"),
    ],
)
def test_what_the_task_file_decides_is_not_said_twice(project: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        edit(project, lambda p: p["eval_sets"]["colors"].update(change))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("test: colors.jsonl", "test: ../data/tickets.jsonl", "not below it"),
        ("test: colors.jsonl", "test: https://example.com/colors.jsonl", "not below it"),
        ("test: colors.jsonl", "test: missing.jsonl", "there is none"),
        ("test_split: test", "test_split: exam", "the split 'exam'"),
        ("test_split: test", "training_split: test", "no split to ask"),
        ("dataset_path: json", "process_docs: !function tools.run", "cannot be read"),
    ],
)
def test_a_task_that_cannot_be_read_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = exam_files(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(EvaluationError, match=message):
        HarnessTask.read(path)


@pytest.mark.parametrize("metric", ["perplexity", "brier_score"])
def test_a_metric_that_is_no_score_of_an_item_is_refused(tmp_path: Path, metric: str) -> None:
    path = exam_files(tmp_path, count=3)
    text = path.read_text()
    start = text.index("metric_list")
    path.write_text(f"{text[:start]}metric_list: [{{metric: {metric}, aggregation: mean, higher_is_better: false}}]\n")
    with pytest.raises(EvaluationError, match=r"lower is better|no figure|cannot run"):
        HarnessTask.read(path).ask(Generator.load(BASE_MODEL), adapter=False)
