"""The test of concentration against its definition."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ftplatform.targets.variants.authors import concentration


def frame(**columns) -> pl.DataFrame:
    return pl.DataFrame(columns)


def test_one_of_ten_authors_writes_it() -> None:
    authors = frame(author=[f"a{i}" for i in range(10)], turns=[100] * 10)
    used = frame(word=["x", "x"], author=["a3", "a4"], turns_with=[9, 1])
    first, second = concentration(used, authors).iter_rows(named=True)
    # P(Bin(10, .1) >= 9) = 10 * .1^9 * .9 + .1^10, times the ten authors (Holm).
    assert (first["author"], first["concentrated"], second["concentrated"]) == ("a3", True, False)
    assert first["p"] == pytest.approx(10 * (10 * 0.1**9 * 0.9 + 0.1**10))
    assert (first["share"], first["expected"]) == (0.9, 0.1)


def test_who_writes_half_of_everything_writes_half_of_the_variants() -> None:
    authors = frame(author=["busy", *[f"a{i}" for i in range(50)]], turns=[5000, *[100] * 50])
    used = frame(word=["x"] * 6, author=["busy", *[f"a{i}" for i in range(5)]], turns_with=[10, 2, 2, 2, 2, 2])
    assert not concentration(used, authors)["concentrated"].any()


def test_false_alarms_stay_below_the_level() -> None:
    rng = np.random.default_rng(0)
    turns = rng.integers(10, 500, 40)
    authors = frame(author=[f"a{i}" for i in range(40)], turns=turns.tolist())
    alarms = 0
    for _ in range(200):
        counts = rng.multinomial(60, turns / turns.sum())
        hit = np.flatnonzero(counts)
        used = frame(word=["x"] * len(hit), author=[f"a{i}" for i in hit], turns_with=counts[hit].tolist())
        alarms += bool(concentration(used, authors)["concentrated"].any())
    assert alarms <= 6, "family-wise level .01: 6 of 200 has probability below 1 %"


def test_nobody_is_named() -> None:
    authors = pl.DataFrame({"author": [None], "turns": [10]}, schema={"author": pl.String, "turns": pl.Int64})
    used = pl.DataFrame(
        {"word": ["x"], "author": [None], "turns_with": [3]},
        schema={"word": pl.String, "author": pl.String, "turns_with": pl.Int64},
    )
    assert concentration(used, authors).is_empty()
