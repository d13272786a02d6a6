"""Vaults: who saw what, which families leave, when the budget is spent, and what cannot be talked away by a refresh."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from ftplatform.contamination.exposures import demoted, eval_registry, exposures
from ftplatform.contamination.vault import vault_exposure
from ftplatform.store import Store
from ftplatform.store.access_log import ALL, AccessRecord, of_set, record
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
#: 12 items in 4 families of three, and two on their own.
ITEMS = table(
    [row(f"question {i}", f"answer {i}", group=f"family-{i // 3}", author="ann") for i in range(12)]
    + [row(f"single {i}", "answer") for i in range(2)]
)
IDS: list[str] = ITEMS["row_id"].to_pylist()


class Ledger:
    """A ledger of a store in memory, one day from act to act."""

    def __init__(self, name: str) -> None:
        self.store = Store.open(f"memory://vault-{name}")
        self.day = 0

    def add(self, kind: str, items: Iterable[str] | Literal["all"] = (), by: str = "jo") -> AccessRecord:
        self.day += 1
        return record(
            self.store.backend, "vault", kind, by=by, purpose="look", items=items, adapter="d" * 64, now=T0 + self.day * DAY
        )

    @property
    def records(self) -> list[AccessRecord]:
        return of_set(self.store.backend, "vault")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(uuid.uuid4().hex)


def test_no_ledger_is_no_pass(ledger: Ledger) -> None:
    for access in (None, ledger.records):
        verdict = vault_exposure(ITEMS, access)
        assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
        assert verdict.n == 0
    assert vault_exposure(ITEMS.slice(0, 0), [ledger.add("refresh", IDS)]).decision is Decision.INSUFFICIENT_EVIDENCE


def test_an_opened_ledger_without_views_passes(ledger: Ledger) -> None:
    ledger.add("refresh", IDS)
    verdict = vault_exposure(ITEMS, ledger.records)
    assert (verdict.decision, verdict.n, verdict.estimate) == (Decision.PASS, 1, 0.0)


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [(10, Decision.PASS), (11, Decision.WARN), (20, Decision.WARN), (21, Decision.FAIL)],
)
def test_the_budget_of_decisions(ledger: Ledger, decisions: int, expected: Decision) -> None:
    ledger.add("refresh", IDS)
    for _ in range(decisions):
        ledger.add("decision", by="release-bot")
    verdict = vault_exposure(ITEMS, ledger.records)
    assert (verdict.decision, verdict.estimate, verdict.threshold) == (expected, decisions, 10)
    assert all(line["kind"] == "decision" and line["by"] == "release-bot" for line in verdict.evidence)
    assert verdict.plot is not None


def test_replacing_everything_resets_the_budget_and_replacing_one_item_does_not(ledger: Ledger) -> None:
    old, new = ITEMS.slice(0, 12), ITEMS.slice(12)
    ledger.add("refresh", IDS[:12])
    for _ in range(21):
        ledger.add("decision")
    ledger.add("refresh", IDS[12:])
    ledger.add("decision")
    replaced = vault_exposure(new, ledger.records)
    assert (replaced.decision, replaced.estimate) == (Decision.PASS, 1)
    # Counting from the last refresh in the ledger, whatever it replaced, would pass a vault that is mostly used up.
    kept = vault_exposure(ITEMS, ledger.records)
    assert (kept.decision, kept.estimate) == (Decision.FAIL, 22)
    # Naming old items in a new refresh does not make them new: the first entry counts.
    ledger.add("refresh", IDS)
    assert vault_exposure(old, ledger.records).decision is Decision.FAIL


@pytest.mark.parametrize("kind", ["view", "export"])
def test_a_seen_item_takes_its_family_with_it(ledger: Ledger, kind: str) -> None:
    ledger.add("refresh", IDS)
    ledger.add(kind, [IDS[4]], by="kim@example.com")
    verdict = vault_exposure(ITEMS, ledger.records)
    assert verdict.decision is Decision.FAIL
    assert verdict.evidence[0] == {
        "kind": kind,
        "by": "[EMAIL]",
        "at": "2026-01-03T00:00:00Z",
        "family": "family-1",
        "row_id": IDS[4],
        "adapter": None,
        "purpose": "look",
    }
    leaving = demoted(ITEMS, ledger.records)
    assert leaving.families == ("family-1",)
    assert set(leaving.row_ids) == set(IDS[3:6])
    assert leaving.replacements == 1
    # Removing only the viewed item leaves its siblings, which ask the same thing.
    without_item, item = table([r for r in ITEMS.to_pylist() if r["row_id"] != IDS[4]]), ITEMS.slice(4, 1)
    assert exposures(without_item, ledger.records).is_empty(), "the ids alone say that nothing is left"
    verdict = vault_exposure(without_item, ledger.records, retired=item)
    assert verdict.decision is Decision.FAIL
    assert set(verdict.details["leaving_row_ids"]) == {IDS[3], IDS[5]}
    without_family = table([r for r in ITEMS.to_pylist() if r["group"] != "family-1"])
    assert vault_exposure(without_family, ledger.records, retired=ITEMS.slice(3, 3)).decision is Decision.PASS


def test_a_view_of_the_whole_set_shows_what_had_entered_by_then(ledger: Ledger) -> None:
    ledger.add("refresh", IDS[:6])
    ledger.add("view", ALL)
    ledger.add("refresh", IDS[6:12])
    # The last two items were never named: nobody can say they came later.
    assert set(exposures(ITEMS, ledger.records)["row_id"]) == set(IDS[:6] + IDS[12:])
    assert demoted(ITEMS, ledger.records).families == tuple(sorted(["family-0", "family-1", *IDS[12:]]))
    assert vault_exposure(ITEMS.slice(6, 6), ledger.records).decision is Decision.PASS


def test_an_item_seen_before_it_entered_was_seen(ledger: Ledger) -> None:
    ledger.add("view", [IDS[0]])
    ledger.add("refresh", IDS)
    assert vault_exposure(ITEMS, ledger.records).decision is Decision.FAIL


def test_the_registry(ledger: Ledger) -> None:
    ledger.add("refresh", IDS[:13])
    ledger.add("view", [IDS[0], IDS[1]], by="jo")
    ledger.add("decision")
    ledger.add("view", [IDS[0]], by="kim")
    registry = {line["item_id"]: line for line in eval_registry(ITEMS, ledger.records).to_pylist()}
    assert list(registry) == IDS
    assert registry[IDS[0]] == {
        "item_id": IDS[0],
        "family": "family-0",
        "created_by": "ann",
        "created_at": datetime(2024, 1, 1, tzinfo=UTC),
        "last_refreshed": T0 + DAY,
        "exposures": 2,
        "last_exposed_at": T0 + 4 * DAY,
        "last_exposed_by": "kim",
        "exposed_to": ["jo", "kim"],
        "decisions": 1,
    }
    assert (registry[IDS[1]]["exposures"], registry[IDS[2]]["exposures"]) == (1, 0)
    never = registry[IDS[13]]
    assert (never["family"], never["last_refreshed"], never["exposed_to"], never["decisions"]) == (IDS[13], None, [], 1)
    assert eval_registry(ITEMS, []).num_rows == 14


def test_a_budget_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        vault_exposure(ITEMS, None, budget=0)
