"""A second pass, for suspected words only: who wrote them, in which sentences, and how they were capitalized."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from ftplatform.targets.variants.words import Rows, batches, plain, prose, sentences, target_turns, words

#: Sentences kept per word between batches, the most frequent first: counts of rarer ones are lower bounds.
_KEPT_SENTENCES = 500
_PENDING = 200_000
#: Characters of a sentence that are kept.
_SENTENCE = 300


@dataclass(frozen=True, slots=True)
class Occurrences:
    """Where some words are written in the trainable assistant turns.

    Attributes:
        forms: word, form, opens (first word of its sentence), count.
        authors: word, author (null where nobody is named), turns_with.
        sentences: word, sentence (numbers and code left out), count, row_id and turn of its first appearance.
    """

    forms: pl.DataFrame
    authors: pl.DataFrame
    sentences: pl.DataFrame


_FORMS = {"word": pl.String, "form": pl.String, "opens": pl.Boolean, "count": pl.Int64}
_AUTHORS = {"word": pl.String, "author": pl.String, "turns_with": pl.Int64}
_SENTENCES = {"word": pl.String, "sentence": pl.String, "count": pl.Int64, "row_id": pl.String, "turn": pl.Int64}


def find_occurrences(rows: Rows, wanted: Collection[str], cased: Collection[str] = ()) -> Occurrences:
    """Read the targets again for some words; texts without any of them are skipped before they are split.

    Args:
        wanted: words in lower case, found in any capitals.
        cased: words found in these capitals only; they are their own `word` in the result.
    """
    forms, authors, spoken = pl.DataFrame(schema=_FORMS), pl.DataFrame(schema=_AUTHORS), pl.DataFrame(schema=_SENTENCES)
    if not wanted and not cased:
        return Occurrences(forms, authors, spoken)
    lower, exact = pl.Series(sorted(wanted), dtype=pl.String), pl.Series(sorted(cased), dtype=pl.String)
    needles = [*lower, *exact]
    needles += [word.replace("'", "’") for word in needles if "'" in word]
    for table in batches(rows):
        found = _find(target_turns(table), lower, exact, needles)
        if found.is_empty():
            continue
        forms = _sum(forms, found.group_by("word", "form", "opens").agg(count=pl.len()), "count")
        authors = _sum(authors, found.group_by("word", "author").agg(turns_with=pl.struct("row", "turn").n_unique()), "turns_with")
        said = found.group_by("word", "sentence", maintain_order=True).agg(
            pl.len().alias("count"), pl.col("row_id").first(), pl.col("turn").first()
        )
        spoken = pl.concat([spoken, said.select(pl.col(name).cast(kind) for name, kind in _SENTENCES.items())])
        if len(spoken) > _PENDING:
            spoken = _most_frequent(spoken)
    return Occurrences(forms, authors, _most_frequent(spoken))


def _find(turns: pl.DataFrame, wanted: pl.Series, cased: pl.Series, patterns: list[str]) -> pl.DataFrame:
    """One line per occurrence: row_id, turn, author, sentence, form, word, opens."""
    exact = pl.col("form").is_in(cased.implode())
    likely = turns.lazy().filter(pl.col("text").str.contains_any(patterns, ascii_case_insensitive=True))
    split = (
        likely.select("row", "row_id", "turn", "author", sentence=sentences(prose(pl.col("text"))))
        .explode("sentence")
        .drop_nulls("sentence")
    )
    return (
        split.filter(pl.col("sentence").str.contains_any(patterns, ascii_case_insensitive=True))
        .with_row_index("at")
        .with_columns(form=words(pl.col("sentence")))
        .explode("form")
        .drop_nulls("form")
        .with_columns(plain(pl.col("form")), opens=pl.int_range(pl.len()).over("at") == 0)
        .with_columns(
            word=pl.when(exact).then(pl.col("form")).otherwise(pl.col("form").str.to_lowercase()),
            sentence=pl.col("sentence").str.replace_all(r"\s+", " ").str.strip_chars().str.slice(0, _SENTENCE),
        )
        .filter(pl.col("word").is_in(pl.concat([wanted, cased]).implode()))
        .collect()
    )


def _sum(totals: pl.DataFrame, more: pl.DataFrame, column: str) -> pl.DataFrame:
    keys = [name for name in totals.columns if name != column]
    added = more.select(*keys, pl.col(column).cast(pl.Int64))
    return pl.concat([totals, added]).group_by(keys).agg(pl.col(column).sum())


def _most_frequent(spoken: pl.DataFrame) -> pl.DataFrame:
    summed = spoken.group_by("word", "sentence", maintain_order=True).agg(
        pl.col("count").sum(), pl.col("row_id").first(), pl.col("turn").first()
    )
    ranked = summed.sort(["word", "count", "sentence"], descending=[False, True, False])
    return ranked.group_by("word", maintain_order=True).head(_KEPT_SENTENCES)
