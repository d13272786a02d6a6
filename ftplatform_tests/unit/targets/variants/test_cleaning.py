"""Edits are proposed, decided by people, and applied to targets only; what does not fit any more is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from ftplatform.errors import InputDataError
from ftplatform.rows.placeholders import as_masked
from ftplatform.rows.redaction import Redaction
from ftplatform.rows.rewriting import with_messages
from ftplatform.rows.schema import Role, row_id
from ftplatform.rows.turns import turns
from ftplatform.rows.validation import row_schema
from ftplatform.targets.variants.cleaning import StaleEdit, clean, clean_table
from ftplatform.targets.variants.edits import (
    Decision,
    Edit,
    decide,
    propose_edits,
    read_edits,
    with_decisions,
    write_edits,
)
from ftplatform.targets.variants.findings import find_variants
from ftplatform.targets.variants.lexicon import Lexicon, Term
from ftplatform.targets.variants.untouched import user_turn_untouched
from ftplatform.verdict import Decision as Conclusion
from ftplatform_tests.tables import row, table

LEXICON = Lexicon()
PAIR = [("deductable", "deductible")]


def corpus() -> pa.Table:
    wrong = [
        row(
            f"whats my deductable {i}",
            f"Your deductable is {i}. Deductable!",
            "and `deductable`?",
            f"See deductable.com: deductable’s {i}",
        )
        for i in range(20)
    ]
    right = [row(f"hi {i}", f"Your deductible is {i}.", origins=["other", "src"], parents=["teacher"]) for i in range(60)]
    masked = row("my deductable", "deductable never trained")
    masked["messages"][1]["trainable"] = False
    return table([*wrong, *right, masked])


def proposed(rows: pa.Table) -> list[Edit]:
    return list(propose_edits(rows, find_variants(rows, LEXICON)))


def test_every_place_in_a_target_is_proposed_and_no_other() -> None:
    rows = corpus()
    edits = proposed(rows)
    # Three per row: not the user's, not in code, not in the address, not in the masked turn.
    assert len(edits) == 60
    assert {edit.message for edit in edits} == {1, 3}
    assert {(edit.before, edit.after) for edit in edits} == {("deductable", "deductible"), ("Deductable", "Deductible")}
    texts = {r["row_id"]: r["messages"] for r in rows.to_pylist()}
    assert all(texts[e.row_id][e.message]["content"][e.start : e.end] == e.before for e in edits)
    assert all(edit.decision is Decision.PENDING for edit in edits)


def test_only_accepted_edits_are_applied_and_rows_keep_their_history() -> None:
    rows = corpus()
    edits = proposed(rows)
    decided = [
        replace(edit, decision=Decision.ACCEPT if edit.message == 1 else Decision.REJECT, reviewer="ann") for edit in edits[:30]
    ] + edits[30:]
    cleaned, counts = clean_table(rows, decided)
    accepted = [edit for edit in decided if edit.decision is Decision.ACCEPT]
    assert counts.to_record() == {
        "accepted": 20,
        "rejected": 10,
        "pending": 30,
        "applied": len(accepted),
        "rows": 81,
        "rows_changed": 10,
    }
    assert row_schema(cleaned).decision is Conclusion.PASS
    before, after = rows.to_pylist(), cleaned.to_pylist()
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        changed = old["row_id"] in counts.renamed
        assert (old["messages"] != new["messages"]) == changed
        if changed:
            assert new["row_id"] == row_id(new["messages"]) == counts.renamed[old["row_id"]]
            assert new["parents"] == [old["row_id"]]
            assert new["origins"] == old["origins"]
            assert new["messages"][1]["content"].startswith("Your deductible is")
            assert "deductable’s" in new["messages"][3]["content"]
        else:
            assert new == old
    verdict = user_turn_untouched(rows, cleaned)
    assert (verdict.decision, verdict.n) == (Conclusion.PASS, 20 * 2 + 60 + 1)


def test_a_stream_is_cleaned_as_its_table_is() -> None:
    rows = corpus()
    edits = decide(proposed(rows), by="ann", accept=PAIR)
    stream, counts = clean(lambda: rows.to_batches(max_chunksize=7), edits)
    assert pa.concat_tables(list(stream)).equals(clean_table(rows, edits)[0])
    assert counts.applied == 60


def test_nothing_accepted_changes_nothing() -> None:
    rows = corpus()
    cleaned, counts = clean_table(rows, proposed(rows))
    assert cleaned.equals(rows)
    assert (counts.applied, counts.pending) == (0, 60)
    assert clean_table(table([]), [])[0].num_rows == 0


def accepted(rows: pa.Table, **changes) -> Edit:
    return replace(proposed(rows)[0], decision=Decision.ACCEPT, reviewer="ann", **changes)


def test_stale_edits_are_refused_before_anything_is_handed_out() -> None:
    rows = corpus()
    once, _ = clean_table(rows, [accepted(rows)])
    for stale, said in [
        (accepted(rows, row_id="0" * 64), "not in the data"),
        (accepted(rows, message=0, start=9, end=19), "no trainable assistant turn"),
        (accepted(rows, message=9), "no trainable assistant turn"),
        (accepted(rows, start=4, end=14), "does not say"),
    ]:
        with pytest.raises(StaleEdit, match=said) as refused:
            clean(rows, [stale])
        assert refused.value.remedy
    with pytest.raises(StaleEdit, match="not in the data"):
        clean(once, [accepted(rows)])


def test_overlapping_edits_are_refused() -> None:
    rows = corpus()
    with pytest.raises(StaleEdit, match="overlap"):
        clean(rows, [accepted(rows), accepted(rows, after="excess")])


def test_a_masked_turn_is_no_target() -> None:
    rows = corpus()
    masked = rows.to_pylist()[-1]
    edit = Edit(
        row_id=masked["row_id"],
        message=1,
        start=0,
        end=10,
        before="deductable",
        after="deductible",
        reason="",
        decision=Decision.ACCEPT,
        reviewer="ann",
    )
    with pytest.raises(StaleEdit, match="no trainable assistant turn"):
        clean(rows, [edit])


class TestTheDiff:
    def test_reads_what_was_written(self, tmp_path: Path) -> None:
        edits = proposed(corpus())
        assert write_edits(tmp_path / "edits.jsonl", edits) == 60
        assert read_edits(tmp_path / "edits.jsonl") == edits
        first = json.loads((tmp_path / "edits.jsonl").read_text().splitlines()[0])
        assert set(first) == {"row_id", "message", "start", "end", "from", "to", "reason", "context", "decision", "reviewer"}

    @pytest.mark.parametrize(
        "damage",
        [
            {"decision": "accept"},
            {"decision": "yes"},
            {"start": "5"},
            {"start": True},
            {"end": 3},
            {"message": -1},
            {"to": ""},
            {"to": "deductable"},
            {"from": 7},
            {"reviewer": None},
            {"row_id": ...},
        ],
    )
    def test_a_damaged_line_is_named(self, tmp_path: Path, damage: dict) -> None:
        record = {**proposed(corpus())[0].to_record(), **damage}
        path = tmp_path / "edits.jsonl"
        path.write_text("\n" + json.dumps({k: v for k, v in record.items() if v is not ...}) + "\n")
        with pytest.raises(InputDataError, match="line 2") as refused:
            read_edits(path)
        assert refused.value.remedy

    def test_no_json_and_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "edits.jsonl").write_text("[1]\n")
        with pytest.raises(InputDataError, match="line 1"):
            read_edits(tmp_path / "edits.jsonl")
        with pytest.raises(InputDataError, match="cannot be read"):
            read_edits(tmp_path / "none.jsonl")

    def test_decisions_outlive_a_new_proposal(self) -> None:
        rows = corpus()
        decided = decide(proposed(rows), by="ann", accept=PAIR)
        again = list(with_decisions(proposed(rows), decided))
        assert all(edit.decision is Decision.ACCEPT and edit.reviewer == "ann" for edit in again)

    def test_decisions_need_a_reader_and_a_pair_of_the_diff(self) -> None:
        edits = proposed(corpus())
        for arguments in (
            {"by": " ", "accept": PAIR},
            {"by": "ann", "accept": [("deductable", "detectable")]},
            {"by": "ann", "accept": PAIR, "reject": PAIR},
        ):
            with pytest.raises(InputDataError):
                decide(edits, **arguments)

    def test_context_is_masked(self) -> None:
        said = [row(f"q{i}", f"Mail jo@example.org about the deductable {i} or 4111 1111 1111 1111") for i in range(40)]
        edits = proposed(table(said))
        assert edits
        assert all("example.org" not in edit.context and "4111" not in edit.context for edit in edits)


def test_a_glossary_term_is_written_as_it_is() -> None:
    rows = table(row(f"q{i}", "ACMEPLAY or Acmepay: AcmePay" if i < 20 else "AcmePay") for i in range(60))
    edits = list(propose_edits(rows, find_variants(rows, Lexicon(glossary=[Term("AcmePay")]))))
    assert {(edit.before, edit.after) for edit in edits} == {("ACMEPLAY", "AcmePay"), ("Acmepay", "AcmePay")}


class TestUserTurnUntouched:
    def changed(self, change) -> pa.Table:
        rows = clean_table(corpus(), decide(proposed(corpus()), by="ann", accept=PAIR))[0].to_pylist()
        change(rows)
        return table(rows)

    def test_a_corrected_user_turn_fails(self) -> None:
        after = self.changed(lambda rows: rows[3]["messages"][0].update(content="what is my deductible 3"))
        verdict = user_turn_untouched(corpus(), after)
        assert (verdict.decision, verdict.estimate) == (Conclusion.FAIL, 1.0)
        assert verdict.evidence[0]["before"] == "whats my deductable 3"
        assert verdict.evidence[0]["after"] == "what is my deductible 3"

    @pytest.mark.parametrize("end", [0, -1])
    def test_a_turn_more_or_less_fails(self, end: int) -> None:
        assert user_turn_untouched(corpus(), self.changed(lambda rows: rows[0]["messages"].pop(end))).decision is Conclusion.FAIL

    def test_another_role_fails(self) -> None:
        after = self.changed(lambda rows: rows[0]["messages"][1].update(role="tool"))
        assert user_turn_untouched(corpus(), after).decision is Conclusion.FAIL

    def test_a_row_out_of_nowhere_fails(self) -> None:
        after = self.changed(lambda rows: rows.append(row("new", "row")))
        verdict = user_turn_untouched(corpus(), after)
        assert (verdict.decision, verdict.details["rows_without_origin"]) == (Conclusion.FAIL, 1)

    def test_rows_that_other_filters_drop_are_counted(self) -> None:
        verdict = user_turn_untouched(corpus(), self.changed(lambda rows: rows.pop()))
        assert (verdict.decision, verdict.details["rows_gone"]) == (Conclusion.PASS, 1)

    def test_nothing_is_no_pass(self) -> None:
        assert user_turn_untouched(table([]), table([])).decision is Conclusion.INSUFFICIENT_EVIDENCE
        assert user_turn_untouched(corpus(), table([])).decision is Conclusion.INSUFFICIENT_EVIDENCE

    def test_a_row_without_its_turns_fails(self) -> None:
        after = self.changed(lambda rows: rows[0].update(messages=[]))
        assert user_turn_untouched(corpus(), after).decision is Conclusion.FAIL


class TestMaskedUserTurns:
    """Masking is the one edit of a user turn that is allowed, as far as it is on record."""

    BEFORE = table(
        [
            row("mail jo@example.org my deductable", "Your deductable, jo@example.org.", group="c1"),
            row("or al@example.org", "Fine.", group="c1"),
            row("nothing to hide", "No."),
        ]
    )

    def masked(self) -> tuple[pa.Table, pa.Table]:
        redaction = Redaction()
        return pa.Table.from_batches(list(redaction.batches(self.BEFORE.to_batches()))), redaction.spans()

    def test_with_its_record_it_is_no_change(self) -> None:
        after, spans = self.masked()
        verdict = user_turn_untouched(self.BEFORE, after, spans)
        assert (verdict.decision, verdict.n) == (Conclusion.PASS, 3)
        assert verdict.details["turns_masked_on_record"] == 2
        assert "2 turns" in verdict.summary
        edits = [
            Edit(row_id=after["row_id"][0].as_py(), message=1, start=5, end=15, before="deductable", after="deductible", reason="")
        ]
        cleaned, _ = clean_table(after, [replace(edit, decision=Decision.ACCEPT, reviewer="ann") for edit in edits])
        assert user_turn_untouched(self.BEFORE, cleaned, spans).passed, "cleaned afterwards"
        assert user_turn_untouched(after, cleaned).details["turns_masked_on_record"] == 0

    def test_without_a_record_it_is_one(self) -> None:
        """ADV: comparing both sides as they read once masked passes an unmasked row beside a masked one in silence."""
        after, spans = self.masked()
        said = [pl.Series(turns(rows, Role.USER)["content"]) for rows in (self.BEFORE, after)]
        assert as_masked(said[0]).to_list() == as_masked(said[1]).to_list()
        verdict = user_turn_untouched(self.BEFORE, after)
        assert (verdict.decision, verdict.details["rows_without_origin"]) == (Conclusion.FAIL, 2)
        assert user_turn_untouched(self.BEFORE, after, spans.slice(0, 0)).decision is Conclusion.FAIL

    def test_what_is_not_on_record_is_a_change(self) -> None:
        after, spans = self.masked()
        said = after["messages"].to_pylist()
        for text in (
            "mail [EMAIL_1] my deductible",
            "mail [EMAIL_2] my deductable",
            "mail jo@example.org my deductable",
            "[EMAIL_1]",
        ):
            said[0][0]["content"] = text
            changed = with_messages(after, [0], pa.array([said[0]], after.schema.field("messages").type))
            verdict = user_turn_untouched(self.BEFORE, changed, spans)
            assert (verdict.decision, verdict.estimate) == (Conclusion.FAIL, 1.0), text
            assert "example.org" not in repr(verdict.to_record())

    def test_a_record_of_something_else_does_not_help(self) -> None:
        after, spans = self.masked()
        wider = spans.set_column(spans.schema.get_field_index("start"), "start", pa.array([0] * spans.num_rows, pa.int32()))
        assert user_turn_untouched(self.BEFORE, after, wider).decision is Conclusion.FAIL
