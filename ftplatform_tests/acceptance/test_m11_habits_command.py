"""`ftplatform habits`: the mining view with its agents, beside what the checks found, in the terminal, as JSON and as a page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from ftplatform.cli.main import app
from ftplatform.defs import running
from ftplatform.errors import InputDataError, ProjectError
from ftplatform.project.check_names import CHECKS_BY_MODE
from ftplatform.store import SnapshotDraft
from ftplatform_tests.projects import dialogues, edit, plan_of, small_project, write_jsonl

POLICY = 'name: small\nversion: "1"\nvoice: {reference: help}\n'
MARKUP = "<script>alert(1)</script>"
CLAIM = "I have opened a ticket for you."


def project_of(root: Path) -> Path:
    """40 of 120 answers say "let me circle back", three quarters of them by one agent; 12 claim a ticket; one is hostile."""

    def change(project: dict[str, Any]) -> None:
        license_ = project["sources"]["tickets"]["license"]
        project["sources"] = {
            "tickets": project["sources"]["tickets"],
            "help": {"path": "data/help.jsonl", "license": license_},
        }
        project["datasets"] = {"one": {"sources": ["tickets"]}}
        project["adapters"] = {"first": {**project["adapters"]["first"], "release": False}}
        project["behavior_policy"] = "behavior.yaml"

    file = small_project(root, change)
    rows = dialogues(120, seed=1)
    for i, row in enumerate(rows):
        row["author"] = "agent-7" if i < 30 else f"agent-{i % 3}"
        if i < 40:
            row["messages"][1]["content"] += " Let me circle back on that."
        if 50 <= i < 62:
            row["messages"][1]["content"] += f" {CLAIM}"
        if i >= 100:
            row["messages"][1]["content"] += f" {MARKUP}"
    write_jsonl(root / "data" / "tickets.jsonl", [*rows])
    write_jsonl(root / "data" / "help.jsonl", [*dialogues(200, seed=5)])
    (root / "behavior.yaml").write_text(POLICY)
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = project_of(tmp_path_factory.mktemp("habits"))
    with dg.DagsterInstance.ephemeral() as instance:
        run = running.materialize(plan_of(made), instance, '+key:"corpora/one" or key:"raw/help"')
        assert {"corpora/one", "raw/help"} <= set(run.materialized), (run.errors, run.refusals)
        yield made


def habits(file: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["habits", "one", "--project", str(file), *options])


def test_phrases_with_their_agents_and_what_the_checks_said(file: Path) -> None:
    told = json.loads(habits(file, "--json").stdout)
    phrases = {line["phrase"]: line for line in told["phrases"]}
    back = phrases["circle back"]
    assert (back["count"], back["approved"], back["authors"], back["top_author"]) == (40, 0, 4, "agent-7")
    assert back["top_author_share"] == pytest.approx(0.75)
    assert all(line["z"] > 0 for line in told["phrases"])
    assert "thanks for writing" not in phrases, "approved text says so as well"
    checks = {line["check"]: line for line in told["checks"]}
    assert list(checks) == list(CHECKS_BY_MODE["M11"])
    assert checks["phantom_action"]["decision"] == "fail"
    assert checks["phantom_action"]["evidence"][0]["sentence"] == CLAIM
    assert told["reference"] == "raw/help"


def test_the_number_of_phrases_is_asked_for(file: Path) -> None:
    assert len(json.loads(habits(file, "--json", "--top", "3").stdout)["phrases"]) == 3


def test_the_terminal_shows_all_three_tables(file: Path) -> None:
    said = habits(file)
    assert said.exit_code == 0, said.output
    for shown in ("against raw/help", "circle back", "agent-7", "75%", "phantom_action", CLAIM):
        assert shown in said.output


def test_the_page_runs_nothing_that_agents_wrote(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "habits.html"
    assert habits(file, "--html", str(page)).exit_code == 0
    written = page.read_text()
    assert "circle back" in written
    assert "<svg" in written
    assert "<script" not in written, "neither ours nor theirs"
    assert "script alert" in written, "what they wrote is shown as words"
    assert "default-src 'none'" in written
    assert not re.search(r'(?:src|href)="', written), "it loads nothing"


def test_a_check_of_an_earlier_version_says_so(tmp_path: Path) -> None:
    file = project_of(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        running.materialize(plan_of(file), instance, '+key:"corpora/one" or key:"raw/help"')
        # The corpus alone, as a run that died before its checks leaves it.
        store = plan_of(file).open_store()
        before = store.current("corpora/one")
        with SnapshotDraft("corpora/one", code_version="1", config_hash="c", environment="e", inputs=()) as draft:
            draft.add_table("rows.parquet", before.read_table("rows.parquet").slice(0, 70))
            store.publish(store.write(draft))
    checks = {line["check"]: line for line in json.loads(habits(file, "--json").stdout)["checks"]}
    assert checks["phantom_action"]["decision"] == "stale"
    assert "fail" in checks["phantom_action"]["summary"]


def test_without_approved_text_there_are_no_phrases_and_the_checks_are_still_shown(tmp_path: Path) -> None:
    file = project_of(tmp_path)
    (tmp_path / "behavior.yaml").write_text('name: small\nversion: "1"\n')
    with dg.DagsterInstance.ephemeral() as instance:
        running.materialize(plan_of(file), instance, '+key:"corpora/one"')
    told = json.loads(habits(file, "--json").stdout)
    assert (told["phrases"], told["reference"]) == ([], None)
    decisions = {line["check"]: line["decision"] for line in told["checks"]}
    assert decisions["phantom_action"] == "fail"
    assert decisions["voice_drift"] == "not run"
    assert "names none" in " ".join(habits(file).output.split())


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    file = project_of(tmp_path)
    nobody = CliRunner().invoke(app, ["habits", "nobody", "--project", str(file)]).exception
    assert isinstance(nobody, InputDataError)
    assert "Its datasets: one." in str(nobody)
    assert "ftplatform run corpora/one" in str(habits(file).exception), "nothing was built"
    assert isinstance(habits(file, "--html", str(tmp_path / "no" / "page.html")).exception, InputDataError)
    (tmp_path / "behavior.yaml").write_text(POLICY.replace("help", "nobody"))
    assert isinstance(habits(file).exception, ProjectError)
    edit(file, lambda project: project.pop("behavior_policy"))
    assert "behavior_policy" in str(habits(file).exception)
