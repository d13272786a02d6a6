"""M3: cold starts that no daily figure shows, and long answers that are none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ftplatform.serving.cold_start import expected_cold_starts, naive_mean_rate
from ftplatform.serving.exposure import cold_start_exposure
from ftplatform.serving.idle import touches
from ftplatform.serving.idle_threshold import declared, fit_threshold, slow_requests
from ftplatform.serving.observed import cold_start_observed
from ftplatform.verdict import Decision
from ftplatform_tests.unit.serving.simulated import PER_MINUTE, QUIET_HOURS, arrivals, served, table

THRESHOLD = 300.0

#: The busy hours have no gap of five minutes; a tenth of their traffic has none either, and is quicker to draw.
QUICK = np.where(PER_MINUTE > 10, PER_MINUTE / 10, PER_MINUTE)

#: Traffic that is easy to have much of: two hundred a day, quiet at night.
CALM = np.where(np.isin(np.arange(24), QUIET_HOURS), 0.05, 1.5)


@pytest.fixture(scope="module")
def day():
    """228,000 requests of one day, 300 idle seconds until the adapter is unloaded."""
    rng = np.random.default_rng(20)
    return served(rng, arrivals(rng))


def test_the_simulated_day(day) -> None:
    """SPEC: threshold within 20 %, the quiet hours named; 9.6 cold starts lie inside the interval of a single day."""
    fit = fit_threshold(touches(day))
    assert fit.threshold is not None
    assert fit.threshold.seconds == pytest.approx(THRESHOLD, rel=0.2)
    assert fit.threshold.low <= THRESHOLD <= fit.threshold.high
    verdict = cold_start_exposure(day, declared(THRESHOLD))
    assert verdict.decision is Decision.WARN, "one day of log shows harm, and no more than warns"
    assert verdict.ci_low is not None
    assert verdict.ci_high is not None
    assert verdict.ci_low <= 9.6 <= verdict.ci_high
    assert set(verdict.details["cold_hours"]) == set(QUIET_HOURS), "Monday's hours"
    assert "Mon 02-06" in verdict.summary


@pytest.mark.parametrize("seed", range(3))
def test_two_weeks_of_simulated_days(seed: int) -> None:
    """Between 8 and 12 cold starts a day; a single day has five to fifteen, by chance alone."""
    rng = np.random.default_rng(seed)
    log = served(rng, arrivals(rng, 14, QUICK), spikes=0.004)
    fit = fit_threshold(touches(log))
    assert fit.threshold is not None
    assert fit.threshold.seconds == pytest.approx(THRESHOLD, rel=0.05)
    assert fit.threshold.low <= THRESHOLD <= fit.threshold.high
    verdict = cold_start_exposure(log, fit.threshold)
    assert verdict.decision is Decision.WARN
    assert verdict.estimate is not None
    assert 8 <= verdict.estimate <= 12
    assert {hour % 24 for hour in verdict.details["cold_hours"]} == set(QUIET_HOURS)
    assert cold_start_observed(log).details["cold_starts"] == int((touches(log).idle > THRESHOLD).sum())


def test_adv_no_daily_figure_shows_it_and_the_check_still_fires(day) -> None:
    """ADV: p99 is .789 s with the cold starts and .788 s without; one mean rate for the day predicts none at all."""
    first = day["time_to_first_token"].to_numpy()
    log = touches(day)
    p99 = np.quantile(first, 0.99)
    without = np.quantile(first[~(log.idle > THRESHOLD)], 0.99)
    assert p99 == pytest.approx(0.788, abs=0.01)
    assert p99 - without < 0.001, "a limit on p99 passes"
    assert naive_mean_rate(day, THRESHOLD) < 1e-6, "a limit on the mean rate passes"
    assert first[log.idle > THRESHOLD].min() > 2.5
    assert cold_start_exposure(day, declared(THRESHOLD)).decision is Decision.WARN
    assert cold_start_observed(day).decision is Decision.WARN


def test_expected_and_seen_counts_are_those_of_the_notes() -> None:
    """9.60 expected by the rates, 9.77 seen on average: both within two standard errors over sixty days."""
    by_rates = sum(60 * rate * np.exp(-rate * THRESHOLD / 60) for rate in PER_MINUTE)
    assert by_rates == pytest.approx(9.60, abs=0.01)
    estimates, seen, covered = [], [], 0
    for seed in range(60):
        found = expected_cold_starts(table(arrivals(np.random.default_rng(seed), 1, QUICK)), declared(THRESHOLD))
        assert found is not None
        estimates.append(found.per_day.estimate)
        seen.append(found.seen)
        covered += found.per_day.low <= by_rates <= found.per_day.high
    for values in (estimates, seen):
        assert np.mean(values) == pytest.approx(9.68, abs=2 * np.std(values, ddof=1) / np.sqrt(60) + 0.09)
    assert covered >= 57, "the interval covers the truth in at least 95 % of days"


def test_adv_slow_because_the_answer_is_long_is_not_cold() -> None:
    """ADV: two-thousand-token answers take twenty seconds; their first tokens are as quick as any."""
    rng = np.random.default_rng(1)
    at = arrivals(rng, 14, CALM)
    at = at[np.diff(at, prepend=-1e9) < 200]  # no gap near the threshold
    first = rng.lognormal(np.log(0.42), 0.27, len(at))
    long = rng.random(len(at)) < 0.02
    total = first + np.where(long, 20.0, 0.8)
    log = table(at, first_token=first, total=total)
    naive = total > np.maximum(3 * np.median(total), np.median(total) + 1)
    assert naive.sum() == long.sum() > 100, "total latency calls every long answer cold"
    assert slow_requests(touches(log)).sum() == 0
    verdict = cold_start_observed(log)
    assert verdict.decision is Decision.PASS
    assert verdict.details["slow"] == 0


def test_an_answer_that_outlasts_the_gap_leaves_none() -> None:
    """The idle clock starts when an answer ends: requests ten minutes apart with nine-minute answers are a minute apart."""
    at = np.arange(0, 86_400, 600.0)
    log = touches(table(at, total=np.full(len(at), 540.0)))
    assert log.idle[log.user] == pytest.approx(60.0)
    assert (np.diff(at) > THRESHOLD).all(), "gaps between arrivals call each of them cold"


def test_unrelated_slowness_is_no_threshold() -> None:
    rng = np.random.default_rng(2)
    at = arrivals(rng, 14, CALM)
    log = served(rng, at, np.inf, spikes=0.02)
    verdict = cold_start_observed(log)
    assert verdict.decision is Decision.PASS
    assert verdict.details["slow"] > 100
    assert verdict.estimate is None


def test_a_threshold_that_shrinks_by_a_quarter_raises_the_alarm() -> None:
    rng = np.random.default_rng(3)
    at = arrivals(rng, 28, CALM)
    shrunk = cold_start_observed(served(rng, at, np.where(at < 21 * 86_400, 600.0, 400.0)), budget=100)
    assert shrunk.decision is Decision.WARN
    assert shrunk.details["shrinkage"]["ratio"] == pytest.approx(400 / 600, rel=0.1)
    assert "threshold fell" in shrunk.summary
    same = cold_start_observed(served(rng, at, 600.0), budget=100)
    assert same.decision is Decision.PASS
    assert same.details["shrinkage"]["ratio"] == pytest.approx(1.0, rel=0.1)


def test_two_weeks_pass_and_less_does_not() -> None:
    rng = np.random.default_rng(4)
    busy = np.full(24, 2.0)
    two_weeks = table(arrivals(rng, 15, busy))
    assert cold_start_exposure(two_weeks, declared(900.0)).decision is Decision.PASS
    ten_days = table(arrivals(rng, 10, busy))
    assert cold_start_exposure(ten_days, declared(900.0)).decision is Decision.INSUFFICIENT_EVIDENCE
    month = table(arrivals(rng, 30, CALM))
    assert cold_start_exposure(month, declared(THRESHOLD)).decision is Decision.FAIL


def test_hours_without_users_do_not_count() -> None:
    rng = np.random.default_rng(5)
    month = table(arrivals(rng, 30, CALM))
    office = frozenset(day * 24 + hour for day in range(5) for hour in range(8, 20))
    verdict = cold_start_exposure(month, declared(THRESHOLD), user_hours=office, budget=100)
    assert verdict.decision is Decision.PASS


def test_pings_that_were_sent_keep_warm() -> None:
    rng = np.random.default_rng(6)
    at = arrivals(rng, 30, CALM)
    pinged = np.arange(0, 30 * 86_400, 240.0)
    both = np.concatenate([at, pinged])
    order = np.argsort(both)
    log = table(both[order], pings=np.concatenate([np.zeros(len(at), bool), np.ones(len(pinged), bool)])[order])
    verdict = cold_start_exposure(log, declared(THRESHOLD))
    assert verdict.decision is Decision.PASS
    assert verdict.estimate == 0
    assert verdict.details["without_pings_per_day"] > 5


def test_replicas_are_colder_than_one() -> None:
    rng = np.random.default_rng(7)
    month = table(arrivals(rng, 30, CALM))
    one = expected_cold_starts(month, declared(THRESHOLD))
    four = expected_cold_starts(month, declared(THRESHOLD), replicas=4)
    assert one is not None
    assert four is not None
    assert four.per_day.estimate > 3 * one.per_day.estimate


def test_every_adapter_has_a_clock_of_its_own() -> None:
    """Ten adapters, each asked every forty minutes: together the endpoint is never idle for five, and each request is cold."""
    logs = [table(np.arange(14 * 36) * 2_400.0 + 240.0 * i, adapter=f"a{i}") for i in range(10)]
    log = pa.concat_tables(logs)
    pooled = np.diff(np.sort(touches(log).start))
    assert pooled.max() < THRESHOLD, "gaps of the endpoint call all of them warm"
    found = expected_cold_starts(log, declared(THRESHOLD))
    assert found is not None
    assert found.seen == found.requests == 10 * (14 * 36 - 1)
    assert found.share.high > 0.9


@pytest.mark.parametrize("check", [cold_start_observed, lambda log: cold_start_exposure(log, declared(300.0))])
def test_too_little_is_insufficient(check) -> None:
    empty = table(np.zeros(0))
    for log in (empty, table(np.array([5.0])), table(np.arange(5) * 10.0)):
        assert check(log).decision is Decision.INSUFFICIENT_EVIDENCE
    assert cold_start_exposure(empty, None).decision is Decision.INSUFFICIENT_EVIDENCE
