"""The sentences in which suspected words are used, split where the word stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ftplatform.targets.variants.confusions import Confusions
from ftplatform.targets.variants.words import Rows, batches, compared, normalized, target_turns, word_spans

#: Characters of context before the word and after it: a sentence or two.
_BEFORE, _AFTER = 300, 120


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a word in a trainable assistant turn.

    Attributes:
        before: the text before the word, without the `space` in between, which belongs to the word's token.
        word: as written. after: the text behind it.
        row_id, turn, start: where it stands (`start` in code points of the turn).
    """

    before: str
    word: str
    after: str
    space: str
    row_id: str
    turn: int
    start: int

    def text(self, word: str) -> str:
        """What follows `before` if `word` stands here."""
        return f"{self.space}{word}{self.after}"


def find_uses(rows: Rows, pairs: Sequence[Confusions], most: int) -> list[tuple[Confusions, list[Use]]]:
    """At most `most` uses of each pair's word, in different sentences; copies of a sentence are one observation.

    Taken are the rows with the smallest ids, which are hashes: a sample spread over the corpus, the same every time.
    """
    wanted = pl.Series([pair.word for pair in pairs], dtype=pl.String).unique()
    if wanted.is_empty():
        return []
    kept = pl.DataFrame(schema={"word": pl.String, "row_id": pl.String, "turn": pl.Int64, "text": pl.String})
    for table in batches(rows):
        turns = target_turns(table).unique("text", keep="first", maintain_order=True)
        likely = turns.filter(pl.col("text").str.contains_any(wanted.to_list(), ascii_case_insensitive=True))
        tokens = likely.lazy().select("row_id", "turn", "text", word=compared(pl.col("text"))).explode("word").drop_nulls("word")
        found = tokens.filter(pl.col("word").is_in(wanted.implode())).unique(["word", "text"], keep="first", maintain_order=True)
        # A word used everywhere is cut down batch by batch.
        kept = (
            pl.concat([kept, found.select(kept.columns).collect()])
            .sort("row_id", "turn")
            .unique(["word", "text"], keep="first", maintain_order=True)
        )
        kept = kept.group_by("word", maintain_order=True).head(most)
    by_word = {str(key[0]): _split(frame, str(key[0]), most) for key, frame in kept.group_by(["word"], maintain_order=True)}
    return [(pair, by_word[pair.word]) for pair in pairs if pair.word in by_word]


def _split(turns: pl.DataFrame, word: str, most: int) -> list[Use]:
    """The first use in every turn; a few dozen turns per pair."""
    uses: list[Use] = []
    seen: set[tuple[str, str]] = set()
    for row_id, turn, text in turns.select("row_id", "turn", "text").iter_rows():
        for start, end in word_spans(text):
            if normalized(text[start:end]) == word:
                before = text[max(0, start - _BEFORE) : start]
                stripped = before.rstrip(" ")
                use = Use(stripped, text[start:end], text[end : end + _AFTER], before[len(stripped) :], row_id, turn, start)
                if (use.before[-60:], use.after[:60]) not in seen:
                    seen.add((use.before[-60:], use.after[:60]))
                    uses.append(use)
                break
        if len(uses) == most:
            break
    return uses
