"""Observing, heartbeats, last looks and notices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ftplatform.errors import InputDataError
from ftplatform.licensing.registry import Ledger
from ftplatform_tests.unit.licensing.registry.factories import concluded, day, exhibit, notice, saw

FACTS = {"declared": "mit", "exhibits": (exhibit("words"),), "revision": "1"}


def kinds(ledger: Ledger) -> list[str]:
    return [event.kind for event in ledger.log.read()]


def test_a_sensor_that_looks_every_half_minute_does_not_write_for_ever(ledger: Ledger) -> None:
    for look in range(600):  # five hours
        ledger.observe(saw("active", look * 30 / 86_400, **FACTS))
    assert kinds(ledger) == ["terms"] + ["heartbeat"] * 4
    naive = 600
    assert len(kinds(ledger)) < naive


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({}, False),
        ({"revision": "2"}, False),
        ({"detail": {"etag": "x"}}, False),
        ({"exhibits": (exhibit("words", layout="re-wrapped"),)}, False),
        ({"declared": None}, False),
        ({"exhibits": ()}, False),
        ({"declared": "apache-2.0"}, True),
        ({"declared": ("mit",)}, True),
        ({"exhibits": (exhibit("other words"),)}, True),
        ({"concluded": "MIT", "concluded_by": "counsel"}, True),
        ({"state": "gated"}, True),
        ({"notice": "N"}, True),
        ({"watcher": "git"}, True),
        ({"source": "t"}, True),
    ],
)
def test_what_is_news(ledger: Ledger, change: dict[str, Any], news: bool) -> None:
    ledger.observe(saw("active", 1, **FACTS))
    event = ledger.observe(saw(**{"state": "active", "valid": 2, **FACTS, **change}))
    assert event is not None
    assert event.kind == ("terms" if news else "heartbeat")


def test_silence_about_a_fact_does_not_make_it_news_again(ledger: Ledger) -> None:
    ledger.observe(saw("active", 1, **FACTS))
    ledger.observe(saw("gated", 2))
    event = ledger.observe(saw("gated", 3, **FACTS))
    assert event is not None
    assert event.kind == "heartbeat"


def test_a_declaration_read_again_does_not_lift_a_takedown(ledger: Ledger) -> None:
    """ADV: the project file still says MIT, concluded by counsel; a re-reader that stamps it with now looks like a new conclusion."""
    ledger.observe(concluded("MIT", 1, watcher="declaration"))
    ledger.append(saw("takedown", 2, notice="N"))
    again = concluded("MIT", 3, watcher="declaration")
    ledger.observe(again)
    assert ledger.state("s", day(4), day(4)).state == "takedown"
    ledger.append(again)  # what a ledger that appends every look would have done
    assert ledger.state("s", day(4), day(4)).state == "active"


def test_two_watchers_that_disagree_do_not_take_turns(ledger: Ledger) -> None:
    for look in range(10):
        ledger.observe(saw("gated", look / 1000))
        ledger.observe(saw("active", look / 1000, watcher="git"))
    assert kinds(ledger) == ["terms", "terms"]


def test_an_unreachable_source_was_not_looked_at(ledger: Ledger) -> None:
    ledger.observe(saw("active", 1))
    for hour in range(1, 49):
        ledger.observe(saw("unreachable", 1 + hour / 24))
    assert kinds(ledger) == ["terms", "terms"]
    assert ledger.last_looked("s") == {"hub": day(1)}
    ledger.observe(saw("active", 4))
    assert ledger.last_looked("s") == {"hub": day(4)}


def test_last_looks(ledger: Ledger) -> None:
    ledger.observe(saw("active", 1))
    ledger.observe(saw("active", 2))
    ledger.observe(saw("active", 1.5, watcher="git"))
    ledger.observe(saw("active", 3, source="t"))
    assert ledger.looks() == {"s": {"hub": day(2), "git": day(1.5)}, "t": {"hub": day(3)}}
    assert ledger.looks(known_at=day(1.5)) == {"s": {"hub": day(1), "git": day(1.5)}}
    assert ledger.last_looked("s", known_at=day(1)) == {"hub": day(1)}
    assert ledger.last_looked("nobody") == {}


def test_heartbeats_have_their_own_pace(open_ledger: Callable[..., Ledger]) -> None:
    ledger = open_ledger(heartbeat_every=timedelta(days=1))
    written = [ledger.heartbeat("s", "hub", day(d)) for d in (0, 0.5, 1, 0.2, 1.9, 2)]
    assert [event is not None for event in written] == [True, False, True, False, False, True]


def test_a_late_look_is_compared_with_what_was_seen_before_it(ledger: Ledger) -> None:
    ledger.observe(saw("active", 1))
    ledger.observe(saw("gated", 5))
    assert ledger.observe(saw("active", 3)) is None, "as on day 1, and there is a later look already"
    late = ledger.observe(saw("gated", 4))
    assert late is not None
    assert late.kind == "terms", "news on day 4, though not on day 5"
    assert ledger.state("s", day(4), day(4)).state == "gated"


def test_open_notices(ledger: Ledger) -> None:
    ledger.append_many(
        [
            notice("N", "takedown", 1, deadline=day(5)),
            notice("M", "withdrawal", 2),
            notice("N", "takedown", 1, deadline=day(9)),
            notice("R", "retraction", 4, refers_to="N"),
        ]
    )
    assert [(n.id, n.deadline) for n in ledger.notices(known_at=day(9))] == [("N", day(9)), ("M", None), ("R", None)]
    assert [n.id for n in ledger.notices(open_only=True, known_at=day(9))] == ["M"]
    assert [n.id for n in ledger.notices(open_only=True, known_at=day(3))] == ["N", "M"]
    assert [n.id for n in ledger.notices(known_at=day(1))] == ["N"]


def test_an_answer_to_nothing_is_refused() -> None:
    with pytest.raises(InputDataError, match="refers to no notice"):
        notice("R", "retraction", 1)
    with pytest.raises(InputDataError, match="SHA-256"):
        notice("N", "takedown", 1, letter_sha256="abc")
