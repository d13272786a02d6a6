"""One pass over the targets: how often every word is written, and how many turns and words each author has in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ftplatform import progress
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns
from ftplatform.targets.variants.words import Rows, batches, compared, plain, prose, target_turns, words

#: Distinct (word, count) lines that may wait to be summed; 2 million take some 100 MB.
_PENDING = 2_000_000


@dataclass(frozen=True, slots=True)
class WordCounts:
    """What the trainable assistant turns of a corpus hold.

    Attributes:
        forms: form (as written), word (lower case), count; one line per form.
        authors: author (null where nobody is named), turns; one line per author.
        turns: trainable assistant turns. total: words in them.
    """

    forms: pl.DataFrame
    authors: pl.DataFrame
    turns: int
    total: int

    @property
    def counts(self) -> pl.DataFrame:
        """word (lower case), count."""
        return self.forms.group_by("word").agg(pl.col("count").sum())


def count_words(rows: Rows) -> WordCounts:
    """Count the words of the trainable assistant turns in one pass; memory grows with the vocabulary, not with the rows.

    Args:
        rows: needs `row_id`, `messages`, `author`.
    """
    forms = _Sums("form")
    authors = _Sums("author")
    spoken, done = 0, 0
    for table in batches(rows):
        said = target_turns(table)
        spoken, done = spoken + len(said), done + table.num_rows
        authors.add(said.group_by("author").agg(count=pl.len()))
        written = said.lazy().select(form=words(prose(pl.col("text")))).explode("form").drop_nulls()
        counted = written.group_by("form").agg(count=pl.len()).collect()
        forms.add(counted.group_by(plain(pl.col("form"))).agg(pl.col("count").sum()))
        progress.advance("words of the targets", done)
    counted = forms.total().with_columns(word=pl.col("form").str.to_lowercase())
    by_author = authors.total().rename({"count": "turns"})
    return WordCounts(counted.select("form", "word", "count"), by_author, spoken, int(counted["count"].sum()))


def used_by_users(rows: Rows, wanted: Sequence[str]) -> set[str]:
    """Which of some words (lower case) stand in user turns."""
    found: set[str] = set()
    for table in batches(rows):
        asked = pl.DataFrame({"text": turns(table, Role.USER)["content"]})
        used = asked.lazy().select(word=compared(pl.col("text"))).explode("word").filter(pl.col("word").is_in(list(wanted)))
        found.update(used.unique().collect()["word"].to_list())
    return found


class _Sums:
    """Counts by key, summed now and then."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._parts: list[pl.DataFrame] = []
        self._pending = 0

    def add(self, counts: pl.DataFrame) -> None:
        """Add (key, count) lines."""
        self._parts.append(counts.select(self._key, pl.col("count").cast(pl.Int64)))
        self._pending += len(counts)
        if self._pending > _PENDING:
            self._parts, self._pending = [self.total()], 0

    def total(self) -> pl.DataFrame:
        """One line per key, sorted by it."""
        empty = pl.DataFrame(schema={self._key: pl.String, "count": pl.Int64})
        return pl.concat([empty, *self._parts]).group_by(self._key).agg(pl.col("count").sum()).sort(self._key)
