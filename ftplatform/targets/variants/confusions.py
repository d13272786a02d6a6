"""Words that may stand for another word although both are right: pairs worth asking a language model about."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ftplatform.targets.variants.counting import count_words
from ftplatform.targets.variants.lexicon import Lexicon
from ftplatform.targets.variants.neighbors import neighbors
from ftplatform.targets.variants.words import Rows, in_case_of

#: Endings that make another form of the same word; which form is right is grammar, not spelling.
_ENDINGS = ("", "s", "es", "d", "ed", "r", "er", "n", "en", "ing", "ly", "y", "e", "'s")
#: Partners of one word that are asked about: "form" may be "for" or "from".
_PARTNERS = 3


@dataclass(frozen=True, slots=True)
class Confusions:
    """A word of the targets and what it may have been meant to be.

    Attributes:
        word, partner: lower case; the partner as written if it is a glossary term.
        count, partner_count: uses in the targets.
        glossary: whether the partner is a glossary term.
    """

    word: str
    partner: str
    count: int
    partner_count: int
    glossary: bool

    def written(self, use: str) -> str:
        """The partner as it would be written in place of `use`: a glossary term as it is, others with the same capitals."""
        return self.partner if self.glossary else in_case_of(self.partner, use)


def find_confusions(rows: Rows, lexicon: Lexicon, *, least: int, glossary_least: int, most: int) -> list[Confusions]:
    """Pairs of a word and a partner that the targets use more, or that is a glossary term, at most `most`.

    Args:
        least: uses a word needs; `glossary_least` beside a glossary term, where any other word, known or not, is a suspect.

    Returns:
        Glossary terms first, then by how much more frequent the partner is: the likelier a use of the word is a slip.
    """
    counts = count_words(rows).counts
    listed = pl.Series(list(lexicon.dictionary), dtype=pl.String)
    terms = pl.Series(list(lexicon.terms), dtype=pl.String)
    frequent = counts.filter((pl.col("count") >= least) & (pl.col("word").str.len_chars() >= 3))["word"]
    common = frequent.filter(frequent.is_in(listed.implode()))
    possible = counts.filter((pl.col("count") >= glossary_least) & (pl.col("word").str.len_chars() >= 3))["word"]
    pairs = pl.concat(
        [
            # Two edits make a real word of nearly any short one; of real words only the nearest are asked about.
            neighbors(common, common).filter(pl.col("distance") == 1).with_columns(glossary=pl.lit(False)),
            neighbors(possible.filter(~possible.is_in(terms.implode())), terms).with_columns(glossary=pl.lit(True)),
        ]
    )
    sized = (
        pairs.join(counts, on="word")
        .join(counts.rename({"word": "partner", "count": "partner_count"}), on="partner", how="left")
        .with_columns(pl.col("partner_count").fill_null(0))
        .filter(pl.col("glossary") | ((pl.col("partner_count") > pl.col("count")) & ~_inflected()))
        .with_columns(odds=pl.col("partner_count") / pl.col("count"))
        .sort(["glossary", "odds", "word", "partner"], descending=[True, True, False, False])
    )
    chosen = sized.group_by("word", maintain_order=True).head(_PARTNERS).head(most)
    return [
        Confusions(word, lexicon.terms[partner] if glossary else partner, count, partner_count, glossary)
        for word, partner, count, partner_count, glossary in chosen.select(
            "word", "partner", "count", "partner_count", "glossary"
        ).iter_rows()
    ]


def _inflected() -> pl.Expr:
    """Whether two words are the same stem with other endings, of which one may be none."""
    either = pl.lit(False)
    for longer, shorter in (("word", "partner"), ("partner", "word")):
        for ending in _ENDINGS[1:]:
            either |= pl.col(longer) == pl.col(shorter) + ending
    return either
