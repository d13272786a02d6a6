"""`unconfirmed_gain`: two policies, means only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftplatform.rewards.policies import PolicyScore, unconfirmed_gain
from ftplatform.verdict import Decision

BEFORE = PolicyScore(name="sft", proxy=0.26, proxy_error=0.015, outcome=0.26, n=805)
AFTER = PolicyScore(name="tuned", proxy=0.41, proxy_error=0.017, outcome=0.30, n=805)


@pytest.mark.parametrize(
    ("proxy", "outcome", "error", "decision"),
    [
        (0.41, 0.29, None, Decision.FAIL),
        (0.41, 0.42, None, Decision.PASS),  # all of it is confirmed
        (0.41, 0.33, 0.004, Decision.WARN),  # half of it is, for certain
        (0.41, 0.36, None, Decision.INSUFFICIENT_EVIDENCE),
        (0.20, 0.26, None, Decision.PASS),  # nothing was gained
    ],
)
def test_decisions(proxy: float, outcome: float, error: float | None, decision: Decision) -> None:
    before = replace(BEFORE, outcome_error=error)
    verdict = unconfirmed_gain(before, replace(AFTER, proxy=proxy, outcome=outcome, outcome_error=error))
    assert verdict.decision is decision, verdict.summary


def test_scores_without_an_error_are_refused() -> None:
    with pytest.raises(ValueError, match="sft: 805 items and standard errors 0"):
        unconfirmed_gain(replace(BEFORE, proxy_error=0.0), AFTER)
