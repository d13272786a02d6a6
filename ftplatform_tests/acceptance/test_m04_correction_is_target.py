"""M4: comments about an answer among 1,000 real replacements, and true targets that only look short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ftplatform.feedback.correction_check import NEEDED, correction_is_target
from ftplatform.feedback.correction_signals import correction_signals
from ftplatform.verdict import Decision
from ftplatform_tests.unit.feedback.comments import ARTICLE, COMMENTS, HELD_OUT
from ftplatform_tests.unit.feedback.replacements import oasst, self_instruct, star, typed

REPLACEMENTS = 1_000


def replacements(data: Path) -> pl.DataFrame:
    """850 pairs of support, typed by agents and approved alike, and 150 of open questions."""
    support = pl.concat([star(data).sample(425, seed=1), typed(data).sample(425, seed=2)])
    return pl.concat([support, oasst(data).sample(150, seed=3)])


def table(frame: pl.DataFrame, *, reviewed: bool = False) -> pa.Table:
    named = frame.with_row_index("at").with_columns(event_id=pl.format("e{}", "at"), reviewed=pl.lit(reviewed))
    return named.drop("at").to_arrow()


def planted(real: pl.DataFrame, comments: tuple[str, ...], seed: int = 0) -> pl.DataFrame:
    """Comments in the corrections field of other real events."""
    return real.sample(len(comments), seed=seed).with_columns(correction=pl.Series(comments))


def suspect(frame: pl.DataFrame) -> pl.Series:
    return correction_signals(frame.to_arrow())["signals"] >= NEEDED


def test_the_article_s_sentence_among_real_replacements(shared_data: Path) -> None:
    real = replacements(shared_data)
    assert real.height == REPLACEMENTS
    mixed = pl.concat([real, planted(star(shared_data), (ARTICLE,) * 50)])
    verdict = correction_is_target(table(mixed))
    found = suspect(mixed)
    assert found[REPLACEMENTS:].sum() >= 48
    assert found[:REPLACEMENTS].sum() <= 20
    assert verdict.decision is Decision.FAIL
    assert verdict.ci_low is not None
    assert verdict.ci_low > 0.02
    assert verdict.tier == "rules"
    assert "hate how" in str(verdict.evidence[0]["cues"])


def test_fifty_varied_comments_among_real_replacements(shared_data: Path) -> None:
    real = replacements(shared_data)
    hits = [int(suspect(planted(real, COMMENTS, seed)).sum()) for seed in range(10)]
    false = int(suspect(real).sum())
    print(f"\nof 50 comments, in ten draws of the events they stand in: {hits}; false among {real.height}: {false}")
    assert np.mean(hits) >= 48
    assert false <= 20


def test_how_well_it_generalizes(shared_data: Path) -> None:
    """Comments that the lexicon was not fitted to one by one: fewer are found, and new ones will not do better."""
    hits = [int(suspect(planted(replacements(shared_data), HELD_OUT, seed)).sum()) for seed in range(10)]
    print(f"\nof 50 comments written afterwards: {np.mean(hits):.1f} on average ({min(hits)} to {max(hits)})")
    assert np.mean(hits) >= 33


@pytest.mark.parametrize(("source", "limit"), [(star, 0.001), (typed, 0.02), (oasst, 0.02), (self_instruct, 0.1)])
def test_false_alarms_by_kind_of_text(source, limit: float, shared_data: Path) -> None:
    real = source(shared_data)
    share = int(suspect(real).sum()) / real.height
    print(f"\n{source.__name__}: {share:.3%} of {real.height} real replacements are suspects")
    assert share <= limit


SHORT = (
    "No.",
    "$42.10",
    "Yes, until Friday.",
    "Sydney.",
    "14 days",
    "On Monday.",
    "b",
    "Ms. Lee",
    "7:45 pm",
    "Order 88213 was shipped.",
)


def test_short_true_targets_are_not_flagged(shared_data: Path) -> None:
    """ADV: a rule on length alone takes every one of them for a comment."""
    real = oasst(shared_data).sample(20 * len(SHORT), seed=5, with_replacement=True)
    short = real.with_columns(correction=pl.Series(SHORT * 20))
    naive = short["correction"].str.len_chars() < 0.3 * short["answer"].str.len_chars()
    assert naive.sum() > 0.9 * short.height, "the naive rule flags them"
    assert suspect(short).sum() == 0
    verdict = correction_is_target(table(short))
    assert verdict.decision is Decision.PASS
    assert verdict.details["fired"]["length"] == naive.sum()


def test_comments_that_are_as_long_as_the_answer_are_found(shared_data: Path) -> None:
    """ADV: the length says nothing of a comment beside a short answer."""
    real = star(shared_data).filter(pl.col("answer").str.len_chars() < 60)
    mixed = planted(real, (ARTICLE,) * 50)
    naive = mixed["correction"].str.len_chars() < 0.3 * mixed["answer"].str.len_chars()
    assert naive.sum() == 0
    assert suspect(mixed).sum() >= 48


def test_one_unread_suspect_is_enough_and_a_read_one_is_not(shared_data: Path) -> None:
    mixed = pl.concat([replacements(shared_data).head(500), planted(star(shared_data), (ARTICLE,))])
    unread = correction_is_target(table(mixed))
    assert unread.decision is Decision.FAIL
    assert unread.ci_low is not None
    assert unread.ci_low < 0.02
    read = table(mixed, reviewed=True)
    assert correction_is_target(read).decision is Decision.PASS
    # Reviewers who wave everything through do not make comments into targets.
    waved = pl.concat([replacements(shared_data).head(500), planted(star(shared_data), (ARTICLE,) * 50)])
    assert correction_is_target(table(waved, reviewed=True)).decision is Decision.FAIL


def test_without_corrections_nothing_is_concluded(shared_data: Path) -> None:
    empty = correction_is_target(table(star(shared_data).head(0)))
    assert empty.decision is Decision.INSUFFICIENT_EVIDENCE
    assert (empty.n, empty.n_required) == (0, 1)
