"""The reading of removals by people: what is to be read, the record, and the check."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from ftplatform.canonical import canonical_json, sha256_hex
from ftplatform.dedup import diff
from ftplatform.dedup.review import Judgment, SignOff, diff_digest, review_sample, sign_off
from ftplatform.dedup.reviewed import dedup_reviewed
from ftplatform.errors import InputDataError
from ftplatform.verdict import Decision

NOW = datetime(2025, 5, 1, 12, tzinfo=UTC)


def removal(i: int, slices: list[str], reason: str = diff.NEAR_TRAIN, text: str = "where is it") -> dict:
    return {
        "row_id": sha256_hex(f"row {i}".encode()),
        "kept_row_id": sha256_hex(f"kept {i % 7}".encode()),
        "similarity": 0.8 + (i % 20) / 100,
        "reason": reason,
        "slices": slices,
        "source": "src",
        "removed_text": f"{text} {i}",
        "kept_text": text,
    }


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=diff.REMOVAL_SCHEMA)


def removals(extra: int = 0) -> pa.Table:
    """900 removals without slice, 12 of a rare slice, 3 of a tiny one, 100 exact copies."""
    rows = [removal(i, []) for i in range(900 + extra)]
    rows += [removal(10_000 + i, ["rare"]) for i in range(12)]
    rows += [removal(20_000 + i, ["tiny", "rare"]) for i in range(3)]
    return table(rows + [removal(30_000 + i, [], diff.EXACT_COPY) for i in range(100)])


def judged(sample: pa.Table, keep: int = 0, unsure: int = 0) -> dict[tuple[str, str], Judgment]:
    pairs = list(zip(sample["row_id"].to_pylist(), sample["kept_row_id"].to_pylist(), strict=True))
    verdicts = [Judgment.KEEP] * keep + [Judgment.UNSURE] * unsure
    return dict(zip(pairs, verdicts + [Judgment.DUPLICATE] * (len(pairs) - len(verdicts)), strict=True))


def signed(pairs: pa.Table, keep: int = 0, unsure: int = 0, threshold: float = 0.8, days: int = 0) -> SignOff:
    judgments = judged(review_sample(pairs), keep, unsure)
    return sign_off(pairs, judgments, reviewer="Ada", signed_at=NOW + timedelta(days=days), threshold=threshold)


def test_the_sample_reaches_small_slices_where_a_plain_one_does_not() -> None:
    pairs = removals()
    sample = review_sample(pairs)
    assert sample.num_rows == 50
    held = [name for names in sample["slices"].to_pylist() for name in names]
    assert held.count("tiny") == 3
    assert held.count("rare") >= 5
    assert set(sample["reason"].to_pylist()) == {diff.NEAR_TRAIN}
    # The first fifty of all, which is what a plain sample is, hold no row of the slice of three.
    plain = sorted(pairs.to_pylist(), key=lambda r: r["row_id"])[:50]
    assert not any("tiny" in r["slices"] for r in plain)


def test_the_sample_does_not_depend_on_the_order_of_the_diff() -> None:
    pairs = removals()
    turned = pairs.take(pa.array(range(pairs.num_rows - 1, -1, -1)))
    assert review_sample(pairs)["row_id"] == review_sample(turned)["row_id"]
    assert diff_digest(pairs) == diff_digest(turned)
    assert review_sample(pairs.slice(0, 20)).num_rows == 20


def test_the_digest_changes_with_any_pair() -> None:
    pairs = removals()
    rows = pairs.to_pylist()
    for change in ({"kept_row_id": "0" * 64}, {"row_id": "1" * 64}, {"reason": diff.NEAR_EVAL}):
        assert diff_digest(table([rows[0] | change, *rows[1:]])) != diff_digest(pairs)
    assert diff_digest(pairs.slice(1)) != diff_digest(pairs)


def test_a_sign_off_goes_through_json_unchanged() -> None:
    original = dataclasses.replace(signed(removals(), keep=1, unsure=2), note="Anrufe: „sofort“")
    document = canonical_json(original.to_record())
    assert SignOff.from_record(json.loads(document)) == original
    assert canonical_json(SignOff.from_record(json.loads(document)).to_record()) == document


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"reviewer": "  "},
        {"signed_at": "yesterday"},
        {"signed_at": "2025-05-01T12:00:00"},
        {"judgments": [{"row_id": "a", "kept_row_id": "b", "judgment": "fine"}]},
        {"judgments": [{"row_id": "a", "kept_row_id": "b", "judgment": "keep"}] * 2},
        {"judgments": 3},
        {"threshold": "high"},
        {"note": "x" * 3_000},
    ],
)
def test_a_document_that_is_no_sign_off_is_refused(change: dict) -> None:
    with pytest.raises(InputDataError):
        SignOff.from_record(signed(removals()).to_record() | change)
    incomplete = signed(removals()).to_record()
    del incomplete[next(iter(change))]
    with pytest.raises(InputDataError, match="not a sign-off"):
        SignOff.from_record(incomplete)


def test_a_partial_or_foreign_reading_is_no_sign_off() -> None:
    pairs = removals()
    judgments = judged(review_sample(pairs))
    with pytest.raises(InputDataError, match="1 pairs are not judged"):
        sign_off(pairs, dict(list(judgments.items())[1:]), reviewer="Ada", signed_at=NOW, threshold=0.8)
    foreign = judgments | {("a", "b"): Judgment.DUPLICATE}
    with pytest.raises(InputDataError, match="not in the diff"):
        sign_off(pairs, foreign, reviewer="Ada", signed_at=NOW, threshold=0.8)


def test_unread_removals_warn_with_what_is_to_be_read() -> None:
    verdict = dedup_reviewed(removals(), [], threshold=0.8)
    assert verdict.decision is Decision.WARN
    assert "50 of 915" in verdict.summary
    assert len(verdict.evidence) == 20


def test_a_read_diff_passes_and_too_many_wrong_removals_do_not() -> None:
    pairs = removals()
    assert dedup_reviewed(pairs, [signed(pairs)], threshold=0.8).decision is Decision.PASS
    one = dedup_reviewed(pairs, [signed(pairs, keep=1)], threshold=0.8)
    assert one.decision is Decision.PASS  # 2 % of the sample, named
    assert one.evidence[0]["judgment"] == "keep"
    assert one.evidence[0]["removed_text"]
    assert dedup_reviewed(pairs, [signed(pairs, keep=2, unsure=2)], threshold=0.8).decision is Decision.WARN
    many = dedup_reviewed(pairs, [signed(pairs, keep=10)], threshold=0.8)
    assert many.decision is Decision.FAIL
    assert many.estimate == 0.2
    # The latest reading decides.
    assert dedup_reviewed(pairs, [signed(pairs, keep=10), signed(pairs, days=1)], threshold=0.8).decision is Decision.PASS


def test_a_sign_off_of_another_threshold_does_not_count() -> None:
    pairs = removals()
    assert dedup_reviewed(pairs, [signed(pairs, threshold=0.9)], threshold=0.8).decision is Decision.WARN


def test_an_earlier_reading_holds_until_a_new_slice_is_hit() -> None:
    before = removals()
    grown = removals(extra=100)
    assert dedup_reviewed(grown, [signed(before)], threshold=0.8).decision is Decision.PASS
    assert dedup_reviewed(grown, [signed(before)], threshold=0.8, once_per="diff").decision is Decision.WARN
    # Same threshold, same number of removals: whoever asks only whether the threshold was signed lets it pass.
    other = pa.concat_tables([before.slice(3), table([removal(40_000 + i, ["hostile"]) for i in range(3)])])
    assert any(s.threshold == 0.8 for s in [signed(before)])
    verdict = dedup_reviewed(other, [signed(before)], threshold=0.8)
    assert verdict.decision is Decision.WARN
    assert "hostile" in verdict.summary
    assert dedup_reviewed(removals(extra=2_000), [signed(before)], threshold=0.8).decision is Decision.WARN


def test_a_sign_off_that_skips_the_sample_is_insufficient() -> None:
    pairs = removals()
    whole = signed(pairs)
    easy = dict(sorted(whole.judgments.items())[:20])
    verdict = dedup_reviewed(pairs, [dataclasses.replace(whole, judgments=easy)], threshold=0.8)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert (verdict.n, verdict.n_required) == (20, 50)


def test_nothing_to_read_and_evidence_masked() -> None:
    copies = table([removal(i, [], diff.EXACT_COPY) for i in range(5)])
    assert dedup_reviewed(copies, [], threshold=0.8).decision is Decision.PASS
    leaky = table([removal(i, [], text="write to jo@example.org") for i in range(5)])
    assert "[EMAIL]" in str(dedup_reviewed(leaky, [], threshold=0.8).evidence[0]["removed_text"])
