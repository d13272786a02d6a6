"""Splitting: every sentence is where it says it is."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from ftplatform.targets.habits.sentences import sentences


def split(*texts: str) -> pl.DataFrame:
    return sentences(
        pl.DataFrame({"number": range(len(texts)), "content": texts}, schema={"number": pl.Int64, "content": pl.String})
    )


def test_sums_titles_and_addresses_end_no_sentence() -> None:
    found = split("Dr. Morgan charged $49.99 today. See example.org for it!")["sentence"].to_list()
    assert found == ["Dr_ Morgan charged $49.99 today.", "See example.org for it!"]


def test_but_begins_a_statement_of_its_own() -> None:
    found = split("I cannot refund it, but I will send a voucher.")["sentence"].to_list()
    assert found == ["I cannot refund it;", "but I will send a voucher."]


def test_other_columns_are_repeated() -> None:
    assert split("One. Two.", "", "Three")["number"].to_list() == [0, 0, 2]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet=st.sampled_from("aB9é$ .,!?;:\n\t\"'()-"), max_size=60), max_size=4))
def test_places_are_places_in_the_text(texts: list[str]) -> None:
    found = split(*texts)
    for line in found.iter_rows(named=True):
        piece = texts[line["number"]][line["start"] : line["end"]]
        assert len(piece) == len(line["sentence"])
        assert piece == piece.strip()
    for number, text in enumerate(texts):
        mine = found.filter(pl.col("number") == number)
        covered = "".join(text[a:b] for a, b in mine.select("start", "end").iter_rows())
        assert sum(c.isalnum() for c in covered) == sum(c.isalnum() for c in text), "no letter is lost between sentences"
        assert mine["start"].to_list()[1:] >= mine["end"].to_list()[:-1]
