"""`feedback_targeting`: a gain that a few raters hold, told from one that chance deals unevenly."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.rewards.ledger import REWARD_SCHEMA
from ftplatform.rewards.targeting import feedback_targeting
from ftplatform.verdict import Decision
from ftplatform_tests.unit.rewards.ledgers import ledger


def table_of(rng: np.random.Generator, raters: int, each: int, gain: np.ndarray, noise: float = 0.3) -> pa.Table:
    """`each` items per rater, rated at two checkpoints; `gain` by rater."""
    n = raters * each
    before = rng.standard_normal(n) * noise
    after = before + np.repeat(gain, each) + rng.standard_normal(n) * noise
    return ledger(None, np.column_stack([before, after]), columns={"rater": [f"u{i // each:04d}" for i in range(n)] * 2})


def test_two_percent_of_the_raters_hold_the_gain() -> None:
    gain = np.full(200, 0.02)
    gain[:4] = 3.0
    verdict = feedback_targeting(table_of(np.random.default_rng(0), 200, 10, gain))
    assert verdict.decision is Decision.WARN
    assert verdict.estimate is not None
    assert verdict.estimate > 0.6
    assert len(verdict.evidence) == 4


def test_a_gain_that_everybody_shares() -> None:
    verdict = feedback_targeting(table_of(np.random.default_rng(1), 200, 10, np.full(200, 0.5)))
    assert verdict.decision is Decision.PASS
    assert verdict.estimate is not None
    assert verdict.estimate < 0.1


def test_noise_alone_gives_the_top_raters_a_large_share() -> None:
    """ADV: all raters gain alike, and little; whoever is picked for a large gain holds far more than the limit."""
    decisions, naive = [], []
    for seed in range(20):
        verdict = feedback_targeting(table_of(np.random.default_rng(seed), 120, 4, np.full(120, 0.08), noise=0.6))
        decisions.append(verdict.decision)
        naive.append(verdict.estimate is not None and verdict.estimate > 0.20)
    assert np.mean(naive) > 0.5, "the share by itself warns"
    assert decisions.count(Decision.WARN) <= 3


def test_no_gain_is_nothing_to_divide() -> None:
    verdict = feedback_targeting(table_of(np.random.default_rng(3), 150, 5, np.full(150, -0.1)))
    assert verdict.decision is Decision.PASS
    assert verdict.estimate is None


@pytest.mark.parametrize("raters", [2, 99])
def test_few_raters(raters: int) -> None:
    verdict = feedback_targeting(table_of(np.random.default_rng(4), raters, 5, np.full(raters, 1.0)))
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert verdict.n == raters


def test_no_raters() -> None:
    for table in (REWARD_SCHEMA.empty_table(), ledger(None, np.ones((500, 2)))):
        assert feedback_targeting(table).decision is Decision.INSUFFICIENT_EVIDENCE


def test_evidence_does_not_name_people() -> None:
    gain = np.full(150, 0.02)
    gain[:3] = 3.0
    verdict = feedback_targeting(table_of(np.random.default_rng(5), 150, 6, gain))
    assert not any("u00" in str(value) for row in verdict.evidence for value in row.values())
