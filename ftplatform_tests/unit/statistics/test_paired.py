"""Paired comparisons against R, published examples, exact enumeration, and the intervals that get them wrong."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from ftplatform.statistics.paired import (
    Comparison,
    mcnemar_exact,
    newcombe_paired_difference,
    noninferiority,
    paired_difference,
    paired_mean_difference,
)


# (b, c, n, confidence, low, high), printed by `scoreci.mp` of the R package PropCIs 0.3-0 under R 4.6.1, which bisects to 1e-7.
@pytest.mark.parametrize(
    ("b", "c", "n", "confidence", "low", "high"),
    [
        (7, 0, 14, 0.95, 0.17703378, 0.73200792),
        (0, 7, 14, 0.95, -0.73200798, -0.17703387),
        (0, 0, 14, 0.95, -0.21531081, 0.21531075),
        (3, 2, 14, 0.95, -0.26107773, 0.38899630),
        (1, 0, 14, 0.95, -0.15926158, 0.31468708),
        (5, 5, 16, 0.95, -0.36750698, 0.36750681),
        (13, 1, 14, 0.95, 0.37062618, 0.97455563),
        (14, 0, 14, 0.95, 0.56937838, 1.0),
        (0, 14, 14, 0.95, -1.0, -0.56937844),
        (2, 9, 20, 0.95, -0.60163157, -0.02741434),
        (10, 3, 50, 0.95, -0.00149775, 0.28547489),
        (4, 1, 28, 0.95, -0.06447508, 0.28929513),
        (6, 2, 42, 0.95, -0.04375332, 0.24263538),
        (1, 1, 2, 0.95, -0.81093764, 0.81093758),
        (25, 12, 200, 0.95, 0.00563550, 0.12694110),
        (7, 0, 14, 0.90, 0.25706768, 0.70121807),
        (10, 3, 50, 0.90, 0.02338053, 0.26074492),
        (25, 12, 200, 0.90, 0.01547646, 0.11644652),
    ],
)
def test_tango_interval_equals_r(b, c, n, confidence, low, high):
    interval = paired_difference(b, c, n, confidence)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-6)


def test_published_examples():
    # M. W. Fagerland, S. Lydersen, P. Laake, Statistical Analysis of Contingency Tables (2017), chapter 8: complete response before
    # and after consolidation therapy (Cavo 2012; 59, 6, 16, 80), values as in the authors' R package `contingencytables`.
    tango, newcombe = paired_difference(6, 16, 161), newcombe_paired_difference(59, 6, 16, 80)
    assert [round(v, 4) for v in (tango.estimate, tango.low, tango.high)] == [-0.0621, -0.1240, -0.0054]
    assert [round(v, 4) for v in (newcombe.estimate, newcombe.low, newcombe.high)] == [-0.0621, -0.1186, -0.0046]
    assert round(mcnemar_exact(6, 16), 6) == 0.052479
    # The same authors, Stat Med 33 (2014) 2850, table II (Bentur 2009; 1, 1, 7, 12).
    tango, newcombe = paired_difference(1, 7, 21), newcombe_paired_difference(1, 1, 7, 12)
    assert [round(v, 3) for v in (tango.low, tango.high)] == [-0.517, -0.026]
    assert [round(v, 3) for v in (newcombe.low, newcombe.high)] == [-0.507, -0.026]


@pytest.mark.parametrize(
    ("lost", "low", "high"),
    # 210 prompts that the base model refuses: three degrees of erosion.
    [(207, 0.953, 0.995), (82, 0.324, 0.458), (26, 0.081, 0.176)],
)
def test_newcombe_on_eroded_refusals(lost, low, high):
    interval = newcombe_paired_difference(210 - lost, lost, 0, 0)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1.1e-3)


def test_newcombe_is_sane_at_the_corners():
    assert newcombe_paired_difference(0, 0, 0, 5).estimate == 0.0
    for table in ((5, 0, 0, 0), (0, 5, 0, 0), (0, 0, 5, 0), (0, 0, 0, 5), (1, 0, 0, 0)):
        interval = newcombe_paired_difference(*table)
        assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
        assert interval.low < interval.high


counts = st.integers(1, 400).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


@settings(deadline=None)
@given(counts, st.sampled_from([0.8, 0.95, 0.999]))
def test_tango_interval_holds_its_estimate_and_is_antisymmetric(table, confidence):
    b, c, n = table
    interval = paired_difference(b, c, n, confidence)
    assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.low < interval.high
    mirrored = paired_difference(c, b, n, confidence)
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low), abs=1e-9)
    upper = paired_difference(b, c, n, (1 + confidence) / 2, alternative="upper")
    assert upper.high == pytest.approx(interval.high, abs=1e-9)
    assert upper.low == -1.0


@settings(deadline=None)
@given(counts, st.floats(0.01, 0.5))
def test_decision_bounds_and_p_values_agree(table, margin):
    b, c, n = table
    result = noninferiority(b, c, n, margin)
    if min(abs(result.interval.high - margin), abs(result.interval.low - margin)) < 1e-6:
        return  # a tie up to rounding
    assert (result.decision is Comparison.NONINFERIOR) == (result.interval.high <= margin) == (result.p_noninferior < 0.05)
    assert (result.decision is Comparison.INFERIOR) == (result.interval.low > margin) == (result.p_inferior < 0.05)
    assert result.p_noninferior + result.p_inferior == pytest.approx(1.0)


@cache
def tango_bounds(b: int, c: int, n: int) -> tuple[float, float]:
    interval = paired_difference(b, c, n)
    return interval.low, interval.high


def wald_bounds(b: int, c: int, n: int) -> tuple[float, float]:
    half = 1.959964 * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return (b - c) / n - half, (b - c) / n + half


def exact_coverage(bounds, p_b: float, p_c: float, n: int) -> float:
    """Probability, summed over every possible table, that the interval holds p_b - p_c."""
    total = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            low, high = bounds(b, c, n)
            if low <= p_b - p_c <= high:
                total += multinomial.pmf([b, c, n - b - c], n, [p_b, p_c, 1 - p_b - p_c])
    return total


@pytest.mark.parametrize(("p_b", "p_c"), [(0.10, 0.10), (0.20, 0.05), (0.02, 0.02)])
def test_tango_covers_where_wald_does_not(p_b, p_c):
    n = 30
    assert exact_coverage(tango_bounds, p_b, p_c, n) >= 0.94
    assert exact_coverage(wald_bounds, p_b, p_c, n) < exact_coverage(tango_bounds, p_b, p_c, n)


def test_wald_claims_certainty_from_nothing():
    assert wald_bounds(0, 0, 20) == (0.0, 0.0)  # 20 prompts, none lost: "the loss is exactly zero"
    assert paired_difference(0, 0, 20, alternative="upper").high == pytest.approx(0.119, abs=1e-3)
    result = noninferiority(0, 0, 20, 0.05)
    assert result.decision is Comparison.INCONCLUSIVE
    assert result.n < result.n_required


def test_worked_examples_of_refusal_retention():
    # n = 200, 16 refusals lost and 2 gained: 7.0 points, Wald upper bound 10.4; 4 and 2: 1.0 point, 3.0. Tango's bounds are half a
    # point further out.
    eroded, retained = noninferiority(16, 2, 200, 0.05), noninferiority(4, 2, 200, 0.05)
    assert round(eroded.interval.estimate, 3) == 0.070
    assert round(eroded.interval.high, 3) == 0.109
    assert eroded.decision is not Comparison.NONINFERIOR
    assert round(retained.interval.estimate, 3) == 0.010
    assert round(retained.interval.high, 3) == 0.035
    assert retained.decision is Comparison.NONINFERIOR
    z = 1.644854
    for (b, c), upper in (((16, 2), 0.104), ((4, 2), 0.030)):
        assert round((b - c) / 200 + z * math.sqrt(b + c - (b - c) ** 2 / 200) / 200, 3) == upper
    assert noninferiority(30, 2, 200, 0.05).decision is Comparison.INFERIOR
    assert (eroded.n_required, noninferiority(0, 0, 62, 0.10).n_required) == (248, 62)


def test_no_significant_difference_is_not_retention():
    # The naive gate reads "McNemar p > .05" as "nothing lost". Here 8 of 60 refusals are gone and it would pass.
    assert mcnemar_exact(8, 2) > 0.05
    assert noninferiority(8, 2, 60, 0.05).decision is Comparison.INCONCLUSIVE


def decision_probability(decision: Comparison, loss: float, share: float, n: int, margin: float) -> float:
    """Exact probability of `decision` when the loss is `loss` and a `share` of pairs is discordant (tables below 1e-9 left out)."""
    p_b, p_c = (share + loss) / 2, (share - loss) / 2
    grid = np.array([(b, c) for b in range(61) for c in range(61)])
    weights = multinomial.pmf(np.column_stack([grid, n - grid.sum(axis=1)]), n, [p_b, p_c, 1 - share])
    likely = weights > 1e-6
    assert weights[likely].sum() > 0.999
    return sum(
        float(w)
        for (b, c), w in zip(grid[likely], weights[likely], strict=True)
        if noninferiority(b, c, n, margin).decision is decision
    )


def test_required_n_delivers_power_and_keeps_the_error_rate():
    n = noninferiority(0, 0, 1, 0.05).n_required
    assert n == 248
    assert decision_probability(Comparison.NONINFERIOR, 0.0, 0.10, n, 0.05) == pytest.approx(0.80, abs=0.03)
    assert decision_probability(Comparison.NONINFERIOR, 0.05, 0.10, n, 0.05) <= 0.055
    assert decision_probability(Comparison.INFERIOR, 0.05, 0.10, n, 0.05) <= 0.055


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 5), (6, 16), (1, 0), (0, 12), (40, 61)])
def test_mcnemar_equals_statsmodels(b, c):
    from statsmodels.stats.contingency_tables import mcnemar

    assert mcnemar_exact(b, c) == pytest.approx(float(mcnemar([[10, b], [c, 10]], exact=True).pvalue) if b + c else 1.0)


def test_paired_mean_difference_is_the_paired_t_interval():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(5)
    a = rng.normal(size=40)
    b = a + rng.normal(0.2, 0.5, size=40)
    reference = ttest_rel(a, b).confidence_interval(0.95)
    interval = paired_mean_difference(a, b)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))


def test_paired_mean_difference_with_item_families_equals_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(6)
    families = np.repeat(np.arange(15), 4)
    a = rng.normal(size=60)
    b = a + np.repeat(rng.normal(size=15), 4) + 0.1 * rng.normal(size=60)
    fit = sm.OLS(a - b, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": families}, use_t=True)
    interval = paired_mean_difference(a, b, families.tolist())
    assert (interval.low, interval.high) == pytest.approx(tuple(fit.conf_int()[0]))
    unclustered = paired_mean_difference(a, b)
    assert interval.high - interval.low > 1.5 * (unclustered.high - unclustered.low)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_difference(0, 0, 0), "n is 0"),
        (lambda: paired_difference(5, 6, 10), "5 \\+ 6 discordant pairs among 10"),
        (lambda: paired_difference(-1, 0, 10), "b is -1"),
        (lambda: paired_difference(1, 0, 10, 0.0), "confidence"),
        (lambda: newcombe_paired_difference(0, 0, 0, 0), "n is 0"),
        (lambda: noninferiority(0, 0, 0, 0.05), "n is 0"),
        (lambda: noninferiority(0, 0, 10, 5), "margin is 5"),
        (lambda: noninferiority(0, 0, 10, 0.0), "margin is 0"),
        (lambda: mcnemar_exact(-1, 3), "b is -1"),
        (lambda: paired_mean_difference([], []), "at least 2 items"),
        (lambda: paired_mean_difference([1.0, 2.0], [1.0]), "2 scores against 1"),
        (lambda: paired_mean_difference([1.0, math.inf], [1.0, 2.0]), r"a\[1\]"),
    ],
)
def test_impossible_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=25, deadline=None)
@given(counts)
def test_counts_from_numpy_give_plain_floats(table):
    b, c, n = (np.int64(v) for v in table)
    result = noninferiority(b, c, n, 0.05)
    assert type(result.n) is int
    assert {type(v) for v in (result.interval.estimate, result.interval.low, result.interval.high, result.p_inferior)} == {float}
