"""A waiver lets exactly one conclusion through: not another snapshot's, rule's or decision's, and not after its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from ftplatform.defs.checks import Check, Judging, Mode, evaluate
from ftplatform.defs.gates import UNWAIVABLE, WaiverRefused, gate_state, lapsed, require_gates, unmet, waive
from ftplatform.project.check_names import KNOWN_CHECKS
from ftplatform.store import Store
from ftplatform.store.waivers import Standing, Waiver
from ftplatform.verdict import Decision, Verdict
from ftplatform_tests.graph.test_gate import at_night, check_that, publish, verdict

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SPLIT, EXAM = "splits/support", "eval_sets/questions"


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store.open(str(tmp_path / "store"))
    publish(store, SPLIT, b"one")
    publish(store, EXAM, b"one")
    return store


def sign(check: Check, store: Store, **changes: Any) -> Waiver:
    settings = {"by": "jo@example.com", "why": "both rows were read", "lifetime": 7 * DAY, "now": NOW}
    return waive(check, store, **{**settings, **changes})


def failed(store: Store, **settings: Any) -> Check:
    check = check_that(Decision.FAIL, **settings)
    evaluate(check, store)
    return check


def naive_gate(check: Check, store: Store, now: datetime = NOW) -> bool:
    """The obvious rule: somebody waived this check on this asset, and the waiver has not expired."""
    return any(w.standing(now) is Standing.IN_FORCE for w in store.waivers(check.asset, check.name))


def test_it_lets_the_failure_through_and_the_failure_stays_one(store):
    check = failed(store)
    assert unmet([check], store, NOW)
    waiver = sign(check, store)
    state = gate_state([check], store, NOW)
    assert state.unmet == []
    (waived,) = state.waived
    assert waived.waiver == waiver
    assert waived.evaluation.verdict is not None
    assert waived.evaluation.verdict.decision is Decision.FAIL
    latest = store.latest_evaluation(SPLIT, check.name)
    assert latest.verdict.passed is False
    assert (latest.severity, latest.record) == ("error", waiver.evaluation)


def test_judged_again_with_the_same_result_it_still_holds(store):
    check = failed(store)
    sign(check, store)
    again = evaluate(check, store, run_id="nightly")
    assert again.record != store.waivers(SPLIT, check.name)[0].evaluation
    assert unmet([check], store, NOW) == []


def judge_again(check: Check, store: Store) -> Check:
    evaluate(check, store)
    return check


def other_rows(check: Check, store: Store) -> Check:
    publish(store, SPLIT, b"two")
    return judge_again(check, store)


def other_exam(check: Check, store: Store) -> Check:
    publish(store, EXAM, b"two")
    return judge_again(check, store)


def other_version(check: Check, store: Store) -> Check:
    return judge_again(replace(check, version="2"), store)


def other_threshold(check: Check, store: Store) -> Check:
    return judge_again(replace(check, threshold=0.5), store)


def other_terms(check: Check, store: Store) -> Check:
    return judge_again(replace(check, deciding={"terms": "relicensed"}), store)


def looks_at_less(check: Check, store: Store) -> Check:
    return judge_again(replace(check, looks_at=()), store)


def no_evidence(check: Check, store: Store) -> Check:
    return judge_again(replace(check, judge=lambda _: verdict(Decision.INSUFFICIENT_EVIDENCE)), store)


def stale(check: Check, store: Store) -> Check:
    publish(store, EXAM, b"two")
    return check


def crash(check: Check, store: Store) -> Check:
    def out_of_memory(judging: Judging) -> Verdict:
        raise MemoryError

    with pytest.raises(MemoryError):
        evaluate(replace(check, judge=out_of_memory), store)
    return check


CHANGES = [
    other_rows,
    other_exam,
    other_version,
    other_threshold,
    other_terms,
    looks_at_less,
    no_evidence,
    stale,
    crash,
]


@pytest.mark.parametrize("change", CHANGES)
def test_anything_else_than_what_was_signed_for_closes_the_gate(store, change: Callable[[Check, Store], Check]):
    """ADV: a waiver looked up by asset and check goes on opening the gate for what nobody signed for."""
    check = failed(store)
    sign(check, store)
    assert unmet([check], store, NOW) == []
    changed = change(check, store)
    assert naive_gate(changed, store)
    assert unmet([changed], store, NOW)


def test_back_to_what_was_signed_for_it_holds_again(store):
    check = failed(store)
    sign(check, store)
    other_rows(check, store)
    publish(store, SPLIT, b"one")
    evaluate(check, store)
    assert unmet([check], store, NOW) == []


def test_expiry_closes_the_gate_with_no_event_and_is_named(store):
    check = failed(store)
    waiver = sign(check, store)
    before = sorted(entry.key for entry in store.backend.list("waivers/"))
    assert unmet([check], store, waiver.expires_at - timedelta(microseconds=1)) == []
    (reason,) = unmet([check], store, waiver.expires_at)
    assert f"the waiver {waiver.id[:12]} signed by jo@example.com expired on 2026-03-08 12:00 UTC" in str(reason)
    assert str(reason).startswith(f"{check.name} on {SPLIT}@{store.head(SPLIT).snapshot[:12]}: fail: because")
    assert sorted(entry.key for entry in store.backend.list("waivers/")) == before


def test_a_revocation_closes_it_at_once_and_is_named(store):
    check = failed(store)
    store.revoke_waiver(sign(check, store), by="kim", why="the rows were worse")
    (reason,) = unmet([check], store, NOW)
    assert "was revoked by kim: the rows were worse" in reason.reason


def test_a_waiver_dated_ahead_does_not_hold_yet(store):
    check = failed(store)
    sign(check, store, now=NOW + 20 * DAY)
    (reason,) = unmet([check], store, NOW)
    assert "begins on 2026-03-21" in reason.reason


def test_a_newer_waiver_takes_over_and_the_older_one_is_not_named(store):
    check = failed(store)
    sign(check, store)
    newer = sign(check, store, now=NOW + 5 * DAY)
    assert [w.waiver for w in gate_state([check], store, NOW + 9 * DAY).waived] == [newer]
    store.revoke_waiver(newer, by="kim", why="no")
    assert [w.waiver.issued_at for w in gate_state([check], store, NOW + 6 * DAY).waived] == [NOW], (
        "the older one holds until its end"
    )


# ---- what cannot be waived ----------------------------------------------------------------------------------------------------


def test_unwaivable_checks_are_known_names_with_reasons():
    assert set(UNWAIVABLE) < set(KNOWN_CHECKS)
    assert {"influence_removed", "closure_complete"} <= set(UNWAIVABLE)
    assert all(len(reason.split()) > 5 for reason in UNWAIVABLE.values())


@pytest.mark.parametrize("name", sorted(UNWAIVABLE))
def test_they_are_refused_and_a_record_placed_by_hand_opens_nothing(store, name):
    """ADV: a gate that trusts whatever stands in the store, because the command line would have refused it."""
    check = judge_again(replace(check_that(Decision.FAIL), name=name), store)
    with pytest.raises(WaiverRefused, match=f"{name} cannot be waived") as error:
        sign(check, store)
    assert error.value.remedy
    evaluation = store.latest_evaluation(SPLIT, name)
    binding, version = check.binding, check.version
    store.issue_waiver(evaluation, check=name, check_version=version, binding=binding, by="jo", why="y", lifetime=DAY, now=NOW)
    assert naive_gate(check, store)
    assert unmet([check], store, NOW)


def never_ran(store: Store) -> Check:
    return check_that(Decision.FAIL)


def passed(store: Store) -> Check:
    return judge_again(check_that(), store)


def warned(store: Store) -> Check:
    return judge_again(check_that(Decision.WARN), store)


def exploratory(store: Store) -> Check:
    return failed(store, severity="warn")


def not_blocking(store: Store) -> Check:
    return failed(store, blocking=False)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (never_ran, "nothing to waive: never run"),
        (lambda store: stale(failed(store), store), "nothing to waive: judged an older snapshot"),
        (lambda store: crash(failed(store), store), "nothing to waive: started"),
        (passed, "lets everything through"),
        (warned, "lets everything through"),
        (exploratory, "refuses nothing"),
        (not_blocking, "refuses nothing"),
    ],
)
def test_where_there_is_no_conclusion_there_is_nothing_to_waive(store, make: Callable[[Store], Check], says: str):
    check = make(store)
    with pytest.raises(WaiverRefused, match=says) as error:
        sign(check, store)
    assert error.value.remedy
    assert store.all_waivers() == []


# ---- at night -------------------------------------------------------------------------------------------------------------------


def test_harm_shown_at_night_can_be_signed_for_by_itself(store):
    passing = check_that(statistical=True)
    evaluate(passing, store)
    evaluate(at_night(low=0.15), store, mode=Mode.NIGHTLY)
    waiver = sign(passing, store)
    (waived,) = gate_state([passing], store, NOW).waived
    assert waived.evaluation.check == f"nightly-{passing.name}"
    assert waived.waiver == waiver
    # It passed at full strength before and after; that covers nothing the night has shown.
    assert lapsed([waiver], store, NOW) == []
    assert lapsed([waiver], store, NOW + 8 * DAY) == [waiver]


def test_too_little_evidence_signed_for_does_not_cover_harm_shown_at_night(store):
    thin = replace(check_that(Decision.INSUFFICIENT_EVIDENCE, statistical=True))
    evaluate(thin, store)
    sign(thin, store)
    assert unmet([thin], store, NOW) == []
    evaluate(at_night(low=0.15), store, mode=Mode.NIGHTLY)
    (reason,) = unmet([thin], store, NOW)
    assert "nightly re-validation fail" in reason.reason
    sign(thin, store)
    state = gate_state([thin], store, NOW)
    assert (state.unmet, len(state.waived)) == ([], 2)


# ---- what rests on a waiver -----------------------------------------------------------------------------------------------------


def test_what_rested_on_a_waiver_is_uncovered_after_it(store):
    check = failed(store)
    waiver = sign(check, store)
    later = waiver.expires_at + DAY
    assert lapsed([waiver], store, NOW) == []
    assert lapsed([waiver], store, later) == [waiver]
    renewed = sign(check, store, now=later)
    assert lapsed([waiver], store, later) == [], "renewed"
    store.revoke_waiver(renewed, by="kim", why="no")
    assert lapsed([waiver], store, later) == [waiver]
    evaluate(replace(check, judge=lambda _: verdict()), store)
    assert lapsed([waiver], store, later) == [], "it has passed on these very snapshots"
    publish(store, SPLIT, b"two")
    evaluate(replace(check, judge=lambda _: verdict()), store)
    assert lapsed([waiver], store, later) == [waiver], "a pass of other rows says nothing about those that were released"


def test_the_step_gets_the_waivers_it_goes_on_under(store):
    check = failed(store)
    inputs = {asset: store.current(asset) for asset in (SPLIT, EXAM)}
    with pytest.raises(dg.Failure, match="1 unmet"):
        require_gates("releases/support", [check], store, inputs)
    waiver = sign(check, store, now=datetime.now(UTC))
    (waived,) = require_gates("releases/support", [check], store, inputs)
    assert waived.waiver == waiver
    publish(store, SPLIT, b"two")
    with pytest.raises(dg.Failure, match="was replaced while this step was starting"):
        require_gates("releases/support", [check], store, inputs)


def test_a_step_refuses_under_an_expired_waiver_and_says_so(store):
    check = failed(store)
    sign(check, store, now=datetime.now(UTC) - 8 * DAY)
    with pytest.raises(dg.Failure) as refusal:
        require_gates("releases/support", [check], store, {})
    assert "signed by jo@example.com expired on" in str(refusal.value.description)
