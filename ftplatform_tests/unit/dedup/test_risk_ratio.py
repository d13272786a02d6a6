"""The risk ratio behind `hard_row_survival`: against statsmodels, at its edges, and over many samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from ftplatform.dedup.risk_ratio import clustered_share, risk_ratio, rows_needed


@pytest.mark.parametrize("counts", [(9, 11, 280, 1000), (20, 100, 180, 900), (1, 1000, 9, 9000), (2000, 10_000, 18_000, 90_000)])
def test_agrees_with_statsmodels(counts: tuple[int, int, int, int]) -> None:
    expected = confint_proportions_2indep(*counts, method="score", compare="ratio", correction=False)
    found = risk_ratio(*counts)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-6)
    assert found.estimate == pytest.approx(counts[0] / counts[1] / (counts[2] / counts[3]))


def test_groups_without_or_full_of_events_keep_their_bounds() -> None:
    # statsmodels divides by zero in its logarithmic method, and mislays a bound of its score method where all are events.
    with pytest.raises(ZeroDivisionError):
        confint_proportions_2indep(5, 10, 0, 100, method="log", compare="ratio")
    assert risk_ratio(0, 10, 5, 100).low == 0
    assert risk_ratio(0, 10, 5, 100).high == pytest.approx(6.2976, abs=1e-3)
    only_hard = risk_ratio(5, 10, 0, 100)
    assert only_hard.estimate == only_hard.high == math.inf
    assert only_hard.low == pytest.approx(13.346, abs=1e-3)
    everything = risk_ratio(10, 10, 100, 100)
    assert everything.low < 1 < everything.high < 1.1
    nothing = risk_ratio(0, 10, 0, 100)
    assert (nothing.estimate, nothing.low, nothing.high) == (1.0, 0.0, math.inf)
    with pytest.raises(ValueError, match="among 0"):
        risk_ratio(0, 0, 1, 10)


def test_the_interval_is_that_of_the_swapped_groups_turned_over() -> None:
    one, other = risk_ratio(7, 40, 30, 400), risk_ratio(30, 400, 7, 40)
    assert (one.low, one.high) == pytest.approx((1 / other.high, 1 / other.low), rel=1e-9)


def test_coverage_with_few_events() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.binomial(60, 0.1, 600), generator.binomial(540, 0.05, 600)
    covered = [risk_ratio(int(a), 60, int(b), 540) for a, b in zip(x, y, strict=True)]
    share = np.mean([interval.low <= 2 <= interval.high for interval in covered])
    assert 0.93 <= share <= 0.98


def test_clusters_count_by_their_effective_number() -> None:
    alone = np.arange(200)
    events = np.arange(200) % 4 == 0
    assert clustered_share(events, alone)[1] == pytest.approx(200, rel=0.02)
    # Whole conversations of ten removed or kept: 200 rows say about as much as 20.
    together = np.repeat(np.arange(20) % 4 == 0, 10)
    count, size = clustered_share(together, np.repeat(np.arange(20), 10))
    assert size == pytest.approx(20, rel=0.1)
    assert count / size == pytest.approx(together.mean())
    assert clustered_share(np.ones(50, bool), np.repeat(np.arange(5), 10)) == (5.0, 5.0)


def test_the_needed_rows_have_the_power_they_claim() -> None:
    n = rows_needed(0.28, 0.1, 2.0)
    assert n == 288
    generator = np.random.default_rng(1)
    hard, other = round(0.1 * n), n - round(0.1 * n)
    share = 0.28 / 1.1
    x, y = generator.binomial(hard, 2 * share, 1000), generator.binomial(other, share, 1000)
    found = np.mean([risk_ratio(int(a), hard, int(b), other).low > 1 for a, b in zip(x, y, strict=True)])
    assert 0.75 <= found <= 0.88
    # By the variance of the logarithm (Katz) 211 rows would do: with them it is found in two cases of three.
    assert rows_needed(0.01, 0.1, 2.0) > 30 * n
