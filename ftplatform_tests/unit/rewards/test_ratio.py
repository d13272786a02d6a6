"""Fieller's bounds of a ratio of paired means."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ftplatform.rewards.ratio import ratio_of_means


def test_coverage_of_each_bound() -> None:
    rng = np.random.default_rng(0)
    low = high = 0
    for _ in range(1000):
        base = rng.poisson(0.3, 200).astype(float)
        ratio = ratio_of_means(rng.binomial(base.astype(int) + 1, 0.3).astype(np.float64), base, 1.0, 0.95)
        low, high = low + (ratio.low > 1.3), high + (ratio.high < 1.3)
    # The truth is .3 * 1.3 / .3 = 1.3; each side may miss one time in twenty.
    assert low / 1000 < 0.075
    assert high / 1000 < 0.075


def test_the_bounds_are_where_the_paired_test_turns() -> None:
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(1)
    base, values = rng.gamma(2, 1, 300), rng.gamma(3, 1, 300)
    ratio = ratio_of_means(values, base, 1.25, 0.95)
    padded = base + 0.5 / 300
    for bound, side in ((ratio.low, "greater"), (ratio.high, "less")):
        assert ttest_1samp(values - bound * padded, 0, alternative=side)[1] == pytest.approx(0.05)
    assert ratio.p_above == pytest.approx(ttest_1samp(values - 1.25 * padded, 0, alternative="greater")[1])


def test_a_baseline_of_none() -> None:
    base, values = np.zeros(400), np.zeros(400)
    values[:20] = 1
    ratio = ratio_of_means(values, base, 1.25, 0.95)
    assert 5 < ratio.low < ratio.value
    assert math.isfinite(ratio.value)
    assert ratio.p_above < 0.01
    same = ratio_of_means(base, base, 1.25, 0.95)
    assert (same.low, same.p_above) == (0.0, 1.0)


def test_a_baseline_that_may_be_zero_leaves_the_ratio_open_above() -> None:
    rng = np.random.default_rng(2)
    base = (rng.random(50) < 0.02).astype(float)
    base[0] = 1
    ratio = ratio_of_means(rng.random(50), base, 1.25, 0.99)
    assert ratio.high == math.inf
    assert 0 < ratio.low < ratio.value
