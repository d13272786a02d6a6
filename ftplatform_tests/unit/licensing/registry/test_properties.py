"""Properties of as-of answers on random histories: the past stays as it was answered, and SQL agrees with plain Python."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftplatform.licensing.registry import Ledger, LegalNotice
from ftplatform.licensing.states import State, TermsObservation
from ftplatform.store.memory import MemoryBackend
from ftplatform_tests.unit.licensing.registry import model
from ftplatform_tests.unit.licensing.registry.factories import concluded, day, exhibit, notice, saw

SOURCES = ("a", "b")
NOTICES = (None, "N", "M")
DAYS = st.integers(0, 6)


@st.composite
def observations(draw: st.DrawFn) -> TermsObservation:
    state = draw(st.sampled_from(State))
    person = draw(st.booleans())
    rows = draw(st.sampled_from([(), ("r",), ("r", "q")])) if state in {State.WITHDRAWN_ROWS, State.TAKEDOWN} else ()
    return saw(
        state,
        draw(DAYS),
        draw(DAYS),
        source=draw(st.sampled_from(SOURCES)),
        watcher=draw(st.sampled_from(["hub", "git"])),
        declared=draw(st.sampled_from([None, "mit", ("mit", "other")])),
        concluded=draw(st.sampled_from(["MIT", "CC-BY-4.0"])) if person else None,
        concluded_by="counsel" if person and draw(st.booleans()) else None,
        exhibits=draw(st.sampled_from([(), (exhibit("x"),), (exhibit("y"),)])),
        notice=draw(st.sampled_from(NOTICES)),
        rows=rows,
    )


@st.composite
def letters(draw: st.DrawFn) -> LegalNotice:
    kind = draw(st.sampled_from(["takedown", "retraction", "counter_notice"]))
    return notice(draw(st.sampled_from("xyz")), kind, draw(DAYS), refers_to=draw(st.sampled_from(["N", "M"])))


HISTORIES = st.lists(st.one_of(observations(), observations(), observations(), letters()), max_size=9)
CLOCKS = list(itertools.product((0, 2, 3, 6), (0, 2, 4, 6)))
QUICK = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
THOROUGH = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger.open(MemoryBackend(uuid.uuid4().hex), f"sqlite:///{tmp_path_factory.mktemp('properties')}/ledger.db")
    yield ledger
    ledger.close()


@pytest.fixture
def postgres(postgres_database: str) -> Iterator[Ledger]:
    ledger = Ledger.open(MemoryBackend(uuid.uuid4().hex), postgres_database)
    yield ledger
    ledger.close()


def apart(records: list[Any]) -> list[Any]:
    """The same records under names no other example uses, so that all of them can share one ledger."""
    mark = uuid.uuid4().hex
    return [
        replace(r, source=mark + r.source, notice=r.notice and mark + r.notice)
        if isinstance(r, TermsObservation)
        else replace(r, id=mark + r.id, refers_to=mark + str(r.refers_to))
        for r in records
    ]


def answers(ledger: Ledger, records: list[Any]) -> dict[Any, Any]:
    names = sorted({r.source for r in records if isinstance(r, TermsObservation)})
    return {
        (name, valid, known): model.comparable(ledger.state(name, day(valid), day(known)))
        for name in names
        for valid, known in CLOCKS
    }


def agrees_with_plain_python(ledger: Ledger, records: list[Any]) -> None:
    records = apart(records)
    ledger.append_many(records)
    for (name, valid, known), found in answers(ledger, records).items():
        assert found == model.state(records, name, day(valid), day(known))


def all_at_once_is_one_by_one(ledger: Ledger, records: list[Any]) -> None:
    records = apart(records)
    ledger.append_many(records)
    names = {r.source for r in records if isinstance(r, TermsObservation)}
    for valid, known in CLOCKS[::3]:
        every = ledger.states(day(valid), day(known))
        for name in names:
            one = ledger.state(name, day(valid), day(known))
            assert every[name] == one if name in every else one.events == ()


def later_knowledge_changes_no_earlier_answer(ledger: Ledger, records: list[Any], future: list[Any]) -> None:
    known_until = 3
    past = [r for r in records if (r.observed_at if isinstance(r, TermsObservation) else r.received_at) <= day(known_until)]
    later = [r for r in future if (r.observed_at if isinstance(r, TermsObservation) else r.received_at) > day(known_until)]
    past_and_later = apart([*past, *later])
    past, later = past_and_later[: len(past)], past_and_later[len(past) :]

    def early() -> dict[Any, Any]:
        return {clocks: found for clocks, found in answers(ledger, past).items() if clocks[2] <= known_until}

    ledger.append_many(past)
    before = early()
    ledger.append_many(later)
    assert early() == before


def order_of_arrival_does_not_matter(ledger: Ledger, records: list[Any], order: Any) -> None:
    told = {(r.source, r.valid_from, r.observed_at): r for r in records if isinstance(r, TermsObservation)}
    told = list(told.values())  # with equal clocks the number decides; here every pair of clocks occurs once
    first, second = apart(told), apart(order.draw(st.permutations(told)))
    ledger.append_many(first)
    ledger.append_many(second)

    def nameless(records: list[Any]) -> dict[Any, Any]:
        return {
            (name[32:], *clocks): {**found, "notice": found["notice"] and found["notice"][32:]}
            for (name, *clocks), found in answers(ledger, records).items()
        }

    assert nameless(first) == nameless(second)


@THOROUGH
@given(records=HISTORIES)
def test_sql_agrees_with_plain_python(sqlite: Ledger, records: list[Any]) -> None:
    agrees_with_plain_python(sqlite, records)


@QUICK
@given(records=HISTORIES)
def test_postgres_agrees_with_plain_python(postgres: Ledger, records: list[Any]) -> None:
    agrees_with_plain_python(postgres, records)


@QUICK
@given(records=HISTORIES)
def test_all_sources_at_once(sqlite: Ledger, records: list[Any]) -> None:
    all_at_once_is_one_by_one(sqlite, records)


@QUICK
@given(records=HISTORIES)
def test_all_sources_at_once_on_postgres(postgres: Ledger, records: list[Any]) -> None:
    all_at_once_is_one_by_one(postgres, records)


@THOROUGH
@given(records=HISTORIES, future=HISTORIES)
def test_later_knowledge_changes_no_earlier_answer(sqlite: Ledger, records: list[Any], future: list[Any]) -> None:
    later_knowledge_changes_no_earlier_answer(sqlite, records, future)


@QUICK
@given(records=HISTORIES, future=HISTORIES)
def test_later_knowledge_changes_no_earlier_answer_on_postgres(postgres: Ledger, records: list[Any], future: list[Any]) -> None:
    later_knowledge_changes_no_earlier_answer(postgres, records, future)


@THOROUGH
@given(records=HISTORIES, order=st.data())
def test_order_of_arrival_does_not_matter(sqlite: Ledger, records: list[Any], order: Any) -> None:
    order_of_arrival_does_not_matter(sqlite, records, order)


def test_the_property_can_fail(sqlite: Ledger) -> None:
    """One row per source, overwritten by whoever comes last: later knowledge changes what was answered before."""
    row: dict[str, TermsObservation] = {}
    before, after = concluded("CC-BY-4.0", 1), saw("relicensed", 2, 5, declared="cc-by-nc-4.0")
    row["s"] = before
    answered = row["s"].state
    row["s"] = after
    assert row["s"].state != answered
    told = apart([before, after])
    sqlite.append(told[0])
    then = sqlite.state(told[0].source, day(3), day(3))
    sqlite.append(told[1])
    assert sqlite.state(told[0].source, day(3), day(3)) == then
    assert sqlite.state(told[0].source, day(3), day(5)).state == "relicensed"
