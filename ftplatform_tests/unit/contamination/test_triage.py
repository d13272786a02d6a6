"""Triage: what rows say of themselves, the rank test, and what is left out by role."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy.stats import mannwhitneyu

from ftplatform.contamination import triage_similarity
from ftplatform.contamination.triage import TriageRule, triage_leak
from ftplatform.contamination.triage_similarity import item_texts, nearness, stratified_rank_test
from ftplatform.errors import InputDataError
from ftplatform.store import Store
from ftplatform.store.access_log import ALL, AccessRecord, of_set, record
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WORDS = re.findall(
    r"\w+",
    "card parcel invoice refund password voucher balance cheque transfer loan mortgage receipt lost cancelled delayed charged"
    " blocked mailed doubled declined garden winter printer bicycle station kitchen battery holiday quarter morning passport"
    " blanket village doctor curtain ladder window engine mustard gravel sweater lantern orchard harbor teacher weather ticket",
)


def question(i: int) -> str:
    """Nine words of its own."""
    return " ".join(np.random.default_rng(i).choice(WORDS, 9, replace=False))


FAILED = table(row(question(i), "a", slices=["all"]) for i in range(10))
PASSED = table(row(question(i), "a", slices=["all"]) for i in range(10, 96))
IDS: list[str] = FAILED["row_id"].to_pylist()
FRESH = [row(f"where do I find the opening hours of branch {i}") for i in range(20)]


def check(*rows: dict[str, Any], access: list[AccessRecord] | None = None, **settings: Any):
    return triage_leak(table([*FRESH, *rows]), FAILED, PASSED, access or [], **settings)


@pytest.mark.parametrize(
    "columns",
    [
        {"parents": [IDS[3]]},
        {"parents": ["other", f"triage:{IDS[3][:12]}"]},
        {"meta": f'{{"seed":"{IDS[3]}"}}'},
        {"meta": f'{{"note":"see\\n{IDS[3][:12]}… and others"}}'},
    ],
)
def test_a_row_that_names_an_item(columns: dict[str, Any]) -> None:
    leaked = row("nothing like it in words", **columns)
    verdict = check(leaked)
    assert (verdict.decision, verdict.tier) == (Decision.FAIL, "lineage")
    (line,) = verdict.evidence
    assert (line["row_id"], line["evidence"], line["eval_row_id"]) == (leaked["row_id"], "lineage", IDS[3])
    # Two failures are too few for any statistic, and lineage needs none.
    assert triage_leak(table([leaked]), FAILED.slice(2, 2), PASSED).decision is Decision.FAIL


def test_a_ticket_about_an_item_and_names_inside_other_names() -> None:
    about = {"T-471": [IDS[0]], "crash of 2 May": [IDS[1]], "T-9": ["f" * 64], "...": [IDS[2]]}
    named = row("first", meta='{"tickets":["T-4711","T-471"]}')
    worded = row("second", parents=["report/crash of 2 May.txt"])
    longer = row("third", meta='{"ticket":"T-4711","shift":"late..."}')
    verdict = check(named, worded, longer, references=about)
    assert {line["row_id"]: line["name"] for line in verdict.evidence} == {
        named["row_id"]: "T-471",
        worded["row_id"]: "crash of 2 May",
    }
    assert "T-471" in longer["meta"], "a substring search accuses the third row"
    # A ticket about an item of another set says nothing here.
    assert check(row("fourth", parents=["T-9"]), references=about).decision is Decision.PASS


def ledger(*acts: tuple[str, str, Any, datetime]) -> list[AccessRecord]:
    store = Store.open(f"memory://triage-{uuid.uuid4().hex}")
    for kind, by, items, at in acts:
        record(store.backend, "vault", kind, by=by, purpose="failures", items=items, now=at)
    return of_set(store.backend, "vault")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"created_at": NOW - HOUR}, Decision.PASS),
        ({"created_at": NOW + HOUR}, Decision.FAIL),
        ({"created_at": None, "first_seen_at": NOW + HOUR}, Decision.FAIL),
        ({"created_at": None, "first_seen_at": None}, Decision.FAIL),
        # Old text that arrives late was written before.
        ({"created_at": NOW - HOUR, "first_seen_at": NOW + HOUR}, Decision.PASS),
    ],
)
def test_an_author_who_had_looked(written: dict[str, Any], expected: Decision) -> None:
    access = ledger(("refresh", "ann", [*IDS], NOW - 2 * HOUR), ("view", "Jo@Example.com", [IDS[5]], NOW))
    verdict = check(row("fresh words", author=" jo@example.com", **written), access=access)
    assert verdict.decision is expected
    if expected is Decision.FAIL:
        (line,) = verdict.evidence
        assert (line["evidence"], line["eval_row_id"], line["seen_at"]) == ("author", IDS[5], NOW.isoformat())
        assert line["author"] == "[EMAIL]"


def test_looking_at_other_items_or_at_aggregates_is_not_looking() -> None:
    written = row("fresh words", author="jo", created_at=NOW + HOUR)
    decided = ledger(("decision", "jo", (), NOW))
    retired = ledger(("view", "jo", ["e" * 64], NOW))
    too_early = ledger(("view", "jo", ALL, NOW - 3 * HOUR), ("refresh", "ann", IDS + PASSED["row_id"].to_pylist(), NOW - 2 * HOUR))
    for access in (decided, retired, too_early):
        assert check(written, access=access).decision is Decision.PASS
    assert check(written, access=ledger(("view", "jo", ALL, NOW))).decision is Decision.FAIL
    assert check(row("fresh words", author="kim", created_at=NOW + HOUR), access=ledger(("view", "jo", ALL, NOW))).passed


def copies(count: int) -> list[dict[str, Any]]:
    """The first items, in another order and with two words fewer."""
    said = [question(i).split() for i in range(count)]
    return [row(" ".join([*words[5:], "hello", *words[:3]])) for words in said]


def test_too_few_failures_show_their_pairs_and_decide_nothing() -> None:
    batch = table([*FRESH, *copies(7)])
    verdict = triage_leak(batch, FAILED.slice(0, 7), PASSED)
    assert verdict.decision is Decision.INSUFFICIENT_EVIDENCE
    assert (verdict.n, verdict.n_required) == (7, 8)
    shown = {line["eval_row_id"] for line in verdict.evidence if line["above_threshold"]}
    assert shown == set(IDS[:7])
    assert check(*copies(10)).decision is Decision.FAIL


def test_nothing_new_nothing_leaked() -> None:
    empty = table([])
    assert triage_leak(empty, FAILED.slice(0, 2), PASSED).decision is Decision.PASS
    assert triage_leak(table(FRESH), empty, PASSED).decision is Decision.PASS, "nothing failed that could have been copied"
    assert triage_leak(empty, empty, empty).decision is Decision.INSUFFICIENT_EVIDENCE
    assert triage_leak(table(FRESH), empty, empty).decision is Decision.INSUFFICIENT_EVIDENCE
    assert triage_leak(table(FRESH), FAILED, empty).decision is Decision.INSUFFICIENT_EVIDENCE
    silent = table(row(("assistant", f"answer {i}")) for i in range(10))
    assert triage_leak(table(FRESH), silent, PASSED).decision is Decision.INSUFFICIENT_EVIDENCE
    assert triage_leak(silent, FAILED, PASSED).decision is Decision.PASS


def test_system_text_is_left_out_by_role() -> None:
    quoted = " ".join(question(i) for i in range(10))
    batch = [row(("system", quoted), ("user", r["messages"][0]["content"])) for r in FRESH]
    verdict = triage_leak(table(batch), FAILED, PASSED)
    assert verdict.decision is Decision.PASS
    assert verdict.evidence == (), "a pass shows nobody an eval item"
    # As user text the same words are the failed items.
    assert triage_leak(table(row(f"{question(i)} ok") for i in range(10)), FAILED, PASSED).decision is Decision.FAIL


def test_a_paraphrase_in_a_late_turn_of_a_long_dialogue() -> None:
    filler = "I would also like to know everything about " + ", ".join(f"tariff {i} of region {i}" for i in range(60))
    dialogues = [row("hello", "hi", filler, "sure", c["messages"][0]["content"], "done") for c in copies(10)]
    verdict = triage_leak(table(dialogues), FAILED, PASSED)
    assert verdict.decision is Decision.FAIL
    assert len(verdict.evidence) >= 10


def test_evidence_is_masked() -> None:
    failed = table(row(f"{question(i)} write to jo.doe@example.com", slices=["all"]) for i in range(10))
    verdict = triage_leak(table(row(f"{question(i)} mail to jo.doe@example.com") for i in range(10)), failed, PASSED)
    assert verdict.decision is Decision.FAIL
    assert "jo.doe" not in str(verdict.to_record())


def test_an_item_cannot_have_failed_and_passed() -> None:
    with pytest.raises(InputDataError, match="among the failed and the passed"):
        triage_leak(table(FRESH), FAILED, pa.concat_tables([PASSED, FAILED.slice(0, 1)]))


@pytest.mark.parametrize("bad", [{"min_failures": 0}, {"alpha": 0.0}, {"percentile": 1.0}])
def test_rules_out_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        TriageRule(**bad)


def compare(batch: pa.Table, items: pa.Table, groups: list[int]):
    failed = np.arange(items.num_rows) < 10
    return nearness(batch, item_texts(items), families=np.asarray(groups), failed=failed, percentile=0.995)


def test_siblings_do_not_compete_and_strangers_do() -> None:
    items = pa.concat_tables([FAILED, PASSED, table(row(f"{question(i)} indeed", slices=["all"]) for i in range(10))])
    batch = table(copies(10))
    siblings = compare(batch, items, [*range(96), *range(10)])
    strangers = compare(batch, items, list(range(106)))
    assert (siblings.scores[:10] > 3 * strangers.scores[:10]).all()
    assert siblings.pairs["item"].n_unique() == 10


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    items, batch = pa.concat_tables([FAILED, PASSED]), table([*copies(10), *FRESH])
    whole = compare(batch, items, list(range(96)))
    monkeypatch.setattr(triage_similarity, "_BLOCK", 3)
    blocks = compare(batch, items, list(range(96)))
    np.testing.assert_allclose(whole.scores, blocks.scores, atol=1e-6)
    for mine, theirs in ((whole.pairs, blocks.pairs), (whole.nearest, blocks.nearest)):
        assert set(mine.select("item", "row").rows()) == set(theirs.select("item", "row").rows())


def test_one_stratum_is_the_mann_whitney_test() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, 60) / 20
    failed = np.arange(60) < 15
    p, compared, chance = stratified_rank_test(scores, failed, np.zeros(60, dtype=np.int64))
    reference = mannwhitneyu(scores[failed], scores[~failed], alternative="greater", method="asymptotic", use_continuity=False)
    assert p == pytest.approx(reference.pvalue)
    assert (compared, chance) == (15, pytest.approx(reference.statistic / (15 * 45)))


def test_strata_hold_their_level_where_one_test_does_not() -> None:
    rng = np.random.default_rng(1)
    strata = np.repeat([0, 1], [40, 160])
    failed = np.isin(np.arange(200), range(12))
    ps = pl.DataFrame([_two_tests(rng, strata, failed) for _ in range(1000)], schema=["stratified", "plain"], orient="row")
    rate = ps.select((pl.all() < 0.01).mean()).row(0, named=True)
    assert rate["stratified"] == pytest.approx(0.01, abs=0.0095)
    assert rate["plain"] > 0.9


def _two_tests(rng: np.random.Generator, strata: np.ndarray, failed: np.ndarray) -> tuple[float, float]:
    """The topic that failed scores higher, failed and passed items of it alike."""
    scores = rng.normal(0, 1, 200) + 2 * (strata == 0)
    return stratified_rank_test(scores, failed, strata)[0], stratified_rank_test(scores, failed, np.zeros(200, dtype=np.int64))[0]


def test_nothing_to_compare() -> None:
    ones, failed = np.ones(10), np.arange(10) < 5
    assert stratified_rank_test(ones, failed, np.zeros(10, dtype=np.int64)) == (1.0, 5, 0.5)
    p, compared, chance = stratified_rank_test(ones, failed, failed.astype(np.int64))
    assert (p, compared) == (1.0, 0)
    assert np.isnan(chance)
