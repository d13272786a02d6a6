"""Log-odds of phrases, the mining view and the shorthand check."""

from __future__ import annotations

import math

import polars as pl
import pytest

from ftplatform.targets.habits.phrases import count_phrases, log_odds, over_represented, spoken, tokens
from ftplatform.targets.habits.shorthand import shorthand_leak
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table


def counted(**counts: int) -> tuple[pl.DataFrame, int]:
    frame = pl.DataFrame({"phrase": list(counts), "count": list(counts.values())}, schema={"phrase": pl.String, "count": pl.Int64})
    return frame, sum(counts.values())


def test_log_odds_are_those_of_the_paper() -> None:
    ours, theirs = counted(pls=30, order=70), counted(order=95, pls=5)
    found = {line["phrase"]: line for line in log_odds(ours, theirs, prior=10).iter_rows(named=True)}
    alpha = 10 * 35 / 200
    delta = math.log((30 + alpha) / (100 + 10 - 30 - alpha)) - math.log((5 + alpha) / (100 + 10 - 5 - alpha))
    assert found["pls"]["log_odds"] == pytest.approx(delta)
    assert found["pls"]["z"] == pytest.approx(delta / math.sqrt(1 / (30 + alpha) + 1 / (5 + alpha)))
    assert list(found) == ["pls", "order"]


def test_a_word_used_once_is_not_first() -> None:
    ours, theirs = counted(once=1, pls=60, order=900), counted(order=960)
    ranked = log_odds(ours, theirs)["phrase"].to_list()
    # The ratio of frequencies is infinite for both and says nothing.
    assert ranked.index("pls") < ranked.index("once")


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="both sides need some"):
        log_odds(counted(a=1), counted())


def test_runs_stay_inside_turns() -> None:
    rows = table([row("x", "one two", "y", "three")])
    counts, words = count_phrases((tokens(part) for part in spoken(rows, trainable_only=True)), longest=2)
    assert words == 3
    assert set(counts["phrase"]) == {"one", "two", "three", "one two"}


def test_the_mining_view_names_phrases_and_agents() -> None:
    agents = ["anna"] * 30 + ["bert"] * 10 + ["cleo"] * 60
    rows = table(
        [
            row(f"q{i}", "let me circle back on that order" if name != "cleo" else "your order is on its way", author=name)
            for i, name in enumerate(agents)
        ]
    )
    approved = table([row("q", "your order is on its way to you") for _ in range(100)])
    found, chart = over_represented(rows, approved)
    first = found.filter(pl.col("phrase") == "circle back").row(0, named=True)
    assert (first["count"], first["approved"], first["authors"], first["top_author"]) == (40, 0, 2, "anna")
    assert first["top_author_share"] == pytest.approx(0.75)
    assert found["z"].is_sorted(descending=True)
    assert "your order" not in found.filter(pl.col("z") > 2)["phrase"].to_list()
    assert chart.startswith("<svg")


APPROVED = table([row("q", f"Your order number {i} is on its way and you can follow it in the app.") for i in range(200)])


def replies(total: int, short: int, text: str = "cx acct locked, pinged #tier-two, pls see ABC-123"):
    return table([row(f"q{i}", text if i < short else f"Your order number {i} is on its way to you.") for i in range(total)])


def test_shorthand_is_found_and_warns() -> None:
    verdict = shorthand_leak(replies(1000, 60), APPROVED)
    assert verdict.decision is Decision.WARN
    assert verdict.estimate == pytest.approx(0.06)
    assert {"cx", "acct", "#tier-two", "pls", "ABC-123"} <= {line["word"] for line in verdict.evidence}


def test_other_words_of_chat_are_no_shorthand() -> None:
    verdict = shorthand_leak(replies(1000, 300, "Great, sure, happy to help you with this today!"), APPROVED)
    assert verdict.decision is Decision.PASS


def test_an_acronym_the_brand_uses_is_none() -> None:
    brand = table([row("q", f"Enter the PIN of card {i} and then the PIN of the app, please.") for i in range(300)])
    assert shorthand_leak(replies(1000, 100, "Enter the PIN of the card."), brand).decision is Decision.PASS


@pytest.mark.parametrize("total", [0, 500])
def test_too_few_turns(total: int) -> None:
    assert shorthand_leak(replies(total, 0), APPROVED).decision is Decision.INSUFFICIENT_EVIDENCE


def test_too_little_approved_text() -> None:
    assert shorthand_leak(replies(1000, 0), table([row("q", "Hello.")])).decision is Decision.INSUFFICIENT_EVIDENCE


def test_batches_give_what_the_table_gives() -> None:
    rows = replies(1000, 60)
    assert shorthand_leak(rows.to_batches(max_chunksize=99), APPROVED).estimate == shorthand_leak(rows, APPROVED).estimate
