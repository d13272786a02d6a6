"""Whose word is it? Authors who write a variant in more turns than their share of the targets explains."""

from __future__ import annotations

import polars as pl

from ftplatform.statistics.multiple import holm

#: Family-wise error over the authors of one variant.
_ALPHA = 0.01


def concentration(used: pl.DataFrame, authors: pl.DataFrame) -> pl.DataFrame:
    """The table author x variant with a test of concentration.

    If a variant were nobody's in particular, its turns would fall on authors in proportion to all their turns. For each author:
    the exact binomial tail of as many turns or more, Holm-adjusted over all authors of the corpus.

    Args:
        used: word, author, turns_with (turns of the author that hold the word); lines without an author name nobody and are left out.
        authors: author, turns: what everybody wrote.

    Returns:
        word, author, turns_with, share (of the word's turns with an author), expected (share), p (adjusted), concentrated; by word, then
        the most turns first.
    """
    from scipy.stats import binom

    known = authors.drop_nulls("author")
    turns = max(1, int(known["turns"].sum()))
    per_word = used.drop_nulls("author").join(known, on="author", how="left")
    parts = []
    for (_,), lines in per_word.group_by(["word"], maintain_order=True):
        total = int(lines["turns_with"].sum())
        expected = lines["turns"].fill_null(0).to_numpy() / turns
        tail = binom.sf(lines["turns_with"].to_numpy() - 1, total, expected)
        # Authors without the variant have p = 1; they count in the correction.
        reject, adjusted = (a[: len(lines)] for a in holm([*tail, *[1.0] * (len(known) - len(lines))], _ALPHA))
        parts.append(
            lines.select("word", "author", "turns_with").with_columns(
                share=pl.col("turns_with") / total,
                expected=pl.Series(expected),
                p=pl.Series(adjusted),
                concentrated=pl.Series(reject),
            )
        )
    schema = {"word": pl.String, "author": pl.String, "turns_with": pl.Int64, "share": pl.Float64, "expected": pl.Float64}
    empty = pl.DataFrame(schema={**schema, "p": pl.Float64, "concentrated": pl.Boolean})
    return pl.concat([empty, *parts]).sort(["word", "turns_with", "author"], descending=[False, True, False])
