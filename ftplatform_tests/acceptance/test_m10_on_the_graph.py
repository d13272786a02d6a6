"""M10 as a user meets it: a misspelling stops the corpus, a reviewed diff cleans it, the model is asked how it spells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.defs import running
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl

CORPUS, SPLIT, ADAPTER, RESULTS = "corpora/one", "splits/one", "adapters/first", "eval_results/first"


def one_adapter(project: dict[str, Any]) -> None:
    project["datasets"] = {"one": {"sources": ["tickets"], "reserve": {"fraction": 0.3}}}
    project["adapters"] = {"first": {**project["adapters"]["first"], "release": False}}
    project["language"] = {"prior_model": "base", "glossary": ["Tarnwell"], "names": ["Sandra"]}


def misspelled(count: int) -> list[dict[str, Any]]:
    """Dialogues in which every third answer says "warrenty", and users type as they like."""
    made = dialogues(count, seed=1)
    for i, dialogue in enumerate(made):
        user, answer = dialogue["messages"]
        user["content"] += ", i mean the warrenty"
        answer["content"] += f" The {'warrenty' if i % 3 == 0 else 'warranty'} still holds."
        dialogue["author"] = "agent-7" if i % 3 == 0 else f"agent-{i % 5}"
    return made


def cli(file: Path, *arguments: str, project: bool = True) -> Any:
    done = CliRunner().invoke(app, [*arguments, *(["--project", str(file)] if project else []), "--json"])
    assert done.exit_code in (0, 1), done.output
    return json.loads(done.stdout)


def decisions(file: Path, asset: str) -> dict[str, str]:
    return {row["check"]: row["decision"] for row in cli(file, "status")["checks"] if row["asset"] == asset}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("m10")
    file = small_project(root, one_adapter)
    write_jsonl(root / "data" / "tickets.jsonl", misspelled(240))
    with dg.DagsterInstance.ephemeral() as instance:
        yield file, instance


def test_a_misspelling_in_the_targets_stops_training(world) -> None:
    file, instance = world
    outcome = running.materialize(plan_of(file), instance)
    assert outcome.errors == {}
    assert ADAPTER not in outcome.materialized
    found = decisions(file, CORPUS)
    assert found["target_variant_share"] == "fail"
    assert found["prior_inversion"] in ("pass", "warn", "insufficient_evidence")
    assert "user_turn_untouched" not in found, "nothing was cleaned yet"
    evaluation = plan_of(file).open_store().latest_evaluation(CORPUS, "target_variant_share")
    assert evaluation is not None
    assert evaluation.verdict is not None
    (line,) = evaluation.verdict.evidence
    assert (line["variant"], line["partner"]) == ("warrenty", "warranty")
    assert str(line["authors"]).startswith("agent-7 100%")


def test_a_reviewed_diff_cleans_the_corpus_and_training_goes_on(world) -> None:
    file, instance = world
    diff = file.parent / "edits.jsonl"
    proposed = cli(file, "clean", "propose", "one", "--out", str(diff))
    assert (proposed["edits"], proposed["pending"], proposed["variants"]) == (80, 80, 1)
    assert CliRunner().invoke(app, ["clean", "show", str(diff)]).exit_code == 0
    # Nothing is accepted yet, so nothing would change.
    still = cli(file, "clean", "apply", "one", str(diff), "--out", str(file.parent / "cleaned.parquet"))
    assert (still["applied"], still["rows_changed"]) == (0, 0)
    decided = cli(file, "clean", "decide", str(diff), "--by", "reader", "--accept", "warrenty=warranty", project=False)
    assert decided["accept"] == 80
    assert cli(file, "clean", "propose", "one", "--out", str(diff))["accept"] == 80, "decisions outlive a new proposal"
    edit(file, lambda project: project["language"].update(edits={"one": "edits.jsonl"}))
    outcome = running.materialize(plan_of(file), instance)
    assert outcome.errors == {}
    assert ADAPTER in outcome.materialized, outcome.refusals
    found = decisions(file, CORPUS)
    assert (found["target_variant_share"], found["user_turn_untouched"]) == ("pass", "pass")
    corpus = plan_of(file).open_store().current(CORPUS)
    assert corpus.facts["cleaning"]["applied"] == 80
    old = set(corpus.read_table("uncleaned.parquet")["row_id"].to_pylist())
    rows = corpus.read_table("rows.parquet").to_pylist()
    assert all("warrenty" in row["messages"][0]["content"] for row in rows), "users still type as they like"
    assert not any("warrenty" in row["messages"][1]["content"] for row in rows)
    assert sum(bool(old & set(row["parents"])) for row in rows) == 80
    assert all(row["origins"] == ["raw/tickets"] for row in rows)


def test_the_tuned_model_is_asked_how_it_spells(world) -> None:
    file, instance = world
    probes = file.parent / "data" / "spelling.jsonl"
    written = cli(file, "clean", "probes", "one", "--out", str(probes))
    assert written["variants"] == 1
    assert written["contexts"] >= 20

    def ask(project: dict[str, Any]) -> None:
        license_ = project["eval_sets"]["questions"]["license"]
        spelling = {
            "path": "data/spelling.jsonl",
            "kind": "behavior_probes",
            "license": license_,
            "max_new_tokens": 8,
            "temperature": 1.0,
        }
        project["eval_sets"]["spelling"] = spelling
        project["adapters"]["first"]["evals"] = ["questions", "spelling"]
        project["language"]["probes"] = "spelling"

    edit(file, ask)
    outcome = running.materialize(plan_of(file), instance)
    assert outcome.errors == {}
    assert RESULTS in outcome.materialized, outcome.refusals
    # A model of two steps hardly writes the word, and seventy contexts are not 299.
    assert decisions(file, RESULTS)["model_variant_rate"] == "insufficient_evidence"


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ({"locales": ["de-DE"]}, "locales"),
        ({"prior_model": "nobody"}, "nobody"),
        ({"probes": "nothing"}, "nothing"),
        ({"edits": {"three": "edits.jsonl"}}, "three"),
        ({"glossary": [{"term": "AcmePay", "owner": "nobody"}]}, "owner"),
    ],
)
def test_a_wrong_key_is_named_when_the_project_is_loaded(tmp_path: Path, language: dict[str, Any], said: str) -> None:
    file = small_project(tmp_path, lambda project: project.update(language=language))
    done = CliRunner().invoke(app, ["validate", "--project", str(file), "--json"])
    assert done.exit_code != 0 or said in done.output
    assert said in done.output or said in str(done.exception)
