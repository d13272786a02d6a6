"""Every rule of the table in `registry.rules`, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from ftplatform.licensing.registry import Ledger
from ftplatform.licensing.states import REVOKED, STANDING, State
from ftplatform_tests.unit.licensing.registry.factories import concluded, day, exhibit, notice, saw

LATE = day(1000)

REINSTATED = saw("reinstated", 20)
CONCLUSION = concluded("MIT", 20)
ANSWER = saw("active", 20)
OTHER_WATCHER = saw("active", 20, watcher="git")

#: hold, what comes after it, the state that follows.
CASES: list[tuple[str, list[Any], str]] = [
    # The latest of those that nothing holds.
    ("nothing", [], "unknown"),
    ("latest", [saw("active", 1), saw("gated", 2), saw("unreachable", 3)], "unreachable"),
    ("latest by valid time, not by arrival", [saw("gated", 5), saw("active", 4, 6)], "gated"),
    ("equal valid time: by observation", [saw("gated", 5, 7), saw("active", 5, 6)], "gated"),
    ("equal clocks: by number", [saw("gated", 5), saw("active", 5)], "active"),
    # What a watcher, a person and a reinstatement can do about each state that holds.
    *[(f"{state}, then active", [saw(state, 10), ANSWER], state) for state in ("takedown", "disputed", "relicensed", "unknown")],
    *[
        (f"{state}, then active by another", [saw(state, 10), OTHER_WATCHER], state)
        for state in ("deleted", "disabled", "prospective")
    ],
    *[(f"{state}, then seen again", [saw(state, 10), ANSWER], "active") for state in ("deleted", "disabled")],
    *[(f"{state}, then unreachable", [saw(state, 10), saw("unreachable", 20)], state) for state in sorted(set(State) - STANDING)],
    ("deleted, then gated", [saw("deleted", 10), saw("gated", 20)], "gated"),
    *[
        (f"{state}, then concluded", [saw(state, 10), CONCLUSION], "active")
        for state in ("takedown", "deleted", "disabled", "disputed", "relicensed", "unknown", "prospective")
    ],
    *[(f"{s}, then reinstated", [saw(s, 10), REINSTATED], "reinstated") for s in sorted(set(State) - {State.REINSTATED})],
    ("a conclusion without a person", [saw("disputed", 10), saw("active", 20, concluded="MIT")], "disputed"),
    ("a person without a conclusion", [saw("disputed", 10), saw("active", 20, concluded_by="counsel")], "disputed"),
    ("concluded to be prospective", [saw("relicensed", 10), concluded("MIT", 20, state="prospective")], "prospective"),
    ("a second claim while concluding", [saw("takedown", 10), concluded("MIT", 20, state="disputed")], "takedown"),
    ("a claim after the conclusion", [CONCLUSION, saw("disputed", 21)], "disputed"),
    # Severity among those that hold.
    ("takedown, then disputed", [saw("takedown", 1), saw("disputed", 2)], "takedown"),
    ("disputed, then deleted", [saw("disputed", 1), saw("deleted", 2), saw("unreachable", 3)], "deleted"),
    ("disputed, then prospective", [saw("disputed", 1), saw("prospective", 2)], "disputed"),
    ("deleted and disputed, seen again", [saw("disputed", 1), saw("deleted", 2), saw("active", 3)], "disputed"),
    # Order of validity and knowledge.
    ("concluded before hearing of it", [concluded("MIT", 5, 5), saw("takedown", 1, 10)], "takedown"),
    ("concluded for a time before it", [saw("takedown", 10), concluded("MIT", 9, 20)], "takedown"),
    ("concluded back to its beginning", [saw("disputed", 10), concluded("MIT", 10, 20)], "active"),
    (
        "a declaration read again, with its old time",
        [saw("takedown", 10), concluded("MIT", 0, 30, watcher="declaration")],
        "takedown",
    ),
    # Notices by id.
    ("another notice reinstated", [saw("takedown", 10, notice="N"), saw("reinstated", 20, notice="M")], "takedown"),
    ("its notice reinstated", [saw("takedown", 10, notice="N"), saw("reinstated", 20, notice="N")], "reinstated"),
    (
        "one of two notices reinstated",
        [saw("takedown", 10, notice="N"), saw("takedown", 11, notice="M"), saw("reinstated", 20, notice="N")],
        "takedown",
    ),
    ("reinstated without a name", [saw("takedown", 10, notice="N"), REINSTATED], "reinstated"),
    ("concluded about another notice", [saw("takedown", 10, notice="N"), concluded("MIT", 20, notice="M")], "takedown"),
    ("learned after its reinstatement", [saw("reinstated", 20, 20, notice="N"), saw("takedown", 10, 30, notice="N")], "reinstated"),
    ("learned after a nameless reinstatement", [saw("reinstated", 20, 20), saw("takedown", 10, 30, notice="N")], "takedown"),
    # Letters.
    *[
        (f"{kind} letter", [saw("active", 1), saw("takedown", 10, notice="N"), notice("R", kind, 12, refers_to="N")], "active")
        for kind in ("retraction", "counter_notice")
    ],
    ("letter about another", [saw("takedown", 10, notice="N"), notice("R", "retraction", 12, refers_to="M")], "takedown"),
    ("letter before the claim", [saw("takedown", 10, notice="N"), notice("R", "retraction", 9, refers_to="N")], "takedown"),
    ("a takedown letter lifts nothing", [saw("takedown", 10, notice="N"), notice("R", "takedown", 12, refers_to="N")], "takedown"),
    ("everything lifted by letters", [saw("takedown", 10, notice="N"), notice("R", "retraction", 12, refers_to="N")], "unknown"),
    # Rows.
    ("rows withdrawn, then active", [saw("withdrawn_rows", 10, rows=("r",)), ANSWER], "withdrawn_rows"),
    ("rows taken down", [saw("takedown", 10, rows=("r",)), ANSWER], "withdrawn_rows"),
    ("rows withdrawn, then concluded", [saw("withdrawn_rows", 10, rows=("r",)), CONCLUSION], "withdrawn_rows"),
    ("rows withdrawn of a disputed source", [saw("disputed", 9), saw("withdrawn_rows", 10, rows=("r",))], "disputed"),
]


@pytest.mark.parametrize(("records", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_state(ledger: Ledger, records: list[Any], expected: str) -> None:
    ledger.append_many(records)
    assert ledger.state("s", LATE, LATE).state == expected


def test_every_state_is_in_a_case() -> None:
    assert {expected for _, _, expected in CASES} == {str(state) for state in State}


def test_letting_the_last_look_win_would_allow_what_is_claimed(ledger: Ledger) -> None:
    """ADV: a takedown, and then the place is slow to answer. The last look is in STANDING; the answer must not be."""
    records = [concluded("MIT", 1), saw("takedown", 10, notice="N"), saw("unreachable", 11)]
    ledger.append_many(records)
    naive = max(records, key=lambda r: (r.valid_from, r.observed_at)).state
    assert naive in STANDING
    assert ledger.state("s", LATE, LATE).state in REVOKED


def test_facts_carry_over_from_the_latest_look_that_states_them(ledger: Ledger) -> None:
    old, new = (exhibit("old"),), (exhibit("new"),)
    ledger.append_many(
        [
            saw("active", 1, declared="mit", exhibits=old),
            concluded("MIT", 2),
            saw("active", 4, 10, declared=("mit", "other"), exhibits=new),
            saw("takedown", 5, notice="N", detail={"status": 451}),
        ]
    )
    found = ledger.state("s", day(6), day(6))
    assert (found.state, found.declared, found.concluded, found.concluded_by) == ("takedown", "mit", "MIT", "counsel")
    assert (found.exhibits, found.notice, found.detail, found.events) == (old, "N", {"status": 451}, (1, 2, 4))
    later = ledger.state("s", day(6), day(10))
    assert (later.declared, later.exhibits, later.events) == (("mit", "other"), new, (1, 2, 3, 4))
    assert ledger.state("s", day(0), day(10)).events == ()


def test_the_grant_is_what_was_seen_first(ledger: Ledger) -> None:
    ledger.append_many(
        [
            saw("unknown", 0),
            saw("active", 2, 3, declared="cc-by-4.0", concluded="CC-BY-4.0", concluded_by="counsel", exhibits=(exhibit("by"),)),
            saw("active", 1, 5, declared="somebody remembers otherwise"),
            saw("relicensed", 7, declared="cc-by-nc-4.0"),
        ]
    )
    found = ledger.state("s", LATE, LATE)
    assert found.grant is not None
    assert (found.grant.declared, found.grant.concluded, found.grant.observed_at) == ("cc-by-4.0", "CC-BY-4.0", day(3))
    assert (found.grant.valid_from, found.grant.exhibits) == (day(2), (exhibit("by"),))
    assert found.declared == "cc-by-nc-4.0"
    assert ledger.state("s", LATE, day(2)).grant is None


def test_rows_are_counted_while_they_are_in_force(ledger: Ledger) -> None:
    ledger.append_many(
        [
            saw("withdrawn_rows", 1, rows=("a", "b")),
            saw("withdrawn_rows", 2, rows=("b", "c")),
            saw("takedown", 3, rows=("d",), notice="N"),
            saw("takedown", 4, rows=("e",), notice="M"),
            saw("reinstated", 5, notice="N"),
        ]
    )
    before, after = ledger.state("s", day(4), LATE), ledger.state("s", LATE, LATE)
    assert (before.withdrawn_rows, before.taken_down_rows) == ({"a", "b", "c"}, {"d", "e"})
    assert (after.withdrawn_rows, after.taken_down_rows) == ({"a", "b", "c"}, {"e"})
    ledger.append(saw("reinstated", 6))
    none = ledger.state("s", LATE, LATE)
    assert (none.state, none.withdrawn_rows, none.taken_down_rows) == ("reinstated", frozenset(), frozenset())


def test_an_observation_recorded_after_the_fact_shows(ledger: Ledger) -> None:
    """Somebody may append an old observation today and change an old answer; when it was recorded gives that away."""
    ledger.append(saw("active", 1, declared="mit"))
    found = ledger.state("s", day(2), day(2))
    assert found.recorded_at is not None
    assert found.recorded_at > day(2)
