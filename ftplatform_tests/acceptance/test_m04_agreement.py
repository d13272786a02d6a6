"""M4: agreement beyond chance, and an audit that accepts and refuses as its plan says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from ftplatform.feedback.decision_log import Annotation, Quality, Review
from ftplatform.feedback.events import CorrectionKind, Intent
from ftplatform.feedback.label_agreement import label_agreement
from ftplatform.feedback.label_audit import audit_sample, label_audit
from ftplatform.statistics.power import acceptance_probability
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

NOW = datetime(2026, 1, 5, tzinfo=UTC)
INTENTS = (Intent.TONE, Intent.WRONG_FACT, Intent.FORMAT, Intent.TASTE)
KINDS = (CorrectionKind.REPLACEMENT, CorrectionKind.COMMENT)


def annotated(codes: Sequence[Sequence[Intent]], kinds: Sequence[CorrectionKind] = KINDS) -> list[Annotation]:
    """Of each event the intents that annotators a, b, ... gave it; the kinds alternate and are agreed on."""
    return [
        Annotation(event_id=f"e{at}", by="abcd"[who], at=NOW, intent_code=code, correction_kind=kinds[at % len(kinds)])
        for at, given in enumerate(codes)
        for who, code in enumerate(given)
    ]


def noisy(n: int, copied: float, seed: int = 0) -> list[list[Intent]]:
    """Two annotators who know the truth of a share `copied` of the events and guess the others."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, n)
    given = [np.where(rng.random(n) < copied, truth, rng.integers(0, 4, n)) for _ in range(2)]
    return [[INTENTS[first], INTENTS[second]] for first, second in zip(*given, strict=True)]


def test_95_percent_raw_agreement_on_one_class_fails() -> None:
    """ADV: raw agreement says 95 %, and knows nothing."""
    codes = [[Intent.TASTE, Intent.TASTE]] * 190 + [[Intent.TASTE, Intent.TONE], [Intent.TONE, Intent.TASTE]] * 5
    verdict = label_agreement(annotated(codes))
    assert verdict.details["fields"]["intent_code"]["raw_agreement"] == pytest.approx(0.95)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate is not None
    assert verdict.estimate < 0
    assert verdict.details["fields"]["intent_code"]["kappa"] < 0
    assert verdict.details["fields"]["correction_kind"]["alpha"] == 1.0, "the worse field decides"
    assert str(verdict.evidence[0]["intent_code"]).startswith("a: ")


@pytest.mark.parametrize(("copied", "decision"), [(0.97, Decision.PASS), (0.78, Decision.WARN), (0.5, Decision.FAIL)])
def test_three_answers(copied: float, decision: Decision) -> None:
    verdict = label_agreement(annotated(noisy(300, copied)))
    assert verdict.decision is decision, verdict.summary
    assert verdict.ci_low is not None
    assert verdict.ci_high is not None
    assert verdict.estimate is not None
    assert verdict.ci_low < verdict.estimate < verdict.ci_high
    assert verdict.n == 300


def test_a_high_estimate_with_a_low_bound_is_no_pass() -> None:
    """ADV: an estimate above the limit whose interval reaches below it."""
    verdict = label_agreement(annotated(noisy(200, 0.8, seed=2)))
    assert verdict.estimate is not None
    assert verdict.ci_low is not None
    assert verdict.estimate > 0.6 > verdict.ci_low
    assert verdict.decision is Decision.WARN


def test_too_few_and_too_alike() -> None:
    few = label_agreement(annotated(noisy(199, 1.0)))
    assert few.decision is Decision.INSUFFICIENT_EVIDENCE
    assert (few.n, few.n_required) == (199, 200)
    assert label_agreement([]).decision is Decision.INSUFFICIENT_EVIDENCE
    alike = label_agreement(annotated([[Intent.TASTE, Intent.TASTE]] * 250))
    assert alike.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "could tell" in alike.summary


def test_only_pairs_by_two_people_on_known_events_count() -> None:
    codes = noisy(300, 0.97)
    both = annotated(codes)
    same_person = [
        Annotation(event_id=f"x{i}", by="a", at=NOW, intent_code=INTENTS[0], correction_kind=KINDS[0]) for i in range(50)
    ]
    again = [a for a in both if a.by == "a"]
    verdict = label_agreement([*both, *same_person, *same_person, *again])
    assert verdict.n == 300
    assert label_agreement(both, {f"e{i}" for i in range(100)}).n == 100


def test_three_annotators_and_one_who_changed_their_mind() -> None:
    codes = [[*pair, pair[0]] for pair in noisy(250, 0.97)]
    given = annotated(codes)
    first = [
        Annotation(event_id=a.event_id, by="c", at=NOW, intent_code=Intent.OTHER, correction_kind=a.correction_kind)
        for a in given
        if a.by == "c"
    ]
    verdict = label_agreement([*first, *given])
    assert verdict.passed, verdict.summary
    assert "kappa" not in verdict.details["fields"]["intent_code"], "kappa is of two"


# ---- audit -----------------------------------------------------------------------------------------------------------------

ROWS = table(row(f"question {at}", f"answer {at}") for at in range(2000))


def reviews(sample: list[str], defects: int, read: int | None = None) -> list[Review]:
    return [
        Review(row_id=each, by="kim", at=NOW, quality=Quality.DEFECT if at < defects else Quality.SHIP, why="wrong")
        for at, each in enumerate(sample[:read])
    ]


@pytest.mark.parametrize(("limit", "size"), [(0.05, 153), (0.01, 773)])
def test_sizes_of_the_plans(limit: float, size: int) -> None:
    sample = audit_sample(ROWS, limit=limit)["row_id"].to_pylist()
    assert len(set(sample)) == size
    assert label_audit(ROWS, reviews(sample, 3), limit=limit).passed
    assert label_audit(ROWS, reviews(sample, 4), limit=limit).decision is Decision.FAIL
    assert acceptance_probability(size, 3, limit) <= 0.05


def test_a_good_lot_is_accepted_more_often_than_with_no_defect_allowed() -> None:
    # A lot four times better than the limit: c = 0 refuses it about half of the time.
    assert acceptance_probability(59, 0, 0.0125) < 0.5
    assert acceptance_probability(153, 3, 0.0125) > 0.85


def test_unread_rows_are_no_ships_and_defects_count_at_once() -> None:
    sample = audit_sample(ROWS)["row_id"].to_pylist()
    unread = label_audit(ROWS, reviews(sample, 0, 152))
    assert unread.decision is Decision.INSUFFICIENT_EVIDENCE
    assert (unread.n, unread.n_required) == (152, 153)
    assert label_audit(ROWS, reviews(sample, 4, 4)).decision is Decision.FAIL
    assert label_audit(ROWS, []).decision is Decision.INSUFFICIENT_EVIDENCE
    assert label_audit(ROWS.slice(0, 0), []).decision is Decision.INSUFFICIENT_EVIDENCE


def test_rows_that_somebody_picked_do_not_count() -> None:
    """ADV: 153 rows were read and are fine, but they are those somebody chose."""
    sample = set(audit_sample(ROWS)["row_id"].to_pylist())
    chosen = [each for each in ROWS["row_id"].to_pylist() if each not in sample][:153]
    naive = reviews(chosen, 0)
    assert len(naive) == 153
    assert not any(review.quality is Quality.DEFECT for review in naive), "counting reviews accepts"
    assert label_audit(ROWS, naive).decision is Decision.INSUFFICIENT_EVIDENCE


def test_a_small_set_is_read_whole() -> None:
    small = ROWS.slice(0, 60)
    sample = audit_sample(small)["row_id"].to_pylist()
    assert len(sample) == 60
    assert label_audit(small, reviews(sample, 3)).passed
    assert label_audit(small, reviews(sample, 4)).decision is Decision.FAIL
    assert label_audit(small, reviews(sample, 0, 59)).decision is Decision.INSUFFICIENT_EVIDENCE
    assert (
        label_audit(ROWS.slice(0, 10), reviews(audit_sample(ROWS.slice(0, 10))["row_id"].to_pylist(), 1)).decision is Decision.FAIL
    )


def test_the_last_review_of_a_row_counts_and_evidence_is_masked() -> None:
    rows = table(row(f"q {at}", "mail jo@example.org") for at in range(20))
    sample = audit_sample(rows)["row_id"].to_pylist()
    verdict = label_audit(rows, [*reviews(sample, 5), *reviews(sample[:4], 0)])
    assert verdict.details["defects"] == 1
    assert verdict.evidence[0]["target"] == "mail [EMAIL]"
