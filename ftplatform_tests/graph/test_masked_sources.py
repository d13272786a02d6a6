"""Sources and synthetic sets masked as they are read: what is stored, and that everything downstream still sees what it has to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ftplatform.contamination.exact import contamination_exact
from ftplatform.contamination.near import contamination_near
from ftplatform.defs import running
from ftplatform.defs.assets.admission import masked_spans
from ftplatform.defs.plan import Plan
from ftplatform.defs.watching import look_round
from ftplatform.licensing.watchers.rows import compare_rows
from ftplatform.rows.reading import ReadSpec, read_table
from ftplatform.rows.schema import Surface, row_id
from ftplatform.store import Snapshot
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.projects import edit, plan_of, small_project, write_jsonl

RAW, SYNTHETIC, SPLIT = "raw/tickets", "synthetic/letters", "splits/one"
DATA = f'+key:"{SPLIT}" or key:"eval_sets/questions"'


def ticket(at: int) -> dict[str, Any]:
    """Every other one holds an address; four of a customer in a row are one conversation."""
    mail = f" I am jo{at}@example.org." if at % 2 else ""
    asked, said = f"Where is my order {at} from shelf {at * 7}?{mail}", f"Order {at} left warehouse {at * 3}.{mail}"
    return {"prompt": asked, "completion": said, "group": f"customer-{at // 4}"}


def letter(at: int) -> dict[str, Any]:
    return {"prompt": f"Write to bo{at}@example.org about invoice {at * 11}", "completion": f"Dear number {at}, here it is."}


#: A question of the exam: it stands in the source, with the same address, and is short.
LEAKED = {"prompt": "change my mail to kim@example.org", "completion": "Your mail is changed, kim@example.org is what we write to."}
#: Two customers who said the same but for their address.
TWINS = [{"prompt": f"delete my account, {who}@example.org", "completion": "It is deleted."} for who in ("al", "bo")]

TICKETS = [*map(ticket, range(80)), LEAKED, *TWINS]


def masked_project(project: dict[str, Any]) -> None:
    license_ = project["sources"]["tickets"]["license"]
    project["sources"]["tickets"]["mask_personal_data"] = True
    project["synthetic"] = {
        "letters": {
            "path": "data/letters.jsonl",
            "teacher": {"id": "writer", "license": dict(license_)},
            "mask_personal_data": True,
        }
    }
    project["datasets"] = {"one": {"sources": ["tickets"], "synthetic": ["letters"]}}
    del project["adapters"], project["sources"]["chats"]


@dataclass
class Case:
    file: Path
    instance: dg.DagsterInstance

    @property
    def plan(self) -> Plan:
        return plan_of(self.file)

    def run(self, selection: str = DATA) -> running.RunOutcome:
        return running.materialize(self.plan, self.instance, selection)

    def current(self, asset: str) -> Snapshot:
        return self.plan.open_store().current(asset)

    def rows(self, asset: str) -> list[dict[str, Any]]:
        return self.current(asset).read_table("rows.parquet").to_pylist()

    def verdict(self, asset: str, check: str) -> Verdict:
        evaluation = self.plan.open_store().latest_evaluation(asset, check)
        assert evaluation is not None
        assert evaluation.verdict is not None
        return evaluation.verdict


def unmasked(case: Case, file: str, source: str = RAW) -> Any:
    return read_table(ReadSpec(paths=[file], base_dir=case.file.parent / "data", source=source, surface=Surface.CURATION))[0]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    root = tmp_path_factory.mktemp("masked")
    file = small_project(root, masked_project)
    write_jsonl(root / "data" / "tickets.jsonl", [*TICKETS, {"prompt": "", "completion": "to eve@example.org"}])
    write_jsonl(root / "data" / "upstream.jsonl", TICKETS)
    write_jsonl(root / "data" / "letters.jsonl", [letter(at) for at in range(20)])
    questions = [{"prompt": f"what does part {at} of model {at * 13} cost", "completion": f"{at} dollars"} for at in range(30)]
    write_jsonl(root / "data" / "questions.jsonl", [*questions, LEAKED])
    with dg.DagsterInstance.ephemeral() as instance:
        found = Case(file, instance)
        outcome = found.run()
        assert outcome.errors == {}
        yield found


def test_rows_are_stored_masked_and_the_record_says_what_was_taken(case: Case) -> None:
    for asset, file, emails in ((RAW, "tickets.jsonl", 80 + 2 + 2), (SYNTHETIC, "letters.jsonl", 20)):
        snapshot = case.current(asset)
        rows, before = case.rows(asset), unmasked(case, file, asset).to_pylist()
        assert "@" not in repr([row["messages"] for row in rows])
        assert snapshot.facts["masked"] == {"EMAIL": emails}
        assert snapshot.facts["counts"]["kept"] == len(rows) == len(before)
        spans = masked_spans(snapshot).to_pylist()
        assert len(spans) == emails
        originals = {row["row_id"]: row for row in before}
        for line in spans:
            said = originals[line["original_row_id"]]["messages"][line["message"]]["content"]
            assert "@example.org" in said[line["start"] : line["end"]]
        for old, new in zip(before, rows, strict=True):
            assert new["row_id"] == row_id(new["messages"])
            assert new["origins"] == [asset]
            assert (new["row_id"] == old["row_id"]) == ("@" not in repr(old["messages"]))
            assert not set(new["parents"]) & set(originals), "the row as it was is in no snapshot"


def test_the_address_of_one_customer_has_one_number(case: Case) -> None:
    said = [row["messages"][0]["content"] for row in case.rows(RAW)[:4]]
    assert [text.split("?")[1] for text in said] == ["", " I am [EMAIL_1].", "", " I am [EMAIL_2]."]


def test_what_could_not_be_read_is_shown_masked(case: Case) -> None:
    (line,) = case.current(RAW).read_table("quarantine.parquet").to_pylist()
    assert "[EMAIL]" in line["excerpt"]
    assert "@example.org" not in line["excerpt"]


def test_the_ui_shows_counts_by_kind(case: Case) -> None:
    event = case.instance.get_latest_materialization_event(dg.AssetKey(RAW.split("/")))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata["masked"]
    assert isinstance(shown, dg.TableMetadataValue)
    assert [record.data for record in shown.records] == [{"kind": "EMAIL", "count": 84}]


def test_rows_that_differ_in_personal_data_alone_are_copies_now(case: Case) -> None:
    corpus = case.current("corpora/one")
    assert corpus.facts["counts"]["exact_copies"] == 1
    assert case.verdict(SPLIT, "provenance_union").passed


def test_a_masked_copy_of_an_unmasked_exam_item_is_a_leak(case: Case) -> None:
    """ADV: the source is masked and the exam is not, so as texts they differ."""
    train, exam = case.current(SPLIT).read_table("train.parquet"), case.current("eval_sets/questions").read_table("rows.parquet")
    assert "kim@example.org" in repr(exam.to_pylist()), "exams are read as users type"
    leaked = next(row["row_id"] for row in case.rows(RAW) if row["messages"][0]["content"] == "change my mail to [EMAIL_1]")
    for compare, check in ((contamination_exact, "contamination_exact"), (contamination_near, "contamination_near")):
        naive = compare(train, {"eval_sets/questions": exam})
        assert naive.details["eval_sets"]["eval_sets/questions"]["contaminated"] == 0, naive.summary
        verdict = case.verdict(SPLIT, check)
        assert verdict.decision is Decision.FAIL, verdict.summary
        (line,) = [line for line in verdict.evidence if line["eval_set"] == "eval_sets/questions"]
        assert line["train_row_id"] == leaked
        assert "kim@" not in repr(verdict.to_record())


def test_upstream_is_compared_with_what_it_became_here(case: Case) -> None:
    """ADV: upstream is unmasked, so by their ids all masked rows seem to be withdrawn."""
    held, upstream = case.current(RAW).read_table("rows.parquet", ["row_id"]), unmasked(case, "upstream.jsonl")
    assert len(compare_rows(held, upstream).missing) == 42
    edit(case.file, lambda project: project["sources"]["tickets"]["license"].update(watch=["rows+data/upstream.jsonl"]))
    store = case.plan.open_store()
    assert look_round(case.plan, store).problems == {}
    standing = case.plan.terms[RAW].standing
    assert standing is None or not standing.rows

    gone = TICKETS[1]
    write_jsonl(case.file.parent / "data" / "upstream.jsonl", [record for record in TICKETS if record is not gone])
    assert look_round(case.plan, store, everything=True).news == 1
    standing = case.plan.terms[RAW].standing
    assert standing is not None
    before = case.rows(RAW)
    assert list(standing.rows) == [before[1]["row_id"]]
    case.run(f'key:"{RAW}"')
    assert case.rows(RAW) == [row for at, row in enumerate(before) if at != 1], "the rest keep their numbers and ids"


def test_turning_it_off_is_another_version_and_withdrawn_rows_stay_out(case: Case) -> None:
    masked = case.current(RAW)
    case.run(f'key:"{RAW}"')
    assert case.current(RAW).digest == masked.digest, "nothing changed, nothing is built"
    spans = masked_spans(masked)
    edit(case.file, lambda project: project["sources"]["tickets"].pop("mask_personal_data"))
    case.run(f'key:"{RAW}"')
    plain = case.current(RAW)
    assert plain.digest != masked.digest
    assert "masked" not in plain.facts
    assert masked_spans(plain).num_rows == 0
    assert spans.num_rows
    assert "jo3@example.org" in repr(case.rows(RAW))
    assert "jo1@example.org" not in repr(case.rows(RAW)), "it was withdrawn while it was masked"
    edit(case.file, lambda project: project["sources"]["tickets"].update(mask_personal_data=True))
    case.run(f'key:"{RAW}"')
    assert case.current(RAW).digest == masked.digest


def test_a_wrong_value_is_named(case: Case) -> None:
    with pytest.raises(Exception, match="mask_personal_data"):
        edit(case.file, lambda project: project["sources"]["tickets"].update(mask_personal_data="perhaps"))
    edit(case.file, lambda project: project["sources"]["tickets"].update(mask_personal_data=True))
