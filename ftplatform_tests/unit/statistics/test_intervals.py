"""Intervals against statsmodels, published tables, and their exact coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from ftplatform.statistics.intervals import clustered_mean, exact, t_prediction_interval, wilson

GRID = [(0, 1), (1, 1), (0, 20), (1, 29), (15, 148), (81, 263), (100, 800), (263, 263)]


@pytest.mark.parametrize(("successes", "n"), GRID)
@pytest.mark.parametrize(("function", "method"), [(wilson, "wilson"), (exact, "beta")])
def test_two_sided_bounds_equal_statsmodels(function, method, successes, n):
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=0.05, method=method)
    interval = function(successes, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-10)
    assert interval.estimate == successes / n


@pytest.mark.parametrize(("successes", "n"), GRID)
@pytest.mark.parametrize(("function", "method"), [(wilson, "wilson"), (exact, "beta")])
def test_one_sided_bound_puts_the_whole_error_on_one_side(function, method, successes, n):
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=0.10, method=method)
    upper, lower = function(successes, n, alternative="upper"), function(successes, n, alternative="lower")
    assert upper.low == 0.0
    assert lower.high == 1.0
    # With no (or only) successes a two-sided Clopper-Pearson interval is one-sided already, at half the error: statsmodels keeps
    # the convention, and the bound that is not at the end of the range still agrees.
    assert upper.high == pytest.approx(high, abs=1e-10)
    assert lower.low == pytest.approx(low, abs=1e-10)


# R. G. Newcombe, Stat Med 17 (1998) 857, table I: methods 3 (score) and 5 (Clopper-Pearson).
@pytest.mark.parametrize(
    ("successes", "n", "score", "clopper_pearson"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_newcombe_table_of_single_proportions(successes, n, score, clopper_pearson):
    w, e = wilson(successes, n), exact(successes, n)
    assert (round(w.low, 4), round(w.high, 4)) == score
    assert (round(e.low, 4), round(e.high, 4)) == clopper_pearson


def test_numbers_the_modes_quote():
    typo = wilson(100, 800)  # 700 right, 100 wrong
    assert (round(typo.low, 3), round(typo.high, 3)) == (0.104, 0.150)
    assert round(exact(0, 20, alternative="upper").high, 2) == 0.14  # 20 of 20 refused says little
    assert exact(0, 299, alternative="upper").high <= 0.01 < exact(0, 298, alternative="upper").high


def test_exact_coverage_by_enumeration():
    n = 40
    counts = np.arange(n + 1)
    wilson_bounds = np.array([(i.low, i.high) for i in (wilson(k, n) for k in counts)])
    exact_bounds = np.array([(i.low, i.high) for i in (exact(k, n) for k in counts)])

    def coverage(bounds: np.ndarray, p: float) -> float:
        return float(binom.pmf(counts, n, p)[(bounds[:, 0] <= p) & (p <= bounds[:, 1])].sum())

    rates = np.linspace(0.01, 0.99, 197)
    assert min(coverage(exact_bounds, p) for p in rates) >= 0.95
    assert np.mean([coverage(wilson_bounds, p) for p in rates]) == pytest.approx(0.95, abs=0.01)
    # The textbook Wald interval is the naive one: near zero it covers the truth hardly more often than a coin.
    p_hat = counts / n
    half = 1.96 * np.sqrt(p_hat * (1 - p_hat) / n)
    assert coverage(np.stack([p_hat - half, p_hat + half], axis=1), 0.02) < 0.6
    assert coverage(wilson_bounds, 0.02) > 0.9


def test_prediction_interval_equals_statsmodels():
    import statsmodels.api as sm

    values = [0.812, 0.797, 0.820, 0.805, 0.801]
    frame = sm.OLS(values, np.ones(5)).fit().get_prediction([[1.0]]).summary_frame(alpha=0.10)
    interval = t_prediction_interval(values, 0.90)
    assert (interval.low, interval.high) == pytest.approx((frame["obs_ci_lower"][0], frame["obs_ci_upper"][0]))
    assert interval.estimate == pytest.approx(np.mean(values))


def test_prediction_interval_factor_of_hahn_and_meeker():
    # Statistical Intervals (1991), table A.13a: 95 %, one future observation, n = 5 gives 3.04.
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    interval = t_prediction_interval(values)
    assert round((interval.high - interval.estimate) / values.std(ddof=1), 2) == 3.04


def conversations(rng: np.random.Generator, n_clusters: int, size: int) -> tuple[np.ndarray, list[int]]:
    """Scores of mean 0 that share most of their variance inside a conversation."""
    shared = np.repeat(rng.normal(size=n_clusters), size)
    return shared + 0.5 * rng.normal(size=n_clusters * size), np.repeat(np.arange(n_clusters), size).tolist()


def test_clustered_mean_equals_statsmodels_cr1():
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    values, clusters = conversations(rng, 12, 6)
    keep = rng.random(len(values)) < 0.7  # unequal clusters
    values, clusters = values[keep] + 2.0, np.array(clusters)[keep]
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    low, high = fit.conf_int(0.05)[0]
    interval = clustered_mean(values, clusters.tolist())
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((fit.params[0], low, high))
    one_sided = fit.conf_int(0.10)[0]
    assert clustered_mean(values, clusters.tolist(), alternative="upper").high == pytest.approx(one_sided[1])
    assert clustered_mean(values, clusters.tolist(), alternative="lower").low == pytest.approx(one_sided[0])
    assert clustered_mean(values, clusters.tolist(), alternative="upper").low == -math.inf


def test_ignoring_clusters_is_overconfident():
    rng = np.random.default_rng(11)
    covered = naive_covered = 0
    runs = 400
    for _ in range(runs):
        values, clusters = conversations(rng, 20, 8)
        interval = clustered_mean(values, clusters)
        covered += interval.low <= 0 <= interval.high
        naive = clustered_mean(values, range(len(values)))
        naive_covered += naive.low <= 0 <= naive.high
    assert covered / runs == pytest.approx(0.95, abs=0.03)
    assert naive_covered / runs < 0.65


def test_missing_cluster_ids_are_clusters_of_their_own():
    values = [1.0, 2.0, 4.0, 8.0]
    assert clustered_mean(values, [None, None, None, None]) == clustered_mean(values, range(4))
    assert clustered_mean(values, ["a", "a", None, None]) == clustered_mean(values, [0, 0, 1, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(0, 0), "n is 0"),
        (lambda: exact(0, 0), "n is 0"),
        (lambda: wilson(3, 2), "3 successes in 2 trials"),
        (lambda: wilson(-1, 2), "successes is -1"),
        (lambda: wilson(1, 2, 1.0), "confidence is 1.0"),
        (lambda: wilson(1, 2, 95), "confidence is 95"),
        (lambda: t_prediction_interval([1.0]), "at least 2 values"),
        (lambda: t_prediction_interval([]), "at least 2 values"),
        (lambda: t_prediction_interval([1.0, math.nan]), r"values\[1\] is not a finite number"),
        (lambda: t_prediction_interval([[1.0, 2.0]]), "one dimension"),
        (lambda: clustered_mean([1.0, 2.0], ["a", "a"]), "at least 2 clusters"),
        (lambda: clustered_mean([], []), "at least 2 clusters"),
        (lambda: clustered_mean([1.0, 2.0], ["a"]), "2 values and 1 cluster ids"),
    ],
)
def test_impossible_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_fractional_counts_are_refused():
    with pytest.raises(TypeError):
        wilson(1.5, 10)  # type: ignore[arg-type]


def test_numpy_integers_are_counts():
    assert wilson(np.int64(3), np.int32(10)) == wilson(3, 10)
