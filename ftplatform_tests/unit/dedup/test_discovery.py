"""Slices found in the data: the hostile eleven, rare questions, hard rows; named so that a person knows what they are."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest

from ftplatform.dedup.discovery import DiscoveryRule, discover_slices
from ftplatform.dedup.slices import SliceSpec, slice_membership
from ftplatform.dedup.survival import slice_survival
from ftplatform.errors import InputDataError
from ftplatform.verdict import Decision
from ftplatform_tests.tables import row, table

ADVERBS = ["never", "just", "secretly", "still", "calmly", "wrongly", "also", "somehow", "twice", "again", "today"]


def hostile() -> list[dict]:
    return [row(f"you people {w} reversed my refund, this is theft, give it back {i}", "Sorry.") for i, w in enumerate(ADVERBS)]


def corpus(seed: int = 0, n: int = 1_500) -> list[dict]:
    rng = random.Random(seed)
    openings, things = ["where is", "please track", "status of", "I want to see"], ["order", "parcel", "box", "shipment", "letter"]
    shops = ["from the shop", "bought on monday", "sent by mail", "for my mother"]
    return [
        row(f"{rng.choice(openings)} my {rng.choice(things)} {rng.randrange(10**5)} {rng.choice(shops)}", "ok") for _ in range(n)
    ]


def test_eleven_hostile_rows_nobody_declared_are_found_named_and_protected() -> None:
    rows, special = corpus(), hostile()
    before, after = table(rows + special), table(rows[150:] + special[9:])
    found = discover_slices(before)
    names = found.filter(found["row_id"].is_in([r["row_id"] for r in special]))["slice"].unique().to_list()
    assert names == ["conversation: reversed people refund"]
    assert found.filter(found["slice"] == names[0]).height == 11
    verdict = slice_survival(before, after, found=found)
    assert verdict.decision is Decision.FAIL
    assert names[0] in {e["slice"] for e in verdict.evidence}
    # Without them nothing is declared and tagged, and the loss of nine of eleven cannot even be asked about.
    assert slice_survival(before, after).decision is Decision.INSUFFICIENT_EVIDENCE


def test_the_result_depends_on_the_rows_and_not_on_their_order_or_copies() -> None:
    rows = corpus(n=600) + hostile()
    shuffled = random.Random(3).sample(rows, len(rows))
    first = discover_slices(table(rows))
    assert first.equals(discover_slices(table(shuffled)))
    assert first.equals(discover_slices(table(rows + rows[:300])))


def test_a_rare_first_question_is_found_whatever_follows_it() -> None:
    rng = random.Random(5)
    words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst"]

    def talk() -> str:
        return " ".join(rng.choices(words, k=80))

    rows = [row(f"{rng.choice(['where is', 'track'])} order {i}", talk(), "thanks", talk()) for i in range(600)]
    rare = [row(f"cancel my insurance policy {i}", talk(), "thanks", talk()) for i in range(8)]
    found = discover_slices(table(rows + rare))
    ids = {r["row_id"] for r in rare}
    (name,) = found.filter(found["row_id"].is_in(list(ids)))["slice"].unique().to_list()
    assert name.startswith("question: ")
    assert "insurance" in name
    assert set(found.filter(found["slice"] == name)["row_id"]) == ids


def test_hard_rows_are_a_slice_when_losses_are_given() -> None:
    rows = table(corpus(n=500))
    losses = np.random.default_rng(0).random(500)
    losses[:100] = np.nan
    found = discover_slices(rows, losses)
    hard = found.filter(found["slice"] == "high loss")
    assert hard.height == 40
    limit = np.quantile(losses[100:], 0.9)
    assert set(hard["row_id"]) == {rows["row_id"][int(i)].as_py() for i in np.flatnonzero(losses >= limit)}
    assert discover_slices(rows, np.ones(500)).filter(found["slice"].first() == "high loss").height == 0
    with pytest.raises(InputDataError, match="500 rows"):
        discover_slices(rows, losses[:3])


def test_the_number_and_the_size_of_slices_are_capped() -> None:
    rows = table(corpus() + hostile())
    rule = DiscoveryRule(max_slices=3, max_share=0.02)
    sizes = discover_slices(rows, rule=rule).group_by("slice").len()
    assert 1 <= len(sizes) <= 3
    assert all(5 <= size <= 0.02 * rows.num_rows for size in sizes["len"].to_list())


def test_names_show_no_personal_data() -> None:
    said = [row(f"write to jo.doe@example.org about 4111111111111111 and the velvet curtain {i}", "ok") for i in range(10)]
    names = discover_slices(table(corpus(n=600) + said))["slice"].unique().to_list()
    curtain = [name for name in names if "velvet" in name or "curtain" in name]
    assert curtain
    assert not any(character.isdigit() for name in curtain for character in name)


def test_few_or_no_rows_have_no_slices() -> None:
    assert discover_slices(table([])).height == 0
    assert discover_slices(table(hostile()[:3])).height == 0
    assert discover_slices(table([row("same words", f"ok {i}") for i in range(40)])).height == 0


def test_found_slices_join_the_others() -> None:
    rows = table([row("a", "x", slices=["tag"]), row("b", "x"), row("a", "x", slices=["tag"])])
    first = rows["row_id"][0].as_py()
    found = pl.DataFrame({"row_id": [first, first], "slice": ["conversation: odd", "declared"]})
    membership = slice_membership(rows, [SliceSpec("declared", regex="^b$")], found=found)
    assert membership.rows() == [(0, "conversation: odd"), (2, "conversation: odd"), (1, "declared"), (0, "tag"), (2, "tag")]
