"""Is an adapter one of its own replicates?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.closure.equivalence import SCORES_SCHEMA, closure_equivalent
from ftplatform.verdict import Decision

EASY, HARD = 2000, 400


def scores(easy_wrong: int, hard_wrong: int, *, shift: int = 0, easy: int = EASY, hard: int = HARD) -> pa.Table:
    """A task of easy and hard items of which so many are answered wrong; `shift` moves which ones."""
    wrong = {(i + shift) % easy for i in range(easy_wrong)} | {easy + (i + shift) % hard for i in range(hard_wrong)}
    n = easy + hard
    rows = {
        "metric": ["task"] * n,
        "item_id": [f"item {i}" for i in range(n)],
        "family": [f"item {i}" for i in range(n)],
        "slices": [["hard"] if i >= easy else ["easy"] for i in range(n)],
        "score": [0.0 if i in wrong else 1.0 for i in range(n)],
    }
    return pa.table(rows, schema=SCORES_SCHEMA)


@pytest.fixture(scope="module")
def replicates() -> list[pa.Table]:
    """Five that scatter by a few items."""
    return [scores(100 + 2 * k, 40 + k, shift=k) for k in range(5)]


def row(verdict_rows: Sequence[dict[str, object]], name: str) -> dict[str, object]:
    (found,) = (r for r in verdict_rows if r["what"] == name)
    return found


def test_a_replicate_like_the_others_passes(replicates: list[pa.Table]) -> None:
    verdict = closure_equivalent(scores(104, 42, shift=2), replicates)
    assert verdict.decision is Decision.PASS, verdict.summary
    assert verdict.ci_high is not None
    assert verdict.ci_high <= 0.03
    assert str(verdict.plot).startswith("<svg")


def test_the_mean_is_equal_and_the_hardest_slice_is_six_points_worse(replicates: list[pa.Table]) -> None:
    """ADV: what the hard items lose the easy ones gain, so the headline metric is inside the interval."""
    worse = scores(104 - 24, 42 + 24, shift=2)
    verdict = closure_equivalent(worse, replicates)
    overall = row(verdict.details["comparisons"], "task, mean")
    assert overall["decision"] == "pass", "the metric alone would have passed it"
    assert verdict.decision is Decision.FAIL
    assert [r["what"] for r in verdict.evidence] == ["task, hard"]
    assert row(verdict.details["comparisons"], "task, hard")["estimate"] == pytest.approx(0.06, abs=0.002)


def test_three_points_lower_is_outside_when_replicates_scatter_little(replicates: list[pa.Table]) -> None:
    verdict = closure_equivalent(scores(104 + 60, 42 + 12, shift=2), replicates)
    assert verdict.decision is Decision.FAIL
    assert row(verdict.details["comparisons"], "task, mean")["decision"] == "fail"


def test_three_points_lower_is_inside_when_they_scatter_much() -> None:
    """The same loss against replicates with a standard deviation of 1.5 points cannot be told from another seed."""
    spread = [scores(100 + step, 40 + step // 5, shift=k) for k, step in enumerate((-60, -30, 0, 30, 60))]
    verdict = closure_equivalent(scores(160, 52), spread)
    assert row(verdict.details["comparisons"], "task, mean")["decision"] == "pass"


def test_small_slices_are_insufficient_and_a_shown_loss_fails_even_there() -> None:
    few = [scores(50 + k, 4, shift=k, easy=1000, hard=60) for k in range(5)]
    verdict = closure_equivalent(scores(52, 4, shift=2, easy=1000, hard=60), few)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "task, hard" in verdict.summary
    lost = closure_equivalent(scores(52, 34, shift=2, easy=1000, hard=60), few)
    assert lost.decision is Decision.FAIL


def test_no_difference_at_all_is_not_certainty() -> None:
    """ADV: five copies of one answer sheet; the t interval of the loss is a point, and ten items prove nothing."""
    same = [scores(0, 0, easy=400, hard=10) for _ in range(5)]
    loss = np.zeros(10)
    assert loss.std(ddof=1) == 0, "a bound from the standard error alone would be 0 and pass"
    verdict = closure_equivalent(same[0], same)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert float(str(row(verdict.details["comparisons"], "task, hard")["high"])) > 0.1


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_too_few_replicates_never_pass(replicates: list[pa.Table], count: int) -> None:
    verdict = closure_equivalent(scores(104, 42, shift=2), replicates[:count])
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.n_required == 5


def test_a_project_may_ask_for_fewer_but_not_for_less_than_three(replicates: list[pa.Table]) -> None:
    assert closure_equivalent(scores(104, 42, shift=2), replicates[:3], required=3).decision is Decision.PASS
    assert closure_equivalent(scores(104, 42, shift=2), replicates[:2], required=1).decision is Decision.INSUFFICIENT_EVIDENCE


def test_two_replicates_condemn_nobody(replicates: list[pa.Table]) -> None:
    """ADV: a comparison of two runs calls the distance between two seeds a loss."""
    worse = scores(104, 42 + 40, shift=2)
    assert closure_equivalent(worse, replicates).decision is Decision.FAIL
    verdict = closure_equivalent(worse, replicates[:2])
    assert row(verdict.details["comparisons"], "task, hard")["decision"] == "fail"
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE


def test_no_scores_are_insufficient(replicates: list[pa.Table]) -> None:
    assert closure_equivalent(SCORES_SCHEMA.empty_table(), []).decision is Decision.INSUFFICIENT_EVIDENCE


def test_items_of_a_family_are_not_independent() -> None:
    """ADV: 400 answers from two conversations are two observations."""
    tied = [scores(10 + k, 5, shift=k) for k in range(5)]
    families = pa.array([f"family {i % 2}" for i in range(EASY + HARD)])
    as_families = [t.set_column(2, SCORES_SCHEMA.field("family"), families) for t in tied]
    assert closure_equivalent(tied[2], tied).decision is Decision.PASS
    assert closure_equivalent(as_families[2], as_families).decision is not Decision.PASS


def test_replicates_that_were_asked_something_else_are_refused(replicates: list[pa.Table]) -> None:
    with pytest.raises(ValueError, match="same items"):
        closure_equivalent(scores(104, 42), [replicates[0].slice(1)])
    other = replicates[0].set_column(1, SCORES_SCHEMA.field("item_id"), pa.array([f"other {i}" for i in range(EASY + HARD)]))
    with pytest.raises(ValueError, match="was not asked"):
        closure_equivalent(scores(104, 42), [other])
