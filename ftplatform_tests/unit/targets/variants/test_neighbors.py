"""Close words by symmetric deletion against measuring every pair."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.targets.variants.lexicon import Lexicon
from ftplatform.targets.variants.neighbors import LONG, distance, neighbors

WORD = st.text(alphabet="abc'", min_size=1, max_size=11)


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("teh", "the", 1),
        ("form", "from", 1),
        ("accomodate", "accommodate", 1),
        ("recieve", "receive", 1),
        # Optimal string alignment edits no part twice: 3, where unrestricted Damerau-Levenshtein has 2.
        ("ca", "abc", 3),
    ],
)
def test_distance(a: str, b: str, edits: int) -> None:
    assert distance(a, b) == distance(b, a) == edits


@given(st.lists(WORD, max_size=12, unique=True), st.lists(WORD, max_size=12, unique=True))
def test_every_pair_within_reach_is_found_and_no_other(asked: list[str], vocabulary: list[str]) -> None:
    found = neighbors(pl.Series(asked, dtype=pl.String), pl.Series(vocabulary, dtype=pl.String))
    wanted = {(a, b, distance(a, b)) for a in asked for b in vocabulary if 1 <= distance(a, b) <= (2 if len(a) >= LONG else 1)}
    assert set(found.rows()) == wanted
    assert len(found) == len(wanted)


def test_the_whole_dictionary_is_searched() -> None:
    pairs = neighbors(pl.Series(["deductable", "acommodate", "adress"]), Lexicon().partners)
    assert {("deductable", "deductible", 1), ("acommodate", "accommodate", 1), ("adress", "address", 1)} <= set(pairs.rows())
    # Why nothing is corrected without a reader: another word may be as close.
    assert ("adress", "dress", 1) in pairs.rows()


def test_a_word_of_a_million_letters_costs_nothing() -> None:
    assert neighbors(pl.Series(["a" * 1_000_000, "teh"]), pl.Series(["the"])).rows() == [("teh", "the", 1)]
