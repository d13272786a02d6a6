"""The yardstick itself."""

from __future__ import annotations

import datetime
import random

import pyarrow as pa
import pytest

from ftplatform.synthesis.reference_health import reference_health
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table
from ftplatform_tests.unit.synthesis.toy import TOPICS, real

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)


def inputs(n: int, days: float = 30, **columns) -> list[dict]:
    rng = random.Random(n)
    return [
        row(
            f"{real(rng, rng.choice(list(TOPICS)))} {i} number {rng.random()}",
            group=f"c{i}",
            created_at=NOW - datetime.timedelta(days=rng.random() * days),
            **columns,
        )
        for i in range(n)
    ]


def health(rows: list[dict] | pa.Table):
    return reference_health(rows if isinstance(rows, pa.Table) else table(rows), now=NOW)


def test_a_good_sample_passes() -> None:
    verdict = health(inputs(600))
    assert verdict.decision is Decision.PASS
    assert verdict.estimate == pytest.approx(15, abs=3)
    assert verdict.details["duplicates"] == 0


@pytest.mark.parametrize("n", [0, 499])
def test_too_few(n: int) -> None:
    assert health(inputs(n)).decision is Decision.INSUFFICIENT_EVIDENCE


def test_one_fresh_row_makes_no_fresh_sample() -> None:
    """ADV: the newest date is today."""
    old = [r | {"created_at": NOW - datetime.timedelta(days=200)} for r in inputs(600)]
    fresh = inputs(5, days=1)
    assert max(r["created_at"] for r in [*old, *fresh]) > NOW - datetime.timedelta(days=1)
    verdict = health([*old, *fresh])
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert "older than 200 days" in verdict.summary


def test_without_dates_or_from_the_future() -> None:
    undated = [r | {"created_at": None} for r in inputs(600)]
    assert "no date" in health(undated).summary
    future = [r | {"created_at": NOW + datetime.timedelta(days=30)} for r in inputs(600)]
    for rows in (undated, future):
        assert health(rows).decision is Decision.INSUFFICIENT_EVIDENCE


def test_copies() -> None:
    copied = inputs(600)[:400] * 2
    assert health(copied).decision is Decision.INSUFFICIENT_EVIDENCE
    # ADV: half of a chat is "yes please" and "thanks"; a plain share of copies would call it worthless.
    short = [
        r | row(random.Random(i).choice(["yes please", "thanks", "hi there"]), group=r["group"], created_at=r["created_at"])
        for i, r in enumerate(inputs(600))
    ]
    chat = [*inputs(700), *short]
    said = [r["messages"][0]["content"] for r in chat]
    assert 1 - len(set(said)) / len(said) > 0.2
    assert health(chat).decision is Decision.PASS


def test_machines() -> None:
    probes = [row(text, created_at=NOW) for text in ["ping", "health check", '{"id": 7}', "GET /status HTTP/1.1", "Test 3"] * 10]
    verdict = health([*inputs(600), *probes])
    assert verdict.decision is Decision.WARN
    assert verdict.details["bots"] == pytest.approx(50 / 650, abs=0.01)
    # Sent by a clock, whatever it says and whoever it claims to be.
    clock = [row("is the shop open on sunday", group=f"g{i}", created_at=NOW - datetime.timedelta(hours=i)) for i in range(60)]
    assert health([*inputs(600), *clock]).details["bots"] == pytest.approx(60 / 660, abs=0.01)
    people = [r | {"created_at": NOW - datetime.timedelta(hours=random.Random(i).random() * 500)} for i, r in enumerate(clock)]
    assert health([*inputs(600), *people]).details["bots"] == 0


def test_one_user() -> None:
    loud = [r | {"author": "u1"} for r in inputs(120)]
    verdict = health([*inputs(600), *loud])
    assert verdict.decision is Decision.WARN
    assert "one user wrote 17%" in verdict.summary
    # ADV: every message has a conversation of its own, so counting conversations sees nothing.
    assert len({r["group"] for r in loud}) == 120


def test_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        reference_health(table([]), now=datetime.datetime(2026, 6, 1))
