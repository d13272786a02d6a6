"""M12 as a user meets it: a vault is asked, looked at and copied from; the platform counts, names and refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from ftplatform.cli.main import app, main
from ftplatform.contamination.triage import triage_leak
from ftplatform.defs import running
from ftplatform.defs.assets.row_metadata import describe_rows
from ftplatform.defs.outcomes import outcomes
from ftplatform.evaluation.generation import Decoding, Generator
from ftplatform.store import Store
from ftplatform.verdict import Decision
from ftplatform_tests.acceptance.test_m12_triage import World, world
from ftplatform_tests.projects import BASE_MODEL, dialogues, edit, plan_of, small_project, write_jsonl

VAULT, SPLIT, RESULTS = "eval_sets/vault", "splits/one", "eval_results/first"
DATA = '+key:"splits/one"'

#: Items of the vault, and how many of them fail; the others stand in pairs of one family.
ITEMS, FAILED = 160, 12


@dataclass
class Case:
    """A project whose adapter was trained and asked the vault once; `run_id` is that of this run."""

    file: Path
    instance: dg.DagsterInstance
    questions: World
    texts: list[str]
    run_id: str

    @property
    def store(self) -> Store:
        return plan_of(self.file).open_store()

    def tickets(self, texts: Sequence[str]) -> None:
        """The first training rows and these."""
        new = [{"prompt": text, "completion": f"We look into case {at}.", "group": f"new-{at}"} for at, text in enumerate(texts)]
        plain = [{"prompt": d["messages"][0]["content"], "completion": "We look into it."} for d in dialogues(120, seed=1)]
        write_jsonl(self.file.parent / "data" / "tickets.jsonl", [*plain, *new])

    def run(self, selection: str) -> running.RunOutcome:
        return running.materialize(plan_of(self.file), self.instance, selection)


def project_with_vault(project: dict[str, Any]) -> None:
    exam = {**project["eval_sets"]["questions"], "metric": "contains", "slice_field": "topic"}
    project["eval_sets"] = {
        "vault": {**exam, "path": "data/vault.jsonl", "vault": True},
        "twin": {**exam, "path": "data/twin.jsonl", "paraphrase_of": "vault"},
    }
    # Its tier without an encoder abstains on a vault of short questions, and would refuse every run here.
    project["gates"] = {"contamination_paraphrase": {"severity": "warn"}}
    project["datasets"] = {"one": {"sources": ["tickets"]}}
    del project["sources"]["chats"]
    first = project["adapters"]["first"]
    project["adapters"] = {"first": {**first, "training": {**first["training"], "steps": 1, "learning_rate": 1e-6}}}


def exam_rows(questions: World, root: Path) -> list[str]:
    """Write vault and twin: of the failed items no answer is right, of the others what the base model says. Returns their texts.

    Short items only: with twenty long ones `contamination_near` has too few to show a vault clean.
    """
    failed, passed = (
        [row for row in part.to_pylist() if len(row["messages"][0]["content"].split()) < 11]
        for part in (questions.failed, questions.passed)
    )
    assert len(failed) == FAILED
    rows = [*failed, *passed[: ITEMS - FAILED]]
    texts = [row["messages"][0]["content"] for row in rows]
    generator = Generator.load(BASE_MODEL)
    answers = generator.generate([[{"role": "user", "content": text}] for text in texts], Decoding(max_new_tokens=4))
    vault: list[Mapping[str, Any]] = [
        {
            "prompt": text,
            "completion": "nothing of the kind" if at < FAILED else answer,
            "topic": row["slices"][0],
            "group": f"family-{at - at % 2 if at >= FAILED else at}",
        }
        for at, (text, row, answer) in enumerate(zip(texts, rows, answers, strict=True))
    ]
    twin: list[Mapping[str, Any]] = [
        {**item, "prompt": f"put differently: {' '.join(reversed(item['prompt'].split()))}"}
        for item in vault[FAILED : FAILED + 48 : 2]
    ]
    write_jsonl(root / "data" / "vault.jsonl", vault)
    write_jsonl(root / "data" / "twin.jsonl", twin)
    return [item["prompt"] for item in (*vault, *twin)]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Case]:
    root = tmp_path_factory.mktemp("m12")
    file = small_project(root, project_with_vault)
    questions = world(shared_data, "clinc150", 5)
    texts = exam_rows(questions, root)
    with dg.DagsterInstance.ephemeral() as instance:
        made = Case(file, instance, questions, texts, "")
        made.tickets([])
        outcome = made.run("*")
        assert outcome.errors == {}
        assert RESULTS in outcome.materialized, outcome.refusals
        made.run_id = outcome.run_id
        yield made


def cli(case: Case, *arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*arguments, "--project", str(case.file), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def verdict(case: Case, asset: str, check: str) -> Any:
    evaluation = case.store.latest_evaluation(asset, check)
    assert evaluation is not None
    assert evaluation.verdict is not None
    return evaluation.verdict


def events(case: Case, run_id: str) -> str:
    """Everything a run told Dagster."""
    return " ".join(map(repr, case.instance.all_logs(run_id)))


def leaked(case: Case, shown: str) -> list[str]:
    return [text for text in case.texts if text in shown]


# The tests run in this order on one project: what each leaves behind is what the next begins with.


def test_the_first_version_is_not_refused_and_opens_the_ledger(case: Case) -> None:
    triage = verdict(case, SPLIT, "triage_leak")
    assert triage.passed
    assert "evaluated before" in triage.summary
    opened, decided = cli(case, "evals", "log", "vault")["records"]
    assert (opened["kind"], len(opened["items"]), opened["by"]) == ("refresh", ITEMS, "ftplatform")
    assert opened["snapshot"] == case.store.current(VAULT).digest
    assert (decided["kind"], decided["adapter"]) == ("decision", case.store.current("adapters/first").digest)
    assert verdict(case, VAULT, "vault_exposure").passed
    assert verdict(case, RESULTS, "performance_gap").details["vault_families"] == FAILED + (ITEMS - FAILED) // 2
    checks = {(check.asset, check.name): check for check in plan_of(case.file).checks}
    assert checks[SPLIT, "triage_leak"].blocking
    assert checks[RESULTS, "performance_gap"].blocking
    assert not checks[VAULT, "vault_exposure"].blocking


def test_a_run_that_changes_nothing_is_no_new_decision(case: Case) -> None:
    assert case.run(f'key:"{RESULTS}" or key:"{VAULT}"').errors == {}
    assert len(cli(case, "evals", "log", "vault")["records"]) == 2
    assert verdict(case, VAULT, "vault_exposure").estimate == 1


def test_no_vault_text_is_in_what_the_run_told(case: Case) -> None:
    told = events(case, case.run_id)
    assert "order 100000 from" in told, "texts of other rows are shown, so these would be"
    assert leaked(case, told) == []
    assert leaked(case, json.dumps(cli(case, "status"))) == []
    # The description every other set gets would show them.
    assert leaked(case, repr(describe_rows(case.store.current(VAULT))))


def test_honest_rows_on_the_topic_that_failed_pass(case: Case) -> None:
    case.tickets(case.questions.honest)
    outcome = case.run(DATA)
    assert outcome.errors == {}
    triage = verdict(case, SPLIT, "triage_leak")
    assert triage.passed, triage.summary
    assert triage.n == FAILED, "failed items were compared"
    assert triage.details["batch_rows"] > 200
    assert {c["eval_set"] for c in triage.details["comparisons"]} == {"vault", "twin"}


def test_paraphrases_of_failed_items_are_named_and_training_is_refused(case: Case) -> None:
    case.tickets([*case.questions.paraphrases, *case.questions.elsewhere[:200]])
    outcome = case.run(DATA)
    triage = verdict(case, SPLIT, "triage_leak")
    assert triage.decision is Decision.FAIL, triage.summary
    pairs = [line for line in triage.evidence if line["above_threshold"]]
    assert {(line["adapter"], line["eval_set"]) for line in pairs} == {("first", "vault")}
    answers = outcomes(case.store.current(RESULTS).read_table("answers.parquet"))
    failed = set(answers.filter(eval_set="vault", failed=True)["item_id"])
    train = case.store.current(SPLIT).read_table("train.parquet")
    said = dict(zip(train["row_id"].to_pylist(), train["messages"].to_pylist(), strict=True))
    assert {line["eval_row_id"] for line in pairs} <= failed
    planted = [said[line["row_id"]][0]["content"] in case.questions.paraphrases for line in pairs]
    assert sum(planted) / len(planted) > 0.5, "most rows that are named were planted"
    assert all(line["eval_text"] == line["row_text"] == "(vault)" for line in triage.evidence), "rows beside items are withheld too"
    assert leaked(case, events(case, outcome.run_id)) == []
    assert leaked(case, json.dumps(cli(case, "status"))) == []

    refused = case.run("adapters/first")
    assert "adapters/first" not in refused.materialized
    assert "triage_leak on splits/one" in " ".join(refused.refusals.values())


def test_one_more_version_does_not_launder_the_rows(case: Case) -> None:
    """ADV: what is new since the version before is one harmless row; what is new since the evaluation is still the leak."""
    before = case.store.current(SPLIT).read_table("train.parquet", ["row_id"])["row_id"]
    case.tickets([*case.questions.paraphrases, *case.questions.elsewhere[:201]])
    case.run(DATA)
    assert verdict(case, SPLIT, "triage_leak").decision is Decision.FAIL

    train = case.store.current(SPLIT).read_table("train.parquet")
    naive = train.filter(pc.invert(pc.is_in(train["row_id"], value_set=pc.unique(before))))
    assert naive.num_rows < 10
    items = case.store.current(VAULT).read_table("rows.parquet")
    is_failed = pc.equal(pc.list_element(items["messages"], 1).combine_chunks().field("content"), "nothing of the kind")
    compared = triage_leak(naive, items.filter(is_failed), items.filter(pc.invert(is_failed)))
    assert compared.decision is not Decision.FAIL


def test_looking_is_recorded_before_anything_is_shown_and_costs_the_family(case: Case) -> None:
    for bad in (["--items", "0" * 64], ["--adapter", "second"], ["--items", "abc"]):
        refused = CliRunner().invoke(
            app, ["evals", "view", "vault", *bad, "--by", "kim", "--why", "w", "--project", str(case.file)]
        )
        assert refused.exit_code != 0
    unsigned = CliRunner().invoke(app, ["evals", "view", "vault", "--by", " ", "--why", "w", "--project", str(case.file)])
    assert unsigned.exit_code != 0
    assert leaked(case, unsigned.output) == [], "who does not say who they are sees nothing"
    assert len(cli(case, "evals", "log", "vault")["records"]) == 2
    assert cli(case, "evals", "demoted", "vault")["row_ids"] == []

    items = case.store.current(VAULT).read_table("rows.parquet").to_pylist()
    seen, sibling = items[FAILED], items[FAILED + 1]
    assert seen["group"] == sibling["group"]
    looking = ["evals", "view", "vault", "--items", seen["row_id"][:12], "--by", "kim@example.com", "--why", "triage"]
    shown = cli(case, *looking)
    assert [item["row_id"] for item in shown["items"]] == [seen["row_id"]]
    assert shown["items"][0]["messages"][0]["content"] == seen["messages"][0]["content"]
    record = cli(case, "evals", "log", "vault")["records"][-1]
    assert (record["kind"], record["items"], record["by"], record["purpose"]) == (
        "view",
        [seen["row_id"]],
        "kim@example.com",
        "triage",
    )
    assert record["id"] == shown["record"]

    leaving = cli(case, "evals", "demoted", "vault", code=1)
    assert set(leaving["row_ids"]) == {seen["row_id"], sibling["row_id"]}
    assert leaving["replacements"] == 1
    known = {item["item_id"]: item for item in cli(case, "evals", "registry", "vault")["items"]}
    assert known[seen["row_id"]]["exposed_to"] == ["kim@example.com"]
    assert known[sibling["row_id"]]["exposures"] == 0
    assert known[sibling["row_id"]]["decisions"] == 1

    running.check(plan_of(case.file), case.instance, VAULT)
    exposure = verdict(case, VAULT, "vault_exposure")
    assert exposure.decision is Decision.FAIL
    assert (exposure.evidence[0]["by"], exposure.evidence[0]["row_id"]) == ("[EMAIL]", seen["row_id"])


def test_the_sibling_of_a_seen_item_has_to_leave_too(case: Case) -> None:
    """ADV: with the seen item gone nothing in the vault was seen, yet what stayed behind asks the same."""
    vault = case.file.parent / "data" / "vault.jsonl"
    lines = vault.read_text().splitlines()
    vault.write_text("\n".join([*lines[:FAILED], *lines[FAILED + 1 :]]) + "\n")
    case.run(VAULT)
    assert verdict(case, VAULT, "vault_exposure").decision is Decision.FAIL
    assert verdict(case, VAULT, "vault_exposure").details["retired_items"] == 1
    assert len(cli(case, "evals", "demoted", "vault", code=1)["row_ids"]) == 1

    fresh = {"prompt": "does the shop open on a holiday", "completion": "yes", "topic": "hours", "group": "fresh"}
    vault.write_text("\n".join([*lines[:FAILED], *lines[FAILED + 2 :], json.dumps(fresh)]) + "\n")
    case.run(VAULT)
    assert verdict(case, VAULT, "vault_exposure").passed
    entered = cli(case, "evals", "log", "vault")["records"][-1]
    assert (entered["kind"], len(entered["items"])) == ("refresh", 1), "only what is new entered"


def test_failed_answers_of_an_adapter(case: Case) -> None:
    shown = cli(case, "evals", "view", "vault", "--adapter", "first", "--by", "kim", "--why", "classes of failure")
    assert len(shown["items"]) == FAILED
    assert all(item["failed_answers"][0]["answer"] for item in shown["items"])
    record = cli(case, "evals", "log", "vault")["records"][-1]
    assert record["adapter"] == case.store.current("adapters/first").digest
    assert sorted(record["items"]) == sorted(item["row_id"] for item in shown["items"])


def test_the_author_of_new_rows_had_looked(case: Case) -> None:
    case.tickets([])
    rows = (case.file.parent / "data" / "tickets.jsonl").read_text()
    written = {"prompt": "is there a fee for cash abroad", "completion": "There is none.", "author": "Kim"}
    (case.file.parent / "data" / "tickets.jsonl").write_text(rows + json.dumps(written) + "\n")
    edit(case.file, lambda project: project["datasets"]["one"].update(reserve={"fraction": 0.0}))
    case.run(DATA)
    triage = verdict(case, SPLIT, "triage_leak")
    assert triage.decision is Decision.FAIL
    assert triage.details["by_evidence"] == {"author": 1}


def test_an_unknown_set_is_bad_input(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ftplatform", "evals", "log", "volt", "--project", str(case.file), "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "vault, twin" in json.loads(capsys.readouterr().out)["remedy"]


def test_tables_for_people(case: Case) -> None:
    for command in (["log"], ["registry"], ["demoted"], ["view"]):
        more = ["--by", "kim", "--why", "w", "--adapter", "first"] if command == ["view"] else []
        done = CliRunner().invoke(app, ["evals", *command, "vault", *more, "--project", str(case.file)])
        assert done.exit_code in (0, 1), done.output
        assert done.output.strip()


def test_a_working_set_is_recorded_too_and_nothing_has_to_leave_it(case: Case) -> None:
    shown = cli(case, "evals", "view", "twin", "--by", "kim", "--why", "writing remedies")
    assert len(shown["items"]) == 24
    (record,) = cli(case, "evals", "log", "twin")["records"]
    assert len(record["items"]) == 24, "by name: a view of the whole set must not depend on when its items entered"
    assert cli(case, "evals", "demoted", "twin")["vault"] is False
