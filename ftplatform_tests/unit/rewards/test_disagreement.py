"""`reward_disagreement`: heads that part on new answers, whatever their scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.rewards.disagreement import reward_disagreement
from ftplatform.rewards.ledger import REWARD_SCHEMA
from ftplatform.verdict import Decision
from ftplatform_tests.unit.rewards.ledgers import ledger


def table_of(rng: np.random.Generator, n: int, growth: float, heads: int = 5, scale: Any = 1.0, **more: Any) -> pa.Table:
    """Heads that see the same quality with errors of their own, `growth` times as large at the second checkpoint."""
    scored = []
    for factor in (1.0, growth):
        quality = rng.standard_normal((n, 1))
        scored += ((quality + 0.4 * factor * rng.standard_normal((n, heads))) * scale).tolist()
    return ledger(None, rng.random((n, 2)), columns={"heads": scored, **more})


@pytest.mark.parametrize(("growth", "decision"), [(1.0, Decision.PASS), (2.5, Decision.WARN)])
def test_growth_of_the_disagreement(growth: float, decision: Decision) -> None:
    verdict = reward_disagreement(table_of(np.random.default_rng(0), 400, growth))
    assert verdict.decision is decision
    assert verdict.estimate == pytest.approx(growth, rel=0.1)
    assert verdict.baseline == "checkpoint 1"


def test_a_false_warning_at_the_limit_is_rare() -> None:
    warned = [reward_disagreement(table_of(np.random.default_rng(s), 200, 1.5)).decision is Decision.WARN for s in range(100)]
    assert np.mean(warned) <= 0.12


def test_a_head_with_large_numbers_does_not_speak_for_all() -> None:
    """ADV: one head counts in hundreds, so the raw deviation is its deviation and nothing else."""
    rng = np.random.default_rng(1)
    scale = np.array([200.0, 1.0, 1.0, 1.0, 1.0])
    table = table_of(rng, 400, 2.5, scale=scale)
    heads = np.array(table["heads"].to_pylist()).reshape(2, 400, 5)
    raw = heads.std(axis=2, ddof=1).mean(axis=1)
    assert raw[1] / raw[0] < 1.5, "the raw ratio sees nothing"
    assert reward_disagreement(table).decision is Decision.WARN


def test_evidence_is_masked() -> None:
    table = table_of(np.random.default_rng(2), 60, 4.0, answer=["hello"] * 60 + ["write to jo@example.org"] * 60)
    verdict = reward_disagreement(table)
    assert {row["answer"] for row in verdict.evidence} == {"write to [EMAIL]"}


def test_what_is_too_little() -> None:
    rng = np.random.default_rng(3)
    constant = table_of(rng, 60, 1.0, scale=np.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    for table in (
        REWARD_SCHEMA.empty_table(),
        ledger(None, np.ones((90, 2))),
        table_of(rng, 400, 3.0, heads=3),
        table_of(rng, 29, 3.0),
        table_of(rng, 60, 1.0).slice(0, 60),
        constant,
    ):
        assert reward_disagreement(table).decision is Decision.INSUFFICIENT_EVIDENCE
