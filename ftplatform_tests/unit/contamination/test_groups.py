"""Group leakage: the same customer on both sides, in other words than before."""

from __future__ import annotations

from ftplatform.contamination.exact import contamination_exact
from ftplatform.contamination.groups import group_leakage
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table


def conversation(i: int, group: str | None, **columns) -> dict:
    return row(f"question {i} in words of its own", f"answer {i}", group=group, **columns)


TRAIN = [conversation(i, f"customer-{i:04d}", source="crm") for i in range(50)]


def test_another_turn_of_the_same_customer_fails() -> None:
    evals = {"support": table([conversation(100, "customer-0007", source="crm"), conversation(101, "customer-9999", source="crm")])}
    assert contamination_exact(table(TRAIN), evals).decision is Decision.PASS  # no text is shared
    verdict = group_leakage(table(TRAIN), evals)
    assert verdict.decision is Decision.FAIL
    assert verdict.estimate == 0.5
    assert verdict.evidence[0]["group"] == "customer-0007"
    assert verdict.evidence[0]["train_row_id"] == TRAIN[7]["row_id"]


def test_disjoint_groups_pass() -> None:
    evals = {"support": table([conversation(i, f"customer-{i:04d}", source="crm") for i in range(100, 120)])}
    verdict = group_leakage(table(TRAIN), evals)
    assert (verdict.decision, verdict.n) == (Decision.PASS, 20)


def test_origins_are_namespaces_too() -> None:
    # The row came from two sources; dedup kept the other one's name.
    merged = conversation(100, "customer-0007", source="export")
    merged["origins"] = ["crm", "export"]
    assert group_leakage(table(TRAIN), {"e": table([merged])}).decision is Decision.FAIL


def test_short_ids_of_different_sources_are_different_things() -> None:
    train = [conversation(i, str(i), source="crm") for i in range(50)]
    evals = {"e": table([conversation(100, "7", source="forum")])}
    assert group_leakage(table(train), evals).decision is Decision.PASS


def test_a_long_id_under_two_sources_warns() -> None:
    evals = {"e": table([conversation(100, "customer-0007", source="export")])}
    verdict = group_leakage(table(TRAIN), evals)
    assert verdict.decision is Decision.WARN
    assert verdict.details["same_id_under_another_source"] == 1


def test_production_rows_without_customer_are_unknown_not_clean() -> None:
    unknown = [conversation(i, None, surface="production") for i in range(20)]
    assert group_leakage(table(TRAIN + unknown), {"e": table([conversation(100, None)])}).decision is Decision.INSUFFICIENT_EVIDENCE
    assert group_leakage(table(TRAIN), {"e": table(unknown)}).decision is Decision.INSUFFICIENT_EVIDENCE
    assert group_leakage(table(TRAIN + unknown[:3]), {"e": table([conversation(100, None)])}).decision is Decision.PASS


def test_rows_written_for_the_purpose_stand_alone() -> None:
    written = table([conversation(i, None) for i in range(100, 110)])
    verdict = group_leakage(table([conversation(i, None) for i in range(10)]), {"e": written})
    assert (verdict.decision, verdict.n, verdict.details["eval_rows_without_group"]) == (Decision.PASS, 10, 10)


def test_missing_data_is_not_a_pass() -> None:
    some = table([conversation(1, "a")])
    for train, evals in ((table([]), {"e": some}), (some, {}), (some, {"e": table([])})):
        assert group_leakage(train, evals).decision is Decision.INSUFFICIENT_EVIDENCE


def test_customer_addresses_are_masked() -> None:
    train = table([conversation(1, "jo@example.org", source="crm")])
    verdict = group_leakage(train, {"e": table([conversation(2, "jo@example.org", source="crm")])})
    assert verdict.decision is Decision.FAIL
    assert "example.org" not in str(verdict.to_record())
