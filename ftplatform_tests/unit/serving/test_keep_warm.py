"""Plans are replayed exactly, the cheapest is chosen, and what pings saved is counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.serving.effective import keepwarm_effective
from ftplatform.serving.idle_threshold import declared
from ftplatform.serving.keep_warm import ALL_HOURS, Costs, Plan, as_sent, replay, windows
from ftplatform.serving.plan_choice import recommend
from ftplatform.serving.traffic import hour_ranges
from ftplatform.verdict import Decision
from ftplatform_tests.unit.serving.replaying import exhaustive
from ftplatform_tests.unit.serving.simulated import MONDAY, QUIET_HOURS, arrivals, table

COSTS = Costs(ping=0.01, cold_start=0.30)
START = MONDAY.timestamp()
CALM = np.where(np.isin(np.arange(24), QUIET_HOURS), 0.05, 1.5)

hours = st.frozensets(st.integers(0, 30), max_size=12) | st.just(ALL_HOURS)
times = st.lists(st.integers(0, 30 * 3600), min_size=2, max_size=40, unique=True).map(sorted)


@given(times, times, hours, st.sampled_from([70.0, 240.0, 1_000.0, 5_000.0]), st.sampled_from(["UTC", "Asia/Kathmandu"]))
def test_the_replay_is_exact(first: list[int], second: list[int], hours: frozenset[int], period: float, zone: str) -> None:
    """Two adapters, each with a pinger of its own, against one that is followed ping by ping. Kathmandu is 5:45 ahead of UTC."""
    plan = Plan("", period, hours)
    end = max(first[-1], second[-1])
    logs = [np.array(times, dtype=float) for times in (first, second)]
    found = replay(pa.concat_tables([table(logs[0], adapter="a"), table(logs[1], adapter="b")]), plan, 300.0, timezone=zone)
    pings = colds = 0
    for log in logs:
        asked = [START + float(t) for t in log]
        only, cold = exhaustive(asked, plan, 300.0, timezone=zone)
        # The pinger goes on until the log ends, which is no request.
        sent, _ = exhaustive([*asked, START + end], plan, 300.0, timezone=zone) if log[-1] < end else (only, cold)
        pings, colds = pings + sent, colds + cold
    assert (int(found.pings.sum()), int(found.cold.sum())) == (pings, colds)


def test_a_plan_for_some_hours_wakes_the_adapter_when_they_begin() -> None:
    """Half a minute past ten, after a night without one: the ping at 08:00 loads the adapter while nobody waits, those after keep it."""
    log = table(np.array([0.0, 36_030.0]))
    found = replay(log, Plan("", 240.0, frozenset({8, 9, 10})), 300.0)
    assert found.cold.sum() == 0
    assert found.loads.sum() == 1
    assert found.pings[0] == 31
    assert replay(log, Plan("", 240.0, frozenset({8, 9})), 300.0).cold.sum() == 0, "the last ping at 09:56 still warms"
    assert replay(log, Plan("", 240.0, frozenset({8})), 300.0).cold.sum() == 1


def test_a_period_beyond_the_threshold_pays_and_saves_nothing() -> None:
    """ADV: pings every ten minutes look like keeping warm; each of them finds the adapter gone."""
    log = table(np.arange(0, 14 * 86_400, 3_500.0))
    found = replay(log, Plan("always", 600.0), 300.0)
    assert found.cold.sum() > 100, "those whose last ping was longer ago than the threshold"
    assert found.loads.sum() == found.pings.sum() > 1_000


def test_the_cheapest_class_follows_the_costs() -> None:
    log = table(arrivals(np.random.default_rng(1), 21, CALM))
    dear = recommend(log, 300.0, 240.0, Costs(ping=0.01, cold_start=1.0))
    assert dear.replays[dear.chosen].cold_starts_per_day < 0.05 * dear.replays["none"].cold_starts_per_day
    assert dear.saving_per_day is not None
    assert dear.saving_per_day.low > 0
    free = recommend(log, 300.0, 240.0, Costs(ping=0.5, cold_start=0.01))
    assert free.chosen == "none"
    assert free.saving_per_day is not None
    assert free.saving_per_day.estimate == 0


def test_pings_that_pay_and_pings_that_do_not() -> None:
    rng = np.random.default_rng(2)
    at = arrivals(rng, 21, CALM)
    pinged = np.arange(0, 21 * 86_400, 200.0)
    order = np.argsort(np.concatenate([at, pinged]))
    log = table(
        np.concatenate([at, pinged])[order], pings=np.concatenate([np.zeros(len(at), bool), np.ones(len(pinged), bool)])[order]
    )
    sent = as_sent(log, 300.0)
    assert sent.pings.sum() == len(pinged)
    assert sent.cold.sum() == 0
    good = keepwarm_effective(log, declared(300.0), Costs(ping=0.001, cold_start=1.0))
    assert good.decision is Decision.PASS
    assert good.ci_low is not None
    assert good.ci_low > 0
    bad = keepwarm_effective(log, declared(300.0), Costs(ping=0.1, cold_start=0.01))
    assert bad.decision is Decision.WARN
    assert "Stop the pings" in bad.remedy
    late = keepwarm_effective(log, declared(150.0), Costs(ping=0.001, cold_start=1.0))
    assert late.details["loads_by_pings"] > 0


def test_without_pings_a_plan_that_pays_is_named() -> None:
    log = table(arrivals(np.random.default_rng(3), 21, CALM))
    would_pay = keepwarm_effective(log, declared(300.0), Costs(ping=0.001, cold_start=1.0))
    assert would_pay.decision is Decision.WARN
    assert "Ping after 240 idle seconds" in would_pay.remedy
    assert {line["plan"] for line in would_pay.evidence} == {"none", "always", "user hours", "paying hours"}
    assert keepwarm_effective(log, declared(300.0), Costs(ping=0.5, cold_start=0.01)).passed


@pytest.mark.parametrize("seconds", [[], [3.0], [0.0, 1_000.0, 2_000.0]])
def test_too_little_is_insufficient(seconds: list[float]) -> None:
    log = table(np.array(seconds))
    assert keepwarm_effective(log, declared(300.0), COSTS).decision is Decision.INSUFFICIENT_EVIDENCE
    assert keepwarm_effective(log, None, COSTS).decision is Decision.INSUFFICIENT_EVIDENCE
    assert keepwarm_effective(log, declared(300.0), None).decision is Decision.INSUFFICIENT_EVIDENCE
    assert as_sent(log, 300.0).pings.sum() == 0


def test_only_pings_are_no_traffic() -> None:
    log = table(np.arange(10) * 100.0, pings=np.ones(10, bool))
    assert as_sent(log, 300.0).pings.sum() == 0, "there is no gap between requests of users that they could be in"
    assert keepwarm_effective(log, declared(300.0), COSTS).decision is Decision.INSUFFICIENT_EVIDENCE


def test_windows_follow_the_clock_of_the_zone() -> None:
    """The night of 31 March 2024 has no hour from two to three in Paris."""
    begin = MONDAY.timestamp() + 89 * 86_400
    sunday = frozenset(6 * 24 + hour for hour in (1, 2, 3))
    opens, closes = windows(sunday, begin, begin + 2 * 86_400, "Europe/Paris")
    assert (closes - opens).tolist() == [2 * 3600.0]
    assert windows(frozenset(), begin, begin + 86_400)[0].size == 0


def test_hours_are_named_as_people_write_them() -> None:
    assert hour_ranges([2, 3, 26, 27, 50, 51]) == "Mon-Wed 02-04"
    assert hour_ranges([0, 5, 6, 7 * 24 - 1]) == "Mon 00-01, 05-07; Sun 23-24"
    assert hour_ranges([]) == ""
