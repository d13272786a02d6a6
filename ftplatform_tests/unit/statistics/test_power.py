"""Sample sizes: the tables that the checks rely on, to the last row."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from ftplatform.statistics.intervals import exact
from ftplatform.statistics.power import (
    acceptance_plan,
    acceptance_probability,
    required_n_noninferiority,
    required_n_zero_events,
)

# One-sided alpha .05, power .8; columns are the share of discordant pairs.
REQUIRED_N = {
    0.02: {0.03: 464, 0.05: 773, 0.10: 1546, 0.15: 2319},
    0.03: {0.03: 207, 0.05: 344, 0.10: 687, 0.15: 1031},
    0.05: {0.03: 75, 0.05: 124, 0.10: 248, 0.15: 371},
    0.10: {0.03: 19, 0.05: 31, 0.10: 62, 0.15: 93},
}


@pytest.mark.parametrize(("margin", "share", "n"), [(m, s, n) for m, row in REQUIRED_N.items() for s, n in row.items()])
def test_required_n_table(margin, share, n):
    assert required_n_noninferiority(margin, share) == n


def test_required_n_defaults_and_monotony():
    assert required_n_noninferiority(0.05) == 248
    assert required_n_noninferiority(0.10) == 62
    assert required_n_noninferiority(0.05, alpha=0.001) > 2 * required_n_noninferiority(0.05)  # what nightly strictness costs
    assert required_n_noninferiority(0.05, power=0.95) > required_n_noninferiority(0.05)
    assert required_n_noninferiority(0.99, 0.001) == 1


@pytest.mark.parametrize(("limit", "n"), [(0.05, 59), (0.02, 149), (0.01, 299)])
def test_zero_event_bounds(limit, n):
    assert required_n_zero_events(limit) == n
    assert (1 - limit) ** n <= 0.05 < (1 - limit) ** (n - 1)


@pytest.mark.parametrize(
    ("limit", "plans"),
    [(0.01, [299, 473, 628, 773]), (0.02, [149, 236, 313, 386]), (0.05, [59, 93, 124, 153])],
)
def test_acceptance_plans(limit, plans):
    assert [acceptance_plan(limit, c) for c in range(4)] == plans


@pytest.mark.parametrize("limit", [0.003, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("defects", [0, 1, 7])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_a_plan_is_the_smallest_that_holds_its_promise(limit, defects, confidence):
    n = acceptance_plan(limit, defects, confidence)
    assert binom.cdf(defects, n, limit) <= 1 - confidence + 1e-9
    assert n == defects + 1 or binom.cdf(defects, n - 1, limit) > 1 - confidence
    # The same promise as a one-sided Clopper-Pearson bound of the accepted sample.
    assert exact(defects, n, confidence, alternative="upper").high <= limit + 1e-9


def test_a_plan_without_allowed_defects_rejects_good_batches():
    # A batch four times better than the limit of 1 %.
    assert round(acceptance_probability(299, 0, 0.0025), 2) == 0.47
    assert round(acceptance_probability(773, 3, 0.0025), 2) == 0.87


def test_certainty_at_the_ends():
    assert acceptance_probability(10, 0, 0.0) == 1.0
    assert acceptance_probability(10, 3, 1.0) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: required_n_noninferiority(0.0), "margin is 0"),
        (lambda: required_n_noninferiority(0.05, 1.0), "discordant_share is 1"),
        (lambda: required_n_noninferiority(0.05, alpha=0), "alpha is 0"),
        (lambda: required_n_noninferiority(0.05, power=80), "power is 80"),
        (lambda: required_n_zero_events(0), "limit is 0"),
        (lambda: acceptance_plan(0.01, -1), "max_defects is -1"),
        (lambda: acceptance_plan(0.01, 3, 1), "confidence is 1"),
        (lambda: acceptance_probability(0, 0, 0.1), "n is 0"),
        (lambda: acceptance_probability(10, 0, 1.5), "rate is 1.5"),
    ],
)
def test_impossible_designs_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
