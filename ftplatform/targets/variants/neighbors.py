"""Words a few edits apart, by symmetric deletion: two words within k edits share a string that k deletions make of each.

The deletions of the words asked about are few and indexed; those of the vocabulary are made one position at a time and only
looked up, so memory stays at the size of the vocabulary. Source of the idea: W. Garbe, SymSpell (2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import polars as pl

#: A word this long may be two edits from its partner (notes on M10: distance 2 for eight letters and more).
LONG = 8


def distance(a: str, b: str) -> int:
    """Optimal string alignment: insertions, deletions, substitutions and swaps of neighbors, no part edited twice."""
    above, last = list(range(len(b) + 1)), [0] * (len(b) + 1)
    before: list[int] = []
    for i, x in enumerate(a, 1):
        last[0] = i
        for j, y in enumerate(b, 1):
            last[j] = min(above[j] + 1, last[j - 1] + 1, above[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                last[j] = min(last[j], before[j - 2] + 1)
        before, above, last = above, last, before or [0] * (len(b) + 1)
    return above[-1]


def neighbors(words: pl.Series, vocabulary: pl.Series) -> pl.DataFrame:
    """Pairs of `words` and different entries of `vocabulary` at distance 1, or 2 where the word has `LONG` letters or more.

    Args:
        words, vocabulary: distinct lower-case words.

    Returns:
        word, partner, distance (Int64), in no particular order, each pair once.
    """
    # A word that is longer than all others has no neighbor, and a stretch of a million letters must cost nothing.
    longest = int(vocabulary.str.len_chars().max() or 0) + 2  # pyright: ignore[reportArgumentType]
    asked = words.filter(words.str.len_chars() <= longest).unique().to_frame("word")
    pairs = pl.concat(
        [
            _candidates(asked, vocabulary, edits=1),
            _candidates(asked.filter(pl.col("word").str.len_chars() >= LONG), vocabulary, edits=2),
        ]
    ).unique()
    measured = [distance(word, partner) for word, partner in pairs.iter_rows()]
    limit = pl.when(pl.col("word").str.len_chars() >= LONG).then(2).otherwise(1)
    return pairs.with_columns(distance=pl.Series(measured, dtype=pl.Int64)).filter(pl.col("distance").is_between(1, limit))


def _candidates(asked: pl.DataFrame, vocabulary: pl.Series, *, edits: int) -> pl.DataFrame:
    """Pairs that share a string made by at most `edits` deletions on either side; a superset of what is within `edits`."""
    length = pl.col("word").str.len_chars().cast(pl.Int64)
    if asked.is_empty() or vocabulary.is_empty():
        return pl.DataFrame(schema={"word": pl.String, "partner": pl.String})
    shortest, longest = asked.select(length.min().alias("min"), length.max().alias("max")).row(0)
    near = vocabulary.unique().to_frame("word").filter(length.is_between(shortest - edits, longest + edits))
    index = pl.concat([asked.select("word", key=cut) for cut in _cuts(longest, edits)]).filter(pl.col("key").is_not_null()).unique()
    found = [
        near.select(partner="word", key=cut).drop_nulls().join(index, on="key").select("word", "partner")
        for cut in _cuts(longest + edits, edits)
    ]
    return pl.concat(found).filter(pl.col("word") != pl.col("partner")).unique()


def _cuts(longest: int, edits: int) -> Iterator[pl.Expr]:
    """The word without the letters at 0 .. `edits` places, for every choice of places; null where it is too short."""
    for count in range(edits + 1):
        for places in combinations(range(longest), count):
            pieces, start = [], 0
            for place in places:
                pieces.append(pl.col("word").str.slice(start, place - start))
                start = place + 1
            whole = pl.concat_str([*pieces, pl.col("word").str.slice(start)])
            yield pl.when(pl.col("word").str.len_chars() >= start).then(whole)
