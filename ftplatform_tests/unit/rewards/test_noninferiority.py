"""`anchored_noninferiority`: the anchor, the margin, and what cannot be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.errors import InputDataError
from ftplatform.rewards.ledger import REWARD_SCHEMA, anchor_of, last_approved
from ftplatform.rewards.noninferiority import anchored_noninferiority
from ftplatform.statistics.paired import paired_difference
from ftplatform.verdict import Decision
from ftplatform_tests.unit.rewards.ledgers import OTHER_ROOT, ROOT, ledger


def two(n: int, lost: int, gained: int, **more: Any) -> pa.Table:
    """Checkpoint 1 right on all but `gained` items; checkpoint 2 wrong on `lost` of them and right on the others."""
    before, after = np.ones(n), np.ones(n)
    before[:gained] = 0
    after[gained : gained + lost] = 0
    both = np.column_stack([before, after])
    return ledger(both, both, **more)


@pytest.mark.parametrize(
    ("n", "lost", "gained", "decision"),
    [
        (1600, 12, 12, Decision.PASS),
        (1600, 64, 16, Decision.FAIL),
        (800, 20, 12, Decision.INSUFFICIENT_EVIDENCE),  # one point lost: neither beyond chance nor shown to be below two
        (200, 0, 0, Decision.INSUFFICIENT_EVIDENCE),  # nothing lost, on items that would not show a loss of two points
        (200, 30, 0, Decision.FAIL),  # few items suffice to show a great loss
    ],
)
def test_known_counts(n: int, lost: int, gained: int, decision: Decision) -> None:
    verdict = anchored_noninferiority(two(n, lost, gained))
    assert verdict.decision is decision, verdict.summary
    assert verdict.estimate == pytest.approx((lost - gained) / n)
    assert verdict.ci_high == pytest.approx(paired_difference(lost, gained, n, 0.95, alternative="upper").high)
    assert len(verdict.evidence) == min(20, lost)


@pytest.mark.parametrize(("lost", "gained", "required"), [(24, 24, 464), (40, 40, 773), (80, 80, 1546)])
def test_the_required_items_follow_the_share_that_flips(lost: int, gained: int, required: int) -> None:
    assert anchored_noninferiority(two(1600, lost, gained)).n_required == required


def test_outcomes_between_0_and_1() -> None:
    rng = np.random.default_rng(0)
    before = rng.uniform(0.4, 1, 1000)
    after = before - 0.05 + 0.02 * rng.standard_normal(1000)
    scores = np.clip(np.column_stack([before, after]), 0, 1)
    assert anchored_noninferiority(ledger(scores, scores)).decision is Decision.FAIL
    same = np.column_stack([before, before])
    assert anchored_noninferiority(ledger(same, same)).decision is Decision.PASS


def test_a_slow_loss_passes_every_neighbor_and_not_the_anchor() -> None:
    """ADV: each step loses half a point of 1,600 items, and each is as good as the one before it."""
    n, steps, lost = 1600, 12, 8
    scores = np.ones((n, steps + 1))
    for step in range(1, steps + 1):
        scores[: step * lost, step] = 0
    table = ledger(scores, scores)
    neighbors = [two(n, lost, 0) for _ in range(steps)]
    assert all(anchored_noninferiority(pair).decision is Decision.PASS for pair in neighbors)
    verdict = anchored_noninferiority(table)
    assert verdict.decision is Decision.FAIL
    assert verdict.baseline == "checkpoint 1"


def test_the_first_approved_checkpoint_is_the_anchor() -> None:
    scores = np.ones((1600, 4))
    scores[:100, :2] = 0  # the first two were worse
    table = ledger(scores, scores)
    assert anchored_noninferiority(table, approved=[3]).baseline == "checkpoint 3"
    assert anchored_noninferiority(table, approved=[3]).decision is Decision.PASS
    assert (anchor_of(table, [2, 3]), last_approved(table, [2, 3])) == (2, 3)
    assert last_approved(table, [2, 4]) == 2, "what is judged is no place to go back to"
    assert (anchor_of(table, []), last_approved(table, [])) == (1, 1)
    with pytest.raises(InputDataError, match="checkpoint 7 is not in the reward ledger, which holds 1, 2, 3, 4"):
        anchored_noninferiority(table, approved=[7])


def test_another_exam_is_refused() -> None:
    """ADV: a harder exam for the candidate looks like a loss."""
    table = two(1600, 300, 0, roots=[ROOT, OTHER_ROOT])
    means = table.group_by("checkpoint").aggregate([("outcome", "mean")])["outcome_mean"].to_pylist()
    assert means[0] - means[1] > 0.02, "means alone call it a loss"
    verdict = anchored_noninferiority(table)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.details["comparable"] is False


@pytest.mark.parametrize(
    "table", [REWARD_SCHEMA.empty_table(), ledger(np.ones((900, 1)), np.ones((900, 1))), ledger(None, np.ones((9, 3)))]
)
def test_nothing_to_compare(table: pa.Table) -> None:
    verdict = anchored_noninferiority(table)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.details.get("comparable", True)
