"""M12 on real data: the share of official test items that stands in the official training part, and who would have missed it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ftplatform.contamination.exact import contamination_exact
from ftplatform.contamination.groups import group_leakage
from ftplatform.contamination.matching import leaks
from ftplatform.dedup.split import split
from ftplatform.verdict import Decision
from ftplatform_tests import real_data
from ftplatform_tests.tables import row, table


@pytest.mark.parametrize(
    ("name", "share"),
    [("banking77", 0.008), ("clinc150", 0.004), ("gsm8k", 0.0), ("insurance", 0.402), ("finance", 0.255)],
)
def test_official_splits(shared_data: Path, name: str, share: float) -> None:
    if name in ("insurance", "finance"):
        train = real_data.multidogo(shared_data, name, "train")
        items = real_data.multidogo(shared_data, name, "test", min_words=5)
    else:
        train, items = (getattr(real_data, name)(shared_data, part) for part in ("train", "test"))
    verdict = contamination_exact(train, {name: items})
    assert verdict.estimate == pytest.approx(share, abs=0.0031)
    assert verdict.n == items.num_rows
    assert verdict.decision is (Decision.FAIL if share else Decision.PASS)
    if name in ("insurance", "finance"):
        # No conversation is on both sides: a split by conversation does not protect from people saying the same.
        assert group_leakage(train, {name: items}).decision is Decision.PASS


def test_raw_bytes_would_find_none_of_bankings_copies(shared_data: Path) -> None:
    train, items = (real_data.banking77(shared_data, part) for part in ("train", "test"))
    assert not set(train["row_id"].to_pylist()) & set(items["row_id"].to_pylist())
    verdict = contamination_exact(train, {"banking77": items})
    assert verdict.details["eval_sets"]["banking77"]["contaminated"] == 25


def test_a_split_of_our_own_is_clean(shared_data: Path) -> None:
    corpus = real_data.multidogo(shared_data, "insurance", "train")
    result = split(corpus, leaks=leaks)
    assert result.eval.num_rows > 200
    assert contamination_exact(result.train, {"reserve": result.eval}).decision is Decision.PASS
    assert group_leakage(result.train, {"reserve": result.eval}).decision is Decision.PASS


def test_one_planted_item_among_thousands_is_found(shared_data: Path) -> None:
    items = real_data.gsm8k(shared_data, "test")
    planted = items["messages"][700].as_py()[0]["content"]
    question = planted.upper().replace(",", "").replace(".", "")
    train = [*real_data.gsm8k(shared_data, "train").to_pylist(), row(question, "no idea", surface="synthetic")]
    verdict = contamination_exact(table(train), {"gsm8k": items})
    assert verdict.decision is Decision.FAIL
    assert [e["eval_row_id"] for e in verdict.evidence] == [items["row_id"][700].as_py()]
    assert verdict.evidence[0]["door"] == "synthetic seed"
    # A digest of the bytes does not see it.
    digests = {hashlib.sha256(r["messages"][0]["content"].encode()).digest() for r in train}
    assert hashlib.sha256(planted.encode()).digest() not in digests
