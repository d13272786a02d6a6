"""Slice survival, with the implementations that would have let the loss through."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.dedup.slices import SliceSpec, slice_membership
from ftplatform.dedup.survival import row_filter_guard, slice_survival, survival_table
from ftplatform.errors import InputDataError, ProjectError
from ftplatform.statistics.hypergeometric import excess_removal_p
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

HOSTILE = SliceSpec("hostile", tag="hostile")


def corpus(n: int, removed: int, hostile: int, hostile_removed: int, copies: int = 1) -> tuple[pa.Table, pa.Table]:
    """`n` ordinary rows in `copies` copies each and a slice without copies; and what a filter left of them."""
    ordinary = [row(f"question {i}", f"answer {i}") for i in range(n)]
    special = [row(f"hostile {i}", "reply", slices=["hostile"]) for i in range(hostile)]
    after = ordinary[removed:] + special[hostile_removed:]
    return table(ordinary * copies + special), table(after)


def test_nine_of_eleven_removed_at_28_percent_overall_fails() -> None:
    before, after = corpus(n=10_000, removed=2_800, hostile=11, hostile_removed=9)
    verdict = slice_survival(before, after, [HOSTILE])
    record = verdict.details["slices"][0]
    assert verdict.decision is Decision.FAIL
    assert (record["size"], record["survivors"], record["floor"]) == (11, 2, 5)
    assert record["below_floor"]
    assert record["excess"]
    # The binomial limit at a rate of .28 is 3.3e-4; the exact test on 10,011 rows is a hair from it.
    assert record["p"] == pytest.approx(3.3e-4, rel=0.04)
    assert verdict.evidence[0]["rule"] == "below floor and excess removal"
    assert verdict.plot is not None
    assert verdict.plot.startswith("<svg")


def test_a_corpus_of_exact_copies_does_not_hide_the_loss() -> None:
    # 84 % of the rows are copies, all removed: the raw removal rate is so high that nine of eleven look ordinary.
    before, after = corpus(n=1_600, removed=0, hostile=11, hostile_removed=9, copies=6)
    raw_before, raw_after = before.num_rows, after.num_rows
    assert 1 - raw_after / raw_before > 0.83
    naive = excess_removal_p(11, 9, raw_before - 11, raw_before - raw_after - 9)
    assert naive > 0.5  # the naive rate comparison on raw rows passes
    verdict = slice_survival(before, after, [HOSTILE])
    assert verdict.decision is Decision.FAIL
    assert verdict.n == 1_611
    assert verdict.details["slices"][0]["p"] < 1e-6


def test_seven_of_eleven_among_copies_is_silent_on_raw_rows() -> None:
    before, after = corpus(n=480, removed=0, hostile=11, hostile_removed=7, copies=6)
    naive = excess_removal_p(11, 7, before.num_rows - 11, before.num_rows - after.num_rows - 7)
    assert naive > 0.95
    assert slice_survival(before, after, [HOSTILE]).decision is Decision.FAIL


def test_eleven_identical_copies_to_one_passes() -> None:
    special = row("where is my money", "reply", slices=["hostile"])
    ordinary = [row(f"question {i}", "answer") for i in range(100)]
    verdict = slice_survival(table([*ordinary, *[special] * 11]), table([*ordinary, special]), [HOSTILE])
    assert verdict.decision is Decision.PASS
    assert verdict.details["slices"][0]["size"] == 1


def test_three_row_slice_losing_two_fails_by_floor_where_no_test_can() -> None:
    before, after = corpus(n=1_000, removed=280, hostile=3, hostile_removed=2)
    record = survival_table(before, after, [HOSTILE]).row(0, named=True)
    assert record["p"] > 0.05  # the excess test alone stays silent
    verdict = slice_survival(before, after, [HOSTILE])
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["rule"] == "below floor"


def test_large_slice_above_its_floor_fails_by_excess() -> None:
    before, after = corpus(n=5_000, removed=500, hostile=400, hostile_removed=120)
    verdict = slice_survival(before, after, [HOSTILE])
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0]["rule"] == "excess removal"


def test_everything_collapsing_alike_fails_by_floor_only() -> None:
    before, after = corpus(n=1_000, removed=900, hostile=20, hostile_removed=18)
    record = survival_table(before, after, [HOSTILE]).row(0, named=True)
    assert not record["excess"]
    assert slice_survival(before, after, [HOSTILE]).decision is Decision.FAIL


def test_rows_moved_to_the_eval_reserve_are_not_removed() -> None:
    before, after = corpus(n=1_000, removed=0, hostile=12, hostile_removed=6)
    reserved = table([row(f"hostile {i}", "reply", slices=["hostile"]) for i in range(6)])
    assert slice_survival(before, after, [HOSTILE]).decision is Decision.FAIL
    verdict = slice_survival(before, after, [HOSTILE], moved=reserved)
    assert verdict.decision is Decision.PASS
    assert verdict.details["slices"][0]["size"] == 6


def test_must_keep_raises_the_floor() -> None:
    before, after = corpus(n=1_000, removed=400, hostile=12, hostile_removed=6)
    assert slice_survival(before, after, [HOSTILE]).decision is Decision.PASS
    verdict = slice_survival(before, after, [SliceSpec("hostile", tag="hostile", must_keep=True)])
    assert verdict.decision is Decision.FAIL


def test_slices_are_discovered_from_tags() -> None:
    before, after = corpus(n=1_000, removed=0, hostile=11, hostile_removed=9)
    assert slice_survival(before, after).decision is Decision.FAIL
    assert slice_survival(before, after, discover=False).decision is Decision.INSUFFICIENT_EVIDENCE


def test_no_slice_at_all_is_no_pass_once_rows_are_gone() -> None:
    rows = [row(f"question {i}", "answer") for i in range(50)]
    assert slice_survival(table(rows), table(rows[1:])).decision is Decision.INSUFFICIENT_EVIDENCE
    # Nothing removed: nothing can have been lost, whatever the slices.
    assert slice_survival(table(rows), table(rows)).decision is Decision.PASS


def test_empty_and_emptied_corpora() -> None:
    rows = [row(f"question {i}", "answer") for i in range(50)]
    assert slice_survival(table([]), table([])).decision is Decision.INSUFFICIENT_EVIDENCE
    assert slice_survival(table(rows), table([])).decision is Decision.FAIL


@pytest.mark.parametrize(("must_keep", "decision"), [(False, Decision.WARN), (True, Decision.INSUFFICIENT_EVIDENCE)])
def test_a_declared_slice_without_rows_is_said(must_keep: bool, decision: Decision) -> None:
    before, _ = corpus(n=100, removed=0, hostile=11, hostile_removed=0)
    missing = SliceSpec("refund reversal", regex="revers(e|al)", must_keep=must_keep)
    verdict = slice_survival(before, before, [HOSTILE, missing])
    assert verdict.decision is decision
    assert "refund reversal" in verdict.summary


def test_many_slices_at_random_rarely_fail() -> None:
    # Benjamini-Hochberg over 40 slices under random removal: without adjustment about two of forty would fall below .05.
    generator = np.random.default_rng(7)
    failures = unadjusted = 0
    before = table([row(f"q {i}", "a", slices=[f"s{i % 40}"]) for i in range(2_000)])
    for _ in range(20):
        verdict = slice_survival(before, before.filter(pa.array(generator.random(2_000) > 0.3)))
        failures += verdict.decision is Decision.FAIL
        unadjusted += any(s["p"] < 0.05 for s in verdict.details["slices"])
    assert failures <= 4
    assert unadjusted >= 10


def test_row_filter_guard_names_its_step() -> None:
    before, after = corpus(n=1_000, removed=10, hostile=11, hostile_removed=9)
    verdict = row_filter_guard(before, after, [HOSTILE], step="the PII filter")
    assert verdict.decision is Decision.FAIL
    assert "the PII filter" in verdict.summary
    assert verdict.check_version != slice_survival(before, after).check_version


def test_evidence_is_masked() -> None:
    rows = [row(f"question {i}", "a") for i in range(100)]
    lost = [row(f"mail me at jo{i}@example.org", "a", slices=["contact"]) for i in range(6)]
    verdict = slice_survival(table(rows + lost), table(rows))
    assert "[EMAIL]" in str(verdict.evidence[0]["removed_text"])
    assert "example.org" not in str(verdict.to_record())


def test_membership_by_tag_field_and_regex() -> None:
    rows = table(
        [
            row("Please cancel ORDER 5", "done", slices=["cancel"], meta='{"lang": "en", "level": 2}'),
            row("hola", "order received", slices=[], meta='{"lang": "es"}'),
        ]
    )
    slices = [
        SliceSpec("cancellations", tag="cancel"),
        SliceSpec("spanish", field="lang", equals="es"),
        SliceSpec("level two", field="level", equals="2"),
        SliceSpec("orders", regex="(?i)order"),
    ]
    assert slice_membership(rows, slices).rows() == [(0, "cancellations"), (0, "level two"), (0, "orders"), (1, "spanish")]


def test_slice_declarations_are_checked() -> None:
    with pytest.raises(ProjectError, match="exactly one"):
        SliceSpec("both", tag="a", regex="b")
    with pytest.raises(InputDataError, match="twin"):
        slice_membership(table([row("q", "a")]), [SliceSpec("twin", tag="a"), SliceSpec("twin", tag="b")])
