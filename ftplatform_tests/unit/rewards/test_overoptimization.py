"""`overopt_curve`: the fit, its bounds, and the false alarm rate at the peak itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.rewards.ledger import REWARD_SCHEMA
from ftplatform.rewards.overoptimization import Method, overopt_curve
from ftplatform.verdict import Decision
from ftplatform_tests.unit.rewards.ledgers import OTHER_ROOT, ROOT, ledger


def curve(method: Method, peak: float, top: float, last: float, k: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Distances up to `last` and the outcome by the law: .5 at the reference, `top` more at `peak`."""
    d = np.linspace(0, last, k)
    if method == "best_of_n":
        b = top / peak**2
        return d, 0.5 + d * (2 * b * peak - b * d)
    b = top / peak
    a = b * (math.log(peak) + 1)
    return d, 0.5 + d * a - b * np.where(d > 0, d * np.log(np.maximum(d, 1e-12)), 0)


def table_of(d: np.ndarray, means: np.ndarray, n: int, seed: int = 0, **more: Any) -> pa.Table:
    rng = np.random.default_rng(seed)
    scores = (rng.random((n, len(d))) < np.clip(means, 0, 1)).astype(float)
    return ledger(scores, scores, kl=list(d**2), **more)


@pytest.mark.parametrize("method", ["reinforcement", "best_of_n"])
def test_the_peak_is_found(method: Method) -> None:
    d, means = curve(method, peak=2.0, top=0.3, last=4.0)
    scores = np.tile(means, (200, 1))
    verdict = overopt_curve(ledger(scores, scores, kl=list(d**2)), method=method)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == pytest.approx(2.0), "without noise the law is met exactly, and the latest is 2 beyond its peak"
    assert verdict.threshold == 0.0


@pytest.mark.parametrize("method", ["reinforcement", "best_of_n"])
def test_past_the_peak_fails_and_before_it_passes(method: Method) -> None:
    past = table_of(*curve(method, peak=1.5, top=0.3, last=4.0), n=800)
    verdict = overopt_curve(past, method=method)
    assert verdict.decision is Decision.FAIL
    assert verdict.ci_low is not None
    assert 0 < verdict.ci_low <= (verdict.estimate or 0)
    before = table_of(*curve(method, peak=4.0, top=0.3, last=2.0), n=800)
    assert overopt_curve(before, method=method).decision is Decision.PASS


def test_at_the_peak_itself_an_alarm_is_false_one_time_in_twenty() -> None:
    d, means = curve("best_of_n", peak=2.0, top=0.3, last=2.0)
    alarms = [overopt_curve(table_of(d, means, 400, seed), method="best_of_n").decision is Decision.FAIL for seed in range(60)]
    assert np.mean(alarms) <= 0.12  # .05 and two and a half standard errors of 60 draws


def test_a_course_that_only_rises_has_no_peak() -> None:
    d = np.linspace(0, 3, 8)
    scores = np.tile(0.4 + 0.02 * d**2, (100, 1))
    verdict = overopt_curve(ledger(scores, scores, kl=list(d**2)), method="best_of_n")
    assert verdict.decision is Decision.PASS
    assert verdict.estimate is None
    assert "nowhere" in verdict.summary


def test_noise_without_a_course_does_not_fail() -> None:
    d = np.linspace(0, 3, 6)
    decisions = [overopt_curve(table_of(d, np.full(6, 0.7), 400, seed)).decision for seed in range(30)]
    assert decisions.count(Decision.FAIL) <= 5


@pytest.mark.parametrize("k", [0, 1, 3])
def test_fewer_than_four_checkpoints_abstain(k: int) -> None:
    d = np.linspace(0, 2, k)
    assert overopt_curve(table_of(d, np.linspace(0.9, 0.1, k), 400)).decision is Decision.INSUFFICIENT_EVIDENCE


def test_no_kl_few_items_another_exam_or_one_distance_abstain() -> None:
    d, means = curve("reinforcement", peak=1.0, top=0.3, last=4.0)
    scores = np.tile(means, (200, 1))
    for table in (
        REWARD_SCHEMA.empty_table(),
        ledger(scores, scores),
        table_of(d, means, 29),
        table_of(d, means, 400, roots=[ROOT] * 4 + [OTHER_ROOT] * 5),
        table_of(np.full(9, 2.0), means, 400),
    ):
        assert overopt_curve(table).decision is Decision.INSUFFICIENT_EVIDENCE
