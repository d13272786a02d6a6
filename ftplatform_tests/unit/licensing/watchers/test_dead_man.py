"""The watch on the watchers."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from ftplatform.errors import InputDataError
from ftplatform.licensing.watchers.dead_man import SCRAPED_TTL, STATIC_TTL, license_fresh
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict


@pytest.mark.parametrize(
    ("days", "expected"),
    [(0, "pass"), (7, "pass"), (7.01, "warn"), (21, "warn"), (21.01, "fail"), (400, "fail"), (-0.001, "pass"), (-1, "fail")],
)
def test_age_decides(now: datetime, days: float, expected: str) -> None:
    verdict = license_fresh({"raw/x": now - timedelta(days=days)}, {"raw/x": SCRAPED_TTL}, now)
    assert verdict.decision == expected


def test_source_never_looked_at_fails_although_all_others_are_fresh(now: datetime) -> None:
    """ADV: the freshness of the sources that were looked at says nothing about the one that never was."""
    looked = {f"raw/{i}": now for i in range(30)}
    verdict = license_fresh(looked, dict.fromkeys([*looked, "raw/new"], SCRAPED_TTL), now)
    naive = max(now - moment for moment in looked.values()) <= SCRAPED_TTL
    assert naive
    assert (verdict.decision, verdict.n, verdict.estimate) == (Decision.FAIL, 31, None)
    assert verdict.evidence == ({**verdict.evidence[0], "source": "raw/new", "reason": "never looked at", "last_looked": None},)
    assert Verdict.from_record(verdict.to_record()) == verdict


def test_no_sources_is_insufficient(now: datetime) -> None:
    verdict = license_fresh({}, {}, now)
    assert (verdict.decision, verdict.n) == (Decision.INSUFFICIENT_EVIDENCE, 0)


def test_default_time_to_live_is_that_of_a_static_file(now: datetime) -> None:
    assert license_fresh({"a": now - STATIC_TTL}, {}, now).decision is Decision.PASS
    verdict = license_fresh({"a": now - STATIC_TTL - timedelta(hours=1)}, {}, now)
    assert (verdict.decision, verdict.evidence[0]["ttl_hours"]) == (Decision.WARN, 720)


def test_contract_that_ended_fails_however_fresh(now: datetime) -> None:
    assert license_fresh({"a": now}, {}, now, contract_end={"a": now + timedelta(days=1)}).decision is Decision.PASS
    verdict = license_fresh({"a": now}, {}, now, contract_end={"a": now})
    assert verdict.decision is Decision.FAIL
    assert "contract ended" in str(verdict.evidence[0]["reason"])


def test_worst_sources_come_first_and_evidence_is_capped(now: datetime) -> None:
    looked = {f"raw/{i:02}": now - timedelta(days=8 + i) for i in range(40)}
    verdict = license_fresh(looked, dict.fromkeys(looked, SCRAPED_TTL), now)
    assert len(verdict.evidence) == MAX_EVIDENCE
    assert verdict.evidence[0]["source"] == "raw/39"
    assert verdict.estimate == pytest.approx(47 / 7, abs=1e-3)


def test_unusable_times_are_errors(now: datetime) -> None:
    with pytest.raises(InputDataError, match="no zone"):
        license_fresh({"a": now.replace(tzinfo=None)}, {}, now)
    with pytest.raises(InputDataError, match="positive"):
        license_fresh({"a": now}, {"a": timedelta(0)}, now)
