"""The split: reserve first, whole families together, and no reserved row given away by a training row."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from ftplatform.contamination.exact import contamination_exact
from ftplatform.contamination.groups import group_leakage
from ftplatform.contamination.matching import leaks
from ftplatform.dedup.near import NearDedup
from ftplatform.dedup.reserve import ReserveRule, families, reserve_eval
from ftplatform.dedup.slices import SliceSpec
from ftplatform.dedup.split import SplitResult, split
from ftplatform.dedup.survival import slice_survival
from ftplatform.errors import InputDataError
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

WORDS = [f"word{i}" for i in range(500)]


def rows_of(seed: int, n: int, **columns: object) -> list[dict]:
    rng = random.Random(seed)
    return [row(" ".join(rng.choices(WORDS, k=15)), " ".join(rng.choices(WORDS, k=12)), **columns) for _ in range(n)]


def messy_corpus(seed: int = 0) -> list[dict]:
    """Conversations in groups, exact copies, near copies, repeated questions and small slices."""
    rng = random.Random(seed)
    rows = []
    for i in range(400):
        base = " ".join(rng.choices(WORDS, k=15))
        answer = " ".join(rng.choices(WORDS, k=12))
        tags = [f"intent{i % 8}"] + (["rare"] if i % 40 == 0 else [])
        group = f"customer-{i // 2:05d}" if i % 3 else None
        rows.append(row(base, answer, slices=tags, group=group, source="crm"))
        if i % 5 == 0:
            rows.append(row(base.replace("word1", "WORD1", 1) + " please", answer, slices=tags, source="export"))
        if i % 10 == 0:
            rows.append(row(base, " ".join(rng.choices(WORDS, k=12)), slices=tags, source="export"))
    return rows


def ids(rows: list[dict]) -> set[str]:
    return {r["row_id"] for r in rows}


@pytest.fixture(scope="module")
def corpus() -> list[dict]:
    return messy_corpus()


@pytest.fixture(scope="module")
def result(corpus: list[dict]) -> SplitResult:
    return split(table(corpus), [SliceSpec("rare", tag="rare", must_keep=True)], leaks=leaks)


def test_nothing_is_lost(corpus: list[dict], result: SplitResult) -> None:
    assert result.train.num_rows + result.eval.num_rows + result.removal_diff.num_rows == len(corpus)
    train, reserved = set(result.train["row_id"].to_pylist()), set(result.eval["row_id"].to_pylist())
    removed = result.removal_diff.to_pylist()
    assert train | reserved | {r["row_id"] for r in removed} == ids(corpus)
    assert not train & reserved
    assert {r["kept_row_id"] for r in removed if r["reason"] == "near_duplicate_of_train"} <= train
    assert {r["kept_row_id"] for r in removed if r["reason"].endswith("of_eval")} <= reserved


def test_its_own_reserve_passes_the_checks(corpus: list[dict], result: SplitResult) -> None:
    evals = {"reserve": result.eval}
    assert contamination_exact(result.train, evals).decision is Decision.PASS
    assert group_leakage(result.train, evals).decision is Decision.PASS
    survival = slice_survival(table(corpus), result.train, [SliceSpec("rare", tag="rare", must_keep=True)], moved=result.eval)
    assert survival.decision is Decision.PASS, survival.summary


def test_a_split_by_rows_would_leak(corpus: list[dict]) -> None:
    rows = list({r["row_id"]: r for r in corpus}.values())
    random.Random(1).shuffle(rows)
    naive_eval, naive_train = table(rows[:50]), table(rows[50:])
    assert contamination_exact(naive_train, {"reserve": naive_eval}).decision is Decision.FAIL
    assert group_leakage(naive_train, {"reserve": naive_eval}).decision is Decision.FAIL


def test_reserve_is_stratified(corpus: list[dict], result: SplitResult) -> None:
    unique = {r["row_id"]: r for r in corpus}.values()
    sizes = Counter(tag for r in unique for tag in r["slices"])
    reserved = Counter(tag for r in result.eval.to_pylist() for tag in r["slices"])
    for name, size in sizes.items():
        assert 1 <= reserved[name] <= 0.2 * size + 1, name


def test_the_reserve_is_the_same_whatever_the_order_and_moves_little_when_rows_come() -> None:
    rows = rows_of(1, 1_000)
    _, first = reserve_eval(table(rows))
    _, shuffled = reserve_eval(table(random.Random(0).sample(rows, len(rows))))
    assert set(first["row_id"].to_pylist()) == set(shuffled["row_id"].to_pylist())
    _, later = reserve_eval(table(rows + rows_of(2, 100)))
    before, after = set(first["row_id"].to_pylist()), set(later["row_id"].to_pylist())
    assert len(before) == 100
    assert len(before & after) >= 95
    _, other_seed = reserve_eval(table(rows), rule=ReserveRule(seed=1))
    assert set(other_seed["row_id"].to_pylist()) != before


def test_families_join_groups_and_questions() -> None:
    rows = table(
        [
            row("where is it", "a", group="anna", source="crm"),
            row("something else", "b", group="anna", source="crm"),
            row("Where is it?", "c", group="ben", source="crm"),
            row("unrelated", "d", group="anna", source="mail"),  # another namespace
            row("alone", "e"),
        ]
    )
    family = families(rows).tolist()
    assert family[0] == family[1] == family[2]
    assert len(set(family)) == 3


def test_tiny_slices_and_large_families_stay_in_training() -> None:
    rows = (
        rows_of(3, 300)
        + rows_of(4, 1, slices=["single"])
        + [row("the same question", f"answer {i}", slices=["faq"]) for i in range(80)]
    )
    train, reserved = reserve_eval(table(rows), rule=ReserveRule(fraction=0.1))
    assert reserved.num_rows > 20
    assert not {tag for r in reserved.to_pylist() for tag in r["slices"]}
    assert train.num_rows + reserved.num_rows == len(rows)


def test_limits_of_the_reserve() -> None:
    rows = table(rows_of(5, 500))
    assert reserve_eval(rows, rule=ReserveRule(max_rows=10))[1].num_rows == 10
    assert reserve_eval(rows, rule=ReserveRule(fraction=0.0))[1].num_rows == 0
    assert reserve_eval(table([]))[1].num_rows == 0
    with pytest.raises(InputDataError, match="fraction"):
        ReserveRule(fraction=1.0)


def test_near_copies_of_reserved_rows_leave_training() -> None:
    base = rows_of(6, 300)
    copies = [row(r["messages"][0]["content"] + " thanks", r["messages"][1]["content"] + " bye") for r in base]
    result = split(table(base + copies), dedup=NearDedup(threshold=1.0), leaks=leaks)
    # Nothing is removed within training at 1.0; every reserved row's twin is.
    twins = {a["row_id"]: b["row_id"] for a, b in zip(base, copies, strict=True)}
    twins |= {b: a for a, b in twins.items()}
    reserved = set(result.eval["row_id"].to_pylist())
    gone = result.removal_diff.to_pylist()
    assert {r["reason"] for r in gone} == {"near_duplicate_of_eval"}
    assert {r["row_id"] for r in gone} == {twins[i] for i in reserved} - reserved
    assert result.stats["removed_near_duplicate_of_eval"] == len(gone) > 20


def test_the_reserve_yields_to_a_slice_floor() -> None:
    # Ten rows of one slice that are near copies of each other: any of them in the reserve would push the others out of training.
    rng = random.Random(7)
    base = " ".join(rng.choices(WORDS, k=30))
    twins = [row(f"{base} variant{i}", "the answer all of them share in so many words", slices=["hostile"]) for i in range(10)]
    corpus = table(rows_of(8, 300) + twins)
    _, reserved = reserve_eval(corpus)
    assert any("hostile" in r["slices"] for r in reserved.to_pylist())
    result = split(corpus, leaks=leaks)
    assert result.stats["eval_rows_returned_for_slices"] >= 1
    assert not any("hostile" in r["slices"] for r in result.eval.to_pylist())
    assert sum("hostile" in r["slices"] for r in result.train.to_pylist()) >= 5
    assert slice_survival(corpus, result.train, moved=result.eval).decision is Decision.PASS
    assert result.eval.num_rows > 20


def test_without_reserve_and_without_rows() -> None:
    corpus = table(rows_of(9, 20))
    result = split(corpus, reserve=ReserveRule(fraction=0.0), leaks=leaks)
    assert (result.train.num_rows, result.eval.num_rows) == (20, 0)
    empty = split(table([]), leaks=leaks)
    assert (empty.train.num_rows, empty.eval.num_rows, empty.removal_diff.num_rows) == (0, 0, 0)
